//! The state document as it is stored: `{"countersign":"state","format":1,"kek":"…","mac":"…","state":…}`, and a line
//! feed.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Kek, KekId, KekRing, SealError, append};
use crate::store::MAX_STATE_BYTES;

const WHAT: &str = "state";
const FORMAT: u8 = 1;

/// Has a state document carry a code (HMAC-SHA256 under a key that is derived from the key-encryption key), so that one
/// that was edited, or is another issuer's, is found out before anything in it is believed.
///
/// That an *older* document was put back is not to be seen in it: whoever reads remembers the highest sequence number.
///
/// ```
/// use std::sync::Arc;
/// use countersign_issuer::{Kek, KekRing, SealError, StateMac};
///
/// let mac = StateMac::new(Arc::new(KekRing::new([Kek::random()?])?), "https://issuer.example");
/// let stored = mac.protect(br#"{"seq":7}"#)?;
/// assert_eq!(mac.check(&stored)?, br#"{"seq":7}"#);
///
/// let edited = String::from_utf8(stored)?.replace(":7", ":8");
/// assert_eq!(mac.check(edited.as_bytes()), Err(SealError::Forged));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StateMac {
    ring: Arc<KekRing>,
    issuer: Box<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protected<'a> {
    countersign: &'a str,
    format: u8,
    kek: &'a str,
    mac: &'a str,
    #[serde(borrow)]
    state: &'a RawValue,
}

impl StateMac {
    /// For one issuer's state documents.
    #[must_use]
    pub fn new(ring: Arc<KekRing>, issuer: impl Into<Box<str>>) -> Self {
        Self { ring, issuer: issuer.into() }
    }

    /// What is to be stored, under the first key of the ring. The state is JSON and stays as it is, but for white space
    /// around it.
    ///
    /// # Errors
    /// [`SealError::Malformed`] if it is no JSON, [`SealError::TooLarge`] if no store would take the result.
    pub fn protect(&self, state: &[u8]) -> Result<Vec<u8>, SealError> {
        let state: &RawValue = serde_json::from_slice(state).map_err(|_| SealError::Malformed)?;
        let kek = self.ring.first()?;
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(kek.mac(), &self.message(kek, state.get())));
        let (kek, state) = (kek.id(), state.get());
        let document = format!(
            "{{\"countersign\":\"{WHAT}\",\"format\":{FORMAT},\"kek\":\"{kek}\",\"mac\":\"{mac}\",\"state\":{state}}}\n"
        );
        if document.len() > MAX_STATE_BYTES {
            return Err(SealError::TooLarge);
        }
        Ok(document.into_bytes())
    }

    /// The state out of what was stored, if somebody wrote it who has the key. Takes as long whatever is wrong with the
    /// code.
    ///
    /// # Errors
    /// [`SealError::Malformed`] and [`SealError::UnknownVersion`] if it is no such document, [`SealError::UnknownKek`]
    /// if the ring lacks the key, and [`SealError::Forged`] if the code is wrong.
    pub fn check<'a>(&self, document: &'a [u8]) -> Result<&'a [u8], SealError> {
        let (protected, kek) = parse(document)?;
        let kek = self.ring.find(kek)?;
        let mac = URL_SAFE_NO_PAD.decode(protected.mac).map_err(|_| SealError::Malformed)?;
        let state = protected.state.get();
        hmac::verify(kek.mac(), &self.message(kek, state), &mac).map_err(|_| SealError::Forged)?;
        Ok(state.as_bytes())
    }

    /// Under which key-encryption key that was protected, whether it is in a ring or not.
    ///
    /// # Errors
    /// [`SealError::Malformed`] and [`SealError::UnknownVersion`].
    pub fn protected_under(document: &[u8]) -> Result<KekId, SealError> {
        parse(document).map(|(_, kek)| kek)
    }

    fn message(&self, kek: &Kek, state: &str) -> Vec<u8> {
        let mut message = vec![FORMAT];
        for part in [b"countersign state document".as_slice(), &kek.id().0, self.issuer.as_bytes(), state.as_bytes()] {
            append(&mut message, part);
        }
        message
    }
}

fn parse(document: &[u8]) -> Result<(Protected<'_>, KekId), SealError> {
    if document.len() > MAX_STATE_BYTES {
        return Err(SealError::TooLarge);
    }
    let protected: Protected<'_> = serde_json::from_slice(document).map_err(|_| SealError::Malformed)?;
    if protected.countersign != WHAT {
        return Err(SealError::Malformed);
    }
    if protected.format != FORMAT {
        return Err(SealError::UnknownVersion(protected.format));
    }
    let kek = KekId::parse(protected.kek).ok_or(SealError::Malformed)?;
    Ok((protected, kek))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac(keks: impl IntoIterator<Item = Kek>, issuer: &str) -> StateMac {
        StateMac::new(Arc::new(KekRing::new(keks).unwrap()), issuer)
    }

    fn kek(seed: u8) -> Kek {
        Kek::parse(&std::array::from_fn::<u8, 32, _>(|at| seed ^ at as u8 ^ 0x80)).unwrap()
    }

    #[test]
    fn a_document_is_read_back_to_the_byte() {
        let mac = mac([kek(1)], "a");
        for state in ["{}", r#"{ "b" : 1.50 , "a":"é\u0041" }"#, "[1,2,3]", "null"] {
            let stored = mac.protect(state.as_bytes()).unwrap();
            assert_eq!(mac.check(&stored).unwrap(), state.as_bytes());
            assert_eq!(StateMac::protected_under(&stored), Ok(kek(1).id()));
            assert!(serde_json::from_slice::<serde_json::Value>(&stored).is_ok(), "it is JSON for everybody");
        }
        assert_eq!(mac.check(&mac.protect(b" {} \n").unwrap()).unwrap(), b"{}");
    }

    #[test]
    fn an_edited_a_foreign_and_a_stranger_document_are_told_apart() {
        let (ours, theirs) = (mac([kek(1)], "https://a.example"), mac([kek(1)], "https://b.example"));
        let stored = ours.protect(br#"{"seq":7}"#).unwrap();
        assert_eq!(theirs.check(&stored), Err(SealError::Forged));
        assert_eq!(mac([kek(2)], "https://a.example").check(&stored), Err(SealError::UnknownKek(kek(1).id())));
        let text = String::from_utf8(stored).unwrap();
        for (from, to) in
            [(":7", ":8"), ("{\"seq\"", "{ \"seq\""), ("\"mac\":\"", "\"mac\":\"AAAA"), ("}}", ",\"x\":1}}")]
        {
            assert_eq!(ours.check(text.replacen(from, to, 1).as_bytes()), Err(SealError::Forged), "{to}");
        }
        let without = text.split_once("\"mac\":\"").unwrap().0.to_owned() + "\"mac\":\"\",\"state\":{\"seq\":7}}";
        assert_eq!(ours.check(without.as_bytes()), Err(SealError::Forged));
    }

    #[test]
    fn what_is_no_such_document_is_malformed() {
        let mac = mac([kek(1)], "a");
        let good = String::from_utf8(mac.protect(b"{}").unwrap()).unwrap();
        for (from, to, error) in [
            ("\"format\":1", "\"format\":2", SealError::UnknownVersion(2)),
            ("\"format\":1", "\"format\":256", SealError::Malformed),
            ("\"state\":{}", "\"state\":{},\"state\":{}", SealError::Malformed),
            ("\"format\":1", "\"format\":1,\"more\":1", SealError::Malformed),
            ("countersign\":\"state", "countersign\":\"jwks", SealError::Malformed),
            (&kek(1).id().to_string(), "k", SealError::Malformed),
            (&kek(1).id().to_string(), &kek(1).id().to_string().to_uppercase(), SealError::Malformed),
            ("\"mac\":\"", "\"mac\":\"=", SealError::Malformed),
            ("\n", "{}", SealError::Malformed),
        ] {
            assert_eq!(mac.check(good.replacen(from, to, 1).as_bytes()), Err(error), "{to}");
        }
        assert_eq!(mac.check(b"{}"), Err(SealError::Malformed));
        assert_eq!(mac.check(&vec![b' '; MAX_STATE_BYTES + 1]), Err(SealError::TooLarge));
        assert_eq!(mac.protect(b"{"), Err(SealError::Malformed));
        assert_eq!(mac.protect(b"{}{}"), Err(SealError::Malformed));
        let large = format!("\"{}\"", "x".repeat(MAX_STATE_BYTES));
        assert_eq!(mac.protect(large.as_bytes()), Err(SealError::TooLarge));
        // Deeper than any stack.
        let deep = format!("{}\"state\":{}", good.split_once("\"state\"").unwrap().0, "[".repeat(1_000_000));
        assert_eq!(mac.check(deep.as_bytes()), Err(SealError::Malformed));
    }

    #[test]
    fn what_the_first_version_protected_is_still_checked() {
        // Made from the description of the format, with HKDF of Python's `cryptography` and its `hmac`.
        let stored = concat!(
            r#"{"countersign":"state","format":1,"kek":"38d78d7f498f3729f7e0e4d625a83bdc","#,
            r#""mac":"hm1BycfYIw9REgf2Mun9eDv3xVax-Pj5zDpI49IDX9k","state":{"seq":7}}"#,
            "\n"
        );
        let mac = mac([kek(1)], "https://issuer.example");
        assert_eq!(mac.check(stored.as_bytes()).unwrap(), br#"{"seq":7}"#);
        assert_eq!(mac.protect(br#"{"seq":7}"#).unwrap(), stored.as_bytes());
    }

    #[test]
    fn the_first_key_protects_and_all_check() {
        let old = mac([kek(1)], "a").protect(b"{}").unwrap();
        let both = mac([kek(2), kek(1)], "a");
        assert_eq!(both.check(&old).unwrap(), b"{}");
        assert_eq!(StateMac::protected_under(&both.protect(b"{}").unwrap()), Ok(kek(2).id()));
    }

    proptest! {
        #[test]
        fn no_octet_can_be_changed(at in 0_usize..200, xor in 1_u8..) {
            let mac = mac([kek(1)], "a");
            let mut stored = mac.protect(br#"{"seq":7,"slots":["es256","rs256"],"nonce":"0123456789"}"#).unwrap();
            let at = at % stored.len();
            stored[at] ^= xor;
            // White space around the document is nobody's business.
            let harmless = at == stored.len() - 1 && stored[at].is_ascii_whitespace();
            prop_assert!(mac.check(&stored).is_err() || harmless);
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(mac([kek(1)], "a").check(&bytes).is_err());
        }
    }
}
