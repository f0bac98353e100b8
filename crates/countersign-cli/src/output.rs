//! What is shown, and what must not reach a terminal as it is: what others wrote may have control characters in it, by which a
//! terminal can be made to do or to hide things.

use std::io::{self, ErrorKind, IsTerminal as _, Write};

use clap::ValueEnum;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Value, json};

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
    /// On standard error.
    err: Paint,
}

impl Screen {
    pub(crate) fn new(json: bool, colour: Colour) -> Self {
        let paint = |is_terminal: bool| {
            Paint(colour == Colour::Always || colour == Colour::Auto && is_terminal && may_colour())
        };
        Self { json, err: paint(io::stderr().is_terminal()) }
    }

    /// Says what has become of the command. Whoever has stopped listening, as `head` does, need not hear the rest: the code is
    /// what it would have been. If it could not be said for another reason, that is a failure.
    pub(crate) fn end(&self, ended: Result<Answer, Failure>) -> Exit {
        let (exit, said) = match ended {
            Ok(Answer { exit, text, document }) => (exit, self.say(&text, document.as_ref())),
            Err(Failure { exit, code, message }) => {
                let said = if self.json {
                    self.say("", Some(&json!({ "error": code, "message": message })))
                } else {
                    self.complain(&message);
                    Ok(())
                };
                (exit, said)
            }
        };
        match said {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                self.complain(&format!("cannot write the answer: {}", error.kind()));
                Exit::Unavailable
            }
            _ => exit,
        }
    }

    fn say(&self, text: &str, document: Option<&Value>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match document {
            Some(document) if self.json => out.write_all(&to_json(document))?,
            _ => out.write_all(text.as_bytes())?,
        }
        out.flush()
    }

    /// On standard error, one line.
    fn complain(&self, message: &str) {
        // There is nobody left to tell that nobody hears this.
        let _ = writeln!(io::stderr().lock(), "{} {}", self.err.bad("error:"), shown(message));
    }
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

/// A document and a line feed, indented; what is not printable is escaped there, too, which JSON allows everywhere.
pub(crate) fn to_json(document: &Value) -> Vec<u8> {
    let mut json = Vec::new();
    // Writing a value to memory does not fail.
    let _ = serde::Serialize::serialize(document, &mut Serializer::with_formatter(&mut json, Printable::default()));
    json.push(b'\n');
    json
}

#[derive(Default)]
struct Printable(PrettyFormatter<'static>);

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0; 2];
        for char in fragment.chars() {
            if is_printable(char) {
                write!(writer, "{char}")?;
            } else {
                char.encode_utf16(&mut units).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Escape, DEL, C1's CSI, right-to-left override, line separator, a tag beyond the first plane.
    const HOSTILE: &str = "a\x1b[2J\x7f\u{9b}31m\u{202e}\u{2028}\u{e0041}\n\"\\ä";

    #[test]
    fn text_of_others_is_shown_escaped_and_otherwise_as_it_is() {
        assert_eq!(shown(HOSTILE), r#"a\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}\u{e0041}\n"\ä"#);
    }

    #[test]
    fn json_has_nothing_unprintable_in_it_and_means_the_same() {
        let document = json!({ HOSTILE: [HOSTILE, 1, null, {}], "b": [] });
        let text = String::from_utf8(to_json(&document)).unwrap();
        assert!(text.chars().all(|char| char == '\n' || is_printable(char)), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
        assert!(text.contains('ä'), "what can be read stays readable");
    }

    #[test]
    fn paint_is_colour_or_nothing() {
        assert_eq!(Paint(true).bad("x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Paint(false).bad("x"), "x");
    }
}
