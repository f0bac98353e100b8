//! The cache of verified tokens: what it spares, what it never spares, and how much it holds.

mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{CLAIMS, ISSUER, Source, at, code, key_set, signer, static_verifier, token, verifier};
use countersign_claims::revocation::{Changed, Judged, Revocations, Revoked, Verdict};
use countersign_claims::{ConfigError, Policy, UnixTime};
use countersign_token::{Algorithm, AlgorithmSet, Answer, KeySet, KeySource, SigningKey};
use countersign_verifier::Verifier;

/// Tokens of the same few claims, of so many subjects.
fn tokens(signer: &SigningKey, subjects: usize) -> Vec<String> {
    let claims = |n| format!(r#"{{"iss":"{ISSUER}","aud":"api","sub":"s{n}","exp":2000}}"#);
    (0..subjects).map(|n| token(signer, &claims(n))).collect()
}

/// Accepts it so often that it is remembered.
fn seen<K: KeySource>(verifier: &Verifier<K>, token: &str) {
    for _ in 0..2 {
        assert_eq!(code(verifier.verify(token, at(1000))), "accepted");
    }
}

fn hits<K: KeySource>(verifier: &Verifier<K>) -> u64 {
    verifier.token_cache_status().map_or(0, |status| status.hits)
}

#[test]
fn a_token_is_remembered_at_its_second_sight() {
    let signer = signer("k");
    let verifier = static_verifier([&signer]);
    let token = token(&signer, CLAIMS);
    for (turn, hits, misses, tokens) in [(1, 0, 1, 0), (2, 0, 2, 1), (3, 1, 2, 1), (4, 2, 2, 1)] {
        let verified = verifier.verify(&token, at(1000 + turn)).unwrap();
        assert_eq!((verified.subject(), verified.judged_at()), (Some("ada"), at(1000 + turn)));
        let status = verifier.token_cache_status().unwrap();
        assert_eq!((status.hits, status.misses, status.tokens), (hits, misses, tokens), "turn {turn}");
    }
    assert_eq!(verifier.recognise(token.as_bytes(), at(1000)).map(code), Some("accepted"));
    assert_eq!(verifier.recognise(&token.as_bytes()[1..], at(1000)).map(code), None);
    assert_eq!(verifier.recognise(b"", at(1000)).map(code), None);
}

#[test]
fn without_a_cache_nothing_is_remembered() {
    let signer = signer("k");
    let verifier = static_verifier([&signer]).without_token_cache();
    let token = token(&signer, CLAIMS);
    seen(&verifier, &token);
    assert_eq!(verifier.recognise(token.as_bytes(), at(1000)).map(code), None);
    assert_eq!(verifier.token_cache_status(), None);
}

#[test]
fn nothing_but_the_very_same_octets_is_recognised() {
    let signer = signer("k");
    let verifier = static_verifier([&signer]);
    let token = token(&signer, CLAIMS);
    seen(&verifier, &token);
    let bytes = token.as_bytes();
    // The end, by which it is found, stays in nearly all of them.
    for at_octet in 0..bytes.len() {
        for other in [b'A', b'B', b'.', 0, 0xff] {
            let mut changed = bytes.to_vec();
            if std::mem::replace(&mut changed[at_octet], other) != other {
                assert_eq!(verifier.recognise(&changed, at(1000)).map(code), None, "octet {at_octet}");
            }
        }
    }
    for changed in [[b"A", bytes].concat(), [bytes, b"A"].concat(), bytes[1..].to_vec(), bytes[..50].to_vec()] {
        assert_eq!(verifier.recognise(&changed, at(1000)).map(code), None);
    }
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let forged = format!("{header}.{}.{signature}", common::base64url(CLAIMS.replace("ada", "root")));
    assert_eq!(code(verifier.verify(&forged, at(1000))), "bad_signature");
}

// ---- What is asked again ----

#[test]
fn the_times_are_asked_again() {
    let signer = signer("k");
    let claims = r#"{"iss":"https://issuer.example","aud":"api","sub":"ada","iat":900,"nbf":950,"exp":2000}"#;
    let token = token(&signer, claims);
    let policy = || Policy::new().issuer(ISSUER).audience("api").leeway(Duration::ZERO);
    for policy in [policy(), policy().max_age(Duration::from_secs(600)), policy().leeway(Duration::from_secs(10))] {
        let [cached, fresh] = [policy.clone(), policy].map(|policy| Verifier::new(key_set(&signer), policy));
        let fresh = fresh.without_token_cache();
        seen(&cached, &token);
        for now in [0, 899, 900, 939, 940, 949, 950, 1000, 1499, 1500, 1509, 1510, 1999, 2000, 2009, 2010, 5000, 1000] {
            let (again, anew) = (cached.verify(&token, at(now)), fresh.verify(&token, at(now)));
            assert_eq!(again.err(), anew.err(), "at {now}");
        }
    }
}

#[test]
fn a_token_of_a_key_that_was_withdrawn_or_replaced_is_not_recognised() {
    let [one, namesake, other] = ["k", "k", "j"].map(signer);
    let source = Source::answering(key_set(&one), Answer::Absent);
    let verifier = verifier(&source);
    let token = token(&one, CLAIMS);
    seen(&verifier, &token);

    source.publish(key_set(&other));
    assert_eq!(code(verifier.verify(&token, at(1000))), "unknown_key");
    source.publish(key_set(&namesake));
    assert_eq!(code(verifier.verify(&token, at(1000))), "bad_signature");
    assert_eq!(hits(&verifier), 0);
    // Back, but for all that is known not the same.
    source.publish(key_set(&one));
    assert_eq!((code(verifier.verify(&token, at(1000))), hits(&verifier)), ("accepted", 0));
}

#[test]
fn a_key_that_stays_keeps_its_tokens() {
    let [one, other] = ["k", "j"].map(signer);
    let first = || key_set(&one);
    let source = Source::answering(first(), Answer::Absent);
    let verifier = verifier(&source);
    let token = token(&one, CLAIMS);
    seen(&verifier, &token);
    let both = KeySet::new([&other, &one].map(|signer| signer.verifying_key().unwrap()));
    let before = Arc::clone(&source.current().unwrap());
    source.publish(both.succeeding(&before));
    assert_eq!((code(verifier.verify(&token, at(1000))), hits(&verifier)), ("accepted", 1));
}

/// Which of two keys of one name verifies a token is up to their order, and what comes of it may be another thing.
#[test]
fn a_key_that_others_would_be_tried_before_is_not_taken_for_the_first() {
    let [one, namesake] = ["k", "k"].map(signer);
    let source = Source::answering(key_set(&one), Answer::Absent);
    let verifier = verifier(&source);
    let token = token(&one, CLAIMS);
    seen(&verifier, &token);
    let before = source.current().unwrap();
    let both = KeySet::new([&namesake, &one].map(|signer| signer.verifying_key().unwrap()));
    source.publish(both.succeeding(&before));
    assert_eq!((code(verifier.verify(&token, at(1000))), hits(&verifier)), ("accepted", 0));
}

#[test]
fn while_there_are_no_keys_nothing_is_recognised() {
    let signer = signer("k");
    let source = Source::slow(key_set(&signer));
    let verifier = verifier(&source);
    let token = token(&signer, CLAIMS);
    seen(&verifier, &token);
    source.withdraw();
    assert_eq!(code(verifier.verify(&token, at(1000))), "keys_starting");
}

#[test]
fn the_users_own_rule_is_asked_again() {
    let (signer, likes) = (signer("k"), Arc::new(AtomicBool::new(true)));
    let asked = Arc::clone(&likes);
    let policy = Policy::new().audience("api").subject(move |_| asked.load(Ordering::Relaxed));
    let verifier = Verifier::new(key_set(&signer), policy);
    let token = token(&signer, CLAIMS);
    seen(&verifier, &token);
    for (is_liked, expected) in [(false, "wrong_subject"), (true, "accepted")] {
        likes.store(is_liked, Ordering::Relaxed);
        assert_eq!(code(verifier.verify(&token, at(1000))), expected);
    }
    assert_eq!(hits(&verifier), 2);
}

/// Revokes everything, or nothing.
struct All(Arc<AtomicBool>);

impl Revocations for All {
    fn check(&self, _: &Judged<'_>) -> Verdict {
        if self.0.load(Ordering::Relaxed) { Verdict::Revoked(Revoked::Token) } else { Verdict::Fresh }
    }

    fn age(&self, _: UnixTime) -> Option<Duration> {
        None
    }

    fn changed(&self) -> Changed {
        Box::pin(std::future::pending())
    }
}

#[test]
fn whether_it_is_revoked_is_asked_again() {
    let (signer, revoked) = (signer("k"), Arc::new(AtomicBool::new(false)));
    let verifier = static_verifier([&signer]).revocation(All(Arc::clone(&revoked)));
    let token = token(&signer, CLAIMS);
    seen(&verifier, &token);
    for (is_revoked, expected) in [(true, "revoked_token"), (false, "accepted")] {
        revoked.store(is_revoked, Ordering::Relaxed);
        assert_eq!(code(verifier.verify(&token, at(1000))), expected);
        let verified = verifier.verify(&token, at(1000));
        assert!(verified.is_ok_and(|verified| verified.revocation().is_some()) || is_revoked);
    }
}

#[test]
fn what_was_refused_is_not_remembered() {
    let (signer, revoked) = (signer("k"), Arc::new(AtomicBool::new(true)));
    let verifier = static_verifier([&signer]).revocation(All(Arc::clone(&revoked)));
    let token = token(&signer, CLAIMS);
    for _ in 0..3 {
        assert_eq!(code(verifier.verify(&token, at(1000))), "revoked_token");
        assert_eq!(code(verifier.verify(&token, at(5000))), "expired");
    }
    assert_eq!(verifier.token_cache_status().unwrap(), Default::default());
}

#[test]
fn a_setting_that_changes_what_is_accepted_forgets_everything() {
    let signer = signer("k");
    let token = token(&signer, CLAIMS);
    #[derive(Debug, serde::Deserialize)]
    struct Picky {
        #[expect(dead_code, reason = "that it is missing is the point")]
        tenant: String,
    }
    type Change = fn(Verifier<KeySet>) -> Verifier<KeySet>;
    let changes: [(Change, &str); 4] = [
        (|verifier| verifier.algorithms(Algorithm::Es256), "alg_not_allowed"),
        (|verifier| verifier.max_token_bytes(10), "token_too_long"),
        (|verifier| verifier.with_claims::<Picky>(), "claims_type"),
        (|verifier| verifier.revocation(All(Arc::new(AtomicBool::new(true)))), "revoked_token"),
    ];
    for (change, expected) in changes {
        let verifier = static_verifier([&signer]);
        seen(&verifier, &token);
        assert_eq!(code(change(verifier).verify(&token, at(1000))), expected);
    }
    let unnamed = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let token = common::token(&unnamed, CLAIMS);
    let verifier = static_verifier([&unnamed]);
    seen(&verifier, &token);
    assert_eq!(code(verifier.require_kid().verify(&token, at(1000))), "kid_required");
}

// ---- How much it holds ----

#[test]
fn it_holds_as_many_as_it_may_and_no_more() {
    let signer = SigningKey::generate(Algorithm::Hs256).unwrap().with_kid("k");
    let verifier = |tokens, bytes| static_verifier([&signer]).algorithms(AlgorithmSet::HMAC).token_cache(tokens, bytes);
    let all = tokens(&signer, 500);
    for (tokens, bytes) in [(1, 100_000), (20, 100_000), (100, 1_000_000), (1_000, 20_000), (1_000, 1)] {
        let verifier = verifier(tokens, bytes);
        for token in all.iter().chain(&all).chain(&all) {
            assert_eq!(code(verifier.verify(token, at(1000))), "accepted");
        }
        let status = verifier.token_cache_status().unwrap();
        assert!(status.tokens <= tokens && status.bytes <= bytes as u64, "{status:?}");
        assert!(status.tokens > 0 || bytes == 1, "{status:?}");
    }
    // One that all fit into holds all.
    let verifier = verifier(4 * all.len(), 8 << 20);
    // Few enough of them are mistaken for each other, or stand in each other's way for a while.
    for token in all.iter().cycle().take(20 * all.len()) {
        assert_eq!(code(verifier.verify(token, at(1000))), "accepted");
    }
    assert_eq!(verifier.token_cache_status().unwrap().tokens, all.len());
}

#[test]
fn a_flood_of_tokens_that_come_once_washes_nothing_out() {
    let signer = SigningKey::generate(Algorithm::Hs256).unwrap().with_kid("k");
    let verifier = static_verifier([&signer]).algorithms(AlgorithmSet::HMAC).token_cache(1_000, 4 << 20);
    let all = tokens(&signer, 10_800);
    let (in_use, flood) = all.split_at(800);
    in_use.iter().chain(in_use).for_each(|token| assert_eq!(code(verifier.verify(token, at(1000))), "accepted"));
    let before = verifier.token_cache_status().unwrap().tokens;
    assert!(before > 700, "{before}");
    for token in flood {
        assert_eq!(code(verifier.verify(token, at(1000))), "accepted");
    }
    let kept = in_use.iter().filter(|token| verifier.recognise(token.as_bytes(), at(1000)).is_some()).count();
    // A few of the flood are mistaken for ones that were seen.
    assert!(kept + 50 >= before, "{kept} of {before}");
}

#[test]
fn a_cache_that_can_hold_nothing_is_a_configuration_error() {
    let signer = signer("k");
    for (tokens, bytes) in [(0, 1_000), (10, 0)] {
        let verifier = static_verifier([&signer]).token_cache(tokens, bytes);
        assert!(matches!(verifier.check(), Err(ConfigError::Empty(_))));
        // And whoever does not ask is served all the same.
        seen(&verifier, &token(&signer, CLAIMS));
    }
    assert_eq!(static_verifier([&signer]).token_cache(1, 1).check(), Ok(()));
}

#[test]
fn threads_that_change_and_look_at_once_agree() {
    let signer = SigningKey::generate(Algorithm::Hs256).unwrap().with_kid("k");
    let verifier = static_verifier([&signer]).algorithms(AlgorithmSet::HMAC).token_cache(50, 200_000);
    let all = tokens(&signer, 100);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (verifier, all) = (&verifier, &all);
            scope.spawn(move || {
                for turn in 0..2_000 {
                    let n = (turn * (thread + 1) * 7) % all.len();
                    let verified = verifier.verify(&all[n], at(1000)).unwrap();
                    assert_eq!(verified.subject(), Some(format!("s{n}").as_str()));
                }
            });
        }
    });
    let status = verifier.token_cache_status().unwrap();
    assert_eq!(status.hits + status.misses, 8_000);
    assert!(status.tokens <= 50, "{status:?}");
}

// ---- Types, settings and keys that nobody expects ----

fn hmac() -> SigningKey {
    SigningKey::generate(Algorithm::Hs256).expect("randomness").with_kid("k")
}

fn of_hmac(signer: &SigningKey) -> Verifier<KeySet> {
    static_verifier([signer]).algorithms(AlgorithmSet::HMAC)
}

/// With claims of so many bytes besides.
fn padded(signer: &SigningKey, sub: &str, padding: usize) -> String {
    let padding = "x".repeat(padding);
    token(signer, &format!(r#"{{"iss":"{ISSUER}","aud":"api","sub":"{sub}","exp":2000,"p":"{padding}"}}"#))
}

#[derive(serde::Deserialize)]
struct Grumpy {
    sub: String,
}

impl Drop for Grumpy {
    fn drop(&mut self) {
        assert!(self.sub != "bad" || std::thread::panicking(), "does not want to go");
    }
}

/// Those that leave for another are dropped by its request; all later ones in that shard must not hear of it.
#[test]
fn claims_that_panic_when_they_are_dropped_spoil_no_more_than_the_request_that_drops_them() {
    let signer = hmac();
    // One shard; never dropped, because that would panic too.
    let verifier = of_hmac(&signer).max_token_bytes(100_000).with_claims::<Grumpy>().token_cache(100, 100_000);
    let verifier = Box::leak(Box::new(verifier));
    let pass = |token: &str| catch_unwind(AssertUnwindSafe(|| code(verifier.verify(token, at(1000)))));
    let mut tokens: Vec<_> = (0..60).map(|n| padded(&signer, "bad", n)).collect();
    tokens.push(padded(&signer, "good", 20_000));
    for token in &tokens {
        // At first sight, the claims go with the request.
        let _ = pass(token);
        let _ = pass(token);
    }
    let good = padded(&signer, "good", 10);
    // By then it is remembered, and whatever had to leave for it has left.
    (0..2).for_each(|_| _ = pass(&good));
    for _ in 0..4 {
        assert_eq!(pass(&good).ok(), Some("accepted"), "a request that has nothing to do with it");
    }
}

#[test]
fn limits_of_any_size_are_limits() {
    let signer = hmac();
    let token = padded(&signer, "ada", 0);
    for (tokens, bytes) in [(usize::MAX, usize::MAX), (usize::MAX, 1), (1, usize::MAX), (1 << 40, 1 << 50)] {
        let verifier = of_hmac(&signer).token_cache(tokens, bytes);
        for _ in 0..3 {
            assert_eq!(code(verifier.verify(&token, at(1000))), "accepted");
        }
    }
}

/// Read by the handler, after the token was put into the cache.
#[derive(serde::Deserialize)]
struct Large {
    #[serde(skip, default = "large")]
    _room: Vec<u8>,
}

fn large() -> Vec<u8> {
    vec![1; 4]
}

#[test]
fn claims_of_one_type_are_not_given_out_as_another() {
    let signer = hmac();
    let token = padded(&signer, "ada", 0);
    let verifier = of_hmac(&signer);
    for _ in 0..4 {
        let verified = verifier.verify(&token, at(1000)).unwrap();
        assert_eq!(verified.claims::<BTreeMap<String, serde_json::Value>>().unwrap()["sub"], "ada");
        assert_eq!(verified.claims::<Grumpy>().unwrap().sub, "ada");
        assert_eq!(verified.claims::<Large>().unwrap()._room.len(), 4);
        assert!(verified.claims::<Vec<u8>>().is_err());
    }
}
