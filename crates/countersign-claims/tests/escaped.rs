//! Claims in every spelling are the ones that `serde_json` reads, and no token is refused without a key that a key would save.

mod common;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use common::at;
use countersign_claims::revocation::Level;
use countersign_claims::{Policy, Verified};
use countersign_token::{HeaderScratch, UnverifiedToken};
use proptest::prelude::*;
use serde_json::Value;

const NAMES: [&str; 22] = [
    "iss",
    "sub",
    "jti",
    "client_id",
    "azp",
    "sid",
    "family",
    "tid",
    "exp",
    "nbf",
    "iat",
    "aud",
    "scope",
    "scp",
    "cnf",
    "token_use",
    "typ",
    "x",
    "y",
    "org",
    "at_hash",
    "events",
];

/// A string in one of its spellings.
fn spelt() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "\\u0061",
        "\\\"",
        "\\\\",
        "\\/",
        "/",
        "é",
        "\\u00e9",
        "\\ud834\\udd1e",
        " ",
        "\\u0020",
        "[",
        "1",
        "-",
        "{",
        "true",
        "ID",
        "id",
        "\\ud800",
        "\\u0000",
    ]);
    prop::collection::vec(part, 0..4).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

fn name() -> impl Strategy<Value = String> {
    (prop::sample::select(NAMES.to_vec()), 0..8).prop_map(|(name, how)| match how {
        0 => format!("\"{}\"", name.chars().map(|c| format!("\\u{:04x}", c as u32)).collect::<String>()),
        1 => format!("\"\\u{:04X}{}\"", name.as_bytes()[0], &name[1..]),
        _ => format!("\"{name}\""),
    })
}

fn value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        6 => spelt(),
        1 => prop::sample::select(vec!["true", "false", "null", "1", "-1", "1.5", "100", "[]", "{}", "[1]", "{\"id\":\"\\u0061\",\"n\":[7]}", "[\"a\",[\"b\"]]", "{\"a\":1,\"\\u0061\":2}"]).prop_map(str::to_owned),
    ];
    prop_oneof![
        3 => scalar.clone(),
        1 => prop::collection::vec(scalar, 0..7).prop_map(|all| format!("[{}]", all.join(" , "))),
    ]
}

fn string<'v>(claims: &'v Value, name: &str) -> Option<&'v str> {
    claims.get(name).and_then(Value::as_str)
}

fn name_of(claims: &Value, name: &str) -> Option<String> {
    match claims.get(name)? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(all)) => all.iter().map(|one| one.as_str().unwrap_or("no text").to_owned()).collect(),
        _ => Vec::new(),
    }
}

fn says_the_same(verified: &Verified, claims: &Value) -> Result<(), TestCaseError> {
    prop_assert_eq!(verified.issuer(), string(claims, "iss"));
    prop_assert_eq!(verified.subject(), string(claims, "sub"));
    prop_assert_eq!(verified.jwt_id(), string(claims, "jti"));
    prop_assert_eq!(verified.client_id(), string(claims, "client_id"));
    prop_assert_eq!(verified.session().map(str::to_owned), name_of(claims, "sid"));
    prop_assert_eq!(verified.family().map(str::to_owned), name_of(claims, "family"));
    let client = string(claims, "client_id").filter(|id| !id.is_empty()).map(str::to_owned);
    prop_assert_eq!(verified.client().map(str::to_owned), client.or_else(|| name_of(claims, "azp")));
    prop_assert_eq!(verified.audiences().collect::<Vec<_>>(), texts(claims.get("aud")));
    Ok(())
}

fn policy(which: usize) -> Policy {
    let open = Policy::new().dangerous_allow_missing_exp().accept_id_tokens().accept_unbound_cnf();
    match which {
        0 => open,
        1 => open.audience("a").audience("/"),
        2 => open.issuer("a").issuer("\""),
        3 => open.require_claim("x").require_claim("sub"),
        4 => open.scope_claim("/org/id").scope_claim("x").scope_claim("scp"),
        5 => open
            .level_claim(Level::Tenant, "/org/id")
            .level_claim(Level::Client, "y")
            .level_claim(Level::Session, "/x/0"),
        6 => Policy::new().max_age(std::time::Duration::from_secs(50)),
        _ => Policy::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn claims_are_what_serde_json_reads(members in prop::collection::vec((name(), value()), 0..9), which in 0_usize..8, now in -3_i64..200) {
        let json = format!("{{{}}}", members.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(","));
        let judged = common::judge(&policy(which), None, &json, at(now));
        // `{"alg":"HS256"}`
        let token = format!("{}.{}.AA", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), BASE64_URL_SAFE_NO_PAD.encode(&json));
        let mut scratch = HeaderScratch::new();
        let token = UnverifiedToken::parse(&token, usize::MAX, &mut scratch).unwrap();
        let fault = policy(which).fault_without_key(&token, at(now));
        if fault.is_some() {
            prop_assert!(judged.is_err(), "{} {:?}", json, fault);
        }
        let claims = serde_json::from_str::<Value>(&json).ok();
        if let Ok(verified) = &judged {
            // What is nobody's claim may be no text.
            let Some(claims) = claims else { return Ok(()) };
            says_the_same_at(verified, &claims, which)?;
            prop_assert_eq!(token.with_unverified_issuer(|iss| iss.is(string(&claims, "iss").unwrap_or_default())), string(&claims, "iss").map(|_| true), "{}", json);
        }
    }
}

fn says_the_same_at(verified: &Verified, claims: &Value, which: usize) -> Result<(), TestCaseError> {
    if which != 5 {
        says_the_same(verified, claims)?;
        prop_assert_eq!(verified.tenant().map(str::to_owned), name_of(claims, "tid"));
    } else {
        let at = |pointer: &str| match claims.pointer(pointer)? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        };
        prop_assert_eq!(verified.tenant().map(str::to_owned), at("/org/id"));
        prop_assert_eq!(verified.client().map(str::to_owned), at("/y"));
        prop_assert_eq!(verified.session().map(str::to_owned), at("/x/0"));
    }
    let names: &[&str] = if which == 4 { &["/org/id", "/x", "/scp"] } else { &["/scope", "/scp"] };
    let mut granted: Vec<String> = Vec::new();
    for name in names {
        granted.extend(
            texts(claims.pointer(name))
                .iter()
                .flat_map(|text| text.split(' '))
                .filter(|s| !s.is_empty())
                .map(str::to_owned),
        );
    }
    let (mut ours, mut theirs) = (verified.scopes().map(str::to_owned).collect::<Vec<_>>(), granted);
    ours.sort();
    theirs.sort();
    prop_assert_eq!(ours, theirs);
    Ok(())
}

/// Half of a surrogate pair and something else in `\u` behind it.
#[test]
fn half_of_a_pair_before_another_escape_is_no_text_and_no_panic() {
    let verified = common::judge(&policy(0), None, r#"{"acr":"\ud800\u00e9"}"#, at(0)).expect("good claims");
    assert_eq!(verified.acr(), None);
}
