use countersign_token::RsaBits;

use super::*;
use crate::config::Slot;

const PKCS1: &str = include_str!("../../tests/keys/rsa.pkcs1.pem");
const PKCS8: &str = include_str!("../../tests/keys/rsa.pkcs8.pem");
const SEC1: &str = include_str!("../../tests/keys/p256.sec1.pem");
const ED25519: &str = include_str!("../../tests/keys/ed25519.pkcs8.pem");
const ENCRYPTED: &str = include_str!("../../tests/keys/rsa.encrypted.pem");
const RSA_SPKI: &str = include_str!("../../tests/keys/rsa.spki.pem");
const RSA_PUBLIC: &str = include_str!("../../tests/keys/rsa.public.pkcs1.pem");
const P256_SPKI: &str = include_str!("../../tests/keys/p256.spki.pem");
const P384_SPKI: &str = include_str!("../../tests/keys/p384.spki.pem");
const ED25519_SPKI: &str = include_str!("../../tests/keys/ed25519.spki.pem");

fn config() -> RingConfig {
    RingConfig::new([
        Slot::rsa("rs256", Algorithm::Rs256, RsaBits::B2048),
        Slot::new("es256", Algorithm::Es256),
        Slot::new("es384", Algorithm::Es384),
        Slot::new("ed25519", Algorithm::Ed25519),
    ])
}

fn until() -> UnixTime {
    UnixTime::from_secs(1_800_000_000)
}

#[test]
fn every_private_form_is_taken_with_its_private_part_and_the_public_one_is_of_the_same_key() {
    for (slot, private, public) in [
        ("rs256", PKCS1, Some(RSA_SPKI)),
        ("rs256", PKCS1, Some(RSA_PUBLIC)),
        ("rs256", PKCS8, None),
        ("es256", SEC1, Some(P256_SPKI)),
        ("ed25519", ED25519, Some(ED25519_SPKI)),
    ] {
        let (adopted, der) = AdoptKey::signing(slot, private, until()).kid("k").read(&config()).unwrap();
        assert_eq!((adopted.jwk.kid(), adopted.signs), ("k", true));
        let algorithm = config().slot(slot).unwrap().algorithm;
        let opened = SigningKey::from_der(der.unwrap().as_bytes(), algorithm).unwrap();
        let signature = opened.signature(b"message").unwrap();
        verifying(&adopted.jwk).unwrap().verify_bytes(algorithm, b"message", &signature).unwrap();

        let Some(public) = public else { continue };
        let (retiring, der) = AdoptKey::retiring(slot, public, until()).kid("k").read(&config()).unwrap();
        assert!(der.is_none() && !retiring.signs);
        assert_eq!(retiring.jwk, adopted.jwk, "{slot}");
        let (retiring, der) = AdoptKey::retiring(slot, private, until()).kid("k").read(&config()).unwrap();
        assert!(der.is_none(), "a key that retires needs no private part");
        assert_eq!(retiring.jwk, adopted.jwk, "{slot}");
    }
    let (adopted, _) = AdoptKey::retiring("es384", P384_SPKI, until()).read(&config()).unwrap();
    assert_eq!(adopted.jwk.get("crv"), Some("P-384"));
}

#[test]
fn without_a_name_a_key_is_called_by_its_thumbprint() {
    let (adopted, _) = AdoptKey::signing("es256", SEC1, until()).read(&config()).unwrap();
    assert_eq!(adopted.jwk.kid(), verifying(&adopted.jwk).unwrap().thumbprint().to_string());
}

#[test]
fn of_a_jwk_what_is_public_and_needed_is_taken() {
    let (adopted, _) = AdoptKey::retiring("es256", P256_SPKI, until()).kid("k").read(&config()).unwrap();
    let bare = serde_json::to_value(&adopted.jwk).unwrap();
    let mut jwk = bare.clone();
    jwk["x5t"] = "AAAA".into();
    jwk["key_ops"] = serde_json::json!(["verify"]);
    jwk["nbf"] = 1.into();
    let read = |jwk: &Value| AdoptKey::retiring_jwk("es256", jwk.clone(), until()).read(&config());
    assert_eq!(read(&jwk).unwrap().0.jwk, adopted.jwk);
    jwk.as_object_mut().unwrap().retain(|name, _| name != "alg" && name != "kid");
    assert_eq!(read(&jwk).unwrap().0.jwk.get("alg"), Some("ES256"), "the slot says it");
    jwk["d"] = "AAAA".into();
    assert_eq!(read(&jwk).map(drop), Err(AdoptError::Jwk), "a private part");
    assert_eq!(read(&Value::Null).map(drop), Err(AdoptError::Jwk));
    let read = AdoptKey::retiring_jwk("ed25519", bare.clone(), until()).read(&config());
    assert_eq!(read.unwrap().0.jwk.get("alg"), Some("ES256"), "what retires may have another algorithm than the slot");
    let read = AdoptKey::retiring_jwk("es256", bare, until()).algorithm(Algorithm::Rs256).read(&config());
    assert_eq!(read.map(drop), Err(AdoptError::Jwk));
}

#[test]
fn what_is_no_such_key_is_refused() {
    let signing = |slot: &str, pem: &str| AdoptKey::signing(slot, pem, until()).read(&config()).map(drop).unwrap_err();
    assert_eq!(signing("none", SEC1), AdoptError::NoSuchSlot("none".into()));
    assert_eq!(signing("es256", P256_SPKI), AdoptError::NoPrivatePart);
    assert_eq!(signing("es256", PKCS1), AdoptError::Pem(PemError::Key(KeyError::Invalid)));
    assert_eq!(signing("rs256", ENCRYPTED), AdoptError::Pem(PemError::Key(KeyError::Invalid)));
    for pem in ["", "no PEM", &SEC1.repeat(2), &SEC1[..60]] {
        assert_eq!(signing("es256", pem), AdoptError::Pem(PemError::NotOneSection), "{pem}");
    }
    let retiring = AdoptKey::retiring("es256", P384_SPKI, until()).read(&config()).map(drop);
    assert_eq!(retiring, Err(AdoptError::Pem(PemError::Key(KeyError::NoAlgorithm))));
    for kid in [String::new(), "k".repeat(MAX_STORED_KID_BYTES + 1)] {
        let named = AdoptKey::signing("es256", SEC1, until()).kid(kid).read(&config()).map(drop);
        assert_eq!(named, Err(AdoptError::Kid));
    }
    let other = AdoptKey::signing("rs256", PKCS1, until()).algorithm(Algorithm::Ps256).read(&config()).map(drop);
    assert_eq!(other, Err(AdoptError::OtherAlgorithm));
}
