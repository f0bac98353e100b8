//! Makes `keys/public.jwks` and `keys/tokens.txt` anew: fresh RSA and EC keys, of which only the public half and a few
//! signatures stay, and the two published keys of [`harness`](countersign_fuzz::harness). No seed depends on them.

use std::fs;

use countersign::token::{Algorithm, SigningKey};
use countersign_fuzz::harness::{self, GOOD_CLAIMS};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let new = |algorithm, kid: &str| SigningKey::generate(algorithm).map(|key| key.with_kid(kid));
    let public =
        [new(Algorithm::Rs256, "rs")?, new(Algorithm::Ps256, "ps")?, new(Algorithm::Es256, "es")?, harness::eddsa()];
    let jwks: Vec<_> =
        public.iter().map(|key| key.public_jwk().map(|jwk| jwk.to_string())).collect::<Result<_, _>>()?;
    let secret = harness::hs256();

    let mut tokens = vec![];
    for key in public.iter().chain([&secret]) {
        tokens.push(format!("accepted {}", with_header(key, GOOD_CLAIMS)));
    }
    tokens.push(format!("accepted {}", harness::sign(&secret, br#"{"alg":"HS256"}"#, GOOD_CLAIMS.as_bytes())));
    for (outcome, from, to) in [
        ("expired", "1800000300", "1799999970"),
        ("not_yet_valid", r#""sub""#, r#""nbf":1800000031,"sub""#),
        ("wrong_issuer", "issuer.example", "issuer.invalid"),
        ("wrong_audience", r#""api""#, r#"["ap","i"]"#),
        ("claim_missing", r#","exp":1800000300"#, ""),
        ("insufficient_scope", r#""read""#, r#""write""#),
    ] {
        tokens.push(format!("{outcome} {}", with_header(&secret, &GOOD_CLAIMS.replace(from, to))));
    }
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/keys");
    fs::create_dir_all(keys)?;
    fs::write(format!("{keys}/public.jwks"), format!("{{\"keys\":[\n{}\n]}}\n", jwks.join(",\n")))?;
    fs::write(format!("{keys}/tokens.txt"), tokens.join("\n") + "\n")?;
    Ok(())
}

fn with_header(key: &SigningKey, claims: &str) -> String {
    let header = format!(r#"{{"alg":"{}","kid":"{}"}}"#, key.algorithm(), key.kid().unwrap_or_default());
    harness::sign(key, header.as_bytes(), claims.as_bytes())
}
