use std::fmt;

use aws_lc_rs::digest;

use crate::base64url;

/// The SHA-256 thumbprint of a key (RFC 7638): the same for the same key material, whatever its name and metadata.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// `members` are the members that RFC 7638 §3.2 requires for the key type, in lexicographic order. Their values
    /// are registered names and base64url, so that none needs escaping.
    pub(crate) fn of(members: &[(&str, &str)]) -> Self {
        let mut json = String::from("{");
        for (at, (name, value)) in members.iter().enumerate() {
            if at > 0 {
                json.push(',');
            }
            json.extend(["\"", name, "\":\"", value, "\""]);
        }
        json.push('}');
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, json.as_bytes()).as_ref());
        Self(bytes)
    }

    /// Reads what `Display` writes: 43 characters of base64url. `None` if it is not that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        base64url::decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The 32 octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// base64url, as RFC 7638 §3.1 writes it.
impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(&self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}
