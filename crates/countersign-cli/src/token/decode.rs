//! `countersign token decode`.

use clap::Args;
use countersign::token::json::{self, ObjectError};
use countersign::token::{look_at_unverified_header, look_at_unverified_payload};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::exit::{Answer, Exit, Failure};
use crate::input::{self, MAX_INPUT_BYTES};
use crate::output::{Screen, shown_json};

#[derive(Args)]
pub(crate) struct Decode {
    /// The token; `-` or none: it is read from standard input.
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
}

#[derive(Serialize)]
struct Decoded<'a> {
    verified: bool,
    header: &'a RawValue,
    payload: &'a RawValue,
}

impl Decode {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let token = input::token(self.token.as_deref(), screen)?;
        let parts = token.split('.').count();
        if parts != 3 {
            let message = match parts {
                5 => "five parts: an encrypted token (JWE) has nothing that can be read",
                _ => "not three parts separated by dots",
            };
            return Err(Failure::refused(if parts == 5 { "encrypted" } else { "not_three_parts" }, message));
        }
        let header = look_at_unverified_header(&token, <[u8]>::to_vec);
        let payload = look_at_unverified_payload(&token, MAX_INPUT_BYTES, <[u8]>::to_vec);
        let undecoded =
            |what: &str| Failure::refused("not_base64url", format!("the {what} is not strict base64url, or too long"));
        let header = header.ok_or_else(|| undecoded("header"))?;
        let payload = payload.ok_or_else(|| undecoded("payload"))?;
        let document = Decoded {
            verified: false,
            header: object(&header, "header_not_an_object", "header")?,
            payload: object(&payload, "payload_not_an_object", "payload")?,
        };
        let warning = screen.paint().bad("NOT VERIFIED: anybody may have written this");
        let text = format!("{warning}\nheader\n{}payload\n{}", lines(&header), lines(&payload));
        Ok(Answer::new(Exit::Good, text, &document))
    }
}

fn object<'a>(octets: &'a [u8], code: &'static str, what: &str) -> Result<&'a RawValue, Failure> {
    let refused = |why: &str| Failure::refused(code, format!("the {what} is {why}"));
    match json::members(octets, usize::MAX, |_, _| ()) {
        // Shown as it is, since that is what is wrong with it.
        Ok(()) | Err(ObjectError::DuplicateMember) => {}
        Err(_) => return Err(refused("not one JSON object")),
    }
    serde_json::from_slice(octets).map_err(|_| refused("not JSON"))
}

/// The members of an object, one a line: name and value, as JSON. Of one that has a name twice, as it stands there.
pub(super) fn lines(object: &[u8]) -> String {
    let mut lines = String::new();
    let read = json::members(object, usize::MAX, |name, value| {
        let name = serde_json::to_string(&name).unwrap_or_default();
        lines.push_str(&format!("  {}: {}\n", shown_json(&name), one_line(&value.text())));
    });
    match read {
        Ok(()) => lines,
        Err(_) => format!("  {}\n", one_line(&String::from_utf8_lossy(object))),
    }
}

/// Line feeds in JSON stand between values, where a space means the same.
fn one_line(json: &str) -> String {
    shown_json(json).replace('\n', " ")
}
