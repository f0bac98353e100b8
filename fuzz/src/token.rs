//! Tokens, raw, changed, forged and properly signed with anything in them.
//!
//! The first octet says which; the seeds begin with a digit.

use std::sync::LazyLock;

use countersign::token::{Algorithm, SigningKey};
use countersign::verifier::Verifier;
use countersign::{KeySet, Verified};

use crate::harness::{self, GOOD_CLAIMS, PUBLIC_KEYS, SIGNED, VERIFIER, assert_discreet, now};
use crate::oracle::claims::{self, Claims};
use crate::oracle::{Verdict, base64url, header};

pub fn run(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind.wrapping_sub(b'0') % 5 {
        0 => raw(&harness::with_signed_tokens(data)),
        1 => raw(&changed(data)),
        2 => forged(data),
        3 => signed_header(data),
        _ => signed_claims(data),
    }
}

/// A string is accepted if and only if it is one of the good tokens that were signed, octet by octet. (ECDSA would let
/// anybody write r ‖ n − s for r ‖ s; that this is not found here is chance, and it is no forgery.)
fn raw(token: &[u8]) {
    let Ok(text) = std::str::from_utf8(token) else { return };
    let verdict = VERIFIER.verify(text, now());
    assert_eq!(verdict.is_ok(), harness::is_good(token), "{verdict:?}");
    if let Err(refusal) = verdict {
        assert_discreet(&refusal, token);
    }
}

/// One of the signed tokens, changed as the rest of the input says.
fn changed(input: &[u8]) -> Vec<u8> {
    /// Enough to undo a change by another one; more only makes slow inputs.
    const MOST_CHANGES: usize = 8;
    let mut input = Input(input);
    let mut token = base_token(input.octet()).as_bytes().to_vec();
    for _ in 0..MOST_CHANGES {
        if input.0.is_empty() {
            break;
        }
        change(&mut token, &mut input);
    }
    token
}

fn change(token: &mut Vec<u8>, input: &mut Input<'_>) {
    let (kind, at) = (input.octet(), input.place(token.len()));
    match kind % 10 {
        0 => token[at..].iter_mut().take(1).for_each(|octet| *octet ^= 1 << (input.octet() % 7)),
        1 => token[at..].iter_mut().take(1).for_each(|octet| *octet = input.octet()),
        2 => token.insert(at, input.octet()),
        3 => drop(token.drain(at..(at + usize::from(input.octet())).min(token.len()))),
        4 => token.truncate(at),
        5 => {
            let again = token[at..].iter().take(usize::from(input.octet())).copied().collect::<Vec<_>>();
            token.splice(at..at, again);
        }
        // The same part of another token.
        6 => {
            let other = base_token(input.octet());
            with_parts(token, |parts| {
                if let (Some(part), Some(other)) = (parts.get_mut(at % 3), other.split('.').nth(at % 3)) {
                    *part = other.as_bytes().to_vec();
                }
            });
        }
        // Other octets, encoded.
        7 => {
            let octets = input.text();
            with_parts(token, |parts| *part_at(parts, at) = base64url::encode(octets).into_bytes());
        }
        // The same octets in another spelling, which a lenient decoder would take for the same.
        8 => {
            let spelling = input.octet();
            with_parts(token, |parts| respell(part_at(parts, at), spelling));
        }
        _ => {
            with_parts(token, |parts| {
                let by = at % parts.len();
                parts.rotate_left(by);
            });
        }
    }
}

fn respell(part: &mut Vec<u8>, spelling: u8) {
    match spelling % 6 {
        0 => part.extend(std::iter::repeat_n(b'=', (4 - part.len() % 4) % 4)),
        1 => part.iter_mut().for_each(|octet| match octet {
            b'-' => *octet = b'+',
            b'_' => *octet = b'/',
            _ => {}
        }),
        2 => part.push(b'\n'),
        3 => part.insert(0, b' '),
        // The next character of the alphabet, most often: other left-over bits.
        4 => part.iter_mut().rev().take(1).for_each(|octet| *octet = octet.wrapping_add(1)),
        _ => part.extend_from_slice(b"%3D"),
    }
}

fn with_parts(token: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut parts: Vec<_> = token.split(|octet| *octet == b'.').map(<[u8]>::to_vec).collect();
    change(&mut parts);
    *token = parts.join(&b'.');
}

/// Good claims under any header, signed by somebody who has none of our keys: with a key of his own, or with HMAC and a
/// secret that everybody knows.
fn forged(data: &[u8]) {
    static FORGERS: LazyLock<Vec<SigningKey>> = LazyLock::new(forgers);
    let mut input = Input(data);
    let forger = &FORGERS[usize::from(input.octet()) % FORGERS.len()];
    let token = harness::sign(forger, input.0, GOOD_CLAIMS.as_bytes());
    let refusal = VERIFIER.verify(&token, now()).expect_err("nobody whom we know has signed it");
    assert_discreet(&refusal, token.as_bytes());
}

fn forgers() -> Vec<SigningKey> {
    let set: serde_json::Value = serde_json::from_str(PUBLIC_KEYS).expect("JSON");
    let mut secrets = vec![vec![0; 64], PUBLIC_KEYS.as_bytes().to_vec()];
    for jwk in set["keys"].as_array().expect("an array") {
        secrets.push(jwk.to_string().into_bytes());
        for member in ["n", "x", "y"].iter().filter_map(|name| jwk[name].as_str()) {
            secrets.push(member.as_bytes().to_vec());
            secrets.extend(base64url::decode(member.as_bytes()));
        }
    }
    let hmac = secrets.iter().filter_map(|secret| SigningKey::from_secret(secret, Algorithm::Hs256).ok());
    // Of nobody: another private key than that of RFC 8037.
    let pkcs8 = [b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20", &[7; 32][..]].concat();
    let own = SigningKey::from_der(&pkcs8, Algorithm::EdDsa).expect("a good key");
    hmac.chain([own]).collect()
}

/// Good claims under any header, properly signed: the header decides, and the oracle says how.
fn signed_header(header: &[u8]) {
    static KEY: LazyLock<SigningKey> = LazyLock::new(harness::hs256);
    let token = harness::sign(&KEY, header, GOOD_CLAIMS.as_bytes());
    // A longer one is refused before anything is looked at.
    let expected = match header::read(header) {
        _ if token.len() > 8 * 1024 => Verdict::Bad,
        Verdict::Good(header) if header.alg == "HS256" && header.kid.as_deref().is_none_or(|kid| kid == "hs") => {
            claims::judge(GOOD_CLAIMS.as_bytes(), header.typ.as_deref())
        }
        Verdict::NoOpinion => Verdict::NoOpinion,
        _ => Verdict::Bad,
    };
    check(&token, GOOD_CLAIMS.as_bytes(), &expected);
}

/// Any octets as claims, properly signed: the claims decide, and the oracle says how.
fn signed_claims(data: &[u8]) {
    static HMAC: LazyLock<SigningKey> = LazyLock::new(harness::hs256);
    static EDDSA: LazyLock<SigningKey> = LazyLock::new(harness::eddsa);
    const TYPES: [Option<&str>; 8] = [
        None,
        Some("JWT"),
        Some("at+jwt"),
        Some("application/AT+JWT"),
        Some("dpop+jwt"),
        Some("logout+jwt"),
        Some(""),
        Some("a/b"),
    ];
    let Some((kind, payload)) = data.split_first() else { return };
    let typ = TYPES[usize::from(kind % 8)];
    // Signing with Ed25519 takes as long as thirty tokens with HMAC, and payloads do not care.
    let key = if kind / 8 == 31 { &*EDDSA } else { &*HMAC };
    let typ_member = typ.map_or(String::new(), |typ| format!(r#""typ":"{typ}","#));
    let header = format!(r#"{{{typ_member}"alg":"{}"}}"#, key.algorithm());
    let token = harness::sign(key, header.as_bytes(), payload);
    let expected = if token.len() > 8 * 1024 { Verdict::Bad } else { claims::judge(payload, typ) };
    check(&token, payload, &expected);
}

/// A token that one of our keys has signed.
fn check(token: &str, payload: &[u8], expected: &Verdict<Claims>) {
    let verdict = VERIFIER.verify(token, now());
    match (&verdict, expected) {
        (Ok(verified), Verdict::Good(expected)) => {
            assert_eq!(&said_by(verified), expected);
            assert_eq!((verified.issuer(), verified.payload()), (Some(harness::ISSUER), payload));
            // Reading them into anything may fail and nothing else.
            let _ = verified.claims::<serde_json::Value>();
            let _ = verified.claims::<Vec<String>>().map_err(|error| error.to_string());
        }
        (Err(refusal), Verdict::Bad) => assert_discreet(refusal, token.as_bytes()),
        (_, Verdict::NoOpinion) => {}
        _ => panic!("{verdict:?}, and should be {expected:?}"),
    }
    if let Ok(verified) = STRICTER.verify(token, now()) {
        assert!(verdict.is_ok(), "accepted only by a policy that demands more");
        assert!(verified.jwt_id().is_some() && verified.client_id().is_some() && verified.issued_at().is_some());
    }
}

fn said_by(verified: &Verified) -> Claims {
    Claims {
        sub: verified.subject().map(str::to_owned),
        jti: verified.jwt_id().map(str::to_owned),
        client_id: verified.client_id().map(str::to_owned),
        aud: verified.audiences().map(str::to_owned).collect(),
        scopes: verified.scopes().map(str::to_owned).collect(),
    }
}

/// The same with every demand that there is.
static STRICTER: LazyLock<Verifier<KeySet>> = LazyLock::new(|| {
    let hour = std::time::Duration::from_secs(3600);
    let policy = harness::policy().access_token_profile().max_age(hour).max_lifetime(hour).subject(|sub| sub == "ada");
    Verifier::new(harness::keys(), policy).algorithms(Algorithm::Hs256)
});

/// Of parts, of which there is always one.
fn part_at(parts: &mut [Vec<u8>], at: usize) -> &mut Vec<u8> {
    let index = at % 3 % parts.len();
    &mut parts[index]
}

/// One of the signed tokens; seldom one whose check is slow.
fn base_token(octet: u8) -> &'static str {
    static FAST: LazyLock<Vec<&str>> = LazyLock::new(|| {
        // `{"alg":"HS256"`
        SIGNED.iter().map(|signed| signed.token).filter(|token| token.starts_with("eyJhbGciOiJIUzI1NiJ")).collect()
    });
    let (octet, is_any) = (usize::from(octet / 4), octet.is_multiple_of(4));
    if is_any { SIGNED[octet % SIGNED.len()].token } else { FAST[octet % FAST.len()] }
}

/// The input, taken from the front; zeros behind its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self) -> u8 {
        let (octet, rest) = self.0.split_first().map_or((0, self.0), |(octet, rest)| (*octet, rest));
        self.0 = rest;
        octet
    }

    /// 0 to `end`, both included.
    fn place(&mut self, end: usize) -> usize {
        usize::from(u16::from_be_bytes([self.octet(), self.octet()])) % (end + 1)
    }

    /// As many octets as the next one says.
    fn text(&mut self) -> &'a [u8] {
        let length = usize::from(self.octet()).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        text
    }
}
