//! Private keys in memory: made, tested, and held until they are stored.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_token::{Algorithm, JwkSet, Origin, PrivateDer, SignError, SigningKey, VerifyingKey};

use crate::adopt;
use crate::config::Slot;
use crate::holder::{HeldKey, KeyHolder};
use crate::seal::{KekRing, KeyIdentity, SealError};
use crate::signer::Signer;
use crate::state::PublicJwk;
use crate::step::OpenFailure;

/// What a key signs to show that it can. It has no full stop, so no signature of it is one of a token.
const TEST_MESSAGE: &[u8] = b"countersign: this key signs what its published part verifies";

/// A key that was made here, and signs what its public part verifies.
pub(super) struct Made {
    pub(super) der: PrivateDer,
    pub(super) jwk: PublicJwk,
}

/// Makes a key for that slot, named by its thumbprint (RFC 7638). Takes a second for RSA with 4096 bits.
pub(super) fn make(slot: &Slot) -> Result<Made, SignError> {
    let (key, der) = match slot.rsa_bits {
        Some(bits) => SigningKey::generate_rsa_exportable(slot.algorithm, bits)?,
        None => SigningKey::generate_exportable(slot.algorithm)?,
    };
    let kid = key.verifying_key()?.thumbprint().to_string();
    let key = key.with_kid(kid);
    let jwk = PublicJwk::new(&key.public_jwk()?).map_err(|_| SignError::Crypto)?;
    // What will be opened later is what was written down, so that is what is tested.
    open(&der, &jwk).map_err(|_| SignError::Crypto)?;
    Ok(Made { der, jwk })
}

/// The same, made where the holder keeps it.
pub(super) fn make_held(holder: &dyn KeyHolder, slot: &Slot) -> Result<Made, String> {
    let HeldKey { public, reference } = holder.make(slot).map_err(|error| error.to_string())?;
    let jwk = adopt::public_jwk(public, slot.algorithm).ok_or("the holder's public key is none of the slot")?;
    open_by(Some(holder), &reference, &jwk)
        .map_err(|_| "the holder's key does not sign what its public part verifies")?;
    Ok(Made { der: reference, jwk })
}

/// Who signs by that document, here or where the holder keeps the key.
pub(super) fn open_by(
    holder: Option<&dyn KeyHolder>,
    der: &PrivateDer,
    jwk: &PublicJwk,
) -> Result<Arc<dyn Signer>, OpenFailure> {
    let algorithm = algorithm_of(jwk).ok_or(OpenFailure::Undecryptable)?;
    match holder.and_then(|holder| holder.open(der.as_bytes(), algorithm)) {
        None => Ok(Arc::new(open(der, jwk)?)),
        Some(Err(_)) => Err(OpenFailure::Unavailable),
        Some(Ok(signer)) if signer.algorithm() != algorithm => Err(OpenFailure::Mismatch),
        Some(Ok(signer)) => test(&*signer, jwk, algorithm).map(|()| signer),
    }
}

/// The key of that document, if it signs what the published key verifies.
fn open(der: &PrivateDer, jwk: &PublicJwk) -> Result<SigningKey, OpenFailure> {
    let algorithm = algorithm_of(jwk).ok_or(OpenFailure::Undecryptable)?;
    let key = SigningKey::from_der(der.as_bytes(), algorithm).map_err(|_| OpenFailure::Mismatch)?;
    test(&key, jwk, algorithm)?;
    Ok(key.with_kid(jwk.kid()))
}

/// Whether it signs what the published key verifies.
fn test(signer: &dyn Signer, jwk: &PublicJwk, algorithm: Algorithm) -> Result<(), OpenFailure> {
    let published = verifying(jwk).ok_or(OpenFailure::Mismatch)?;
    let signature = signer.sign(TEST_MESSAGE).map_err(|_| OpenFailure::Unavailable)?;
    published.verify_bytes(algorithm, TEST_MESSAGE, &signature).map_err(|_| OpenFailure::Mismatch)
}

/// What tokens of that key say in `alg`.
pub(crate) fn algorithm_of(jwk: &PublicJwk) -> Option<Algorithm> {
    jwk.get("alg").and_then(Algorithm::from_name)
}

/// The key as a verifier reads it.
pub(crate) fn verifying(jwk: &PublicJwk) -> Option<Arc<VerifyingKey>> {
    let document = serde_json::json!({ "keys": [jwk] }).to_string();
    JwkSet::parse(document.as_bytes(), Origin::Remote).ok()?.keys().first().cloned()
}

/// The private keys that this node has.
#[derive(Default)]
pub(super) struct Hands {
    held: HashMap<String, Held>,
    /// Of those that may sign.
    changes: u64,
}

struct Held {
    /// Once it was read from the store and tested.
    signer: Option<Arc<dyn Signer>>,
    private: Private,
}

/// As what the private part is in memory, for it to be stored.
enum Private {
    Clear(PrivateDer),
    /// For as long as it is not known to be stored.
    Sealed(Arc<[u8]>),
    Stored,
}

impl Hands {
    /// Keeps what has yet to be stored. False if there is a key of that name.
    pub(super) fn keep(&mut self, kid: &str, der: PrivateDer) -> bool {
        if self.held.contains_key(kid) {
            return false;
        }
        self.held.insert(kid.to_owned(), Held { signer: None, private: Private::Clear(der) });
        true
    }

    /// What is to be stored. The private part in clear is gone then. `None` if there is nothing to store.
    pub(super) fn seal(&mut self, identity: &KeyIdentity<'_>, keks: &KekRing) -> Result<Option<Arc<[u8]>>, SealError> {
        let Some(held) = self.held.get_mut(identity.kid) else { return Ok(None) };
        match &held.private {
            Private::Clear(der) => {
                let sealed: Arc<[u8]> = keks.seal(identity, der)?.into();
                held.private = Private::Sealed(Arc::clone(&sealed));
                Ok(Some(sealed))
            }
            Private::Sealed(sealed) => Ok(Some(Arc::clone(sealed))),
            Private::Stored => Ok(None),
        }
    }

    /// It was read from the store, and is to be signed with.
    pub(super) fn open(&mut self, kid: &str, signer: Arc<dyn Signer>) {
        self.held.insert(kid.to_owned(), Held { signer: Some(signer), private: Private::Stored });
        self.changes += 1;
    }

    /// Lets go of what came with an order that was refused. What was read from the store since is the ring's own key of
    /// that name, and stays.
    pub(super) fn withdraw(&mut self, kid: &str) {
        if self.held.get(kid).is_some_and(|held| held.signer.is_none()) {
            self.held.remove(kid);
        }
    }

    pub(super) fn forget(&mut self, kid: &str) {
        if self.held.remove(kid).is_some_and(|held| held.signer.is_some()) {
            self.changes += 1;
        }
    }

    /// Grows whenever another set of keys may sign.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// By `kid`: those that may sign.
    pub(super) fn signers(&self) -> HashMap<String, Arc<dyn Signer>> {
        let signers = self.held.iter().filter_map(|(kid, held)| Some((kid.clone(), Arc::clone(held.signer.as_ref()?))));
        signers.collect()
    }
}

#[cfg(test)]
mod tests {
    use countersign_claims::UnixTime;
    use countersign_token::RsaBits;

    use super::*;
    use crate::seal::{Kek, Purpose};

    fn identity(kid: &str) -> KeyIdentity<'_> {
        KeyIdentity {
            issuer: "https://issuer.example",
            kid,
            algorithm: Algorithm::Es256,
            purpose: Purpose::Signing,
            created_at: UnixTime::from_secs(1_800_000_000),
        }
    }

    #[test]
    fn a_key_is_named_by_its_thumbprint_and_opens_as_itself_only() {
        for slot in [
            Slot::new("es256", Algorithm::Es256),
            Slot::new("es384", Algorithm::Es384),
            Slot::new("ed25519", Algorithm::Ed25519),
            Slot::new("eddsa", Algorithm::EdDsa),
            Slot::rsa("ps256", Algorithm::Ps256, RsaBits::B2048),
            Slot::new("ml-dsa-44", Algorithm::MlDsa44),
        ] {
            let made = make(&slot).unwrap();
            let published = verifying(&made.jwk).unwrap();
            assert_eq!(made.jwk.kid(), published.thumbprint().to_string(), "{slot:?}");
            assert_eq!(open(&made.der, &made.jwk).unwrap().kid(), Some(made.jwk.kid()));
            let other = make(&slot).unwrap();
            assert_eq!(open(&made.der, &other.jwk).err(), Some(OpenFailure::Mismatch), "{slot:?}");
        }
    }

    #[test]
    fn what_is_no_private_key_of_that_kind_does_not_match() {
        let made = make(&Slot::new("es256", Algorithm::Es256)).unwrap();
        for der in [Vec::new(), vec![0x30, 0x00], vec![0xff; 200]] {
            assert_eq!(open(&PrivateDer::new(der), &made.jwk).err(), Some(OpenFailure::Mismatch));
        }
        let ed = make(&Slot::new("ed", Algorithm::Ed25519)).unwrap();
        assert_eq!(open(&ed.der, &made.jwk).err(), Some(OpenFailure::Mismatch));
    }

    #[test]
    fn once_a_key_is_sealed_it_is_in_memory_in_no_other_form_and_the_same_form_is_stored_again() {
        let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
        let made = make(&Slot::new("es256", Algorithm::Es256)).unwrap();
        let kid = made.jwk.kid().to_owned();
        let mut hands = Hands::default();
        assert!(hands.keep(&kid, made.der));
        let first = hands.seal(&identity(&kid), &keks).unwrap().unwrap();
        assert!(matches!(hands.held[&kid].private, Private::Sealed(_)));
        assert_eq!(hands.seal(&identity(&kid), &keks).unwrap().unwrap(), first);
        assert!(hands.signers().is_empty(), "it was not read from the store");

        let der = keks.open(&identity(&kid), &first).unwrap();
        hands.open(&kid, Arc::new(open(&der, &made.jwk).unwrap()));
        assert_eq!(hands.seal(&identity(&kid), &keks).unwrap(), None);
        assert_eq!(hands.signers().len(), 1);
        hands.forget(&kid);
        assert!(hands.signers().is_empty());
    }

    #[test]
    fn a_key_that_is_held_is_not_replaced_by_one_of_its_name() {
        let mut hands = Hands::default();
        assert!(hands.keep("k", PrivateDer::new(vec![1])));
        assert!(!hands.keep("k", PrivateDer::new(vec![2])));
    }
}
