//! The permission model against a naive one: what is signed lies inside of one grant, and what lies inside of one is
//! signed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign::UnixTime;
use countersign::token::{Algorithm, SigningKey};
use countersign_issuer::by_hand::{ClockByHand, RingByHand};
use countersign_issuer::state::KeyState;
use countersign_issuer::{MintError, RingConfig, Slot};
use countersign_service::policy::{AdminRight, Confirmation, Policy, Request, decide, decide_admin};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

const CLIENT: &str = "web";
const NOW: i64 = 1_800_000_000;
const SUBJECTS: [&str; 5] = [CLIENT, "ada", "user:1", "user:", "user"];
const AUDIENCES: [&str; 4] = ["a", "b", "x/1", "x/"];
const SCOPES: [&str; 3] = ["r", "w", "rw"];

/// Everything that a grant says, as JSON: the model reads it with no type of the crate's.
fn grant() -> impl Strategy<Value = Value> {
    let lists = (
        subsequence(vec!["one", "two"], 1..=2),
        any::<bool>(),
        subsequence(&SUBJECTS[..3], 0..=2),
        any::<bool>(),
        subsequence(&AUDIENCES[..3], 0..=3),
        any::<bool>(),
        subsequence(&SCOPES[..], 0..=3),
    );
    let limits = (
        proptest::option::of(select(vec![30, 60, 90])),
        proptest::option::of(subsequence(vec!["ES256", "Ed25519"], 1..=2)),
        proptest::option::of(subsequence(vec!["u", "v"], 1..=2)),
        any::<[bool; 4]>(),
        select(vec![(-1, 1), (-2, 0), (0, 1), (1, 2)]),
        select(vec![0, 5]),
        select(vec!["none", "none", "certificate", "key", "any"]),
    );
    (lists, limits).prop_map(|(lists, limits)| {
        let (profiles, itself, subjects, user_prefix, audiences, x_prefix, scopes) = lists;
        let (most, algorithms, values, [has_text, text_required, has_number, number_required], window, delay, binding) = limits;
        // An algorithm that no profile of the grant has is a fault of the document.
        let algorithms = algorithms.map(|some| if profiles == ["two"] { vec!["Ed25519"] } else { some });
        json!({
            "profiles": profiles, "self": itself || subjects.is_empty(), "subjects": subjects,
            "subject_prefixes": if user_prefix { vec!["user:"] } else { vec![] },
            "audiences": audiences, "audience_prefixes": if x_prefix || audiences.is_empty() { vec!["x/"] } else { vec![] },
            "scopes": scopes, "most": most, "algorithms": algorithms, "from": NOW + window.0, "until": NOW + window.1,
            "text": has_text.then(|| json!({ "values": values, "required": text_required })),
            "delay": delay, "binding": binding,
            "number": has_number.then(|| json!({ "required": number_required })),
        })
    })
}

/// What is asked for, as it stands in a request.
fn request() -> impl Strategy<Value = Value> {
    let first = (
        select(vec!["one", "two", "three"]),
        proptest::option::of(select(&SUBJECTS[..])),
        subsequence(&AUDIENCES[..], 0..=2),
        subsequence(&SCOPES[..], 0..=2),
    );
    let second = (
        proptest::option::of(select(vec![1, 30, 31, 60, 61, 90, 91])),
        proptest::option::of(select(vec!["ES256", "Ed25519", "RS256"])),
        proptest::option::of(select(vec![json!("u"), json!("v"), json!("w"), json!(1)])),
        proptest::option::of(select(vec![json!(1), json!("1"), json!(1.5)])),
        prop::bool::weighted(0.1),
        proptest::option::weighted(0.2, select(vec![5, 6])),
        proptest::option::weighted(0.3, select(vec![("x5t#S256", "own"), ("x5t#S256", "other"), ("jkt", "key")])),
        proptest::option::of(Just("own")),
    );
    (first, second).prop_map(|((profile, sub, aud, scope), (ttl, alg, text, number, other, delay, cnf, shown))| {
        let cnf = cnf.map(|(name, thumbprint)| json!({ name: thumbprint }));
        let mut claims = Map::new();
        claims.extend(text.map(|text| ("text".to_owned(), text)));
        claims.extend(number.map(|number| ("number".to_owned(), number)));
        claims.extend(other.then(|| ("other".to_owned(), json!(true))));
        json!({ "profile": profile, "sub": sub, "aud": aud, "scope": scope, "ttl": ttl, "alg": alg, "claims": claims,
            "delay": delay, "cnf": cnf, "shown": shown })
    })
}

/// The wish with some of its members exchanged for such as the grant allows: of chance alone, hardly one would fit.
fn nearer(mut wish: Value, grant: &Value, exchange: [bool; 8]) -> Value {
    let or_first = |list: &str, other: Value| match grant[list].get(0) {
        Some(first) if grant["self"] != true || list != "subjects" => first.clone(),
        _ => other,
    };
    let mut claims = Map::new();
    if grant["text"].is_object() {
        let value = grant["text"]["values"].get(0).cloned();
        claims.insert("text".to_owned(), value.unwrap_or_else(|| json!("any")));
    }
    if grant["number"].is_object() {
        claims.insert("number".to_owned(), json!(-7));
    }
    let cnf = match grant["binding"].as_str() {
        Some("certificate") => json!({ "x5t#S256": "own" }),
        Some("key" | "any") => json!({ "jkt": "key" }),
        _ => Value::Null,
    };
    if exchange[7] && grant["binding"] == "certificate" {
        wish["shown"] = json!("own");
    }
    let fitting = [
        ("profile", or_first("profiles", Value::Null)),
        ("sub", or_first("subjects", Value::Null)),
        ("aud", json!([or_first("audiences", json!("x/2"))])),
        ("scope", grant["scopes"].clone()),
        ("ttl", json!(30)),
        ("claims", claims.into()),
        ("delay", if grant["delay"] == 5 { wish["delay"].clone() } else { Value::Null }),
        ("cnf", cnf),
    ];
    for ((name, value), exchange) in fitting.into_iter().zip(exchange) {
        if exchange {
            wish[name] = value;
        }
    }
    if exchange == [true; 8] {
        wish["alg"] = Value::Null;
    }
    wish
}

fn strings(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// By set arithmetic, all questions at once.
fn lies_inside(grant: &Value, wish: &Value) -> bool {
    let named = |name: &str, exact: &str, prefixes: &str| {
        let longer = |prefix: &String| name.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty());
        strings(&grant[exact]).contains(name) || strings(&grant[prefixes]).iter().any(longer)
    };
    let sub = wish["sub"].as_str().unwrap_or(CLIENT);
    let audiences = strings(&wish["aud"]);
    let most = grant["most"].as_i64().unwrap_or(90).min(90);
    // Of the profile `one` both slots may be chosen from, of `two` the second only.
    let mut algorithms = match wish["profile"].as_str() {
        Some("one") => BTreeSet::from(["ES256".to_owned(), "Ed25519".to_owned()]),
        _ => BTreeSet::from(["Ed25519".to_owned()]),
    };
    if !grant["algorithms"].is_null() {
        algorithms = &algorithms & &strings(&grant["algorithms"]);
    }
    if let Some(alg) = wish["alg"].as_str() {
        algorithms.retain(|one| one == alg);
    }
    let claims = wish["claims"].as_object().unwrap();
    let text = claims.get("text");
    let number = claims.get("number");
    let asked = &wish["cnf"];
    let own = || wish["shown"] == "own" && *asked == json!({ "x5t#S256": "own" });
    let is_bound = match grant["binding"].as_str() {
        Some("certificate") => wish["shown"] == "own" && asked.is_null() || own(),
        Some("key") => asked["jkt"].is_string(),
        Some("any") => asked.is_null() || asked["jkt"].is_string() || own(),
        _ => asked.is_null(),
    };
    let facts = [
        wish["delay"].as_i64().is_none_or(|delay| delay <= grant["delay"].as_i64().unwrap()),
        is_bound,
        strings(&grant["profiles"]).contains(wish["profile"].as_str().unwrap()),
        grant["from"].as_i64().unwrap() <= NOW && NOW < grant["until"].as_i64().unwrap(),
        sub == CLIENT && grant["self"] == true || named(sub, "subjects", "subject_prefixes"),
        !audiences.is_empty(),
        audiences.iter().all(|audience| named(audience, "audiences", "audience_prefixes")),
        strings(&wish["scope"]).is_subset(&strings(&grant["scopes"])),
        !algorithms.is_empty(),
        // The profile `two` cuts short what is too long.
        wish["profile"] == "two" || wish["ttl"].as_i64().is_none_or(|ttl| ttl <= most),
        claims.keys().all(|name| !grant[name.as_str()].is_null()),
        text.is_none_or(Value::is_string),
        text.is_none_or(|text| {
            grant["text"]["values"].is_null()
                || strings(&grant["text"]["values"]).contains(text.as_str().unwrap_or("?"))
        }),
        number.is_none_or(Value::is_i64),
        text.is_some() || grant["text"]["required"] != true,
        number.is_some() || grant["number"]["required"] != true,
    ];
    facts.into_iter().all(|fact| fact)
}

fn document(grants: &[Value]) -> String {
    let mut text = "version = 1\n".to_owned();
    text += "[profiles.one]\nslots = [\"es256\", \"ed\"]\nlifetime = 45\nmax_lifetime = 90\ntyp = \"one\"\n";
    text +=
        "[profiles.two]\nslots = [\"ed\"]\nlifetime = 45\nmax_lifetime = 90\ntyp = \"two\"\non_exceed = \"clamp\"\n";
    text +=
        "[clients.web]\n[clients.other.grants.all]\nprofiles = [\"one\", \"two\"]\nscopes = [\"r\", \"w\", \"rw\"]\n";
    text += "subjects = { self = true, exact = [\"ada\", \"web\"] }\naudiences = { exact = [\"a\", \"b\"] }\n";
    for (index, grant) in grants.iter().enumerate() {
        let time = |at: &Value| {
            let second = at.as_i64().unwrap() - NOW;
            // NOW is 2027-01-15T08:00:00Z.
            let (minute, second) = if second < 0 { ("07:59", 60 + second) } else { ("08:00", second) };
            format!("2027-01-15T{minute}:{second:02}Z")
        };
        text += &format!("[clients.web.grants.g{index}]\nprofiles = {}\n", grant["profiles"]);
        text += &format!(
            "subjects = {{ self = {}, exact = {}, prefixes = {} }}\n",
            grant["self"], grant["subjects"], grant["subject_prefixes"]
        );
        text +=
            &format!("audiences = {{ exact = {}, prefixes = {} }}\n", grant["audiences"], grant["audience_prefixes"]);
        text += &format!(
            "max_nbf_delay = {}\nbinding = {}\nscopes = {}\nvalid_from = {}\nvalid_until = {}\n",
            grant["delay"],
            grant["binding"],
            grant["scopes"],
            time(&grant["from"]),
            time(&grant["until"])
        );
        if !grant["most"].is_null() {
            text += &format!("max_lifetime = {}\n", grant["most"]);
        }
        if !grant["algorithms"].is_null() {
            text += &format!("algorithms = {}\n", grant["algorithms"]);
        }
        if !grant["text"].is_null() {
            let values = if grant["text"]["values"].is_null() {
                String::new()
            } else {
                format!("values = {},", grant["text"]["values"])
            };
            text +=
                &format!("claims.text = {{ type = \"string\", {values} required = {} }}\n", grant["text"]["required"]);
        }
        if !grant["number"].is_null() {
            text += &format!("claims.number = {{ type = \"integer\", required = {} }}\n", grant["number"]["required"]);
        }
    }
    text
}

fn typed(wish: &Value) -> Request {
    let mut request = Request::new(wish["profile"].as_str().unwrap());
    if let Some(sub) = wish["sub"].as_str() {
        request = request.subject(sub);
    }
    request = strings(&wish["aud"]).into_iter().fold(request, Request::audience);
    request = strings(&wish["scope"]).into_iter().fold(request, Request::scope);
    if let Some(ttl) = wish["ttl"].as_u64() {
        request = request.lifetime(Duration::from_secs(ttl));
    }
    if let Some(alg) = wish["alg"].as_str() {
        request = request.algorithm(Algorithm::from_name(alg).unwrap());
    }
    if let Some(delay) = wish["delay"].as_u64() {
        request = request.not_before(Duration::from_secs(delay));
    }
    let thumbprint = |name: &str| wish["cnf"][name].as_str().map(Box::from);
    let confirmation = thumbprint("x5t#S256").map(Confirmation::Certificate);
    if let Some(confirmation) = confirmation.or(thumbprint("jkt").map(Confirmation::Key)) {
        request = request.confirmation(confirmation);
    }
    if let Some(shown) = wish["shown"].as_str() {
        request = request.shown_certificate(shown);
    }
    let claims = wish["claims"].as_object().unwrap();
    claims.iter().fold(request, |request, (name, value)| request.claim(name.as_str(), value.to_string()))
}

/// The token read back as the wish that it fulfils.
fn as_wish(token: &str) -> Value {
    let part = |index: usize| -> Value {
        let text = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&base64url(text)).unwrap()
    };
    let (header, mut payload) = (part(0), part(1));
    let payload = payload.as_object_mut().unwrap();
    let mut take = |name: &str| payload.remove(name).unwrap_or_default();
    let aud = match take("aud") {
        Value::Array(many) => Value::Array(many),
        one => json!([one]),
    };
    let scope: Vec<_> =
        take("scope").as_str().map(|text| text.split(' ').map(str::to_owned).collect()).unwrap_or_default();
    let issued_at = take("iat").as_i64().unwrap();
    let ttl = take("exp").as_i64().unwrap() - issued_at;
    let delay = take("nbf").as_i64().map(|not_before| not_before - issued_at);
    let cnf = take("cnf");
    // Whoever has the token says by it which certificate was shown.
    let shown = cnf["x5t#S256"].clone();
    assert_eq!(take("client_id"), CLIENT);
    let (sub, _, _) = (take("sub"), take("iss"), take("jti"));
    json!({ "profile": header["typ"], "sub": sub, "aud": aud, "scope": scope, "ttl": ttl, "alg": header["alg"], "claims": payload,
        "delay": delay, "cnf": cnf, "shown": shown })
}

fn base64url(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        let Some(digit) = ALPHABET.iter().position(|one| *one == byte) else { panic!("no base64url") };
        bits = bits << 6 | u32::try_from(digit).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xFF).unwrap());
        }
    }
    out
}

fn ring() -> (RingByHand, RingConfig) {
    let config = RingConfig::new([Slot::new("es256", Algorithm::Es256), Slot::new("ed", Algorithm::Ed25519)]);
    let ring = RingByHand::new("https://issuer.example", config.clone(), ClockByHand::new(UnixTime::from_secs(NOW)));
    let key = |algorithm, kid: &str| Arc::new(SigningKey::generate(algorithm).unwrap().with_kid(kid));
    let (first, second) = (key(Algorithm::Es256, "k1"), key(Algorithm::Ed25519, "k2"));
    ring.show_keys([("es256", KeyState::Active, &first), ("ed", KeyState::Active, &second)]).unwrap();
    (ring, config)
}

#[test]
fn nothing_outside_of_one_grant_is_signed_and_nothing_inside_is_refused() {
    let (ring, config) = ring();
    let minter = ring.minter();
    let (signed, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let bound = std::cell::Cell::new(0_usize);
    let exchange = || prop::array::uniform8(prop::bool::weighted(0.85));
    let wishes = proptest::collection::vec((request(), any::<prop::sample::Index>(), exchange()), 8);
    let cases = (proptest::collection::vec(grant(), 0..4), wishes);
    let runs = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let runs = ProptestConfig { cases: runs.cases.max(1_000), ..runs };
    let mut runner = proptest::test_runner::TestRunner::new(runs);
    runner
        .run(&cases, |(grants, wishes)| {
            let policy = Policy::parse(&document(&grants), &config).unwrap();
            for (wish, near, exchange) in wishes {
                let wish = if grants.is_empty() { wish } else { nearer(wish, near.get(&grants), exchange) };
                let request = typed(&wish);
                let decided = decide(&policy, CLIENT, &request, UnixTime::from_secs(NOW));
                let inside = grants.iter().any(|grant| lies_inside(grant, &wish));
                prop_assert_eq!(decided.is_ok(), inside, "{} {:?} {:?}", wish, grants, decided);
                let Ok(granted) = decided else {
                    refused.set(refused.get() + 1);
                    continue;
                };
                let minted = minter.mint(granted.slot(), &granted.mint(CLIENT, &request));
                if matches!(minted, Err(MintError::NeverValid)) {
                    prop_assert!(wish["delay"].as_u64().unwrap() >= granted.lifetime().as_secs());
                    continue;
                }
                let minted = minted.unwrap();
                let token = as_wish(&minted.token);
                prop_assert!(grants.iter().any(|grant| lies_inside(grant, &token)), "{} {:?}", token, grants);
                prop_assert!(token["ttl"].as_i64().unwrap() <= 90);
                prop_assert_eq!(&token["delay"], &wish["delay"]);
                let (cnf, asked) = (&token["cnf"], &wish["cnf"]);
                let is_own = *cnf == json!({ "x5t#S256": "own" });
                prop_assert!(cnf == asked || asked.is_null() && is_own);
                prop_assert!(cnf["x5t#S256"].is_null() || wish["shown"] == "own");
                bound.set(bound.get() + usize::from(!cnf.is_null()));
                signed.set(signed.get() + 1);
            }
            Ok(())
        })
        .unwrap();
    assert!(signed.get() > 1_000 && refused.get() > 1_000, "{} {}", signed.get(), refused.get());
    assert!(bound.get() > 100, "{}", bound.get());
}

/// Whoever has a right has a key.
const JWKS: &str =
    r#"jwks = '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"w1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'"#;

/// Clients with some rights each and, some of them, grants of everything and a time that is over.
fn administrators() -> impl Strategy<Value = Vec<(Vec<&'static str>, bool, bool)>> {
    let rights = subsequence(vec!["keys:read", "keys:rotate", "keys:revoke"], 0..=3).prop_shuffle();
    proptest::collection::vec((rights, any::<bool>(), prop::bool::weighted(0.8)), 1..4)
}

#[test]
fn a_right_over_the_ring_is_what_the_document_says_of_that_client_and_nothing_else() {
    let (_, config) = ring();
    let (given, denied) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let runs = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(runs);
    runner
        .run(&administrators(), |clients| {
            let mut text = document(&[]);
            for (index, (rights, has_grant, is_valid)) in clients.iter().enumerate() {
                let until = if *is_valid { "2027-01-15T08:00:01Z" } else { "2027-01-15T08:00:00Z" };
                text += &format!("[clients.c{index}]\n{JWKS}\nadmin = {}\nvalid_until = {until}\n", json!(rights));
                if *has_grant {
                    text += &format!("[clients.c{index}.grants.all]\nprofiles = [\"one\", \"two\"]\n");
                    text += "subjects = { self = true }\naudiences = { exact = [\"a\"] }\n";
                }
            }
            let policy = Policy::parse(&text, &config).unwrap();
            for (index, (rights, has_grant, is_valid)) in clients.iter().enumerate() {
                let (name, now) = (format!("c{index}"), UnixTime::from_secs(NOW));
                for right in AdminRight::ALL {
                    let expected = *is_valid && rights.contains(&right.name());
                    prop_assert_eq!(decide_admin(&policy, &name, right, now).is_ok(), expected, "{} {}", name, text);
                    prop_assert!(decide_admin(&policy, "other", right, now).is_err());
                    let count = if expected { &given } else { &denied };
                    count.set(count.get() + 1);
                }
                // And of no right does anything follow for tokens.
                let wish = Request::new("one").audience("a");
                prop_assert_eq!(decide(&policy, &name, &wish, now).is_ok(), *is_valid && *has_grant);
            }
            Ok(())
        })
        .unwrap();
    assert!(given.get() > 100 && denied.get() > 100, "{} {}", given.get(), denied.get());
}
