//! Private keys as JWKs.

use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, PqdsaKeyPair, RsaKeyPair};
use zeroize::Zeroizing;

use super::{Pair, SigningKey, ec_signing, ml_dsa_signing, rsa_encoding};
use crate::algorithm::Algorithm;
use crate::jwk::{Jwk, Unusable};
use crate::key::{Curve, KeyError, UNCOMPRESSED_POINT};

impl SigningKey {
    /// A private key from a JWK (RFC 7517): `RSA`, `EC`, Ed25519 (`OKP`) or ML-DSA (`AKP`, RFC 9964) with all of its private members, or a shared
    /// secret (`oct`). It is called by its `kid`, if it has one.
    ///
    /// `algorithm` is what it signs with. `None`: what its `alg` says, or, where it says nothing, the only one of its type: of `RSA` and `oct`
    /// there is more than one.
    ///
    /// # Errors
    /// [`Unusable`], and nothing of the key in it: not a private key, one whose private part does not belong to its public part, one that is for
    /// something else, or one that no verifier would accept.
    ///
    /// ```
    /// use countersign_token::{Algorithm, SigningKey};
    ///
    /// let jwk = br#"{"kty":"oct","kid":"k1","alg":"HS256","k":"c2l4dGVlbiBvY3RldHMsIGFuZCBhcyBtYW55IG1vcmU"}"#;
    /// let key = SigningKey::from_jwk(jwk, None)?;
    /// assert_eq!((key.algorithm(), key.kid()), (Algorithm::Hs256, Some("k1")));
    /// # Ok::<(), countersign_token::Unusable>(())
    /// ```
    pub fn from_jwk(jwk: impl AsRef<[u8]>, algorithm: Option<Algorithm>) -> Result<Self, Unusable> {
        let text = std::str::from_utf8(jwk.as_ref()).map_err(|_| Unusable::NotAnObject)?;
        let jwk = Jwk::read(text)?;
        jwk.check_signing()?;
        let said = jwk.string("alg")?;
        let said = said.map(|name| Algorithm::from_name(&name).ok_or(Unusable::UnknownAlgorithm)).transpose()?;
        let algorithm = match (algorithm, said) {
            (Some(wanted), Some(said)) if wanted != said => return Err(Unusable::ContradictoryAlgorithm),
            (wanted, said) => wanted.or(said),
        };
        let (algorithm, pair) = match &*jwk.required_string("kty")? {
            "RSA" => (algorithm.ok_or(Unusable::Missing("alg"))?, Pair::Rsa(rsa(&jwk)?)),
            "EC" => {
                let curve = Curve::from_name(&jwk.required_string("crv")?).ok_or(Unusable::UnknownCurve)?;
                (algorithm.unwrap_or(curve.algorithm()), Pair::Ec(curve, ec(&jwk, curve)?))
            }
            "OKP" if jwk.required_string("crv")? != "Ed25519" => return Err(Unusable::UnknownCurve),
            "OKP" => (algorithm.unwrap_or(Algorithm::EdDsa), Pair::Ed25519(ed25519(&jwk)?)),
            "AKP" => {
                let algorithm = algorithm.ok_or(Unusable::Missing("alg"))?;
                (algorithm, Pair::MlDsa(ml_dsa(&jwk, algorithm)?))
            }
            "oct" => {
                let algorithm = algorithm.ok_or(Unusable::Missing("alg"))?;
                let secret = private(&jwk, "k")?;
                let key = Self::from_secret(&secret, algorithm).map_err(|error| match error {
                    super::SignError::Key(KeyError::NoAlgorithm) => Unusable::ContradictoryAlgorithm,
                    super::SignError::Key(error) => Unusable::Key(error),
                    _ => INVALID,
                })?;
                return named(key, &jwk);
            }
            _ => return Err(Unusable::UnknownKeyType),
        };
        let fits = match &pair {
            Pair::Rsa(_) => rsa_encoding(algorithm).is_some(),
            Pair::Ec(curve, _) => curve.algorithm() == algorithm,
            Pair::Ed25519(_) => matches!(algorithm, Algorithm::EdDsa | Algorithm::Ed25519),
            Pair::MlDsa(_) | Pair::Secret { .. } => true,
        };
        if !fits {
            return Err(Unusable::ContradictoryAlgorithm);
        }
        let key = named(Self { kid: None, algorithm, pair }, &jwk)?;
        // A key that no verifier would accept is refused here and not at the first token.
        match key.verifying_key() {
            Ok(_) => Ok(key),
            Err(super::SignError::Key(error)) => Err(Unusable::Key(error)),
            Err(_) => Err(INVALID),
        }
    }
}

const INVALID: Unusable = Unusable::Key(KeyError::Invalid);

fn named(key: SigningKey, jwk: &Jwk<'_>) -> Result<SigningKey, Unusable> {
    Ok(match jwk.string("kid")? {
        Some(kid) => key.with_kid(kid),
        None => key,
    })
}

/// RFC 7518 §6.3.2, with everything that makes it quick.
fn rsa(jwk: &Jwk<'_>) -> Result<RsaKeyPair, Unusable> {
    if jwk.has("oth") {
        // More than two primes (RFC 7518 §6.3.2.7): nobody makes such keys.
        return Err(Unusable::Malformed("oth"));
    }
    let mut numbers = Vec::new();
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        numbers.push(private(jwk, name)?);
    }
    RsaKeyPair::from_der(&rsa_private_key(&numbers)).map_err(|_| INVALID)
}

/// RFC 7518 §6.2.2.
fn ec(jwk: &Jwk<'_>, curve: Curve) -> Result<EcdsaKeyPair, Unusable> {
    let (x, y) = (jwk.octets("x")?, jwk.octets("y")?);
    let point = [&[UNCOMPRESSED_POINT], x.as_slice(), y.as_slice()].concat();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(ec_signing(curve), &private(jwk, "d")?, &point);
    pair.map_err(|_| INVALID)
}

/// RFC 8037 §2.
fn ed25519(jwk: &Jwk<'_>) -> Result<Ed25519KeyPair, Unusable> {
    Ed25519KeyPair::from_seed_and_public_key(&private(jwk, "d")?, &jwk.octets("x")?).map_err(|_| INVALID)
}

/// RFC 9964 §3: `priv` is the seed.
fn ml_dsa(jwk: &Jwk<'_>, algorithm: Algorithm) -> Result<PqdsaKeyPair, Unusable> {
    use aws_lc_rs::signature::KeyPair as _;
    let scheme = ml_dsa_signing(algorithm).ok_or(Unusable::ContradictoryAlgorithm)?;
    let pair = PqdsaKeyPair::from_seed(scheme, &private(jwk, "priv")?).map_err(|_| INVALID)?;
    if pair.public_key().as_ref() == jwk.octets("pub")? { Ok(pair) } else { Err(INVALID) }
}

fn private(jwk: &Jwk<'_>, name: &'static str) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    jwk.octets(name).map(Zeroizing::new)
}

/// RSAPrivateKey (RFC 8017 §A.1.2) of two primes.
fn rsa_private_key(numbers: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    // What grows leaves copies behind, so it never grows: each number has six more octets at most, and so has the whole.
    let room = numbers.iter().map(|number| number.len() + 6).sum();
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    content.extend_from_slice(&[INTEGER, 1, 0]);
    for number in numbers {
        let first = number.iter().position(|octet| *octet != 0).unwrap_or(number.len());
        let number = &number[first..];
        // Without a sign: what would look negative has a zero in front, and nothing at all is a zero.
        let sign = number.first().is_none_or(|octet| octet & 0x80 != 0);
        header(&mut content, INTEGER, number.len() + usize::from(sign));
        if sign {
            content.push(0);
        }
        content.extend_from_slice(number);
    }
    let mut der = Zeroizing::new(Vec::with_capacity(content.len() + 6));
    header(&mut der, SEQUENCE, content.len());
    der.extend_from_slice(&content);
    der
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;

/// Tag and length (X.690 §8.1.3). Nothing here is longer than the document that it is from.
fn header(der: &mut Vec<u8>, tag: u8, length: usize) {
    der.push(tag);
    let octets = length.to_be_bytes();
    let first = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len() - 1);
    let octets = &octets[first..];
    if length >= 0x80 {
        der.push(0x80 | u8::try_from(octets.len()).unwrap_or(u8::MAX));
    }
    der.extend_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base64url;
    use serde_json::{Value, json};

    #[test]
    fn lengths_are_written_as_der_wants_them() {
        for (length, expected) in [
            (0, &[0x02, 0x00][..]),
            (0x7f, &[0x02, 0x7f]),
            (0x80, &[0x02, 0x81, 0x80]),
            (0xff, &[0x02, 0x81, 0xff]),
            (0x100, &[0x02, 0x82, 0x01, 0x00]),
        ] {
            let mut der = Vec::new();
            header(&mut der, INTEGER, length);
            assert_eq!(der, expected);
        }
    }

    #[test]
    fn numbers_have_no_sign_and_no_zeros_in_front() {
        let numbers = [vec![0, 0, 1], vec![0x80], vec![], vec![0]].map(Zeroizing::new);
        let expected = [0x30, 16, 2, 1, 0, 2, 1, 1, 2, 2, 0, 0x80, 2, 1, 0, 2, 1, 0];
        assert_eq!(*rsa_private_key(&numbers), expected);
    }

    #[test]
    fn what_holds_a_private_key_never_grows() {
        let numbers: Vec<_> = (0..8).map(|_| Zeroizing::new(vec![0xff; 512])).collect();
        let room: usize = numbers.iter().map(|number| number.len() + 6).sum();
        assert!(rsa_private_key(&numbers).len() - 4 <= room);
    }

    /// What is in a piece of DER: tag and contents of each.
    fn parts(mut der: &[u8]) -> Vec<(u8, &[u8])> {
        let mut parts = Vec::new();
        while let [tag, length, rest @ ..] = der {
            let (length, rest) = match length {
                0x81 => (usize::from(rest[0]), &rest[1..]),
                0x82 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
                length => (usize::from(*length), rest),
            };
            parts.push((*tag, &rest[..length]));
            der = &rest[length..];
        }
        parts
    }

    /// A new key, and the same as a private JWK.
    fn exported(algorithm: Algorithm) -> (SigningKey, Value) {
        let (key, der) = SigningKey::generate_exportable(algorithm).unwrap();
        let mut jwk = key.public_jwk().unwrap();
        let pkcs8 = parts(parts(der.as_bytes())[0].1);
        let inner = pkcs8[2].1;
        let mut add = |name: &str, octets: &[u8]| jwk[name] = base64url::encode(octets).into();
        match algorithm {
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => add("d", parts(parts(inner)[0].1)[1].1),
            Algorithm::EdDsa | Algorithm::Ed25519 => add("d", parts(inner)[0].1),
            Algorithm::MlDsa44 | Algorithm::MlDsa65 | Algorithm::MlDsa87 => add("priv", parts(inner)[0].1),
            _ => {
                let numbers = parts(parts(inner)[0].1);
                for (name, (_, number)) in ["d", "p", "q", "dp", "dq", "qi"].into_iter().zip(&numbers[3..]) {
                    add(name, number.strip_prefix(&[0]).unwrap_or(number));
                }
            }
        }
        (key, jwk)
    }

    fn read(jwk: &Value, algorithm: Option<Algorithm>) -> Result<SigningKey, Unusable> {
        SigningKey::from_jwk(jwk.to_string(), algorithm)
    }

    #[test]
    fn a_private_jwk_of_every_type_signs_what_its_public_part_verifies() {
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
            let (key, mut jwk) = exported(algorithm);
            jwk["kid"] = "k1".into();
            for wanted in [None, Some(algorithm)] {
                let read = read(&jwk, wanted).unwrap();
                assert_eq!((read.algorithm(), read.kid()), (algorithm, Some("k1")));
                let signature = read.signature(b"message").unwrap();
                let verifying = key.verifying_key().unwrap();
                assert_eq!(verifying.verify_bytes(algorithm, b"message", &signature), Ok(()), "{algorithm}");
            }
        }
    }

    #[test]
    fn a_private_part_belongs_to_its_public_part() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::Ed25519, Algorithm::MlDsa44] {
            let ((_, jwk), (_, other)) = (exported(algorithm), exported(algorithm));
            for name in ["d", "priv", "n", "x", "pub"].into_iter().filter(|name| jwk.get(name).is_some()) {
                let mut mixed = jwk.clone();
                mixed[name] = other[name].clone();
                assert_eq!(read(&mixed, None).err(), Some(INVALID), "{algorithm} {name}");
            }
        }
    }

    #[test]
    fn a_jwk_that_is_no_private_key_for_the_algorithm_is_refused_with_the_reason() {
        let (_, ec) = exported(Algorithm::Es256);
        let with = |name: &str, value: Value| {
            let mut jwk = ec.clone();
            jwk[name] = value;
            jwk
        };
        let without = |name: &str| {
            let mut jwk = ec.clone();
            jwk.as_object_mut().unwrap().remove(name);
            jwk
        };
        let secret = |k: &str| json!({ "kty": "oct", "k": k });
        let long = base64url::encode(&[7; 32]);
        for (jwk, wanted, expected) in [
            (without("d"), None, Unusable::Missing("d")),
            (with("d", "!".into()), None, Unusable::Malformed("d")),
            (with("d", base64url::encode(&[0; 32]).into()), None, INVALID),
            (with("d", base64url::encode(&[0xff; 32]).into()), None, INVALID),
            (without("kty"), None, Unusable::Missing("kty")),
            (with("kty", "PGP".into()), None, Unusable::UnknownKeyType),
            (with("crv", "secp256k1".into()), None, Unusable::UnknownCurve),
            (with("crv", "P-384".into()), None, INVALID),
            (with("alg", "ES999".into()), None, Unusable::UnknownAlgorithm),
            (ec.clone(), Some(Algorithm::Es384), Unusable::ContradictoryAlgorithm),
            (without("alg"), Some(Algorithm::Rs256), Unusable::ContradictoryAlgorithm),
            (with("use", "enc".into()), None, Unusable::NotForSignatures),
            (with("key_ops", json!(["verify"])), None, Unusable::NotForSigning),
            (secret(&long), None, Unusable::Missing("alg")),
            (secret(&long), Some(Algorithm::Es256), Unusable::ContradictoryAlgorithm),
            (secret(&long), Some(Algorithm::Hs512), Unusable::Key(KeyError::ShortSecret)),
            (secret("!"), Some(Algorithm::Hs256), Unusable::Malformed("k")),
            (json!([]), None, Unusable::NotAnObject),
        ] {
            assert_eq!(read(&jwk, wanted).err(), Some(expected), "{expected:?}");
        }
        assert!(read(&without("alg"), None).is_ok_and(|key| key.algorithm() == Algorithm::Es256));
        assert!(read(&with("key_ops", json!(["sign"])), None).is_ok());
        assert!(read(&secret(&long), Some(Algorithm::Hs256)).is_ok());
        let (_, mut rsa) = exported(Algorithm::Rs256);
        assert!(read(&rsa, None).is_ok());
        rsa["oth"] = json!([]);
        assert_eq!(read(&rsa, None).err(), Some(Unusable::Malformed("oth")));
        let twice = ec.to_string().replacen('{', r#"{"d":"AA","#, 1);
        assert_eq!(SigningKey::from_jwk(twice, None).err(), Some(Unusable::DuplicateMember));
        assert_eq!(SigningKey::from_jwk(b"\xff", None).err(), Some(Unusable::NotAnObject));
    }
}
