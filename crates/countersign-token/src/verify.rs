use std::fmt;
use std::string::FromUtf8Error;
use std::sync::Arc;

use crate::base64url;
use crate::compact::UnverifiedToken;
use crate::error::{Part, SignatureError};
use crate::header::Header;
use crate::key::{VerifyingKey, longest_signature, shortest_signature};

/// The octets that a key has signed. The only way to one is [`UnverifiedToken::verify`].
pub struct VerifiedPayload<'t> {
    /// Or the octets that are none.
    text: Result<String, FromUtf8Error>,
    header: &'t Header<'t>,
    key: &'t Arc<VerifyingKey>,
}

impl<'t> VerifiedPayload<'t> {
    /// The payload, decoded.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.text {
            Ok(text) => text.as_bytes(),
            Err(error) => error.as_bytes(),
        }
    }

    /// The same as text; not yet known to be JSON. `None` if it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref().ok()
    }

    /// The same, handed over.
    #[must_use]
    pub fn into_text(self) -> Option<String> {
        self.text.ok()
    }

    /// The header, which the signature covers too.
    #[must_use]
    pub fn header(&self) -> &'t Header<'t> {
        self.header
    }

    /// The key that verified it: what the token is *known* to be signed with, whatever its `kid` says.
    #[must_use]
    pub fn key(&self) -> &'t Arc<VerifyingKey> {
        self.key
    }
}

/// Shows no content.
impl fmt::Debug for VerifiedPayload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedPayload").field("header", self.header).finish_non_exhaustive()
    }
}

impl UnverifiedToken<'_> {
    /// Checks the signature with `key`, and only then decodes the payload.
    ///
    /// # Errors
    /// [`SignatureError`]; [`SignatureError::KeyNotEligible`] if the key cannot do the token's algorithm.
    pub fn verify<'t>(&'t self, key: &'t Arc<VerifyingKey>) -> Result<VerifiedPayload<'t>, SignatureError> {
        let mut room = SignatureRoom::new();
        let signature = self.decode_signature(&mut room)?;
        key.verify_bytes(self.header().algorithm(), self.signing_input().as_bytes(), signature)?;
        let bytes = base64url::decode(self.encoded_payload()).map_err(|_| SignatureError::Base64(Part::Payload))?;
        Ok(VerifiedPayload { text: String::from_utf8(bytes), header: self.header(), key })
    }

    /// What `look` makes of the payload, which nobody has vouched for: for reasons to refuse a token without a key, and for
    /// nothing else. `None` if it is not strict base64url.
    ///
    /// What comes out of `look` may be made up by whoever sent the token: let it be a reason, and no claim.
    pub fn look_at_unverified_payload<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        base64url::look_at(self.encoded_payload(), look).ok()
    }

    /// Whether payload and signature are strict base64url and the signature has a length that its algorithm can give: all that
    /// can be said against a token without a key. [`verify`](Self::verify) checks it too; this is for a token whose key is not
    /// there, before anybody goes looking for it.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn check_encoding(&self) -> Result<(), SignatureError> {
        let signature = self.decode_signature(&mut SignatureRoom::new())?.len();
        let algorithm = self.header().algorithm();
        if signature < shortest_signature(algorithm) {
            return Err(SignatureError::TooShort);
        }
        if signature > longest_signature(algorithm) {
            return Err(SignatureError::Mismatch);
        }
        base64url::look_at(self.encoded_payload(), |_| ()).map_err(|_| SignatureError::Base64(Part::Payload))
    }

    fn decode_signature<'r>(&self, room: &'r mut SignatureRoom) -> Result<&'r [u8], SignatureError> {
        let encoded = self.encoded_signature();
        let length = base64url::decoded_len(encoded.len());
        let buffer = if length <= room.inline.len() {
            &mut room.inline[..]
        } else if length > longest_signature(self.header().algorithm()) {
            // Nobody takes memory for what can be no signature.
            return Err(SignatureError::Mismatch);
        } else {
            room.spilled.resize(length, 0);
            &mut room.spilled[..]
        };
        base64url::decode_into(encoded, buffer).map_err(|_| SignatureError::Base64(Part::Signature))
    }
}

/// Room for a decoded signature, on the stack for all but the longest.
struct SignatureRoom {
    inline: [u8; INLINE_SIGNATURE_BYTES],
    spilled: Vec<u8>,
}

impl SignatureRoom {
    const fn new() -> Self {
        Self { inline: [0; INLINE_SIGNATURE_BYTES], spilled: Vec::new() }
    }
}

/// RSA at 4096 bits; only longer RSA keys and ML-DSA need the heap.
const INLINE_SIGNATURE_BYTES: usize = 512;
