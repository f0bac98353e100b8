use std::sync::Arc;
use std::sync::atomic::Ordering;

use countersign_token::{Stamp, VerifyingKey};

use crate::error::ClaimError;
use crate::policy::Policy;
use crate::time::UnixTime;
use crate::verified::{Inner, Verified};

/// A token that a policy has accepted once, for verifiers that remember tokens: to be judged [again](Policy::judge_again) before anybody
/// gets to see what it says.
#[derive(Clone)]
pub struct Remembered(Arc<Inner>);

/// An element of a list, with as much again as lists have to spare.
const VALUE_BYTES: usize = 64;

/// An object in a list, which is a tree with room for eleven names and values.
const OBJECT_BYTES: usize = 640;

impl Remembered {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// `iss`, which a key has vouched for.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.0.registered.iss.map(|iss| self.0.registered.get(iss, &self.0.payload))
    }

    /// The key that verified it.
    #[must_use]
    pub fn key(&self) -> &Arc<VerifyingKey> {
        &self.0.key
    }

    /// Whether its key was found in the set of this stamp when that was last [noted](Self::note_key_found_in).
    #[must_use]
    pub fn is_key_found_in(&self, keys: Stamp) -> bool {
        // A number that says all by itself: what set it names does not change.
        self.0.key_found_in.load(Ordering::Relaxed) == keys.get()
    }

    /// Notes that its key is in the set of this stamp, and that the same would come of it if it were verified with that set anew.
    pub fn note_key_found_in(&self, keys: Stamp) {
        self.0.key_found_in.store(keys.get(), Ordering::Relaxed);
    }

    /// How many bytes of memory it takes, about. Claims read into a type of the user's are counted, whether they have been read or not, as that
    /// type, the text of the payload, and what `serde_json`'s `Value` takes for each array, object and element in it: more than most types do.
    #[must_use]
    pub fn memory(&self) -> usize {
        let inner = &*self.0;
        let typed = inner.typed.get().map_or(0, |typed| size_of_val(&**typed));
        let count = |octet| inner.payload.bytes().filter(|other| *other == octet).count();
        let values = (count(b',') + count(b'[')) * VALUE_BYTES + count(b'{').saturating_sub(1) * OBJECT_BYTES;
        size_of::<Inner>() + inner.payload.capacity() + inner.registered.heap() + typed + inner.payload.len() + values
    }
}

impl Policy {
    /// Judges a token that this policy has accepted before once more, at the time `now`: what depends on the time, and what the user's own code says.
    /// Everything else about it stays as it was.
    ///
    /// Whether its key is still in force, and whether it is revoked, is asked elsewhere.
    ///
    /// # Errors
    /// The first [`ClaimError`]: the one that [`judge`](Self::judge) would give.
    pub fn judge_again(&self, accepted: Remembered, now: UnixTime) -> Result<Verified, ClaimError> {
        let claims = &accepted.0.registered;
        if !accepted.0.window.contains(now) {
            self.check_exp(claims, now)?;
            self.check_nbf(claims, now)?;
            self.check_iat(claims, now)?;
            self.check_age(claims, now)?;
        }
        self.check_subject(claims, &accepted.0.payload)?;
        Ok(Verified::again(accepted.0, now))
    }
}
