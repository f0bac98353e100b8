//! The cost of a request's authentication beside that of the bare signature check, for each algorithm.

use std::hint::black_box;
use std::time::SystemTime;

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use countersign::token::SignError;
use countersign::{Algorithm, KeySet, Keys, Policy, RequireJwtLayer, SigningKey, UnixTime, Verifier};
use tower_layer::Layer;

use crate::request::{AUDIENCE, Arrivals, Handler, ISSUER, MyClaims, claims, wrongly_signed};
use crate::timing::{Contender, Effort, medians};
use crate::{Failure, unix_seconds};

/// A table per algorithm.
pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let mut report = String::new();
    for algorithm in Algorithm::ALL {
        report.push_str(&measure(algorithm, effort)?);
        report.push('\n');
    }
    Ok(report)
}

fn measure(algorithm: Algorithm, effort: &Effort) -> Result<String, Failure> {
    let signer = SigningKey::generate(algorithm)?.with_kid("3f0c6a52-2026-11");
    let other = SigningKey::generate(algorithm)?.with_kid("91d2b7e4-2026-12");
    let token = signer.sign_as("at+jwt", &claims(unix_seconds()?))?;

    let another_verifier = || -> Result<Verifier<Keys>, SignError> {
        let keys = Keys::fixed(KeySet::new([signer.verifying_key()?, other.verifying_key()?]));
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
        Ok(Verifier::new(keys, policy).algorithms(algorithm).max_token_bytes(MAX_TOKEN_BYTES).without_token_cache())
    };
    let verifier = another_verifier()?;
    let handler = Handler::new();
    let layer = |verifier| RequireJwtLayer::new(verifier).layer(handler.clone());
    let (eager, lazy) = (layer(another_verifier()?.with_claims::<MyClaims>()), layer(another_verifier()?));
    let reader = Handler::reading::<MyClaims>();
    let reading = RequireJwtLayer::new(another_verifier()?).layer(reader.clone());
    let good = [token.clone()];
    let [to_lazy, to_eager, to_reading, to_bare] = [(); 4].map(|()| Arrivals::new(&good));
    let refusals = refusals(&signer, &token)?;
    let refused = refusals.each_ref().map(|(name, token)| (*name, Arrivals::new(token)));
    let raw = raw(algorithm, &signer, std::slice::from_ref(&token))?;
    let mut contenders = vec![
        Contender::new("raw `aws-lc-rs`, prepared key, decoded signature", raw),
        Contender::new("`Verifier::verify`", || {
            drop(black_box(verifier.verify(&token, UnixTime::from(SystemTime::now())).expect("good")));
        }),
        to_lazy.served_by("the layer, whole `Service` call", lazy, handler.clone()),
        to_eager.served_by("the layer, typed claims read", eager, handler.clone()),
        to_reading.served_by("the layer, the handler reads typed claims", reading, reader),
        to_bare.served_by("(the handler without the layer)", handler.clone(), handler.clone()),
    ];
    if let Some(once) = jsonwebtoken_decode(algorithm, &signer, &token)? {
        contenders.push(Contender::new("`jsonwebtoken` 11 `decode` (aws_lc_rs)", once));
    }
    for (name, arrivals) in &refused {
        contenders.push(arrivals.refused_by(name, layer(another_verifier()?.with_claims::<MyClaims>())));
    }

    let medians = medians(&mut contenders, effort);
    let mut table = format!(
        "### {algorithm} (token of {} bytes)\n\n| | × raw | µs | allocations | bytes allocated |\n|---|---:|---:|---:|---:|\n",
        token.len()
    );
    for (at, contender) in contenders.iter_mut().enumerate() {
        let allocated = contender.allocations();
        table.push_str(&format!(
            "| {} | {:.2} | {:.2} | {} | {} |\n",
            contender.name,
            medians[at] / medians[0],
            medians[at],
            allocated.allocations,
            allocated.bytes,
        ));
    }
    Ok(table)
}

/// The longest token that is read here, bytes: those of ML-DSA are longer than the default.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What is wrong with a token, and the token.
fn refusals(signer: &SigningKey, good: &str) -> Result<[(&'static str, [String; 1]); 5], Failure> {
    let now = unix_seconds()?;
    let unknown = SigningKey::generate(signer.algorithm())?.with_kid("c7b85a14-2027-01");
    Ok([
        ("refused: unknown `kid`", [unknown.sign_as("at+jwt", &claims(now))?]),
        ("refused: longer than allowed", [format!("{good}{}", "A".repeat(MAX_TOKEN_BYTES))]),
        ("refused: malformed header", [format!("e{good}")]),
        ("refused: wrong signature", [wrongly_signed(signer, now)?]),
        ("refused: expired", [signer.sign_as("at+jwt", &claims(now - 7200))?]),
    ])
}

/// The physical limit: what the crypto library takes for these tokens in turn, with everything else done beforehand.
pub fn raw<'a>(
    algorithm: Algorithm,
    signer: &SigningKey,
    tokens: &'a [String],
) -> Result<Box<dyn FnMut() + 'a>, Failure> {
    let parts = tokens.iter().map(|token| {
        let (input, encoded) = token.rsplit_once('.').ok_or("three parts")?;
        Ok((input.as_bytes(), B64.decode(encoded)?))
    });
    let parts = parts.collect::<Result<Vec<(&[u8], Vec<u8>)>, Failure>>()?;
    let mut at = 0;
    let mut next = move |parts: &[_]| {
        at = (at + 1) % parts.len();
        at
    };
    let hash = match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    };
    if let Some(hash) = hash {
        // The tag fits only its own secret, which stays inside `signer`; any key and its own tag cost the same.
        let key = hmac::Key::new(hash, &[7; 64]);
        let tags: Vec<_> = parts.iter().map(|(input, _)| hmac::sign(&key, input)).collect();
        return Ok(Box::new(move || {
            let at = next(&parts);
            hmac::verify(&key, black_box(parts[at].0), tags[at].as_ref()).expect("good");
        }));
    }
    let jwk = signer.public_jwk()?;
    let member = |name: &str| -> Result<Vec<u8>, Failure> { Ok(B64.decode(jwk[name].as_str().ok_or("a member")?)?) };
    let scheme: &'static dyn signature::VerificationAlgorithm = match algorithm {
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDsa | Algorithm::Ed25519 => &signature::ED25519,
        Algorithm::MlDsa44 => &signature::ML_DSA_44,
        Algorithm::MlDsa65 => &signature::ML_DSA_65,
        Algorithm::MlDsa87 => &signature::ML_DSA_87,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    };
    let rsa = match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    };
    let key = if let Some(rsa) = rsa {
        signature::RsaPublicKeyComponents { n: member("n")?, e: member("e")? }
            .to_parsed_public_key(rsa)
            .map_err(|error| error.to_string())?
    } else {
        let public = match jwk["kty"].as_str() {
            Some("EC") => [vec![4], member("x")?, member("y")?].concat(),
            Some("AKP") => member("pub")?,
            _ => member("x")?,
        };
        signature::ParsedPublicKey::new(scheme, public).map_err(|error| error.to_string())?
    };
    Ok(Box::new(move || {
        let (input, signature) = &parts[next(&parts)];
        key.verify_sig(black_box(input), signature).expect("good");
    }))
}

/// What most Rust services do today; `None` for algorithms that it does not know.
fn jsonwebtoken_decode<'a>(
    algorithm: Algorithm,
    signer: &SigningKey,
    token: &'a str,
) -> Result<Option<Box<dyn FnMut() + 'a>>, Failure> {
    let Ok(theirs) = algorithm.name().parse::<jsonwebtoken::Algorithm>() else { return Ok(None) };
    if algorithm.is_symmetric() {
        return Ok(None);
    }
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(signer.public_jwk()?)?;
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk)?;
    let mut validation = jsonwebtoken::Validation::new(theirs);
    validation.validate_nbf = true;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    Ok(Some(Box::new(move || {
        drop(black_box(jsonwebtoken::decode::<MyClaims>(token, &key, &validation).expect("good")));
    })))
}
