//! What all plots have in common: the card, its colours, and text.

use std::fmt::Write as _;

/// Space between the card's edge and what is on it.
pub const MARGIN: f64 = 20.0;

/// Where the first bar or line may begin: below title and subtitle.
pub const TOP: f64 = 72.0;

/// An upper estimate of what a character of [`STYLE`]'s labels takes; the font is the reader's own.
pub const CHARACTER: f64 = 7.4;

/// A card with its own ground, since pages show pictures in their own mode and pictures follow the system's.
const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#1f2328}\
.title{font-size:16px;font-weight:600}\
.subtitle,.value{fill:#59636e}\
.card{fill:#fff;stroke:#d1d9e0}\
.bar{fill:#9aa4ae}\
.ours{fill:#0969da}\
.mine{font-weight:600}\
.break{stroke:#fff;stroke-width:3}\
@media(prefers-color-scheme:dark){\
text{fill:#f0f6fc}\
.subtitle,.value{fill:#9198a1}\
.card{fill:#0d1117;stroke:#3d444d}\
.bar{fill:#656c76}\
.ours{fill:#4493f8}\
.break{stroke:#0d1117}\
}";

/// A whole document around `body`.
pub fn card(title: &str, subtitle: &str, width: f64, height: f64, body: &str) -> String {
    // Neither may run out of the card, whatever the bars need; a title's letters are larger.
    let width = width.max(2.0 * MARGIN + text_width(title) * 1.25).max(2.0 * MARGIN + text_width(subtitle));
    let (title, subtitle) = (escape(title), escape(subtitle));
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"32\">{title}</text>\n\
         <text class=\"subtitle\" x=\"{MARGIN}\" y=\"53\">{subtitle}</text>\n{body}</svg>\n",
        width - 1.0,
        height - 1.0,
    );
    svg
}

/// An upper estimate of how wide a label is.
pub fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// As XML wants text, and without the characters that it does not allow.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

/// Three digits that count, and whole numbers as they are.
pub fn number(value: f64) -> String {
    let size = value.abs();
    match () {
        () if value.fract() == 0.0 && size < 1e9 => format!("{value:.0}"),
        () if size >= 100.0 => format!("{value:.0}"),
        () if size >= 10.0 => format!("{value:.1}"),
        () if size >= 0.1 => format!("{value:.2}"),
        () => format!("{value:.3}"),
    }
}
