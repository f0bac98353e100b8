//! Ours against `jsonwebtoken` 11 on mutated tokens: the same verdict and the same claims, or a difference that is listed
//! in [`DIFFERENCES`] with the reason why ours is right.
//!
//! `COUNTERSIGN_MUTANTS` is the number of mutants per algorithm; without it a share that fits a test run. The whole
//! (a million per algorithm) is run by `tests/differential.sh`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails panics, and the tally is for people")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use countersign_claims::{Policy, UnixTime};
use countersign_token::json;
use countersign_token::{Algorithm, AlgorithmSet, KeySet, RsaBits, SigningKey};
use countersign_verifier::Verifier;
use jsonwebtoken::{DecodingKey, Validation, errors::ErrorKind, jwk::Jwk};
use serde_json::Value;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "api";
const LEEWAY: Duration = Duration::from_secs(30);

/// What the two may disagree on: our code (`"accepted"` or the refusal's), theirs, and why ours is right.
/// Two refusals for different reasons are no difference.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    // Refused here, accepted there.
    ("unknown_key", "accepted", "the oracle is given one key and does not look at `kid`"),
    (
        "header_duplicate_member",
        "accepted",
        "RFC 7515 §4: names must be unique; taking the last is what attackers of mixed parsers want",
    ),
    ("payload_duplicate_member", "accepted", "RFC 7519 §4: the same for claims"),
    ("crit", "accepted", "RFC 7515 §4.1.11: an extension that is critical and not understood refuses the token"),
    ("payload_transformed", "accepted", "RFC 7797, RFC 7516: the payload is not what it seems"),
    ("wrong_type", "accepted", "RFC 8725 §3.11: another kind of token is no access token"),
    ("id_token", "accepted", "RFC 8725 §3.12: an ID token is no access token"),
    ("security_event", "accepted", "RFC 8417 §2.2: an event is no access token"),
    ("bound_to_key", "accepted", "RFC 7800 §3: without proof of possession the presenter is not known"),
    ("issued_in_the_future", "accepted", "a token from the future was made by a wrong clock or a liar"),
    (
        "claim_malformed",
        "accepted",
        "RFC 7519 §4.1: a claim of the wrong type is not an absent one; they check four claims only",
    ),
    (
        "header_malformed",
        "accepted",
        "RFC 7515 §4.1: `kid`, `typ` and `cty` are strings; `null` is none, and not an absent one",
    ),
    ("payload_not_an_object", "accepted", "nesting beyond 64 levels is a limit of ours"),
    // Accepted here, refused there.
    (
        "accepted",
        "Json",
        "their header type demands types of members that no verifier may rely on (`jku`, `x5c`, `jwk`); ours ignores them, RFC 7515 §4: unknown members are ignored",
    ),
    #[cfg(feature = "arbitrary-precision")]
    (
        "accepted",
        "MissingRequiredClaim",
        "they read a fractional `exp` through `deserialize_any`, for which `arbitrary_precision` makes a map of it",
    ),
    #[cfg(feature = "arbitrary-precision")]
    ("accepted", "InvalidClaimFormat", "the same for `nbf`"),
];

#[test]
fn rs256() {
    compare(Algorithm::Rs256);
}

#[test]
fn rs384() {
    compare(Algorithm::Rs384);
}

#[test]
fn rs512() {
    compare(Algorithm::Rs512);
}

#[test]
fn ps256() {
    compare(Algorithm::Ps256);
}

#[test]
fn ps384() {
    compare(Algorithm::Ps384);
}

#[test]
fn ps512() {
    compare(Algorithm::Ps512);
}

#[test]
fn es256() {
    compare(Algorithm::Es256);
}

#[test]
fn es384() {
    compare(Algorithm::Es384);
}

#[test]
fn eddsa() {
    compare(Algorithm::EdDsa);
}

#[test]
fn hs256() {
    compare(Algorithm::Hs256);
}

#[test]
fn hs384() {
    compare(Algorithm::Hs384);
}

#[test]
fn hs512() {
    compare(Algorithm::Hs512);
}

fn compare(algorithm: Algorithm) {
    let subject = Contestants::new(algorithm);
    let mut random = Random(0x5eed_0000 + algorithm as u64);
    let bases = subject.base_tokens(&mut random);
    assert!(bases.len() >= 20);

    let mut tally: BTreeMap<(&str, String), u64> = BTreeMap::new();
    let mut judge = |token: &str| {
        let (ours, theirs) = subject.judge(token);
        let verdicts = match (&ours, &theirs) {
            (Ok(our_claims), Ok(their_claims)) => {
                assert_eq!(our_claims, their_claims, "different claims out of {token}");
                ("accepted", "accepted".to_owned())
            }
            (Ok(_), Err(kind)) => ("accepted", kind.clone()),
            (Err(code), Ok(_)) => (*code, "accepted".to_owned()),
            (Err(code), Err(kind)) => (*code, kind.clone()),
        };
        let listed = (verdicts.0 == "accepted") == (verdicts.1 == "accepted")
            || DIFFERENCES.iter().any(|(ours, theirs, _)| *ours == verdicts.0 && *theirs == verdicts.1);
        if listed && (verdicts.0 == "accepted") != (verdicts.1 == "accepted") {
            assert!(is_explained(token, &verdicts), "{algorithm}: {verdicts:?} is not for its reason: {token}");
        }
        assert!(listed, "{algorithm}: ours says {}, theirs {}: {token}", verdicts.0, verdicts.1);
        *tally.entry(verdicts).or_default() += 1;
    };

    bases.iter().for_each(|token| judge(token));
    let mutants = mutants_per_algorithm();
    for _ in 0..mutants {
        let base = random.pick(&bases);
        judge(&mutate(base, &bases, &subject, &mut random));
    }

    println!("{algorithm}: {} base tokens, {mutants} mutants", bases.len());
    for ((ours, theirs), count) in &tally {
        println!("{count:>9}  ours: {ours:<26} theirs: {theirs}");
    }
    // Both ways through, or the comparison says nothing.
    let both = |accepted: bool| -> u64 {
        tally
            .iter()
            .filter(|((ours, theirs), _)| (ours == &"accepted") == accepted && (theirs == "accepted") == accepted)
            .map(|(_, count)| count)
            .sum()
    };
    assert!(both(false) > mutants / 4);
    if cfg!(not(feature = "arbitrary-precision")) {
        assert!(both(true) > mutants / 1000, "hardly a mutant was accepted");
    }
}

fn mutants_per_algorithm() -> u64 {
    match std::env::var("COUNTERSIGN_MUTANTS") {
        Ok(count) => count.parse().expect("COUNTERSIGN_MUTANTS is a number"),
        Err(_) if cfg!(debug_assertions) => 2_000,
        Err(_) => 50_000,
    }
}

/// Whether a listed difference is there for the listed reason: looked up in the token itself, by neither of the two.
fn is_explained(token: &str, (ours, theirs): &(&str, String)) -> bool {
    let parts: Vec<_> = token.split('.').map(|part| B64.decode(part).unwrap_or_default()).collect();
    let object = |part: usize| serde_json::from_slice::<Value>(&parts[part]).unwrap_or_default();
    let (header, claims) = (object(0), object(1));
    let is_date = |value: &Value| {
        value.is_number() && value.as_f64().is_some_and(|secs| (0.0..253_402_300_800.0).contains(&secs))
    };
    let is_strings = |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    let is_names = |value: &Value| is_strings(value) && !value.to_string().contains(' ');
    let malformed = |name: &str, fits: &dyn Fn(&Value) -> bool| claims.get(name).is_some_and(|value| !fits(value));
    match (*ours, theirs.as_str()) {
        ("unknown_key", _) => header.get("kid").is_some_and(|kid| kid != "k1"),
        ("crit", _) => header.get("crit").is_some(),
        ("payload_transformed", _) => header.get("zip").or(header.get("b64")).is_some(),
        ("header_malformed", _) => {
            ["kid", "typ", "cty"].iter().any(|name| header.get(name).is_some_and(Value::is_null))
        }
        ("wrong_type", _) => header["typ"].as_str().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")),
        ("id_token", _) => ["at_hash", "c_hash", "token_use", "typ"].iter().any(|name| claims.get(name).is_some()),
        ("security_event", _) => claims.get("events").is_some(),
        ("bound_to_key", _) => claims.get("cnf").is_some(),
        ("issued_in_the_future", _) => claims.get("iat").is_some_and(Value::is_number),
        ("claim_malformed", _) => {
            ["iss", "sub", "jti", "client_id"].iter().any(|name| malformed(name, &Value::is_string))
                || ["exp", "nbf", "iat"].iter().any(|name| malformed(name, &is_date))
                || malformed("aud", &|value| value.is_string() || is_strings(value))
                || ["scope", "scp"].iter().any(|name| malformed(name, &|value| value.is_string() || is_names(value)))
                || claims["aud"] == Value::Array(Vec::new())
        }
        ("payload_not_an_object", _) => parts[1].iter().filter(|byte| **byte == b'[').count() >= json::MAX_DEPTH,
        // A map keeps one of two names, so that what comes out is shorter than what went in.
        ("header_duplicate_member", _) => is_shorter(&header, &parts[0]),
        ("payload_duplicate_member", _) => is_shorter(&claims, &parts[1]),
        // Or an unknown member that they read into a value: a number that no `f64` holds.
        ("accepted", "Json") if serde_json::from_slice::<Value>(&parts[0]).is_err() => true,
        ("accepted", "Json") => {
            ["jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "enc", "p2c"].iter().any(|name| header.get(name).is_some())
        }
        ("accepted", "MissingRequiredClaim") => is_no_integer(&claims["exp"]),
        ("accepted", "InvalidClaimFormat") => is_no_integer(&claims["nbf"]) || is_no_integer(&claims["exp"]),
        _ => false,
    }
}

fn is_no_integer(value: &Value) -> bool {
    value.is_number() && value.to_string().contains(['.', 'e', 'E'])
}

fn is_shorter(value: &Value, text: &[u8]) -> bool {
    let members = |text: &str| text.replace([' ', '\n'], "").matches("\":").count();
    members(&value.to_string()) < members(&String::from_utf8_lossy(text))
}

/// Ours and theirs with the same key and the same policy.
struct Contestants {
    key: SigningKey,
    now: u64,
    verifier: Verifier<Arc<KeySet>>,
    decoding_key: DecodingKey,
    validation: Validation,
}

impl Contestants {
    fn new(algorithm: Algorithm) -> Self {
        const SECRET: &[u8] = b"a shared secret that is long enough for every one of the three HMACs";
        let key = if algorithm.is_symmetric() {
            SigningKey::from_secret(SECRET, algorithm).unwrap()
        } else if AlgorithmSet::RSA.contains(algorithm) {
            SigningKey::generate_rsa(algorithm, RsaBits::B2048).unwrap()
        } else {
            SigningKey::generate(algorithm).unwrap()
        };
        let key = key.with_kid("k1");
        let decoding_key = if algorithm.is_symmetric() {
            DecodingKey::from_secret(SECRET)
        } else {
            let jwk: Jwk = serde_json::from_value(key.public_jwk().unwrap()).unwrap();
            DecodingKey::from_jwk(&jwk).unwrap()
        };
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE).leeway(LEEWAY);
        let keys = Arc::new(KeySet::new([key.verifying_key().unwrap()]));
        let verifier = Verifier::new(keys, policy).algorithms(algorithm).with_claims::<Value>();
        let mut validation = Validation::new(algorithm.name().parse().unwrap());
        validation.leeway = LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        Self { key, now, verifier, decoding_key, validation }
    }

    fn judge(&self, token: &str) -> (Result<Value, &'static str>, Result<Value, String>) {
        let ours = self.verifier.verify(token, UnixTime::from(SystemTime::now()));
        let ours =
            ours.map(|verified| (*verified.claims::<Value>().unwrap()).clone()).map_err(|refusal| refusal.code());
        let theirs = jsonwebtoken::decode::<Value>(token, &self.decoding_key, &self.validation);
        let theirs = theirs.map(|data| data.claims).map_err(|error| name(error.kind()));
        (ours, theirs)
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", B64.encode(header), B64.encode(payload));
        let signature = self.key.signature(input.as_bytes()).unwrap();
        format!("{input}.{}", B64.encode(signature))
    }

    /// Good tokens, and properly signed ones with odd headers and claims.
    fn base_tokens(&self, random: &mut Random) -> Vec<String> {
        let header = |extra: &str| format!(r#"{{"alg":"{}","kid":"k1"{extra}}}"#, self.key.algorithm());
        let (now, later) = (self.now, self.now + 3600);
        let payload = |extra: &str| format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":{later}{extra}}}"#);
        let mut tokens: Vec<String> = (0..20)
            .map(|n| {
                let claims = serde_json::json!({
                    "iss": ISSUER, "aud": [AUDIENCE, format!("other{n}")], "exp": later + n, "nbf": now, "iat": now,
                    "sub": format!("user-{n}"), "jti": format!("{n:032x}"), "scope": "read write", "n": n,
                    "roles": vec!["a"; n as usize], "nested": {"deep": [{"x": 1.5e3}, null, true, "ü\u{1F511}"]},
                });
                self.key.sign_as(if n % 2 == 0 { "JWT" } else { "at+jwt" }, &claims).unwrap()
            })
            .collect();
        let values = [
            "null",
            "true",
            "0",
            "-1",
            "1.5",
            "1e9",
            "1e999",
            "99999999999999999999",
            "\"\"",
            "\"x\"",
            "[]",
            "[1]",
            "{}",
            r#"{"a":1,"a":2}"#,
            r#"["api"]"#,
            r#"["api",1]"#,
            r#"["x","api"]"#,
            r#""api""#,
            r#""\u0061pi""#,
            r#""https://issuer.example""#,
            r#"["https://issuer.example"]"#,
            r#""HTTPS://issuer.example""#,
            &format!("{}", now - 3600),
            &format!("{}", now + 3600),
            &format!("{}.75", now + 3600),
            &format!("\"{later}\""),
            &format!("{now}e3"),
            &"[".repeat(100),
            &format!("{}{}", "[".repeat(70), "]".repeat(70)),
        ]
        .map(str::to_owned);
        for claim in [
            "iss",
            "aud",
            "exp",
            "nbf",
            "iat",
            "sub",
            "jti",
            "scope",
            "scp",
            "client_id",
            "cnf",
            "events",
            "at_hash",
            "zzz",
        ] {
            for value in &values {
                // As an addition (a duplicate for the first three), and as a replacement.
                tokens.push(self.sign(&header(""), &payload(&format!(r#","{claim}":{value}"#))));
                let replaced: Vec<_> =
                    [("iss", format!("\"{ISSUER}\"")), ("aud", format!("\"{AUDIENCE}\"")), ("exp", later.to_string())]
                        .into_iter()
                        .filter(|(name, _)| *name != claim)
                        .chain([(claim, value.clone())])
                        .map(|(name, value)| format!("\"{name}\":{value}"))
                        .collect();
                tokens.push(self.sign(&header(""), &format!("{{{}}}", replaced.join(","))));
            }
        }
        for (name, values) in [
            (
                "typ",
                &[
                    r#""JWT""#,
                    r#""jwt""#,
                    r#""at+jwt""#,
                    r#""application/AT+jwt""#,
                    r#""dpop+jwt""#,
                    r#""logout+jwt""#,
                    "1",
                    "null",
                ][..],
            ),
            ("kid", &[r#""k2""#, r#""K1""#, "1", "null", r#""""#]),
            ("alg", &[r#""none""#, r#""HS256""#, r#""RS256""#, r#""ES256""#, "null"]),
            ("crit", &[r#"["exp"]"#, "[]", "null", r#""exp""#]),
            ("b64", &["false", "true"]),
            ("zip", &[r#""DEF""#]),
            ("cty", &[r#""JWT""#, "1"]),
            ("jku", &[r#""https://attacker.example""#, "1"]),
            ("jwk", &[r#"{"kty":"oct","k":"AAAA"}"#, "1"]),
            ("x5c", &[r#"["AAAA"]"#, "1"]),
            ("x5t", &[r#""AAAA""#, "[]"]),
            ("zzz", &["1", "1e999", r#"{"a":1,"a":1}"#, "[[[]]]"]),
        ] {
            for value in values {
                tokens.push(self.sign(&header(&format!(r#","{name}":{value}"#)), &payload("")));
                let without_kid = format!(r#"{{"alg":"{}","{name}":{value}}}"#, self.key.algorithm());
                tokens.push(self.sign(&without_kid, &payload("")));
            }
        }
        for text in ["", "null", "[]", "\"\"", "{}", "{}{}", "{\"exp\":", "\u{feff}{}", "{'a':1}"] {
            tokens.push(self.sign(&header(""), text));
            tokens.push(self.sign(text, &payload("")));
        }
        for _ in 0..200 {
            let mut text = payload(r#","sub":"ada","roles":["a","b"],"n":1.25"#).into_bytes();
            random.change(&mut text, b"{}[]\",:\\u0019eE+-. \x00\xff");
            let input = format!("{}.{}", B64.encode(header("")), B64.encode(&text));
            let signature = self.key.signature(input.as_bytes()).unwrap();
            tokens.push(format!("{input}.{}", B64.encode(signature)));
        }
        tokens
    }
}

/// One change, or a few, to a token.
fn mutate(base: &str, bases: &[String], subject: &Contestants, random: &mut Random) -> String {
    const ALPHABET: &[u8] = b"ABCXYZabcxyz0189-_=+/.~ \n";
    let parts: Vec<&str> = base.split('.').collect();
    match random.below(12) {
        0..=2 => {
            let mut text = base.as_bytes().to_vec();
            random.change(&mut text, ALPHABET);
            String::from_utf8_lossy(&text).into_owned()
        }
        3 | 4 => {
            // One bit of the decoded signature, payload or header.
            let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            let at = random.below(parts.len() as u64) as usize;
            if let Ok(mut bytes) = B64.decode(&parts[at])
                && !bytes.is_empty()
            {
                let bit = random.below(bytes.len() as u64 * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                parts[at] = B64.encode(bytes);
            }
            parts.join(".")
        }
        5 => {
            let other: Vec<&str> = random.pick(bases).split('.').collect();
            let mixed: Vec<&str> =
                (0..3).map(|at| *if random.below(2) == 0 { &parts } else { &other }.get(at).unwrap_or(&"")).collect();
            mixed.join(".")
        }
        6 => base.get(..random.below(base.len() as u64 + 1) as usize).unwrap_or(base).to_owned(),
        7 => match random.below(6) {
            0 => format!("{base}="),
            1 => format!(" {base}"),
            2 => format!("{base}."),
            3 => format!("{base}.{}", parts.last().unwrap()),
            4 => format!("{}.{}.", parts[0], parts.get(1).unwrap_or(&"")),
            _ => parts.iter().rev().copied().collect::<Vec<_>>().join("."),
        },
        8 => {
            // Another header over the same signature.
            let alg = random
                .pick(&["none", "None", "HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519", "es256", ""]);
            let header = format!(r#"{{"alg":"{alg}","kid":"k1"}}"#);
            format!("{}.{}.{}", B64.encode(header), parts.get(1).unwrap_or(&""), parts.last().unwrap())
        }
        9 => {
            // The same octets in another spelling.
            let at = random.below(base.len() as u64) as usize;
            let swapped: String = base
                .chars()
                .enumerate()
                .map(|(n, c)| match c {
                    '-' if n >= at => '+',
                    '_' if n >= at => '/',
                    c => c,
                })
                .collect();
            if swapped == base { format!("{base}==") } else { swapped }
        }
        10 => random.pick(bases).clone(),
        _ if subject.key.algorithm().is_symmetric() => {
            // Cheap enough to sign anew: a changed payload with a good signature.
            let mut payload = parts.get(1).and_then(|part| B64.decode(part).ok()).unwrap_or_default();
            random.change(&mut payload, b"{}[]\",:\\u0019eE+-. ");
            let input = format!("{}.{}", parts[0], B64.encode(payload));
            let signature = subject.key.signature(input.as_bytes()).unwrap();
            format!("{input}.{}", B64.encode(signature))
        }
        _ => {
            let mut text = base.as_bytes().to_vec();
            for _ in 0..=random.below(8) {
                random.change(&mut text, ALPHABET);
            }
            String::from_utf8_lossy(&text).into_owned()
        }
    }
}

fn name(kind: &ErrorKind) -> String {
    let shown = format!("{kind:?}");
    shown.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

/// SplitMix64: reproducible, and no dependency.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Replaces, inserts or removes one octet.
    fn change(&mut self, text: &mut Vec<u8>, alphabet: &[u8]) {
        if text.is_empty() {
            return;
        }
        let at = self.below(text.len() as u64) as usize;
        match self.below(3) {
            0 => text[at] = *self.pick(alphabet),
            1 => text.insert(at, *self.pick(alphabet)),
            _ => drop(text.remove(at)),
        }
    }
}
