use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use countersign_token::{Algorithm, RsaBits};

use crate::text::ParseError;

/// The longest name of a slot, bytes: it is a label in metrics and a member in the state.
pub const MAX_SLOT_NAME_BYTES: usize = 64;

/// One kind of key that the ring always has one of to sign with: an algorithm, and for RSA a size.
///
/// A ring that is there knows its slots by their names. One that is configured with another algorithm from now on has
/// the keys made from now on be of that kind, and those that there are live to their end; one that is left out stays
/// (see [what is not there](crate#what-is-not-there)).
///
/// As a text it is `NAME=ALG:BITS`, of which all but `ALG` may be missing; it is called after the rest then, and RSA keys
/// have 2048 bits. Its longest lifetime is not in it.
///
/// ```
/// use countersign_issuer::{ParseError, Slot};
///
/// let slot: Slot = "RS256:4096".parse()?;
/// assert_eq!((&*slot.name, &*slot.to_string()), ("rs256-4096", "RS256:4096"));
/// assert_eq!("web=ES256".parse::<Slot>()?.name, "web");
/// # Ok::<(), ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slot {
    /// What minting, commands and metrics call it: letters of ASCII, digits, `-`, `_` and `.`.
    pub name: String,
    /// What its keys sign with.
    pub algorithm: Algorithm,
    /// How large they are, if they are RSA keys.
    pub rsa_bits: Option<RsaBits>,
    /// `L` of this slot; `None`: [`Timing::max_lifetime`](crate::Timing::max_lifetime).
    pub max_lifetime: Option<Duration>,
}

impl Slot {
    /// A slot of keys that have but one size; RSA keys have 2048 bits.
    #[must_use]
    pub fn new(name: impl Into<String>, algorithm: Algorithm) -> Self {
        let rsa_bits = is_rsa(algorithm).then(RsaBits::default);
        Self { name: name.into(), algorithm, rsa_bits, max_lifetime: None }
    }

    /// A slot of RSA keys of that size.
    #[must_use]
    pub fn rsa(name: impl Into<String>, algorithm: Algorithm, bits: RsaBits) -> Self {
        Self { name: name.into(), algorithm, rsa_bits: Some(bits), max_lifetime: None }
    }

    /// Sets `L` of this slot. To make it shorter again shortens tokens, and not what is waited for
    /// ([`Terms`](crate::state::Terms)).
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    /// What it is called if nobody says.
    fn usual_name(&self) -> String {
        let algorithm = self.algorithm.name().to_ascii_lowercase();
        self.bits().map_or_else(|| algorithm.clone(), |bits| format!("{algorithm}-{bits}"))
    }

    fn bits(&self) -> Option<&'static str> {
        let bits = self.rsa_bits?;
        SIZES.iter().find(|(known, _)| *known == bits).map(|(_, number)| *number)
    }

    /// Bytes of one public key of this slot in a JWKS, at most.
    pub(crate) fn jwk_bytes(&self) -> usize {
        let material: usize = match self.algorithm {
            Algorithm::MlDsa44 => 1_312,
            Algorithm::MlDsa65 => 1_952,
            Algorithm::MlDsa87 => 2_592,
            Algorithm::Es512 => 132,
            Algorithm::Es384 => 96,
            Algorithm::Es256 => 64,
            _ => match self.rsa_bits {
                Some(RsaBits::B2048) => 259,
                Some(RsaBits::B3072) => 387,
                Some(_) => 515,
                None => 32,
            },
        };
        material.div_ceil(3) * 4 + JWK_FRAME_BYTES
    }

    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > MAX_SLOT_NAME_BYTES || !self.name.bytes().all(fits) {
            Some("its name is not 1 to 64 letters, digits, `-`, `_` or `.`")
        } else if self.algorithm.is_symmetric() {
            Some("HMAC has no public key to publish")
        } else if is_rsa(self.algorithm) != self.rsa_bits.is_some() {
            Some("a size goes with RSA, and RSA with a size")
        } else {
            None
        }
    }
}

/// What a slot looks like.
const FORM: &str = "a slot is ALG, ALG:BITS or NAME=ALG:BITS, such as ES256 or RS256:4096";

impl FromStr for Slot {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, key) = text.split_once('=').map_or((None, text), |(name, key)| (Some(name), key));
        let (algorithm, bits) = key.split_once(':').map_or((key, None), |(algorithm, bits)| (algorithm, Some(bits)));
        let mut slot = Self::new("", Algorithm::from_name(algorithm).ok_or(ParseError(FORM))?);
        if let Some(bits) = bits {
            let known = SIZES.iter().find(|(_, number)| *number == bits).map(|(bits, _)| *bits);
            slot.rsa_bits = Some(known.ok_or(ParseError(FORM))?);
        }
        slot.name = name.map_or_else(|| slot.usual_name(), str::to_owned);
        slot.flaw().map_or(Ok(slot), |flaw| Err(ParseError(flaw)))
    }
}

/// What is read back as the same slot.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name != self.usual_name() {
            write!(f, "{}=", self.name)?;
        }
        f.write_str(self.algorithm.name())?;
        self.bits().map_or(Ok(()), |bits| write!(f, ":{bits}"))
    }
}

const SIZES: [(RsaBits, &str); 3] = [(RsaBits::B2048, "2048"), (RsaBits::B3072, "3072"), (RsaBits::B4096, "4096")];

/// Names, a `kid` of 43 characters, `alg`, `use`, `kty`, `crv`, an exponent, and punctuation.
const JWK_FRAME_BYTES: usize = 150;

fn is_rsa(algorithm: Algorithm) -> bool {
    use Algorithm::{Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_spelling_and_is_called_after_what_it_is_for_unless_it_is_said() {
        for (text, name, algorithm, bits, back) in [
            ("ES256", "es256", Algorithm::Es256, None, "ES256"),
            ("es256=ES256", "es256", Algorithm::Es256, None, "ES256"),
            ("RS256", "rs256-2048", Algorithm::Rs256, Some(RsaBits::B2048), "RS256:2048"),
            ("PS512:4096", "ps512-4096", Algorithm::Ps512, Some(RsaBits::B4096), "PS512:4096"),
            ("web=RS256:3072", "web", Algorithm::Rs256, Some(RsaBits::B3072), "web=RS256:3072"),
            ("ML-DSA-44", "ml-dsa-44", Algorithm::MlDsa44, None, "ML-DSA-44"),
            ("Ed25519", "ed25519", Algorithm::Ed25519, None, "Ed25519"),
        ] {
            let slot: Slot = text.parse().unwrap();
            assert_eq!((&*slot.name, slot.algorithm, slot.rsa_bits), (name, algorithm, bits), "{text}");
            assert_eq!((slot.to_string(), back.parse()), (back.to_owned(), Ok(slot)));
        }
        for text in [
            "",
            "es256",
            "none",
            "HS256",
            "ES256:2048",
            "RS256:1024",
            "RS256/4096",
            "RS256:4096:1",
            "RS256: 4096",
            "=ES256",
            "a=",
            "=:",
            "a b=ES256",
            "a=b=ES256",
        ] {
            assert!(text.parse::<Slot>().is_err(), "{text}");
        }
    }
}
