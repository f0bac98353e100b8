//! Any octets as the JOSE header of a token whose signature nobody made.

use std::sync::LazyLock;

use countersign::token::{HeaderScratch, KeySet, UnverifiedToken};

use crate::harness::{GOOD_CLAIMS, VERIFIER, assert_discreet, now};
use crate::oracle::header::{self, Header};
use crate::oracle::{Verdict, base64url};

/// As long as a signature with HS256, so that it is not refused for its length.
const NO_SIGNATURE: &[u8; 32] = b"nobody has made this signature!!";

/// The octets as they are, in the place of the encoded header, and the octets as the header that is encoded there.
pub fn run(data: &[u8]) {
    static REST: LazyLock<String> =
        LazyLock::new(|| format!(".{}.{}", base64url::encode(GOOD_CLAIMS.as_bytes()), base64url::encode(NO_SIGNATURE)));
    if let Ok(text) = std::str::from_utf8(data) {
        let token = text.to_owned() + &REST;
        check(&token, header::of_token(&token));
    }
    check(&(base64url::encode(data) + &REST), header::read(data));
}

fn check(token: &str, expected: Verdict<Header>) {
    let mut scratch = HeaderScratch::new();
    let parsed = UnverifiedToken::parse(token, usize::MAX, &mut scratch);
    match (&parsed, expected) {
        (Ok(parsed), Verdict::Good(expected)) => {
            let header = parsed.header();
            let found = Header {
                alg: header.algorithm().name().to_owned(),
                kid: header.kid().map(str::to_owned),
                typ: header.typ().map(str::to_owned),
                cty: header.cty().map(str::to_owned),
            };
            assert_eq!(found, expected);
        }
        (Err(_), Verdict::Bad) | (_, Verdict::NoOpinion) => {}
        (parsed, expected) => panic!("{:?}, and should be {expected:?}", parsed.as_ref().map(UnverifiedToken::header)),
    }
    if let Ok(token) = &parsed {
        nothing_verifies(token, VERIFIER.keys());
    }
    let refusal = VERIFIER.verify(token, now()).expect_err("nobody signed it");
    assert_discreet(&refusal, token.as_bytes());
}

fn nothing_verifies(token: &UnverifiedToken<'_>, keys: &KeySet) {
    let (kid, algorithm) = (token.header().kid(), token.header().algorithm());
    for key in keys.candidates(kid, algorithm) {
        assert!(kid.is_none() || key.kid() == kid, "another key than the one that is named");
        assert!(key.algorithms().contains(algorithm), "a key of another algorithm");
    }
    for key in keys.iter() {
        assert!(token.verify(key).is_err());
    }
}
