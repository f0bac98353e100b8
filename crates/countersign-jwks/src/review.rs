//! What verifiers make of a published key set, for those who publish one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_token::{AlgorithmSet, Fetched, JwkSet, JwkSetError, MIN_RSA_BITS, Origin, Unusable};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::hints;
use crate::lifetimes::{DEFAULT_LIFETIME, DEFAULT_MAX_LIFETIME, MIN_LIFETIME};
use crate::remote::Remote;

/// The longest set that other verifiers read, bytes: Nimbus (Java) refuses bodies over 50 KiB by default.
pub const MAX_BYTES_OF_OTHERS: usize = 50 * 1024;

/// A key set as a verifier sees it that has fetched it: what it takes, what it skips and why, and what its publisher should not leave so.
///
/// ```
/// use countersign_jwks::{Finding, Review};
///
/// let review = Review::of(br#"{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}"#)?;
/// assert!(review.keys[0].taken.is_err());
/// assert_eq!(review.findings, [Finding::NoUsableKey, Finding::Secret { key: 0 }]);
/// # Ok::<(), countersign_token::JwkSetError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Review {
    /// The keys, in the order of the document.
    pub keys: Vec<KeyReview>,
    /// What should not stay so, the set's own first.
    pub findings: Vec<Finding>,
    /// How long the document is.
    pub bytes: usize,
}

/// One key of a [`Review`]. Its texts are the publisher's: escape them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyReview {
    /// `kid`.
    pub kid: Option<String>,
    /// `kty`.
    pub kty: Option<String>,
    /// `alg`.
    pub alg: Option<String>,
    /// `use`.
    pub purpose: Option<String>,
    /// `crv`.
    pub curve: Option<String>,
    /// The length of an RSA modulus.
    pub bits: Option<usize>,
    /// What tokens it is tried for, or why it is skipped.
    pub taken: Result<AlgorithmSet, Unusable>,
}

/// Something that a publisher of keys should not leave as it is. Keys are numbered as in the document, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// No key can be used: every token is refused.
    NoUsableKey,
    /// The private part of a key, for everybody to read.
    Private {
        /// Which.
        key: usize,
    },
    /// A shared secret, for everybody to read.
    Secret {
        /// Which.
        key: usize,
    },
    /// An RSA key below [`MIN_RSA_BITS`].
    WeakRsa {
        /// Which.
        key: usize,
        /// Its length.
        bits: usize,
    },
    /// Two keys of one name that do the same algorithm: which of them is meant is anybody's guess.
    DuplicateKid {
        /// The later one.
        key: usize,
        /// The one before it.
        first: usize,
    },
    /// A key without a name, which only tokens without a name find.
    NoKid {
        /// Which.
        key: usize,
    },
    /// Over plain `http`, on which anybody on the way can put keys of his own.
    PlainHttp,
    /// More than [`MAX_BYTES_OF_OTHERS`].
    Large {
        /// How long it is.
        bytes: usize,
    },
    /// The answer does not say for how long it is good.
    NoLifetime,
    /// The answer says that it may not be kept, or not for as long as [`MIN_LIFETIME`].
    ShortLifetime {
        /// For how long it is good.
        lifetime: Duration,
    },
    /// The answer is good for longer than [`DEFAULT_MAX_LIFETIME`], and so long others accept a key that was withdrawn.
    LongLifetime {
        /// For how long it is good.
        lifetime: Duration,
    },
}

impl Review {
    /// Of a document, wherever it is from. The caller has bounded its length.
    ///
    /// # Errors
    /// [`JwkSetError`] if a verifier would refuse it whole.
    pub fn of(document: &[u8]) -> Result<Self, JwkSetError> {
        let set = JwkSet::parse(document, Origin::Remote)?;
        let members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(document).map_err(|_| JwkSetError::NotAKeySet)?;
        let keys = members.get("keys").and_then(|keys| serde_json::from_str(keys.get()).ok());
        let elements: Vec<Box<RawValue>> = keys.ok_or(JwkSetError::NotAKeySet)?;
        let mut used = set.keys().iter();
        let keys = elements.iter().enumerate().map(|(index, element)| {
            let skipped = set.skipped().iter().find(|skipped| skipped.index == index);
            let taken = match skipped {
                Some(skipped) => Err(skipped.reason),
                // All that are not skipped are used, in their order.
                None => Ok(used.next().map_or(AlgorithmSet::EMPTY, |key| key.algorithms())),
            };
            let members: BTreeMap<String, Value> = serde_json::from_str(element.get()).unwrap_or_default();
            (KeyReview::of(&members, taken), exposure(index, &members))
        });
        let (keys, exposed): (Vec<_>, Vec<_>) = keys.collect();
        let mut review = Self { keys, findings: Vec::new(), bytes: document.len() };
        if !review.keys.iter().any(|key| key.taken.is_ok()) {
            review.findings.push(Finding::NoUsableKey);
        }
        if review.bytes > MAX_BYTES_OF_OTHERS {
            review.findings.push(Finding::Large { bytes: review.bytes });
        }
        for (index, exposed) in exposed.into_iter().enumerate() {
            review.findings.extend(exposed);
            review.look_at(index);
        }
        Ok(review)
    }

    /// Adds what the headers of the answer say that it came with.
    #[must_use]
    pub fn with_answer(mut self, answer: &Fetched) -> Self {
        let finding = match lifetime(answer) {
            None => Finding::NoLifetime,
            Some(lifetime) if lifetime < MIN_LIFETIME => Finding::ShortLifetime { lifetime },
            Some(lifetime) if lifetime > DEFAULT_MAX_LIFETIME => Finding::LongLifetime { lifetime },
            Some(_) => return self,
        };
        self.findings.push(finding);
        self
    }

    /// Adds what is to be said of where it came from.
    #[must_use]
    pub fn with_place(mut self, place: &Remote) -> Self {
        if place.check() == Err(crate::SourceError::PlainHttp) {
            self.findings.push(Finding::PlainHttp);
        }
        self
    }

    /// Whether any finding [is a danger](Finding::is_danger).
    #[must_use]
    pub fn is_dangerous(&self) -> bool {
        self.findings.iter().copied().any(Finding::is_danger)
    }

    fn look_at(&mut self, index: usize) {
        let Some(key) = self.keys.get(index) else { return };
        let mut found = Vec::new();
        if let Some(bits) = key.bits.filter(|bits| *bits < MIN_RSA_BITS) {
            found.push(Finding::WeakRsa { key: index, bits });
        }
        if let Ok(algorithms) = key.taken {
            let is_same = |other: &KeyReview| {
                let shared = other.taken.map(|others| others.intersection(algorithms));
                other.kid == key.kid && shared.is_ok_and(|shared| !shared.is_empty())
            };
            let first = self.keys.iter().take(index).position(is_same);
            match (&key.kid, first) {
                (None, _) => found.push(Finding::NoKid { key: index }),
                (Some(_), Some(first)) => found.push(Finding::DuplicateKid { key: index, first }),
                (Some(_), None) => {}
            }
        }
        self.findings.extend(found);
    }
}

/// For how long a verifier is told that the answer is good, from now on; `None` if it is not told.
fn lifetime(answer: &Fetched) -> Option<Duration> {
    hints::lifetime(answer).map(|lifetime| lifetime.saturating_sub(answer.age.unwrap_or_default()))
}

impl KeyReview {
    fn of(members: &BTreeMap<String, Value>, taken: Result<AlgorithmSet, Unusable>) -> Self {
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        let modulus = text("n").and_then(|n| URL_SAFE_NO_PAD.decode(n).ok());
        Self {
            kid: text("kid"),
            kty: text("kty"),
            alg: text("alg"),
            purpose: text("use"),
            curve: text("crv"),
            bits: modulus.map(|modulus| bits(&modulus)),
            taken,
        }
    }
}

/// What nobody should be able to read, whatever the key is for.
fn exposure(key: usize, members: &BTreeMap<String, Value>) -> Option<Finding> {
    const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "priv"];
    if members.contains_key("k") {
        return Some(Finding::Secret { key });
    }
    PRIVATE.iter().any(|name| members.contains_key(*name)).then_some(Finding::Private { key })
}

/// Of a number, without the zeros in front.
fn bits(octets: &[u8]) -> usize {
    let first = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len());
    let zeros = octets.get(first).map_or(0, |octet| octet.leading_zeros() as usize);
    (octets.len() - first) * 8 - zeros
}

impl Finding {
    /// A short stable name, out of a fixed set.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoUsableKey => "no_usable_key",
            Self::Private { .. } => "private_key",
            Self::Secret { .. } => "shared_secret",
            Self::WeakRsa { .. } => "weak_rsa",
            Self::DuplicateKid { .. } => "duplicate_kid",
            Self::NoKid { .. } => "no_kid",
            Self::PlainHttp => "plain_http",
            Self::Large { .. } => "large",
            Self::NoLifetime => "no_lifetime",
            Self::ShortLifetime { .. } => "short_lifetime",
            Self::LongLifetime { .. } => "long_lifetime",
        }
    }

    /// Whether tokens can be forged because of it, or none be verified. What is no danger costs requests, time or some verifiers.
    #[must_use]
    pub const fn is_danger(self) -> bool {
        match self {
            Self::NoUsableKey
            | Self::Private { .. }
            | Self::Secret { .. }
            | Self::WeakRsa { .. }
            | Self::DuplicateKid { .. }
            | Self::PlainHttp => true,
            Self::NoKid { .. }
            | Self::Large { .. }
            | Self::NoLifetime
            | Self::ShortLifetime { .. }
            | Self::LongLifetime { .. } => false,
        }
    }

    /// Which key it is about; none if it is about the set.
    #[must_use]
    pub const fn key(self) -> Option<usize> {
        match self {
            Self::Private { key }
            | Self::Secret { key }
            | Self::WeakRsa { key, .. }
            | Self::DuplicateKid { key, .. }
            | Self::NoKid { key } => Some(key),
            _ => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUsableKey => f.write_str("no key can be used: every token is refused"),
            Self::Private { .. } => f.write_str("its private part is there for everybody to read: revoke it"),
            Self::Secret { .. } => f.write_str("a shared secret is there for everybody to read: replace it"),
            Self::WeakRsa { bits, .. } => write!(f, "an RSA key of {bits} bits: at least {MIN_RSA_BITS} are needed"),
            Self::DuplicateKid { first, .. } => write!(f, "it has the `kid` of key {first}, and does the same"),
            Self::NoKid { .. } => f.write_str("it has no `kid`: only tokens without one are tried with it"),
            Self::PlainHttp => f.write_str("plain http: anybody on the way can put keys of his own there"),
            Self::Large { bytes } => {
                write!(f, "{bytes} bytes: some verifiers read no more than {MAX_BYTES_OF_OTHERS}")
            }
            Self::NoLifetime => write!(
                f,
                "neither `max-age` nor `Expires`: it is asked for again after {} s here, and as others like",
                DEFAULT_LIFETIME.as_secs()
            ),
            Self::ShortLifetime { lifetime } => write!(
                f,
                "it is good for {} s: here it is kept for {} s, elsewhere it may be fetched for each token",
                lifetime.as_secs(),
                MIN_LIFETIME.as_secs()
            ),
            Self::LongLifetime { lifetime } => write!(
                f,
                "it is good for {} s: here it is kept for {} s, elsewhere a key that was withdrawn is accepted for so long",
                lifetime.as_secs(),
                DEFAULT_MAX_LIFETIME.as_secs()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_token::{Algorithm, SigningKey};
    use serde_json::json;

    fn review(keys: &[Value]) -> Review {
        Review::of(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn key(kid: &str) -> Value {
        SigningKey::generate(Algorithm::Es256).unwrap().with_kid(kid).public_jwk().unwrap()
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    fn without(mut jwk: Value, name: &str) -> Value {
        jwk.as_object_mut().unwrap().remove(name);
        jwk
    }

    #[test]
    fn keys_are_taken_and_skipped_as_a_verifier_does_each_with_its_reason() {
        let encryption = with(key("b"), "use", json!("enc"));
        let review = review(&[key("a"), json!(1), encryption, json!({ "kty": "PGP", "kid": "c" }), key("d")]);
        let taken: Vec<_> = review.keys.iter().map(|key| key.taken).collect();
        let es256 = Ok(AlgorithmSet::from(Algorithm::Es256));
        assert_eq!(
            taken,
            [es256, Err(Unusable::NotAnObject), Err(Unusable::NotForSignatures), Err(Unusable::UnknownKeyType), es256]
        );
        let shown = &review.keys[2];
        assert_eq!(
            [&shown.kid, &shown.kty, &shown.alg, &shown.purpose, &shown.curve].map(Option::as_deref),
            [Some("b"), Some("EC"), Some("ES256"), Some("enc"), Some("P-256")]
        );
        assert_eq!(review.findings, []);
    }

    #[test]
    fn what_nobody_should_read_is_found_whatever_the_key_is_for() {
        let private = with(key("a"), "d", json!("AA"));
        let for_encryption = with(with(key("b"), "use", json!("enc")), "d", json!(null));
        let seed = json!({ "kty": "AKP", "alg": "ML-DSA-44", "priv": "AA" });
        let secret = json!({ "kty": "oct", "k": "AA" });
        let review = review(&[private, for_encryption, seed, secret, key("c")]);
        assert_eq!(
            review.findings,
            [
                Finding::Private { key: 0 },
                Finding::Private { key: 1 },
                Finding::Private { key: 2 },
                Finding::Secret { key: 3 }
            ]
        );
        assert!(review.is_dangerous());
    }

    #[test]
    fn names_that_are_missing_or_there_twice_are_found_where_they_matter() {
        let other_type = SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid("a").public_jwk().unwrap();
        let skipped = with(key("a"), "use", json!("enc"));
        let review =
            review(&[key("a"), other_type, skipped, key("a"), without(key(""), "kid"), without(key(""), "kid")]);
        assert_eq!(
            review.findings,
            [Finding::DuplicateKid { key: 3, first: 0 }, Finding::NoKid { key: 4 }, Finding::NoKid { key: 5 }]
        );
    }

    #[test]
    fn the_length_of_rsa_keys_is_said_and_found_too_short() {
        let rsa = |octets: &[u8]| json!({ "kty": "RSA", "kid": octets.len().to_string(), "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(octets) });
        let short = [&[0x7f][..], &[0xff; 255]].concat();
        let review = review(&[rsa(&[0xff; 256]), rsa(&[&[0, 0][..], &short].concat()), rsa(&[])]);
        assert_eq!(review.keys.iter().map(|key| key.bits).collect::<Vec<_>>(), [Some(2048), Some(2047), Some(0)]);
        assert_eq!(review.findings, [Finding::WeakRsa { key: 1, bits: 2047 }, Finding::WeakRsa { key: 2, bits: 0 }]);
    }

    #[test]
    fn what_is_no_set_is_refused_as_a_verifier_does() {
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>"] {
            assert_eq!(Review::of(document.as_bytes()).err(), Some(JwkSetError::NotAKeySet), "{document}");
        }
        assert_eq!(review(&[]).findings, [Finding::NoUsableKey]);
        let padding = " ".repeat(MAX_BYTES_OF_OTHERS);
        let document = json!({ "keys": [key("a")] }).to_string() + &padding;
        assert_eq!(Review::of(document.as_bytes()).unwrap().findings, [Finding::Large { bytes: document.len() }]);
    }

    #[test]
    fn headers_that_say_nothing_or_too_much_are_found() {
        let answer = |cache_control: Option<&str>, age: u64| {
            let mut answer = Fetched::default();
            answer.cache_control = cache_control.map(str::to_owned);
            answer.age = Some(Duration::from_secs(age));
            answer
        };
        let seconds = Duration::from_secs;
        for (cache_control, age, expected) in [
            (None, 0, Some(Finding::NoLifetime)),
            (Some("public"), 0, Some(Finding::NoLifetime)),
            (Some("no-store"), 0, Some(Finding::ShortLifetime { lifetime: Duration::ZERO })),
            (Some("max-age=59"), 0, Some(Finding::ShortLifetime { lifetime: seconds(59) })),
            (Some("max-age=300"), 250, Some(Finding::ShortLifetime { lifetime: seconds(50) })),
            (Some("max-age=60"), 0, None),
            (Some("max-age=3600"), 0, None),
            (Some("max-age=3601"), 0, Some(Finding::LongLifetime { lifetime: seconds(3601) })),
        ] {
            let review = review(&[key("a")]).with_answer(&answer(cache_control, age));
            assert_eq!(review.findings, Vec::from_iter(expected), "{cache_control:?}");
            assert!(!review.is_dangerous());
        }
    }

    #[test]
    fn a_place_that_nothing_protects_is_found() {
        for (url, expected) in [
            ("http://issuer.example/", &[Finding::PlainHttp][..]),
            ("https://issuer.example/", &[]),
            ("http://127.0.0.1/", &[]),
        ] {
            assert_eq!(review(&[key("a")]).with_place(&Remote::new(url).unwrap()).findings, expected, "{url}");
        }
    }
}
