//! What is shown, and what must not reach a terminal as it is: what others wrote may have control characters in it, by which a
//! terminal can be made to do or to hide things.

use std::io::{self, ErrorKind, IsTerminal as _, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::exit::{Answer, Exit, Failure};

/// When there is colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where answers go.
pub(crate) struct Screen {
    json: bool,
    /// On standard output.
    out: Paint,
    /// On standard error.
    err: Paint,
    /// Somebody watches standard error.
    is_watched: bool,
}

impl Screen {
    pub(crate) fn new(json: bool, colour: Colour) -> Self {
        let paint = |is_terminal: bool| {
            Paint(colour == Colour::Always || colour == Colour::Auto && is_terminal && may_colour())
        };
        let is_watched = io::stderr().is_terminal();
        Self { json, out: paint(io::stdout().is_terminal()), err: paint(is_watched), is_watched: is_watched && !json }
    }

    /// For what goes into an [`Answer`].
    pub(crate) fn paint(&self) -> Paint {
        self.out
    }

    /// Says what has become of the command. Whoever has stopped listening, as `head` does, need not hear the rest: the code is
    /// what it would have been. If it could not be said for another reason, that is a failure.
    pub(crate) fn end(&self, ended: Result<Answer, Failure>) -> Exit {
        let (exit, said) = match ended {
            Ok(Answer { exit, text, json }) => (exit, say(&json.filter(|_| self.json).unwrap_or(text))),
            Err(Failure { exit, code, message }) if self.json => {
                (exit, say(&to_json(&json!({ "error": code, "message": message }))))
            }
            Err(Failure { exit, message, .. }) => {
                self.complain("error:", &message);
                (exit, Ok(()))
            }
        };
        match said {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                self.complain("error:", &format!("cannot write the answer: {}", error.kind()));
                Exit::Unavailable
            }
            _ => exit,
        }
    }

    /// Something that people should know besides the answer. Machines find it there.
    pub(crate) fn warn(&self, message: &str) {
        if !self.json {
            self.complain("warning:", message);
        }
    }

    /// Says on a terminal what takes long, in a line that goes with the next; with nothing, the line goes.
    pub(crate) fn progress(&self, what: &str) {
        if self.is_watched {
            let mut err = io::stderr().lock();
            // There is nobody left to tell that nobody sees this.
            let _ = write!(err, "\r\x1b[2K{}", shown(what)).and_then(|()| err.flush());
        }
    }

    /// Something that people should know while it goes on. On standard error, whatever standard output has.
    pub(crate) fn note(&self, message: &str) {
        // There is nobody left to tell that nobody hears this.
        let _ = writeln!(io::stderr().lock(), "{} {}", self.err.good("countersign:"), shown(message));
    }

    /// On standard error, one line.
    fn complain(&self, what: &str, message: &str) {
        // There is nobody left to tell that nobody hears this.
        let _ = writeln!(io::stderr().lock(), "{} {}", self.err.bad(what), shown(message));
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn may_colour() -> bool {
    // https://no-color.org: present and not empty.
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Colour, or none.
#[derive(Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    /// What is as it should be.
    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What is wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text of others as people may see it: what is not printable is escaped, and nothing else.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if is_printable(char) { shown.push(char) } else { shown.extend(char.escape_debug()) }
    }
    shown
}

/// Control characters are not, nor are those that only move or reorder others.
fn is_printable(char: char) -> bool {
    matches!(char, '\'' | '"' | '\\') || char.escape_debug().len() == 1
}

/// A document, indented, and a line feed.
pub(crate) fn to_json(document: &impl Serialize) -> String {
    // Documents here are maps with names for keys, whose writing to memory does not fail.
    let text = serde_json::to_string_pretty(document).unwrap_or_default();
    shown_json(&text) + "\n"
}

/// JSON of others as people may see it: the same JSON, in which strings have everything escaped that is not printable, and nothing else stands
/// between values than spaces and line feeds.
pub(crate) fn shown_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '\n' => shown.push('\n'),
            // Within strings they are escaped already, or it would be no JSON.
            '\r' | '\t' => shown.push(' '),
            char if is_printable(char) => shown.push(char),
            char => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Escape, DEL, C1's CSI, right-to-left override, line separator, a tag beyond the first plane.
    const HOSTILE: &str = "a\x1b[2J\x7f\u{9b}31m\u{202e}\u{2028}\u{e0041}\n\"\\ä";

    #[test]
    fn text_of_others_is_shown_escaped_and_otherwise_as_it_is() {
        assert_eq!(shown(HOSTILE), r#"a\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}\u{e0041}\n"\ä"#);
    }

    #[test]
    fn json_has_nothing_unprintable_in_it_and_means_the_same() {
        let document = json!({ HOSTILE: [HOSTILE, 1, null, {}], "b": [] });
        for text in [to_json(&document), shown_json(&document.to_string().replace(',', "\r\t,"))] {
            assert!(text.chars().all(|char| char == '\n' || is_printable(char)), "{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
            assert!(text.contains('ä'), "what can be read stays readable");
        }
    }

    #[test]
    fn paint_is_colour_or_nothing() {
        assert_eq!(Paint(true).bad("x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Paint(false).bad("x") + &Paint(false).good("y"), "xy");
    }
}
