//! Types that claims cannot be read into.

use std::rc::Rc;

use countersign_tower::handler::Claims;

/// `Deserialize` is not derived.
struct Plain {
    sub: String,
}

/// Borrows from a payload that nobody keeps.
#[derive(serde::Deserialize)]
struct Borrowing<'a> {
    sub: &'a str,
}

/// Cannot be shared with other threads.
struct OneThread {
    sub: Rc<str>,
}

impl<'de> serde::Deserialize<'de> for OneThread {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|sub| Self { sub: sub.into() })
    }
}

fn plain(_: Claims<Plain>) {}

fn borrowing(_: Claims<Borrowing<'static>>) {}

fn one_thread(_: Claims<OneThread>) {}

fn main() {}
