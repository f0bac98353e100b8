//! The verifier with a key source that can be told what to say: the order of its work, what it asks for and when it
//! waits, and that nothing but a good token is ever accepted.

mod common;

use std::pin::pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::Duration;

use common::{CLAIMS, ISSUER, Source, at, code, key_set, poll, signer, static_verifier, token, token_with_header};
use countersign_claims::{ClaimError, Clock, ConfigError, Policy, UnixTime};
use countersign_token::{
    Algorithm, AlgorithmSet, Answer, DEFAULT_MAX_TOKEN_BYTES, KeySet, SigningKey, TokenError, Unready,
};
use countersign_verifier::{Attempt, Fault, Refusal, Verifier};
use proptest::prelude::*;
use serde::Deserialize;

// ---- Order of work ----

#[test]
fn r14_the_cheapest_check_that_fails_is_the_one_reported() {
    let [signer, stranger] = ["k", "k"].map(signer);
    let verifier = static_verifier([&signer]).algorithms(Algorithm::Ed25519).require_kid();
    let expired = r#"{"exp":1}"#;
    let huge = format!(r#"{{"exp":1,"x":"{}"}}"#, "x".repeat(DEFAULT_MAX_TOKEN_BYTES));
    // Each token has all the faults of those after it.
    for (token, expected) in [
        (token_with_header(&stranger, r#"{"alg":"none","crit":[]}"#, &huge), "token_too_long"),
        (format!("{}.x", token_with_header(&stranger, r#"{"alg":"none"}"#, expired)), "not_three_parts"),
        (token_with_header(&stranger, r#"{"alg":"ES256","alg":"none"}"#, expired), "header_duplicate_member"),
        (token_with_header(&stranger, r#"{"alg":"ES256"}"#, expired), "alg_not_allowed"),
        (token_with_header(&stranger, r#"{"alg":"Ed25519"}"#, expired), "kid_required"),
        (token_with_header(&stranger, r#"{"alg":"Ed25519","kid":"j"}"#, expired), "unknown_key"),
        (token_with_header(&stranger, r#"{"alg":"Ed25519","kid":"k"}"#, expired), "bad_signature"),
        (token_with_header(&signer, r#"{"alg":"Ed25519","kid":"k"}"#, expired), "expired"),
        (token_with_header(&signer, r#"{"alg":"Ed25519","kid":"k"}"#, CLAIMS), "accepted"),
    ] {
        assert_eq!(code(verifier.verify(&token, at(1000))), expected);
    }
}

#[test]
fn r14_the_size_is_checked_before_anything_is_decoded() {
    let signer = signer("k");
    let good = token(&signer, CLAIMS);
    let limit = good.len();
    let verifier = static_verifier([&signer]).max_token_bytes(limit);
    assert_eq!(code(verifier.verify(&good, at(1000))), "accepted");
    let verifier = verifier.max_token_bytes(limit - 1);
    let refusal = Refusal::Token(TokenError::TooLong { length: limit, limit: limit - 1 });
    assert_eq!(verifier.verify(&good, at(1000)).unwrap_err(), refusal);
    assert_eq!(verifier.verify(&good, at(9000)).unwrap_err(), refusal, "expired as well");
    assert_eq!(code(verifier.verify(&"💣".repeat(limit), at(1000))), "token_too_long");
    // By default, a token just over 8 KiB.
    let claims = format!(r#"{{"exp":2000,"x":"{}"}}"#, "x".repeat(DEFAULT_MAX_TOKEN_BYTES * 3 / 4));
    assert_eq!(code(static_verifier([&signer]).verify(&token(&signer, &claims), at(1000))), "token_too_long");
}

#[test]
fn r14_nobody_looks_for_the_key_of_a_token_that_has_failed() {
    let (known, stranger) = (signer("known"), signer("stranger"));
    let source = Source::answering(key_set(&known), Answer::Absent);
    let verifier = common::verifier(&source).require_kid();
    let unknown_kid = token(&stranger, CLAIMS);
    let (signed, signature) = unknown_kid.rsplit_once('.').unwrap();
    for (token, expected) in [
        (String::new(), "not_three_parts"),
        ("x".repeat(DEFAULT_MAX_TOKEN_BYTES + 1), "token_too_long"),
        (signed.into(), "not_three_parts"),
        (format!("{unknown_kid}.{signature}"), "not_three_parts"),
        (format!("{unknown_kid}.x.x"), "encrypted"),
        (format!(" {unknown_kid}"), "not_base64url"),
        (format!("{}=.{}", signed.split_once('.').unwrap().0, "e30.AA"), "not_base64url"),
        (token_with_header(&stranger, "[]", CLAIMS), "header_not_an_object"),
        (token_with_header(&stranger, r#"{"kid":"stranger"}"#, CLAIMS), "alg_missing"),
        (token_with_header(&stranger, r#"{"alg":"none","kid":"stranger"}"#, CLAIMS), "alg_none"),
        (token_with_header(&stranger, r#"{"alg":"XS256","kid":"stranger"}"#, CLAIMS), "alg_unknown"),
        (token_with_header(&stranger, r#"{"alg":"HS256","kid":"stranger"}"#, CLAIMS), "alg_not_allowed"),
        (token_with_header(&stranger, r#"{"alg":"Ed25519","kid":7}"#, CLAIMS), "header_malformed"),
        (token_with_header(&stranger, r#"{"alg":"Ed25519","kid":"stranger","crit":["exp"]}"#, CLAIMS), "crit"),
        (
            token_with_header(&stranger, r#"{"alg":"Ed25519","kid":"stranger","zip":"DEF"}"#, CLAIMS),
            "payload_transformed",
        ),
        (token_with_header(&stranger, r#"{"alg":"Ed25519"}"#, CLAIMS), "kid_required"),
        // What no key can save.
        (format!("{unknown_kid}="), "not_base64url"),
        (format!("{signed}."), "signature_too_short"),
        (format!("{signed}.{}", &signature[..80]), "signature_too_short"),
        (format!("{signed}.{signature}AAAA"), "bad_signature"),
        (format!("{}.!!!.{signature}", signed.split_once('.').unwrap().0), "not_base64url"),
        // What would be refused with any key, as far as it says itself.
        (token(&stranger, &CLAIMS.replace("2000", "970")), "key_not_sought"),
        (token(&stranger, &CLAIMS.replace("issuer.example", "attacker.example")), "key_not_sought"),
        (token(&stranger, &CLAIMS.replace("\"api\"", "\"other\"")), "key_not_sought"),
        (token(&stranger, r#"{"exp":2000}"#), "key_not_sought"),
        (token(&stranger, &CLAIMS.replace("2000", "\"2000\"")), "key_not_sought"),
        (token(&stranger, "[]"), "key_not_sought"),
        // Known keys: nothing to look for.
        (token(&known, CLAIMS), "accepted"),
        (token(&known, r#"{"exp":1}"#), "expired"),
        (token_with_header(&stranger, r#"{"alg":"Ed25519","kid":"known"}"#, CLAIMS), "bad_signature"),
    ] {
        assert_eq!(code(verifier.verify(&token, at(1000))), expected);
        assert_eq!(source.asked(), [], "{expected}");
    }
    // The counter works: a well-formed token with a name that nobody knows is asked for, once.
    assert_eq!(code(verifier.verify(&unknown_kid, at(1000))), "unknown_key");
    assert_eq!(source.asked(), [(Some(0), Some("stranger".into()), Algorithm::Ed25519)]);
}

#[test]
fn of_a_token_whose_key_is_known_not_to_be_there_nothing_else_is_looked_at() {
    let (known, stranger) = (signer("known"), signer("stranger"));
    let unknown_kid = token(&stranger, CLAIMS);
    let (signed, _) = unknown_kid.rsplit_once('.').unwrap();
    let fixed = static_verifier([&known]);
    let asking = common::verifier(&Source::answering(key_set(&known), Answer::Absent));
    for (token, asked) in [
        (token(&stranger, r#"{"exp":1}"#), "key_not_sought"),
        (token(&stranger, "[]"), "key_not_sought"),
        (format!("{signed}.!"), "not_base64url"),
        (unknown_kid.clone(), "unknown_key"),
    ] {
        assert_eq!(code(fixed.verify(&token, at(1000))), "unknown_key");
        assert_eq!(code(asking.verify(&token, at(1000))), asked);
    }
}

/// What would take memory to be looked at is no reason against a token, as long as no key has vouched for it: an issuer may write so.
#[test]
fn the_key_of_an_unusual_token_is_looked_for() {
    let (known, stranger) = (signer("known"), signer("stranger"));
    let many = (0..40).map(|at| format!(r#","x{at}":{{}}"#)).collect::<String>();
    let aud = (0..9).map(|at| format!(r#""a{at}","#)).collect::<String>();
    let nested = (0..40).map(|at| format!(r#""x{at}":0,"#)).collect::<String>();
    for claims in [
        CLAIMS.replace('}', &format!("{many}}}")),
        CLAIMS.replace("\"api\"", &format!(r#"[{aud}"api"]"#)),
        CLAIMS.replace("https://", "https:\\/\\/"),
        CLAIMS.replace("\"aud\"", "\"\\u0061ud\""),
        CLAIMS.replace('}', &format!(r#","n":{{{nested}"z":0}}}}"#)),
    ] {
        let source = Source::answering(key_set(&known), Answer::Absent);
        let verifier = common::verifier(&source);
        assert_eq!(code(verifier.verify(&token(&stranger, &claims), at(1000))), "unknown_key", "{claims}");
        assert_eq!(source.asked().len(), 1, "{claims}");
        // And with its key it is as good as any.
        source.publish(key_set(&stranger));
        assert_eq!(code(verifier.verify(&token(&stranger, &claims), at(1000))), "accepted", "{claims}");
    }
}

#[test]
fn the_source_is_told_what_was_missing_from_which_snapshot() {
    let (known, stranger) = (signer("known"), signer("stranger"));
    let source = Source::answering(key_set(&known).with_generation(7), Answer::Absent);
    let verifier = common::verifier(&source);
    let _ = verifier.verify(&token(&stranger, CLAIMS), at(1000));
    // The right name for the wrong algorithm is a miss as well.
    let _ = verifier.verify(&token_with_header(&known, r#"{"alg":"ES256","kid":"known"}"#, CLAIMS), at(1000));
    // And so is no name, if no key can do the algorithm.
    let _ = verifier.verify(&token_with_header(&known, r#"{"alg":"EdDSA"}"#, CLAIMS), at(1000));
    assert_eq!(
        source.asked(),
        [
            (Some(7), Some("stranger".into()), Algorithm::Ed25519),
            (Some(7), Some("known".into()), Algorithm::Es256),
            (Some(7), None, Algorithm::EdDsa),
        ]
    );
    let empty = Source::slow(None);
    let _ = common::verifier(&empty).verify(&token(&stranger, CLAIMS), at(1000));
    assert_eq!(empty.asked(), [(None, Some("stranger".into()), Algorithm::Ed25519)]);
}

// ---- Algorithms and names ----

#[test]
fn only_the_algorithms_of_the_allow_list() {
    let secret = SigningKey::from_secret(&[7; 32], Algorithm::Hs256).unwrap();
    let signers = [signer("e"), SigningKey::generate(Algorithm::Es256).unwrap().with_kid("p"), secret.with_kid("h")];
    let verify =
        |verifier: Verifier<KeySet>| signers.each_ref().map(|s| code(verifier.verify(&token(s, CLAIMS), at(1000))));
    let all = || static_verifier(&signers);
    assert_eq!(verify(all()), ["accepted", "accepted", "accepted"]);
    assert_eq!(verify(all().algorithms(Algorithm::Es256)), ["alg_not_allowed", "accepted", "alg_not_allowed"]);
    assert_eq!(verify(all().algorithms(AlgorithmSet::HMAC)), ["alg_not_allowed", "alg_not_allowed", "accepted"]);
    assert_eq!(verify(all().algorithms(AlgorithmSet::EMPTY)), ["alg_not_allowed"; 3]);
    // By default no shared secrets.
    let by_default = Verifier::new(KeySet::new(signers.each_ref().map(|s| s.verifying_key().unwrap())), Policy::new());
    assert_eq!(verify(by_default), ["accepted", "accepted", "alg_not_allowed"]);
}

#[test]
fn an_empty_allow_list_and_a_bad_policy_are_configuration_errors() {
    let verifier = static_verifier([&signer("k")]);
    assert_eq!(verifier.check(), Ok(()));
    assert_eq!(verifier.algorithms(AlgorithmSet::EMPTY).check(), Err(ConfigError::NoAlgorithm));
    let unbound = Verifier::new(KeySet::default(), Policy::new().deny_unbound());
    assert_eq!(unbound.check(), Err(ConfigError::Unbound("issuer")));
    assert!(unbound.policy().accepts_any_issuer() && unbound.keys().is_empty());
}

#[test]
fn a_token_without_kid_is_tried_against_the_few_keys_that_fit() {
    let signers: Vec<_> = (0..5).map(|n| signer(&format!("k{n}"))).collect();
    let other = SigningKey::generate(Algorithm::Es256).unwrap().with_kid("p");
    let verifier = static_verifier(std::iter::once(&other).chain(&signers));
    let anonymous =
        |signer: &SigningKey| token_with_header(signer, &format!(r#"{{"alg":"{}"}}"#, signer.algorithm()), CLAIMS);
    for signer in signers[..4].iter().chain([&other]) {
        let verified = verifier.verify(&anonymous(signer), at(1000)).unwrap();
        assert_eq!(verified.key().kid(), signer.kid(), "the key that verified it");
    }
    assert_eq!(code(verifier.verify(&anonymous(&signers[4]), at(1000))), "bad_signature", "the fifth is not tried");
    assert_eq!(code(verifier.verify(&token(&signers[4], CLAIMS), at(1000))), "accepted", "by its name it is");

    let strict = verifier.require_kid();
    assert_eq!(strict.verify(&anonymous(&signers[0]), at(1000)).unwrap_err(), Refusal::KidRequired);
    let empty_name = token_with_header(&signers[0], r#"{"alg":"Ed25519","kid":""}"#, CLAIMS);
    assert_eq!(code(strict.verify(&empty_name, at(1000))), "unknown_key");
}

#[test]
fn one_name_for_keys_of_several_types_resolves_by_type() {
    let (ed, ec) = (signer("same"), SigningKey::generate(Algorithm::Es256).unwrap().with_kid("same"));
    let verifier = static_verifier([&ed, &ec]);
    for signer in [&ed, &ec] {
        assert_eq!(verifier.verify(&token(signer, CLAIMS), at(1000)).unwrap().algorithm(), signer.algorithm());
    }
}

#[test]
fn r10_a_kid_is_a_name_and_nothing_else() {
    let known = signer("known");
    let source = Source::answering(key_set(&known), Answer::Absent);
    let verifier = common::verifier(&source);
    let hostile = [
        "../../../dev/null",
        "Known",
        "known ",
        "known\\u0000",
        "' OR 1=1 --",
        "http://evil.test/jwks",
        "*",
        "\\r\\nX-Injected: 1",
        "${jndi:ldap://evil.test}",
        "$(id)",
        "\\u202eknown",
        "",
    ];
    for kid in hostile {
        let token = token_with_header(&known, &format!(r#"{{"alg":"Ed25519","kid":"{kid}"}}"#), CLAIMS);
        let refusal = verifier.verify(&token, at(1000)).unwrap_err();
        assert_eq!(refusal, Refusal::UnknownKey, "{kid}");
        assert_eq!(refusal.to_string(), "no key in force has the token's `kid` and can do its algorithm");
    }
    assert_eq!(source.asked().len(), hostile.len());
    let escaped = token_with_header(&known, r#"{"alg":"Ed25519","kid":"\u006bnown"}"#, CLAIMS);
    assert_eq!(code(verifier.verify(&escaped, at(1000))), "accepted");
}

#[test]
fn r10_no_key_comes_out_of_a_token_and_no_look_up_starts_from_one() {
    let (known, attacker) = (signer("known"), signer("attacker"));
    let source = Source::answering(key_set(&known), Answer::Absent);
    let verifier = common::verifier(&source);
    let jwk = attacker.public_jwk().unwrap();
    for member in [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"https://evil.test/jwks.json""#.into(),
        r#""x5u":"https://evil.test/cert.pem""#.into(),
        r#""x5c":["MIIB"]"#.into(),
        r#""x5t":"AAAA","x5t#S256":"AAAA""#.into(),
        format!(r#""keys":[{jwk}],"nonce":"x""#),
    ] {
        // What claims to be of the known key, or of none.
        for name in [r#""kid":"known","#, ""] {
            let header = format!(r#"{{"alg":"Ed25519",{name}{member}}}"#);
            assert_eq!(
                code(verifier.verify(&token_with_header(&attacker, &header, CLAIMS), at(1000))),
                "bad_signature"
            );
            // The same members do an honest token no harm.
            assert_eq!(code(verifier.verify(&token_with_header(&known, &header, CLAIMS), at(1000))), "accepted");
        }
        assert_eq!(source.asked(), []);
        let header = format!(r#"{{"alg":"Ed25519","kid":"attacker",{member}}}"#);
        assert_eq!(code(verifier.verify(&token_with_header(&attacker, &header, CLAIMS), at(1000))), "unknown_key");
        // The source learns the name, and nothing of where the token says that its key lies.
        assert_eq!(source.asked().pop().unwrap().1.as_deref(), Some("attacker"));
        source.forget();
    }
}

#[test]
fn r9_crit_is_refused_whatever_it_says() {
    let signer = signer("k");
    let verifier = static_verifier([&signer]);
    for crit in [r#"["exp"]"#, r#"["b64"]"#, r#"["x"]"#, "[]", "null", r#""exp""#, "{}", "7", r#"["alg","kid"]"#] {
        let header = format!(r#"{{"alg":"Ed25519","kid":"k","b64":true,"x":1,"exp":1,"crit":{crit}}}"#);
        assert_eq!(code(verifier.verify(&token_with_header(&signer, &header, CLAIMS), at(1000))), "crit", "{crit}");
    }
    for b64 in ["false", "null", "0", r#""true""#] {
        let header = format!(r#"{{"alg":"Ed25519","kid":"k","b64":{b64}}}"#);
        let outcome = verifier.verify(&token_with_header(&signer, &header, CLAIMS), at(1000));
        assert_eq!(code(outcome), "payload_transformed", "{b64}");
    }
}

#[test]
fn statement_46_the_key_belongs_to_the_issuer() {
    // Two issuers, each with its own keys: what one signs in the other's name is nobody's.
    let (ours, theirs) = (signer("k"), signer("k"));
    let verifier = static_verifier([&ours]);
    assert_eq!(code(verifier.verify(&token(&ours, CLAIMS), at(1000))), "accepted");
    assert_eq!(code(verifier.verify(&token(&theirs, CLAIMS), at(1000))), "bad_signature");
    let honest = CLAIMS.replace(ISSUER, "https://other.example");
    assert_eq!(code(verifier.verify(&token(&theirs, &honest), at(1000))), "bad_signature");
    assert_eq!(code(verifier.verify(&token(&ours, &honest), at(1000))), "wrong_issuer");
}

#[test]
fn statement_49_rs256_is_supported() {
    let rsa = SigningKey::generate(Algorithm::Rs256).unwrap().with_kid("r");
    let verifier = Verifier::new(key_set(&rsa), Policy::new().issuer(ISSUER).audience("api"));
    let good = token(&rsa, CLAIMS);
    assert_eq!(code(verifier.verify(&good, at(1000))), "accepted");
    // The key does what its owner published it for, and no other of RSA's algorithms.
    let relabelled = token_with_header(&rsa, r#"{"alg":"PS256","kid":"r"}"#, CLAIMS);
    assert_eq!(code(verifier.verify(&relabelled, at(1000))), "unknown_key");
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_eq!(code(verifier.verify(&format!("{signed}."), at(1000))), "signature_too_short");
}

// ---- Answers ----

const SOON: Duration = Duration::from_secs(3);

/// Every way in which a miss can end, whose fault it then is, and what the operator reads.
fn endings() -> [(Answer, Refusal, Fault, &'static str); 6] {
    let unavailable = |reason| Answer::Unavailable { reason, retry_after: SOON };
    let refusal = |reason| Refusal::KeysUnavailable { reason, retry_after: SOON };
    [
        (Answer::Absent, Refusal::UnknownKey, Fault::Token, "unknown_key"),
        (
            Answer::NotYet { retry_after: SOON },
            Refusal::KeyNotCheckedYet { retry_after: SOON },
            Fault::AskAgain,
            "key_not_checked_yet",
        ),
        (unavailable(Unready::Starting), refusal(Unready::Starting), Fault::Unavailable, "keys_starting"),
        (unavailable(Unready::NeverFetched), refusal(Unready::NeverFetched), Fault::Unavailable, "keys_never_fetched"),
        (unavailable(Unready::TooOld), refusal(Unready::TooOld), Fault::Unavailable, "keys_too_old"),
        (unavailable(Unready::NoRuntime), refusal(Unready::NoRuntime), Fault::Unavailable, "keys_no_runtime"),
    ]
}

#[test]
fn r17_no_keys_is_our_fault_and_never_an_acceptance() {
    let (known, stranger) = (signer("known"), signer("stranger"));
    let wanted = token(&stranger, CLAIMS);
    for (answer, refusal, fault, code) in endings() {
        assert_eq!((refusal.fault(), refusal.code()), (fault, code));
        assert_eq!(refusal.retry_after(), (fault != Fault::Token).then_some(SOON));

        // Said at once, ...
        let source = Source::answering(key_set(&known), answer);
        assert_eq!(common::verifier(&source).verify(&wanted, at(1000)).unwrap_err(), refusal);
        let waited = common::verifier(&source);
        let mut waited = pin!(waited.verify_or_wait(&wanted, &|| at(1000)));
        assert!(matches!(poll(waited.as_mut()), Poll::Ready(Err(said)) if said == refusal));

        // ... after a wait, ...
        let source = Source::slow(key_set(&known));
        let verifier = common::verifier(&source);
        let mut waiting = pin!(verifier.verify_or_wait(&wanted, &|| at(1000)));
        assert!(poll(waiting.as_mut()).is_pending());
        source.answer(answer);
        assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Err(said)) if said == refusal));

        // ... or to somebody who waits in their own way.
        assert_eq!(verifier.resume(&wanted, answer, at(1000)).unwrap_err(), refusal);
        assert_eq!(source.asked().len(), 1, "nobody asks twice");
    }
}

#[test]
fn changed_means_look_again_and_only_once() {
    let (known, new) = (signer("known"), signer("new"));
    let source = Source::answering(key_set(&known), Answer::Changed);
    let verifier = common::verifier(&source);
    // The source says that there is something new, and there is not what we want.
    let refusal = verifier.verify(&token(&new, CLAIMS), at(1000)).unwrap_err();
    assert_eq!(refusal.fault(), Fault::AskAgain);
    assert_eq!(source.asked().len(), 1);

    let empty = Source::answering(None, Answer::Changed);
    let refusal = common::verifier(&empty).verify(&token(&new, CLAIMS), at(1000)).unwrap_err();
    assert_eq!((refusal.fault(), refusal.code()), (Fault::Unavailable, "keys_starting"));

    source.publish(key_set(&new));
    assert_eq!(code(verifier.resume(&token(&new, CLAIMS), Answer::Changed, at(1000))), "accepted");
    assert_eq!(code(verifier.resume(&token(&new, CLAIMS), Answer::Changed, at(2030))), "expired");
    // What holds before a wait holds after it: nothing gets in through `resume`.
    assert_eq!(code(verifier.resume("x.y", Answer::Changed, at(1000))), "not_three_parts");
    let forged = token_with_header(&known, r#"{"alg":"Ed25519","kid":"new"}"#, CLAIMS);
    assert_eq!(code(verifier.resume(&forged, Answer::Changed, at(1000))), "bad_signature");
    let strict = common::verifier(&source).require_kid().algorithms(Algorithm::Es256);
    assert_eq!(code(strict.resume(&token(&new, CLAIMS), Answer::Changed, at(1000))), "alg_not_allowed");
    assert_eq!(source.asked().len(), 1);
}

// ---- Waiting ----

#[test]
fn verify_never_waits() {
    let (known, new) = (signer("known"), signer("new"));
    let source = Source::slow(key_set(&known));
    let refusal = common::verifier(&source).verify(&token(&new, CLAIMS), at(1000)).unwrap_err();
    assert_eq!(refusal, Refusal::KeyNotCheckedYet { retry_after: Duration::from_secs(1) });
    assert_eq!((source.asked().len(), source.polls()), (1, 0));

    let empty = Source::slow(None);
    let refusal = common::verifier(&empty).verify(&token(&new, CLAIMS), at(1000)).unwrap_err();
    assert_eq!((refusal.fault(), refusal.code()), (Fault::Unavailable, "keys_starting"));
    assert_eq!(empty.polls(), 0);
}

#[test]
fn verify_or_wait_waits_and_then_judges_by_the_keys_and_the_time_of_then() {
    struct Watch(AtomicI64);
    impl Clock for Watch {
        fn now(&self) -> UnixTime {
            at(self.0.load(Ordering::SeqCst))
        }
    }

    let (old, new) = (signer("old"), signer("new"));
    let wanted = token(&new, CLAIMS);
    for (before, after, expected) in [(1000, 2029, "accepted"), (1000, 2030, "expired"), (1999, 1000, "accepted")] {
        let source = Source::slow(key_set(&old));
        let verifier = common::verifier(&source);
        let clock = Watch(before.into());
        let mut judging = pin!(verifier.verify_or_wait(&wanted, &clock));
        for polls in 1..4 {
            assert!(poll(judging.as_mut()).is_pending());
            assert_eq!(source.polls(), polls);
        }
        clock.0.store(after, Ordering::SeqCst);
        source.publish(KeySet::new([old.verifying_key().unwrap(), new.verifying_key().unwrap()]).with_generation(1));
        assert!(poll(judging.as_mut()).is_pending(), "until the source answers");
        source.answer(Answer::Changed);
        let Poll::Ready(outcome) = poll(judging.as_mut()) else { panic!("still waiting") };
        assert_eq!(code(outcome), expected);
        assert_eq!(source.asked(), [(Some(0), Some("new".into()), Algorithm::Ed25519)]);
    }
}

#[test]
fn a_known_key_is_never_waited_for() {
    let known = signer("known");
    let source = Source::slow(key_set(&known));
    let verifier = common::verifier(&source);
    for (claims, expected) in [(CLAIMS, "accepted"), (r#"{"exp":1}"#, "expired")] {
        let token = token(&known, claims);
        let mut judging = pin!(verifier.verify_or_wait(&token, &|| at(1000)));
        let Poll::Ready(outcome) = poll(judging.as_mut()) else { panic!("it waits") };
        assert_eq!(code(outcome), expected);
        assert!(matches!(verifier.attempt(&token, at(1000)), Attempt::Done(_)));
    }
    assert_eq!((source.asked().len(), source.polls()), (0, 0));
}

#[test]
fn what_waits_can_be_moved_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    let source = Source::slow(None);
    let verifier = common::verifier(&source);
    is_send(&verifier);
    is_send(&verifier.attempt(&token(&signer("k"), CLAIMS), at(1000)));
    let clock = || at(1000);
    is_send(&verifier.verify_or_wait("x", &clock));
}

// ---- Signature mismatches ----

#[test]
fn a_mismatch_is_reported_once_and_changes_nothing() {
    let (a, b, stranger) = (signer("a"), signer("b"), signer("a"));
    let keys = || KeySet::new([a.verifying_key().unwrap(), b.verifying_key().unwrap()]).with_generation(7);
    let source = Source::slow(keys());
    let verifier = common::verifier(&source);
    assert_eq!(code(verifier.verify(&token(&stranger, CLAIMS), at(1000))), "bad_signature");
    assert_eq!(source.mismatches(), [(Some(7), Some("a".into()), Algorithm::Ed25519)]);
    // Two candidates, one report.
    let anonymous = token_with_header(&stranger, r#"{"alg":"Ed25519"}"#, CLAIMS);
    assert_eq!(code(verifier.verify(&anonymous, at(1000))), "bad_signature");
    assert_eq!(source.mismatches()[1..], [(Some(7), None, Algorithm::Ed25519)]);
    // The first candidate does not fit and the second does: nothing to report.
    let second = token_with_header(&b, r#"{"alg":"Ed25519"}"#, CLAIMS);
    assert_eq!(code(verifier.verify(&second, at(1000))), "accepted");
    assert_eq!(code(verifier.verify(&token(&a, r#"{"exp":1}"#), at(1000))), "expired");
    assert_eq!(source.mismatches().len(), 2);
    assert_eq!((source.asked().len(), source.polls()), (0, 0), "nobody asks and nobody waits");
}

#[test]
fn what_no_key_can_have_signed_is_not_reported_as_a_mismatch() {
    let known = signer("known");
    let source = Source::slow(key_set(&known));
    let verifier = common::verifier(&source);
    let good = token(&known, CLAIMS);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for (signature, expected) in [
        (String::new(), "signature_too_short"),
        (signature[..40].into(), "signature_too_short"),
        (format!("{signature}="), "not_base64url"),
        (signature.replace(&signature[..1], "+"), "not_base64url"),
    ] {
        assert_eq!(code(verifier.verify(&format!("{signed}.{signature}"), at(1000))), expected);
    }
    assert_eq!(source.mismatches(), []);
}

// ---- Eager claims ----

#[test]
fn claims_that_do_not_fit_the_type_are_refused_at_once() {
    #[derive(Debug, Deserialize)]
    struct Tenant {
        tenant: String,
    }
    let signer = signer("k");
    let verifier = static_verifier([&signer]).with_claims::<Tenant>();
    let fitting = CLAIMS.replace('{', r#"{"tenant":"t1","#);
    let verified = verifier.verify(&token(&signer, &fitting), at(1000)).unwrap();
    let (first, second) = (verified.claims::<Tenant>().unwrap(), verified.claims::<Tenant>().unwrap());
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    assert_eq!(first.tenant, "t1");

    for claims in [CLAIMS.to_owned(), fitting.replace(r#""t1""#, r#"["top-secret"]"#)] {
        let refusal = verifier.verify(&token(&signer, &claims), at(1000)).unwrap_err();
        assert_eq!((refusal.code(), refusal.fault()), ("claims_type", Fault::Token));
        assert!(!format!("{refusal} {refusal:?}").contains("top-secret"));
        // The policy comes first.
        assert_eq!(code(verifier.verify(&token(&signer, &claims), at(2030))), "expired");
    }
    let lazy = static_verifier([&signer]);
    assert!(lazy.verify(&token(&signer, CLAIMS), at(1000)).unwrap().claims::<Tenant>().is_err());
}

// ---- Secrets ----

#[test]
fn r16_no_part_of_a_token_reaches_an_error_or_a_debug_output() {
    let (known, stranger) = (signer("known"), signer("stranger"));
    let verifier = static_verifier([&known]);
    let marked = r#"{"iss":"https://issuer.example","aud":"api","exp":1,"sub":"top-secret"}"#;
    let tokens = [
        token(&known, marked),
        token(&stranger, marked),
        token_with_header(&stranger, r#"{"alg":"Ed25519","kid":"known"}"#, marked),
        token_with_header(&stranger, r#"{"alg":"top-secret"}"#, marked),
        token_with_header(&stranger, r#"{"alg":"Ed25519","top-secret":1,"top-secret":1}"#, marked),
        format!("{}.top-secret", token(&known, marked)),
    ];
    for token in tokens {
        let refusal = verifier.verify(&token, at(1000)).unwrap_err();
        let shown = format!("{refusal} {refusal:?} {:?}", verifier.attempt(&token, at(1000)));
        assert!(!shown.contains("top-secret"), "{shown}");
        for part in token.split('.').filter(|part| part.len() > 10) {
            assert!(!shown.contains(part), "{shown}");
        }
    }
    let secret = SigningKey::from_secret(b"correct horse battery staple 1234", Algorithm::Hs256).unwrap();
    let shown = format!("{:?}", static_verifier([&secret]));
    assert!(shown.contains("HS256") && !shown.contains("horse") && !shown.contains("99, 111, 114"), "{shown}");
}

#[test]
fn every_refusal_has_a_code_of_its_own_and_a_text() {
    let refusals = [
        Refusal::AlgorithmNotAllowed(Algorithm::Hs256),
        Refusal::KidRequired,
        Refusal::UnknownKey,
        Refusal::Token(TokenError::CriticalHeader),
        Refusal::Claim(ClaimError::IdToken),
        Refusal::KeyNotCheckedYet { retry_after: SOON },
        Refusal::KeysUnavailable { reason: Unready::TooOld, retry_after: SOON },
    ];
    let mut codes: Vec<_> = refusals.iter().map(Refusal::code).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), refusals.len());
    for refusal in refusals {
        assert!(refusal.code().bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{refusal:?}");
        assert!(refusal.to_string().len() > 10, "{refusal:?}");
    }
}

// ---- Nothing but a good token ----

/// One signer for each family, and good tokens of theirs.
static GOOD: LazyLock<(Vec<SigningKey>, Vec<String>)> = LazyLock::new(|| {
    let algorithms = [Algorithm::Ed25519, Algorithm::Es256, Algorithm::Rs256, Algorithm::Hs256, Algorithm::MlDsa44];
    let signers: Vec<_> = algorithms
        .into_iter()
        .map(|algorithm| SigningKey::generate(algorithm).expect("randomness").with_kid(algorithm.name()))
        .collect();
    let other = CLAIMS.replace("ada", "bob");
    let tokens = signers.iter().flat_map(|signer| [token(signer, CLAIMS), token(signer, &other)]).collect();
    (signers, tokens)
});

fn accepts(token: &str) -> bool {
    static VERIFIER: LazyLock<Verifier<KeySet>> = LazyLock::new(|| static_verifier(&GOOD.0));
    VERIFIER.verify(token, at(1000)).is_ok()
}

#[test]
fn every_changed_byte_is_noticed() {
    const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/. \0\n%~";
    // Ed25519 and HMAC: the shortest tokens, and each position tried with each character.
    for good in [&GOOD.1[0], &GOOD.1[6]] {
        assert!(accepts(good));
        for position in 0..good.len() {
            for character in CHARACTERS {
                let mut bytes = good.clone().into_bytes();
                bytes[position] = *character;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(accepts(&changed), changed == *good, "{character} at {position}");
            }
            assert!(!accepts(&good[..position]), "cut at {position}");
            assert!(!accepts(&good[position + 1..]), "cut before {position}");
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Replace(usize, String),
    Insert(usize, String),
    Remove(usize, usize),
    Swap(usize, usize),
    /// A part from another token.
    Graft(usize, usize),
    Append(String),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0_usize..5000;
    let text = || prop_oneof!["[A-Za-z0-9_-]{1,4}", "[.=+/ ]{1,2}", "\\PC{1,3}"];
    prop_oneof![
        (at(), text()).prop_map(|(at, text)| Change::Replace(at, text)),
        (at(), text()).prop_map(|(at, text)| Change::Insert(at, text)),
        (at(), 1_usize..9).prop_map(|(at, length)| Change::Remove(at, length)),
        (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
        (0_usize..3, at()).prop_map(|(part, other)| Change::Graft(part, other)),
        text().prop_map(Change::Append),
    ]
}

fn apply(change: &Change, token: &str) -> String {
    let mut characters: Vec<char> = token.chars().collect();
    let length = characters.len().max(1);
    match change {
        Change::Replace(at, text) => {
            let at = (at % length).min(characters.len());
            let end = (at + text.chars().count()).min(characters.len());
            characters.splice(at..end, text.chars());
        }
        Change::Insert(at, text) => drop(characters.splice(at % length..at % length, text.chars())),
        Change::Remove(at, count) => {
            let at = (at % length).min(characters.len());
            characters.drain(at..(at + count).min(characters.len()));
        }
        Change::Swap(a, b) if !characters.is_empty() => characters.swap(a % length, b % length),
        Change::Swap(..) => {}
        Change::Graft(part, other) => {
            let other: Vec<_> = GOOD.1[other % GOOD.1.len()].split('.').collect();
            let mut parts: Vec<_> = token.split('.').collect();
            if let (Some(part), Some(graft)) = (parts.get_mut(*part), other.get(*part)) {
                *part = graft;
            }
            return parts.join(".");
        }
        Change::Append(text) => characters.extend(text.chars()),
    }
    characters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is done to good tokens: what comes out is one of them, or it is refused.
    #[test]
    fn never_an_acceptance_unless_it_was_signed(which in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 1..4)) {
        let good = &GOOD.1[which.index(GOOD.1.len())];
        let changed = changes.iter().fold(good.clone(), |token, change| apply(change, &token));
        prop_assert_eq!(accepts(&changed), GOOD.1.contains(&changed), "{:?}", changes);
    }

    #[test]
    fn r17_no_text_panics(text in "\\PC{0,200}", dotted in "[A-Za-z0-9_.-]{0,200}", now in any::<i64>()) {
        let source = Source::slow(None);
        for token in [text, dotted] {
            prop_assert!(!accepts(&token));
            prop_assert!(common::verifier(&source).verify(&token, at(now)).is_err());
            prop_assert!(common::verifier(&source).resume(&token, Answer::Changed, at(now)).is_err());
        }
    }

    #[test]
    fn r17_no_time_panics_and_none_is_outside_of_the_window(now in any::<i64>()) {
        let outcome = static_verifier(&GOOD.0[..1]).verify(&GOOD.1[0], at(now));
        prop_assert_eq!(outcome.is_ok(), (900 - 30..2000 + 30).contains(&now));
    }
}
