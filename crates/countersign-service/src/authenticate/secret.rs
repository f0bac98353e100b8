//! Secrets of clients that can do no better: long, random, and kept only as what they become under a key of the
//! service.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::policy::SecretTag;

/// Octets of randomness in a secret, at least: nobody can try all of them, so a fast hash is enough.
pub const MIN_SECRET_BYTES: usize = 32;

/// The key that secrets are hashed under: whoever reads the policy cannot even check a guess.
#[derive(Clone)]
pub struct SecretKey(Arc<hmac::Key>);

impl SecretKey {
    /// Of at least [`MIN_SECRET_BYTES`], random and kept like a private key; `None` if there are fewer.
    #[must_use]
    pub fn new(octets: &[u8]) -> Option<Self> {
        (octets.len() >= MIN_SECRET_BYTES).then(|| Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, octets))))
    }

    /// The same from a file, where **text and octets are told apart**: what is printable ASCII and the white space around it is
    /// a text, and the key is the text without that; all else is octets, and all of them are the key. Random octets are never
    /// taken for a text: 32 of them are printable once in 10^13 files.
    #[must_use]
    pub fn parse(contents: &[u8]) -> Option<Self> {
        let trimmed = contents.trim_ascii();
        let is_text = trimmed.iter().all(|byte| matches!(byte, b' '..=b'~'));
        Self::new(if is_text { trimmed } else { contents })
    }

    /// [Reads](Self::parse) a file that nobody else may read (0600), of this process's user or root, and of 4,096 bytes at
    /// most. Blocks.
    ///
    /// # Errors
    /// If it cannot be read, is no such file, or is too short a key.
    #[cfg(unix)]
    pub fn read(file: &std::path::Path) -> std::io::Result<Self> {
        use crate::files::{self, MAX_KEY_BYTES, Others};
        let contents = files::read(file, MAX_KEY_BYTES, Others::Nothing)?;
        Self::parse(&contents).ok_or_else(|| std::io::Error::other("it has less than 32 octets"))
    }

    /// Whether `secret` is one that became one of `tags`. Takes as long for a client that is not there, but for the
    /// number of its tags.
    pub(super) fn is_one_of(&self, client: &str, secret: &str, tags: &[SecretTag]) -> bool {
        let is_long = BASE64_URL_SAFE_NO_PAD.decode(secret).is_ok_and(|octets| octets.len() >= MIN_SECRET_BYTES);
        let tag = self.tag(client, secret);
        let mut is_one = false;
        for SecretTag(known) in tags {
            is_one |= aws_lc_rs::constant_time::verify_slices_are_equal(tag.as_ref(), known).is_ok();
        }
        is_one && is_long
    }

    /// Client names have no NUL, so no secret of one is another's.
    fn tag(&self, client: &str, secret: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [client.as_bytes(), b"\0", secret.as_bytes()] {
            context.update(part);
        }
        context.sign()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// A new secret of a client, to be shown once.
pub struct ClientSecret {
    secret: String,
    hashed: String,
}

impl ClientSecret {
    /// A random one for this client.
    ///
    /// # Errors
    /// That the crypto library has no randomness.
    pub fn generate(client: &str, key: &SecretKey) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut octets = [0; MIN_SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut octets)?;
        let secret = BASE64_URL_SAFE_NO_PAD.encode(octets);
        let hashed = BASE64_URL_SAFE_NO_PAD.encode(key.tag(client, &secret));
        Ok(Self { secret, hashed })
    }

    /// For the client.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// For `secrets` of the policy.
    #[must_use]
    pub fn hashed(&self) -> &str {
        &self.hashed
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: Option<SecretKey>) -> Option<Vec<u8>> {
        key.map(|key| key.tag("web", "secret").as_ref().to_vec())
    }

    #[test]
    fn a_key_that_is_text_ends_before_the_white_space_and_one_of_octets_has_all_of_them() {
        let text = "0123456789abcdef0123456789abcdef";
        for around in ["{}", "{}\n", "{}\r\n", " \t{}\n\n"] {
            let contents = around.replace("{}", text);
            assert_eq!(tag(SecretKey::parse(contents.as_bytes())), tag(SecretKey::new(text.as_bytes())), "{around:?}");
        }
        let spaced = "correct horse battery staple forty two";
        assert_eq!(tag(SecretKey::parse(spaced.as_bytes())), tag(SecretKey::new(spaced.as_bytes())));
        // White space is an octet like any other where there is one that no text has.
        for edge in [b'\n', b'\r', b'\t', b' ', 0x0c] {
            let mut octets = [0xA7; 32];
            (octets[0], octets[31]) = (edge, edge);
            let taken = tag(SecretKey::parse(&octets));
            assert_eq!(taken, tag(SecretKey::new(&octets)), "{edge}");
            assert!(taken.is_some() && taken != tag(SecretKey::new(&[octets.as_slice(), b"\n"].concat())));
        }
        // White space does not make a text long enough.
        assert_eq!(tag(SecretKey::parse(format!("{}\n", &text[1..]).as_bytes())), None);
        assert_eq!(tag(SecretKey::parse(&[b'\n'; 64])), None);
    }
}
