//! Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::load::Answer;

/// A table whose first columns, so many, are text, and whose others are numbers.
pub struct Table {
    text: String,
}

impl Table {
    pub fn new(texts: usize, columns: &[&str]) -> Self {
        let rule: String = (0..columns.len()).map(|at| if at < texts { "---|" } else { "---:|" }).collect();
        Self { text: format!("| {} |\n|{rule}\n", columns.join(" | ")) }
    }

    pub fn row(&mut self, cells: &[String]) {
        // Text takes whatever it is given.
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    pub fn finish(self) -> String {
        self.text
    }
}

/// Three significant digits: more are noise.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// All of them, in the order they have.
pub fn numbers(values: impl IntoIterator<Item = f64>) -> String {
    values.into_iter().map(number).collect::<Vec<_>>().join(" ")
}

/// How many of which.
pub fn answers(answers: &BTreeMap<Answer, usize>) -> String {
    let one = |(answer, count): (&Answer, &usize)| match answer {
        Answer::Status(status) => format!("{count} × {status}"),
        Answer::Broken => format!("{count} broken"),
        Answer::Missing => format!("{count} unanswered"),
    };
    answers.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Table, answers, number};
    use crate::load::Answer;

    #[test]
    fn a_table_has_text_on_the_left_and_numbers_on_the_right() {
        let mut table = Table::new(1, &["a", "b"]);
        table.row(&["x".to_owned(), "1".to_owned()]);
        assert_eq!(table.finish(), "| a | b |\n|---|---:|\n| x | 1 |\n");
    }

    #[test]
    fn numbers_have_three_digits() {
        let texts = [0.1234, 1.234, 12.34, 123.4, 99.96, 0.0, f64::NAN].map(number);
        assert_eq!(texts, ["0.123", "1.23", "12.3", "123", "100", "0.000", "–"]);
    }

    #[test]
    fn answers_that_did_not_come_are_named() {
        let counts = BTreeMap::from([(Answer::Status(200), 5), (Answer::Missing, 2)]);
        assert_eq!(answers(&counts), "5 × 200, 2 unanswered");
    }
}
