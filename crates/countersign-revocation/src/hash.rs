use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use countersign_claims::revocation::Level;
use countersign_token::Thumbprint;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// How names become keys of a list: 128 bits of SipHash-1-3 under a secret that each list draws for itself.
///
/// Whoever makes tokens chooses the names, but without the secret cannot look for two that collide, nor for many that crowd into one place of a
/// set. By accident it happens once in 2^128 pairs. The key is what a token *says* (`iss` and `jti`), never its bytes.
///
/// What is hashed is a list of parts that can be read in one way only: the issuer's length, the issuer, the kind, and the name, which is the rest.
#[derive(Clone, Copy)]
pub(crate) struct Hashing(SipHasher13);

impl Hashing {
    /// With a new secret, which comes from the operating system.
    pub(crate) fn random() -> Self {
        // Each is keyed with what the system has given, so what they make of anything is 64 secret bits.
        let secret = || RandomState::new().hash_one(0_u8);
        Self(SipHasher13::new_with_keys(secret(), secret()))
    }

    /// Hashes the issuer, once for all that is asked of it.
    pub(crate) fn issuer(&self, issuer: &str) -> OfIssuer {
        let mut hasher = self.0;
        // A `usize` is no longer than that anywhere.
        hasher.write(&(issuer.len() as u64).to_le_bytes());
        hasher.write(issuer.as_bytes());
        OfIssuer(hasher)
    }

    /// A key by what it is, whoever's it is. No issuer is so long that it could be taken for one's.
    pub(crate) fn key_material(&self, thumbprint: &Thumbprint) -> u128 {
        let mut hasher = self.0;
        hasher.write(&u64::MAX.to_le_bytes());
        hasher.write(thumbprint.as_bytes());
        hasher.finish128().into()
    }
}

/// What an issuer has given a name to.
#[derive(Clone, Copy)]
pub(crate) struct OfIssuer(SipHasher13);

impl OfIssuer {
    /// A token by its `jti`.
    pub(crate) fn token(&self, jwt_id: &str) -> u128 {
        self.named(0, jwt_id)
    }

    /// A key by its `kid`.
    pub(crate) fn key(&self, kid: &str) -> u128 {
        self.named(1, kid)
    }

    /// One of a level.
    pub(crate) fn level(&self, level: Level, name: &str) -> u128 {
        self.named(2 + level as u8, name)
    }

    fn named(&self, kind: u8, name: &str) -> u128 {
        let mut hasher = self.0;
        hasher.write(&[kind]);
        hasher.write(name.as_bytes());
        hasher.finish128().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn whatever_differs_in_issuer_kind_or_name_has_another_key() {
        let hashing = Hashing::random();
        let mut seen = HashSet::new();
        // Moved borders between issuer and name, and names that look like a kind.
        for (issuer, name) in [("", "ab"), ("a", "b"), ("ab", ""), ("a", "\u{0}b"), ("a\u{0}", "b"), ("b", "a")] {
            let of = hashing.issuer(issuer);
            assert!(seen.insert(of.token(name)), "{issuer:?} {name:?}");
            assert!(seen.insert(of.key(name)), "{issuer:?} {name:?}");
            for level in Level::ALL {
                assert!(seen.insert(of.level(level, name)), "{issuer:?} {level} {name:?}");
            }
        }
    }

    #[test]
    fn the_same_has_the_same_key_in_one_list_and_another_in_the_next() {
        let [one, other] = [Hashing::random(), Hashing::random()];
        assert_eq!(one.issuer("i").token("t"), one.issuer("i").token("t"));
        assert_ne!(one.issuer("i").token("t"), other.issuer("i").token("t"));
    }
}
