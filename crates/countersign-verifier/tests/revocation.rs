//! A verifier that asks whether a token is revoked: when it asks, what of, and what it makes of the answer.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{CLAIMS, Source, at, code, key_set, signer, static_verifier, token, token_with_header};
use countersign_claims::UnixTime;
use countersign_claims::revocation::{Changed, Judged, RevocationCheck, Revocations, Revoked, Verdict};
use countersign_token::Answer;
use countersign_verifier::{Attempt, Check, Fault, Outcome, Refusal};

/// Knows nothing of tokens of the subject that it likes, and revokes all others; remembers whom it was asked of.
struct Likes {
    subject: &'static str,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Revocations for Likes {
    fn check(&self, token: &Judged<'_>) -> Verdict {
        let by = format!("{:?} {:?} at {}", token.subject, token.kid, token.now);
        self.asked.lock().expect("no test panics while it holds this").push(by);
        if token.subject == Some(self.subject) { Verdict::Fresh } else { Verdict::Revoked(Revoked::Token) }
    }

    fn age(&self, _: UnixTime) -> Option<Duration> {
        None
    }

    fn changed(&self) -> Changed {
        Box::pin(std::future::pending())
    }
}

fn likes(subject: &'static str) -> (Likes, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::default();
    (Likes { subject, asked: Arc::clone(&asked) }, asked)
}

#[test]
fn only_of_tokens_whose_signature_and_claims_are_good_is_it_asked() {
    let [signer, stranger] = ["k", "k"].map(signer);
    let (likes, asked) = likes("grace");
    let verifier = static_verifier([&signer]).revocation(likes);
    let expired = r#"{"iss":"https://issuer.example","aud":"api","sub":"ada","exp":900}"#;
    for (token, expected) in [
        ("x.y.z".to_owned(), "not_base64url"),
        (token(&stranger, CLAIMS), "bad_signature"),
        (token(&signer, expired), "expired"),
    ] {
        assert_eq!(code(verifier.verify(&token, at(1000))), expected);
    }
    assert!(asked.lock().unwrap().is_empty());
    let refusal = verifier.verify(&token(&signer, CLAIMS), at(1000)).unwrap_err();
    assert_eq!(refusal, Refusal::Revoked(Revoked::Token));
    assert_eq!((refusal.fault(), refusal.retry_after()), (Fault::Token, None));
    assert_eq!(*asked.lock().unwrap(), [r#"Some("ada") Some("k") at 1000"#]);
}

#[test]
fn the_key_that_is_asked_about_is_the_one_that_verified_the_token_whatever_the_token_says() {
    let signer = signer("k");
    let (likes, asked) = likes("ada");
    let verifier = static_verifier([&signer]).revocation(likes);
    let unnamed = token_with_header(&signer, r#"{"alg":"Ed25519"}"#, CLAIMS);
    assert_eq!(code(verifier.verify(&unnamed, at(1000))), "accepted");
    assert_eq!(*asked.lock().unwrap(), [r#"Some("ada") Some("k") at 1000"#]);
}

#[test]
fn a_token_that_waited_for_its_key_is_asked_about_too() {
    let signer = signer("k");
    let source = Source::slow(None);
    let (likes, _) = likes("grace");
    let verifier = common::verifier(&source).revocation(likes);
    let token = token(&signer, CLAIMS);
    assert!(matches!(verifier.attempt(&token, at(1000)), Attempt::Wait(_)));
    source.publish(key_set(&signer));
    let outcome = verifier.resume(&token, Answer::Changed, at(1001));
    assert_eq!(outcome.unwrap_err(), Refusal::Revoked(Revoked::Token));
}

#[test]
fn what_was_accepted_can_be_asked_again_later() {
    let signer = signer("k");
    let (likes, asked) = likes("ada");
    let verified = static_verifier([&signer]).revocation(likes).verify(&token(&signer, CLAIMS), at(1000)).unwrap();
    assert_eq!(verified.check_revocation(at(1500)), Ok(()));
    assert_eq!(asked.lock().unwrap()[1], r#"Some("ada") Some("k") at 1500"#);
    let verified = static_verifier([&signer]).verify(&token(&signer, CLAIMS), at(1000)).unwrap();
    assert_eq!(verified.check_revocation(at(1500)), Ok(()), "nobody is asked");
    assert!(verified.revocation().is_none());
}

#[test]
fn demands_and_stale_knowledge_have_codes_and_faults_of_their_own() {
    let signer = signer("k");
    let (likes_ada, _) = likes("ada");
    let verifier = static_verifier([&signer]).revocation(RevocationCheck::by(likes_ada).require_jwt_id());
    let refusal = verifier.verify(&token(&signer, CLAIMS), at(1000)).unwrap_err();
    assert_eq!((refusal.code(), refusal.fault()), ("irrevocable", Fault::Token));
    let (likes_ada, _) = likes("ada");
    let verifier = static_verifier([&signer]).revocation(RevocationCheck::by(likes_ada).max_age(Duration::MAX));
    let refusal = verifier.verify(&token(&signer, CLAIMS), at(1000)).unwrap_err();
    assert_eq!((refusal.code(), refusal.fault()), ("revocations_stale", Fault::Unavailable));
    assert_eq!(refusal.retry_after(), Some(Duration::from_secs(5)));
}

#[test]
fn a_report_says_that_all_was_well_until_the_token_was_revoked() {
    let signer = signer("k");
    let (likes, _) = likes("grace");
    let report = static_verifier([&signer]).revocation(likes).explain(&token(&signer, CLAIMS), at(1000));
    assert_eq!(report.refusal(), Some(&Refusal::Revoked(Revoked::Token)));
    assert!(report.claims_are_signed());
    let steps: Vec<_> = report.steps().map(|step| (step.check(), step.outcome())).collect();
    assert_eq!(steps.last(), Some(&(Check::Revocation, Outcome::Failed)));
    // What is before the step that fails has passed, or would.
    assert!(
        steps[..steps.len() - 1]
            .iter()
            .all(|(_, outcome)| matches!(outcome, Outcome::Passed | Outcome::WouldPass | Outcome::NotReached)),
        "{report}"
    );
    let report = static_verifier([&signer]).explain(&token(&signer, CLAIMS), at(1000));
    assert!(report.to_string().contains("revocation      passed      not asked"), "{report}");
}

#[test]
fn handlers_can_read_what_tokens_are_revoked_by_where_nobody_asks() {
    let signer = signer("k");
    let claims = CLAIMS.replacen('{', r#"{"sid":"n","tid":"t","family":"f","azp":"c","#, 1);
    let verified = static_verifier([&signer]).verify(&token(&signer, &claims), at(1000)).unwrap();
    assert_eq!(
        [verified.session(), verified.tenant(), verified.family(), verified.client()],
        [Some("n"), Some("t"), Some("f"), Some("c")]
    );
}
