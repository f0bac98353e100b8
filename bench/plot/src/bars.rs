//! Horizontal bars.

use std::fmt::Write as _;

use crate::svg::{MARGIN, TOP, card, escape, number, text_width};

/// One bar.
pub struct Bar {
    pub label: String,
    pub value: f64,
    /// In the accent colour.
    pub ours: bool,
}

/// From one bar to the next.
const STEP: f64 = 26.0;

const THICKNESS: f64 = 16.0;

/// The longest bar.
const LENGTH: f64 = 380.0;

/// A longer label is cut, and is whole in its tooltip.
const MAX_LABEL_CHARACTERS: usize = 64;

/// A bar more than so many times the median is drawn broken, so that those who are near each other can be told apart.
const BREAK: f64 = 4.0;

/// Between label and bar, and between bar and value.
const GAP: f64 = 8.0;

/// Horizontal bars from the top down as given, each with its value. Bars that would dwarf all others are drawn broken.
///
/// Values below zero have no bar, and values that are no number none either.
pub fn bars(title: &str, subtitle: &str, unit: &str, bars: &[Bar]) -> String {
    let labels: Vec<String> = bars.iter().map(|bar| shortened(&bar.label)).collect();
    let values: Vec<String> =
        bars.iter().map(|bar| format!("{} {unit}", number(bar.value)).trim_end().to_owned()).collect();
    let label_width = labels.iter().map(|label| text_width(label)).fold(0.0, f64::max);
    let value_width = values.iter().map(|value| text_width(value)).fold(0.0, f64::max);
    let start = MARGIN + label_width + GAP;
    let longest = longest(bars);

    let mut body = String::new();
    for (at, bar) in bars.iter().enumerate() {
        let top = TOP + at as f64 * STEP;
        let (middle, broken) = (top + THICKNESS / 2.0, bar.value > longest);
        let length = if broken { LENGTH } else { (bar.value / longest * LENGTH).max(0.0) };
        let (class, weight) = if bar.ours { ("bar ours", " class=\"mine\"") } else { ("bar", "") };
        let _ = writeln!(
            body,
            "<text{weight} x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}<title>{}</title></text>",
            start - GAP,
            middle + 4.5,
            escape(&labels[at]),
            escape(&bar.label),
        );
        if length > 0.0 {
            let _ = writeln!(
                body,
                "<rect class=\"{class}\" x=\"{start:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{THICKNESS}\" rx=\"2\"/>",
            );
        }
        if broken {
            for shift in [LENGTH - 44.0, LENGTH - 36.0] {
                let (x, below) = (start + shift, top + THICKNESS + 2.0);
                let _ = writeln!(body, "<path class=\"break\" d=\"M{x:.1} {below:.1}l6 -{}\"/>", THICKNESS + 4.0);
            }
        }
        let _ = writeln!(
            body,
            "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            start + length.max(0.0) + GAP,
            middle + 4.5,
            escape(&values[at]),
        );
    }
    let width = start + LENGTH + GAP + value_width + MARGIN;
    let height = TOP + bars.len() as f64 * STEP + MARGIN - (STEP - THICKNESS);
    card(title, subtitle, width, height, &body)
}

/// The value of the longest bar that is drawn whole.
fn longest(bars: &[Bar]) -> f64 {
    let mut values: Vec<f64> =
        bars.iter().map(|bar| bar.value).filter(|value| value.is_finite() && *value > 0.0).collect();
    values.sort_by(f64::total_cmp);
    let Some(median) = values.get(values.len() / 2) else { return 1.0 };
    let limit = median * BREAK;
    values.iter().copied().filter(|value| *value <= limit).fold(0.0, f64::max)
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= MAX_LABEL_CHARACTERS {
        return label.to_owned();
    }
    label.chars().take(MAX_LABEL_CHARACTERS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        Bar { label: label.to_owned(), value, ours: label == "ours" }
    }

    fn elements<'a>(svg: &'a roxmltree::Document<'a>, class: &str) -> Vec<roxmltree::Node<'a, 'a>> {
        svg.descendants()
            .filter(|node| node.attribute("class").is_some_and(|is| is.split(' ').any(|is| is == class)))
            .collect()
    }

    fn attribute(node: roxmltree::Node<'_, '_>, name: &str) -> f64 {
        node.attribute(name).unwrap().parse().unwrap()
    }

    #[test]
    fn is_well_formed_and_says_what_it_was_given_whatever_the_characters() {
        let hostile = "a <b> & \"c\" 'd' ]]> \u{1} é";
        let text = bars(hostile, hostile, "µs", &[bar(hostile, 1.25), bar("ours", 0.5)]);
        let svg = roxmltree::Document::parse(&text).unwrap();
        let shown = "a <b> & \"c\" 'd' ]]>   é";
        assert_eq!(svg.root_element().descendants().filter(|node| node.text() == Some(shown)).count(), 10);
        assert_eq!(elements(&svg, "value")[0].text(), Some("1.25 µs"));
        assert_eq!(elements(&svg, "ours").len(), 1);
    }

    #[test]
    fn each_bar_has_its_value_and_a_length_in_proportion() {
        let text = bars("t", "s", "", &[bar("ours", 2.0), bar("b", 8.0), bar("c", 4.0)]);
        let svg = roxmltree::Document::parse(&text).unwrap();
        let values: Vec<_> = elements(&svg, "value").iter().map(|node| node.text().unwrap().to_owned()).collect();
        assert_eq!(values, ["2", "8", "4"]);
        let lengths: Vec<_> = elements(&svg, "bar").iter().map(|node| attribute(*node, "width")).collect();
        assert_eq!(lengths, [LENGTH / 4.0, LENGTH, LENGTH / 2.0]);
    }

    #[test]
    fn a_bar_that_dwarfs_the_others_is_broken_and_does_not_set_the_scale() {
        let text = bars("t", "s", "", &[bar("a", 4.0), bar("b", 5.0), bar("c", 10.0), bar("d", 130.0)]);
        let svg = roxmltree::Document::parse(&text).unwrap();
        let lengths: Vec<_> = elements(&svg, "bar").iter().map(|node| attribute(*node, "width")).collect();
        assert_eq!(lengths, [152.0, 190.0, LENGTH, LENGTH]);
        assert_eq!(elements(&svg, "break").len(), 2);
    }

    #[test]
    fn no_text_reaches_another_or_leaves_the_card() {
        let long = "a contender whose name goes on, and on, and on, far beyond what any table would give it".repeat(2);
        let contenders: Vec<Bar> = (0..20).map(|at| bar(&long[at..], 1.0 + at as f64)).collect();
        let text = bars(&long, &long, "allocations", &contenders);
        let svg = roxmltree::Document::parse(&text).unwrap();
        let width = attribute(svg.root_element(), "width");
        let starts = elements(&svg, "bar");
        for node in svg.descendants().filter(|node| node.has_tag_name("text")) {
            let wide = text_width(node.text().unwrap());
            let at = attribute(node, "x");
            if node.attribute("text-anchor") == Some("end") {
                assert!(at - wide >= 0.0 && at < attribute(starts[0], "x"));
            } else {
                assert!(at + wide <= width);
            }
        }
        let mut lines: Vec<f64> = starts.iter().map(|node| attribute(*node, "y")).collect();
        lines.dedup();
        assert!(lines.windows(2).all(|pair| pair[1] - pair[0] >= STEP - 0.1), "one line each");
        assert!(lines.last().unwrap() + THICKNESS <= attribute(svg.root_element(), "height"));
    }

    #[test]
    fn is_the_same_each_time_and_small_and_brings_nothing_along() {
        let contenders =
            || -> Vec<Bar> { (0..20).map(|at| bar("tower-oauth2-resource-server 0.12.5", f64::from(at))).collect() };
        let text = bars("title", "subtitle", "µs", &contenders());
        assert_eq!(text, bars("title", "subtitle", "µs", &contenders()));
        assert!(text.len() < 20_000, "{}", text.len());
        assert!(!text.contains("<script") && !text.contains("href") && !text.contains("url("));
        assert!(text.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn nothing_to_show_is_a_card_without_bars() {
        for contenders in [vec![], vec![bar("a", f64::NAN), bar("b", -1.0), bar("c", 0.0)]] {
            let text = bars("t", "s", "", &contenders);
            assert!(elements(&roxmltree::Document::parse(&text).unwrap(), "bar").is_empty());
            assert!(!text.contains("NaN\"") && !text.contains("inf"));
        }
    }
}
