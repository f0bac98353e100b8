//! The cost of a request's authentication beside that of the bare signature check, for each algorithm.

use std::hint::black_box;
use std::time::SystemTime;

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use countersign::token::SignError;
use countersign::{Algorithm, KeySet, Keys, Policy, RequireJwtLayer, SigningKey, UnixTime, Verifier};
use serde::Deserialize;
use tower_layer::Layer;

use crate::request::{AUDIENCE, Arrivals, Handler, ISSUER, claims};
use crate::timing::{Contender, Effort, medians};
use crate::{Failure, unix_seconds};

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the work")]
pub struct MyClaims {
    sub: String,
    azp: String,
    roles: Vec<String>,
}

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
        Ok(Verifier::new(keys, policy).algorithms(algorithm).max_token_bytes(16 * 1024).without_token_cache())
    };
    let verifier = another_verifier()?;
    let handler = Handler::default();
    let layer = |verifier| RequireJwtLayer::new(verifier).layer(handler.clone());
    let (eager, lazy) = (layer(another_verifier()?.with_claims::<MyClaims>()), layer(another_verifier()?));
    let tokens = [token.clone()];
    let arrivals = [Arrivals::new(&tokens), Arrivals::new(&tokens), Arrivals::new(&tokens)];
    let mut contenders = vec![
        Contender {
            name: "raw `aws-lc-rs`, prepared key, decoded signature",
            once: raw(algorithm, &signer, &token)?,
            prepare: None,
        },
        Contender::new("`Verifier::verify`", || {
            drop(black_box(verifier.verify(&token, UnixTime::from(SystemTime::now())).expect("good")));
        }),
        arrivals[0].served_by("the layer, whole `Service` call", lazy, handler.clone()),
        arrivals[1].served_by("the layer, typed claims read", eager, handler.clone()),
        arrivals[2].served_by("(the handler without the layer)", handler.clone(), handler.clone()),
    ];
    let oracle = jsonwebtoken_decode(algorithm, &signer, &token)?;
    if let Some(once) = oracle {
        contenders.push(Contender { prepare: None, name: "`jsonwebtoken` 11 `decode` (aws_lc_rs)", once });
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
            allocated.count_total,
            allocated.bytes_total,
        ));
    }
    Ok(table)
}

/// The physical limit: what the crypto library takes, with everything else done beforehand.
pub fn raw<'a>(algorithm: Algorithm, signer: &SigningKey, token: &'a str) -> Result<Box<dyn FnMut() + 'a>, Failure> {
    let (input, encoded) = token.rsplit_once('.').ok_or("three parts")?;
    let signature = B64.decode(encoded)?;
    let hash = match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    };
    if let Some(hash) = hash {
        // The tag fits only its own secret, which stays inside `signer`; any key and its own tag cost the same.
        let key = hmac::Key::new(hash, &[7; 64]);
        let tag = hmac::sign(&key, input.as_bytes());
        return Ok(Box::new(move || hmac::verify(&key, black_box(input.as_bytes()), tag.as_ref()).expect("good")));
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
    Ok(Box::new(move || key.verify_sig(black_box(input.as_bytes()), &signature).expect("good")))
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
