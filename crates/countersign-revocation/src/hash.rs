use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::OnceLock;

use countersign_claims::revocation::Level;
use countersign_token::Thumbprint;
use siphasher::sip128::{Hash128, SipHasher13};

/// 64 bits that nobody else knows. A hash with random keys is the standard library's only source of randomness.
pub(crate) fn secret() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// How names become keys of a list: 128 bits of SipHash-1-3 under secrets that each list draws for itself.
///
/// Whoever makes tokens chooses the names, but without the secrets cannot look for two that collide, nor for many that crowd into one place of a
/// set. By accident it happens once in 2^128 pairs. The key is what a token *says* (`iss` and `jti`), never its bytes.
///
/// The hash of an issuer is the secret under which its names are hashed, so no name can be moved across the border between the two, and each
/// is hashed in one go, which is twice as fast as in pieces. What kind of name it is comes in afterwards, as a secret that is added (XOR): two kinds of
/// name collide only if their hashes differ by the very sum of two secrets.
pub(crate) struct Hashing {
    issuers: SipHasher13,
    /// An issuer of which something has been revoked, and its hash, so that a service that has one issuer need not hash it with every request.
    known: OnceLock<(Box<str>, Hash128)>,
    materials: SipHasher13,
    kids: SipHasher13,
    kinds: [u128; KINDS],
}

/// Tokens, keys, and what a cut-off is of.
const KINDS: usize = 2 + Level::ALL.len();

impl Hashing {
    /// With new secrets, which come from the operating system.
    pub(crate) fn random() -> Self {
        let hasher = || SipHasher13::new_with_keys(secret(), secret());
        let kinds = std::array::from_fn(|_| u128::from(secret()) << 64 | u128::from(secret()));
        Self { issuers: hasher(), known: OnceLock::new(), materials: hasher(), kids: hasher(), kinds }
    }

    /// Hashes the issuer, once for all that is asked of it.
    #[inline]
    pub(crate) fn issuer(&self, issuer: &str) -> OfIssuer<'_> {
        let Hash128 { h1, h2 } = match self.known.get() {
            Some((known, hash)) if **known == *issuer => *hash,
            _ => self.issuers.hash(issuer.as_bytes()),
        };
        OfIssuer { names: SipHasher13::new_with_keys(h1, h2), kinds: &self.kinds }
    }

    /// Something of this issuer is revoked. The first that is heard of is remembered; no token has a say in that.
    pub(crate) fn remember(&self, issuer: &str) {
        self.known.get_or_init(|| (issuer.into(), self.issuers.hash(issuer.as_bytes())));
    }

    /// A key by its `kid`, whoever's it is.
    pub(crate) fn kid(&self, kid: &str) -> u128 {
        self.kids.hash(kid.as_bytes()).into()
    }

    /// A key by what it is, whoever's it is.
    pub(crate) fn key_material(&self, thumbprint: &Thumbprint) -> u128 {
        self.materials.hash(thumbprint.as_bytes()).into()
    }
}

/// What an issuer has given a name to.
pub(crate) struct OfIssuer<'h> {
    names: SipHasher13,
    kinds: &'h [u128; KINDS],
}

impl OfIssuer<'_> {
    /// A token by its `jti`.
    #[inline]
    pub(crate) fn token(&self, jwt_id: &str) -> u128 {
        self.named(0, jwt_id)
    }

    /// A key by its `kid`.
    #[inline]
    pub(crate) fn key(&self, kid: &str) -> u128 {
        self.named(1, kid)
    }

    /// One of a level.
    #[inline]
    pub(crate) fn level(&self, level: Level, name: &str) -> u128 {
        self.named(2 + level as usize, name)
    }

    #[inline]
    fn named(&self, kind: usize, name: &str) -> u128 {
        // There is one for each.
        let kind = self.kinds.get(kind).copied().unwrap_or_default();
        u128::from(self.names.hash(name.as_bytes())) ^ kind
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
    fn an_issuer_that_is_remembered_has_the_keys_that_it_had() {
        let hashing = Hashing::random();
        let keys = || ["i", "j"].map(|issuer| hashing.issuer(issuer).token("t"));
        let before = keys();
        hashing.remember("i");
        hashing.remember("j");
        assert_eq!(keys(), before);
    }

    #[test]
    fn the_same_has_the_same_key_in_one_list_and_another_in_the_next() {
        let [one, other] = [Hashing::random(), Hashing::random()];
        assert_eq!(one.issuer("i").token("t"), one.issuer("i").token("t"));
        assert_ne!(one.issuer("i").token("t"), other.issuer("i").token("t"));
    }
}
