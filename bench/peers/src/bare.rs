//! The physical limit: what the crypto libraries take for the signature alone, decoded beforehand.

use aws_lc_rs::{hmac, signature};
use countersign::Algorithm;
use countersign_bench::Failure;
use http::StatusCode;

use crate::call::Token;
use crate::contenders::{Made, Setup};
use crate::issuer::Issuer;

/// The key is parsed beforehand.
pub fn prepared(setup: &Setup<'_>) -> Made {
    if setup.issuer.algorithm.is_symmetric() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, setup.issuer.secret());
        return Ok(Box::new(move |token: &Token| {
            status(hmac::verify(&key, token.input().as_bytes(), &token.signature).is_ok())
        }));
    }
    let key = match setup.issuer.algorithm {
        Algorithm::Rs256 => {
            signature::RsaPublicKeyComponents { n: setup.issuer.member("n")?, e: setup.issuer.member("e")? }
                .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
                .map_err(|error| error.to_string())?
        }
        _ => {
            let (scheme, public) = elliptic(setup.issuer)?;
            signature::ParsedPublicKey::new(scheme, public).map_err(|error| error.to_string())?
        }
    };
    Ok(Box::new(move |token: &Token| status(key.verify_sig(token.input().as_bytes(), &token.signature).is_ok())))
}

/// As most libraries do it: from the key's bytes each time.
pub fn unprepared(setup: &Setup<'_>) -> Made {
    match setup.issuer.algorithm {
        Algorithm::Hs256 => {
            let secret = setup.issuer.secret();
            Ok(Box::new(move |token: &Token| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                status(hmac::verify(&key, token.input().as_bytes(), &token.signature).is_ok())
            }))
        }
        Algorithm::Rs256 => {
            let key = signature::RsaPublicKeyComponents { n: setup.issuer.member("n")?, e: setup.issuer.member("e")? };
            let scheme = &signature::RSA_PKCS1_2048_8192_SHA256;
            Ok(Box::new(move |token: &Token| {
                status(key.verify(scheme, token.input().as_bytes(), &token.signature).is_ok())
            }))
        }
        _ => {
            let (scheme, public) = elliptic(setup.issuer)?;
            let key = signature::UnparsedPublicKey::new(scheme, public);
            Ok(Box::new(move |token: &Token| status(key.verify(token.input().as_bytes(), &token.signature).is_ok())))
        }
    }
}

/// The other library, which has no prepared form but for HMAC.
pub fn ring(setup: &Setup<'_>) -> Made {
    use ::ring::{hmac, signature};

    match setup.issuer.algorithm {
        Algorithm::Hs256 => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, setup.issuer.secret());
            Ok(Box::new(move |token: &Token| {
                status(hmac::verify(&key, token.input().as_bytes(), &token.signature).is_ok())
            }))
        }
        Algorithm::Rs256 => {
            let key = signature::RsaPublicKeyComponents { n: setup.issuer.member("n")?, e: setup.issuer.member("e")? };
            let scheme = &signature::RSA_PKCS1_2048_8192_SHA256;
            Ok(Box::new(move |token: &Token| {
                status(key.verify(scheme, token.input().as_bytes(), &token.signature).is_ok())
            }))
        }
        algorithm => {
            let public = point(setup.issuer)?;
            let scheme: &dyn signature::VerificationAlgorithm =
                if algorithm == Algorithm::Es256 { &signature::ECDSA_P256_SHA256_FIXED } else { &signature::ED25519 };
            let key = signature::UnparsedPublicKey::new(scheme, public);
            Ok(Box::new(move |token: &Token| status(key.verify(token.input().as_bytes(), &token.signature).is_ok())))
        }
    }
}

type Scheme = &'static dyn signature::VerificationAlgorithm;

fn elliptic(issuer: &Issuer) -> Result<(Scheme, Vec<u8>), Failure> {
    let scheme: Scheme = match issuer.algorithm {
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::EdDsa => &signature::ED25519,
        algorithm => return Err(format!("no bare check of {algorithm} here").into()),
    };
    Ok((scheme, point(issuer)?))
}

/// The public key as the crypto libraries want it: an uncompressed point (SEC 1 §2.3.3), or RFC 8032's bytes.
fn point(issuer: &Issuer) -> Result<Vec<u8>, Failure> {
    match issuer.algorithm {
        Algorithm::Es256 => Ok([vec![4], issuer.member("x")?, issuer.member("y")?].concat()),
        _ => issuer.member("x"),
    }
}

/// What a service would answer.
pub fn status(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}
