//! The rows of the table of reasons: what a token can be refused for beside what the first table has.

use std::time::{Duration, SystemTime};

use countersign::claims::UnixTime;
use countersign::claims::revocation::{Level, RevocationCheck, Revoked, Verdict};
use countersign::token::{Answer, Unready};
use countersign::{KeySet, Policy, RequireJwtLayer, Verifier};
use countersign_testkit::Token;
use serde_json::json;

use super::{Fixed, Known, RefusalCase, bearer, case, key, layer, layer_of, layer_over, other_keys, token};

pub(super) fn cases() -> Vec<RefusalCase> {
    let of_all = [of_their_form(), of_their_header(), of_their_key(), of_their_claims(), revoked()];
    of_all.into_iter().flatten().collect()
}

fn of_their_form() -> Vec<RefusalCase> {
    let good = token().sign();
    let (unsigned, _) = good.rsplit_once('.').unwrap_or_default();
    let other = token().subject("eve").sign();
    let (_, signature) = other.rsplit_once('.').unwrap_or_default();
    let written = |reason, token: &str| case(reason, layer(), vec![format!("Bearer {token}")]);
    vec![
        written("token_too_long", &"x".repeat(9000)),
        written("not_three_parts", "x"),
        written("encrypted", "a.b.c.d.e"),
        written("not_base64url", "a.b.c"),
        written("signature_too_short", &format!("{unsigned}.")),
        written("bad_signature", &format!("{unsigned}.{signature}")),
    ]
}

fn of_their_header() -> Vec<RefusalCase> {
    let many: String = (0..100).map(|number| format!(r#","m{number}":1"#)).collect();
    let parts =
        |reason, header: &str| case(reason, layer(), vec![format!("Bearer {}", token().sign_parts(header, "{}"))]);
    let lenient = layer_of(keys(), Answer::Absent, Policy::new(), |verifier| verifier.max_token_bytes(16 * 1024));
    vec![
        case("header_too_long", lenient, vec![bearer(&token().header("x", "x".repeat(7000)))]),
        parts("header_not_an_object", "[]"),
        parts("header_duplicate_member", r#"{"alg":"ES256","kid":"a","kid":"b"}"#),
        parts("header_too_many_members", &format!(r#"{{"alg":"ES256"{many}}}"#)),
        of("header_malformed", &token().header("kid", 1)),
        of("alg_missing", &token().without_header("alg")),
        of("alg_none", &token().header("alg", "none")),
        of("alg_unknown", &token().header("alg", "ES257")),
        of("alg_not_allowed", &token().header("alg", "HS256")),
        of("crit", &token().header("crit", json!(["exp"]))),
        of("payload_transformed", &token().header("zip", "DEF")),
        of("wrong_type", &token().typ("dpop+jwt")),
    ]
}

fn of_their_key() -> Vec<RefusalCase> {
    let good = vec![bearer(&token())];
    let not_yet = Answer::NotYet { retry_after: Duration::from_secs(1) };
    let unavailable =
        |reason| layer_over(None, Answer::Unavailable { reason, retry_after: Duration::from_millis(4100) });
    let strict = layer_of(keys(), Answer::Absent, Policy::new(), Verifier::require_kid);
    vec![
        case("kid_required", strict, vec![bearer(&token().without_header("kid"))]),
        case("unknown_key", layer_over(other_keys(), Answer::Absent), good.clone()),
        case("unknown_issuer", layer_over(None, Answer::UnknownIssuer), good.clone()),
        case("key_not_sought", layer_over(other_keys(), not_yet), vec![bearer(&token().audience("billing"))]),
        case("key_of_no_issuer", judged_by(Policy::new().issuer_of_key()), good.clone()),
        case("keys_starting", unavailable(Unready::Starting), good.clone()),
        case("keys_too_old", unavailable(Unready::TooOld), good.clone()),
        case("keys_no_runtime", unavailable(Unready::NoRuntime), good),
    ]
}

fn of_their_claims() -> Vec<RefusalCase> {
    let parts = |reason, payload: &str| {
        let header = json!({ "alg": "ES256", "kid": key().kid() }).to_string();
        case(reason, layer(), vec![format!("Bearer {}", token().sign_parts(header, payload))])
    };
    let judged = |reason, policy, token: &Token| case(reason, judged_by(policy), vec![bearer(token)]);
    let (minute, hour) = (Duration::from_secs(60), 3600);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    vec![
        parts("payload_not_an_object", "[]"),
        parts("payload_duplicate_member", r#"{"aud":"orders","aud":"orders"}"#),
        of("claim_missing", &token().without("exp")),
        of("claim_malformed", &token().claim("exp", "tomorrow")),
        of("not_yet_valid", &token().claim("nbf", now + hour)),
        of("issued_in_the_future", &token().claim("iat", now + hour)),
        judged("too_old", Policy::new().max_age(minute), &token().claim("iat", now - hour)),
        judged("lives_too_long", Policy::new().max_lifetime(minute), &token()),
        judged("wrong_issuer", Policy::new().issuer("https://login.example"), &token().issuer("https://evil.example")),
        judged("wrong_subject", Policy::new().subject(|subject| subject != "ada"), &token()),
        of("id_token", &token().claim("at_hash", "x")),
        of("security_event", &token().claim("events", json!({ "https://event.example": {} }))),
        of("bound_to_key", &token().claim("cnf", json!({ "jkt": "x" }))),
    ]
}

/// By what the verifier asks.
fn revoked() -> Vec<RefusalCase> {
    let asked = |reason, check: RevocationCheck, token: &Token| {
        let layer = layer_of(keys(), Answer::Absent, Policy::new(), |verifier| verifier.revocation(check));
        case(reason, layer, vec![bearer(token)])
    };
    let by = |reason, why| asked(reason, Known::always(Verdict::Revoked(why)).into(), &token());
    let up_to = |level| Revoked::CutOff { level, issued_until: UnixTime::from_secs(1_800_000_000) };
    vec![
        by("revoked_key", Revoked::Key),
        by("revoked_issuer", up_to(Level::Issuer)),
        by("revoked_tenant", up_to(Level::Tenant)),
        by("revoked_client", up_to(Level::Client)),
        by("revoked_subject", up_to(Level::Subject)),
        by("revoked_session", up_to(Level::Session)),
        by("revoked_family", up_to(Level::Family)),
        asked(
            "irrevocable",
            RevocationCheck::by(Known::always(Verdict::Fresh)).require_jwt_id(),
            &token().without("jti"),
        ),
    ]
}

/// A case of this token with the layer that has its key.
fn of(reason: &'static str, token: &Token) -> RefusalCase {
    case(reason, layer(), vec![bearer(token)])
}

fn judged_by(policy: Policy) -> RequireJwtLayer<Fixed> {
    layer_of(keys(), Answer::Absent, policy, |verifier| verifier)
}

fn keys() -> Option<KeySet> {
    Some(KeySet::new([key().verifying_key()]))
}
