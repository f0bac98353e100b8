//! Every code that a refusal can have is in the list that metrics are labelled from: what the sources say is compared with it.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::collections::BTreeSet;

use countersign::Refusal;

/// The six functions `code` of which [`Refusal::code`] is made.
const SOURCES: [&str; 6] = [
    include_str!("../../crates/countersign-tower/src/refusal.rs"),
    include_str!("../../crates/countersign-tower/src/signed/refusal.rs"),
    include_str!("../../crates/countersign-verifier/src/refusal.rs"),
    include_str!("../../crates/countersign-claims/src/error.rs"),
    include_str!("../../crates/countersign-claims/src/requirement/denied.rs"),
    include_str!("../../crates/countersign-claims/src/revocation.rs"),
];

/// The texts in the function `code` of a source.
fn codes_in(source: &str) -> BTreeSet<&str> {
    let (_, function) = source.split_once("    pub fn code(").unwrap();
    let (_, function) = function.split_once("self) -> &'static str {").unwrap();
    let (body, _) = function.split_once("\n    }\n").unwrap();
    body.split('"').skip(1).step_by(2).collect()
}

#[test]
fn the_list_of_codes_is_what_refusals_say() {
    let found: BTreeSet<_> = SOURCES.into_iter().flat_map(codes_in).collect();
    assert!(SOURCES.iter().all(|source| codes_in(source).len() >= 3));
    assert_eq!(found, Refusal::CODES.iter().copied().collect());
}
