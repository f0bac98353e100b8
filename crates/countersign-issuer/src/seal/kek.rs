//! Key-encryption keys. Of the key itself only what is derived from it is kept.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::error::KekError;

/// How many bytes a key-encryption key has.
pub const KEK_BYTES: usize = 32;

/// What everything is derived under, so that a key that is used elsewhere, too, leads to nothing that is used there.
const SALT: &[u8] = b"countersign key-encryption key, format 1";

/// How much longer the buffer for decoded base64 is than a key, because the decoder wants to have it so.
const DECODED_BYTES: usize = KEK_BYTES + 4;

/// A key-encryption key: 256 random bits that somebody else keeps (a secrets manager, a file), under which private keys
/// are sealed.
///
/// There is no `Debug` and no `Clone`, and nothing in it can be read.
///
/// ```compile_fail
/// fn show(kek: &countersign_issuer::Kek) {
///     println!("{kek:?}");
/// }
/// ```
///
/// ```compile_fail
/// fn copy(kek: &countersign_issuer::Kek) -> countersign_issuer::Kek {
///     kek.clone()
/// }
/// ```
pub struct Kek {
    id: KekId,
    wrap: LessSafeKey,
    mac: hmac::Key,
}

/// The name of a key-encryption key, which follows from the key, so that nobody can give one key's name to another: 32
/// hexadecimal digits. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KekId(pub(super) [u8; Self::BYTES]);

impl KekId {
    pub(super) const BYTES: usize = 16;

    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; Self::BYTES];
        // Only one spelling for each.
        (!text.bytes().any(|octet| octet.is_ascii_uppercase()) && from_hex(text.as_bytes(), &mut id))
            .then_some(Self(id))
    }
}

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KekId({self})")
    }
}

impl Kek {
    /// A new one that nobody will ever see: for tests, and for rings that need not outlive their process.
    ///
    /// # Errors
    /// [`KekError::Crypto`] if the library has no randomness.
    pub fn random() -> Result<Self, KekError> {
        let mut material = Zeroizing::new([0; KEK_BYTES]);
        aws_lc_rs::rand::fill(&mut *material).map_err(|_| KekError::Crypto)?;
        Self::derive(&material)
    }

    /// Reads 32 bytes as they are, or as base64 (either alphabet, with or without padding) or hexadecimal digits with
    /// at most one line feed behind them, which is what `openssl rand -base64 32` and `openssl rand -hex 32` write.
    ///
    /// # Errors
    /// [`KekError::Malformed`] if it is none of these, if it is 32 printable characters (a password, or half of what it
    /// should be), or the same byte all over.
    pub fn parse(bytes: &[u8]) -> Result<Self, KekError> {
        let mut material = Zeroizing::new([0; KEK_BYTES]);
        if let Ok(raw) = <&[u8; KEK_BYTES]>::try_from(bytes) {
            if raw.iter().all(|octet| octet.is_ascii_graphic() || octet.is_ascii_whitespace()) {
                return Err(KekError::Malformed(
                    "32 printable characters are no key-encryption key: make one with `openssl rand -base64 32`",
                ));
            }
            material.copy_from_slice(raw);
        } else if !decode(without_line_feed(bytes), &mut material) {
            return Err(KekError::Malformed(
                "a key-encryption key has 32 bytes, as they are, in base64 or in hexadecimal digits: \
                 make one with `openssl rand -base64 32`",
            ));
        }
        if material.iter().all(|octet| *octet == material[0]) {
            return Err(KekError::Malformed("a key-encryption key is random, and not the same byte 32 times"));
        }
        Self::derive(&material)
    }

    fn derive(material: &[u8; KEK_BYTES]) -> Result<Self, KekError> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(material);
        let expand = |info: &[u8], out: &mut [u8]| {
            let info = [info];
            let expanded = root.expand(&info, Length(out.len()));
            expanded.and_then(|expanded| expanded.fill(out)).map_err(|_| KekError::Crypto)
        };
        let (mut id, mut wrap, mut mac) = ([0; KekId::BYTES], Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        expand(b"name", &mut id)?;
        expand(b"wrap data keys: AES-256-GCM", &mut *wrap)?;
        expand(b"state document: HMAC-SHA256", &mut *mac)?;
        let wrap = UnboundKey::new(&AES_256_GCM, &*wrap).map_err(|_| KekError::Crypto)?;
        Ok(Self { id: KekId(id), wrap: LessSafeKey::new(wrap), mac: hmac::Key::new(hmac::HMAC_SHA256, &*mac) })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KekId {
        self.id
    }

    /// Encrypts in place, and appends the tag. Nonces are random: after 2^32 keys under one key-encryption key, two of
    /// them might be the same.
    pub(super) fn wrap(&self, nonce: [u8; 12], aad: &[u8], data_key: &mut Vec<u8>) -> Option<()> {
        self.wrap.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data_key).ok()
    }

    /// Decrypts in place.
    pub(super) fn unwrap<'a>(&self, nonce: [u8; 12], aad: &[u8], wrapped: &'a mut [u8]) -> Option<&'a [u8]> {
        self.wrap
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), wrapped)
            .ok()
            .map(|data_key| &*data_key)
    }

    pub(super) fn mac(&self) -> &hmac::Key {
        &self.mac
    }
}

/// How much is derived.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn without_line_feed(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

fn decode(text: &[u8], material: &mut [u8; KEK_BYTES]) -> bool {
    if from_hex(text, material) {
        return true;
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let is_url = text.iter().any(|octet| matches!(octet, b'-' | b'_'));
    let engine = GeneralPurpose::new(if is_url { &alphabet::URL_SAFE } else { &alphabet::STANDARD }, config);
    let mut decoded = Zeroizing::new([0; DECODED_BYTES]);
    // What is longer than a key does not fit, and is an error as well.
    let length = engine.decode_slice(text, &mut *decoded);
    if !length.is_ok_and(|length| length == KEK_BYTES) {
        return false;
    }
    material.copy_from_slice(&decoded[..KEK_BYTES]);
    true
}

/// Whether that is what it is, and all of it.
fn from_hex(text: &[u8], out: &mut [u8]) -> bool {
    if text.len() != 2 * out.len() {
        return false;
    }
    for (octet, digits) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (high, low) else { return false };
        *octet = (high * 16 + low) as u8;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    fn id(bytes: &[u8]) -> Result<KekId, KekError> {
        Kek::parse(bytes).map(|kek| kek.id())
    }

    #[test]
    fn a_key_is_the_same_in_every_spelling() {
        let raw: [u8; KEK_BYTES] = std::array::from_fn(|at| (at as u8).wrapping_mul(251) ^ 0xff);
        let hex: String = raw.iter().map(|octet| format!("{octet:02x}")).collect();
        let base64 = STANDARD.encode(raw);
        let expected = id(&raw).unwrap();
        for spelling in [
            hex.clone(),
            hex.to_uppercase(),
            format!("{hex}\n"),
            base64.clone(),
            format!("{base64}\n"),
            format!("{base64}\r\n"),
            base64.trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(raw),
        ] {
            assert_eq!(id(spelling.as_bytes()), Ok(expected), "{spelling:?}");
        }
        assert_eq!(KekId::parse(&expected.to_string()), Some(expected));
        let other = id(&[1; 31].iter().chain(&[2]).copied().collect::<Vec<u8>>()).unwrap();
        assert_ne!(other, expected);
    }

    #[test]
    fn names_are_what_they_were() {
        // Or what was sealed yesterday would be sealed under an unknown key today. Made with HKDF of Python's
        // `cryptography`.
        let raw: [u8; KEK_BYTES] = std::array::from_fn(|at| at as u8);
        assert_eq!(id(&raw).unwrap().to_string(), "79f3c7d1096235bcd705efd4fe3308d7");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bytes in [
            b"".as_slice(),
            b"\n",
            b"correct horse battery staple 123",
            b"0123456789abcdef0123456789abcdef",
            &[0; 32],
            &[255; 32],
            &[0; 31],
            &[7; 33],
            &[b'0'; 64],
            b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            b"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==",
            b"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAh",
            b"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n\n",
            b" AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
            &[b'A'; 4096],
        ] {
            assert!(matches!(id(bytes), Err(KekError::Malformed(_))), "{bytes:?}");
        }
        assert!(id(b"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n").is_ok());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = id(&bytes);
            let _ = KekId::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
