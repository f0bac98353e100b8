//! Ways to a verified token that do not exist: whatever is put into a request's extensions has been signed and judged.

use countersign_claims::{Policy, UnixTime, Verified};
use countersign_token::{HeaderScratch, UnverifiedToken};

fn by_its_constructor() {
    let _ = Verified::new;
}

fn out_of_nothing() -> Verified {
    Default::default()
}

fn of_claims_that_nobody_has_signed(claims: &str) -> Option<Verified> {
    Policy::new().judge(claims, UnixTime::from_secs(0)).ok()
}

fn of_a_token_whose_signature_nobody_has_checked(token: &str) -> Option<Verified> {
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(token, 8192, &mut scratch).ok()?;
    Policy::new().judge(token, UnixTime::from_secs(0)).ok()
}

fn main() {}
