//! The configuration of a ring whose nodes are configured elsewhere.

use std::time::Duration;

use countersign_token::RsaBits;

use super::check::MAX_QUANTITY;
use super::{RingConfig, Slot, Timing};
use crate::ring::algorithm_of;
use crate::state::{Key, KeyState, RingState};

/// No key is so old: five years, half of the longest time that can be configured, which is `R_hard` then.
const NEVER: Duration = Duration::from_secs(MAX_QUANTITY.as_secs() / 2);

impl RingConfig {
    /// As far as a ring says it itself, for tools that act on it beside its nodes: the slots, each with the algorithm, the size and the longest
    /// lifetime that it has now, and the quantities that all nodes agree on.
    ///
    /// What only nodes know is left at its default, except that no key is rotated for its age, nor ceases to sign for it (`R` and `R_hard`): that is
    /// the nodes' to decide. A slot of which no key is left, as after a compromise, is not there: nothing says what it was for.
    #[must_use]
    pub fn of_ring(ring: &RingState) -> Self {
        let terms = &ring.terms;
        let timing = Timing {
            max_age: terms.max_age,
            intermediary: terms.intermediary,
            publish_lag: terms.publish_lag,
            clock_error: terms.clock_error,
            leeway: terms.leeway,
            lease: terms.lease,
            overlap: terms.overlap,
            rotation: NEVER,
            hard_limit: MAX_QUANTITY,
            ..Timing::default()
        };
        let slots = ring.slots.iter().filter_map(|(name, state)| {
            let keys = ring.keys.values().filter(|key| key.slot == *name);
            let key = keys.min_by_key(|key| precedence(key.state))?;
            let slot = slot_of(name, key)?;
            Some(slot.max_lifetime(state.max_lifetime))
        });
        Self { slots: slots.collect(), timing }
    }
}

/// The lower it is, the more a key says about what its slot is for. What only retires may have been adopted, and be of another kind.
fn precedence(state: KeyState) -> u8 {
    match state {
        KeyState::Active => 0,
        KeyState::Standby => 1,
        KeyState::Announced => 2,
        KeyState::Revoked | KeyState::Abandoned => 3,
        KeyState::Retiring | KeyState::Retired => 4,
    }
}

fn slot_of(name: &str, key: &Key) -> Option<Slot> {
    let algorithm = algorithm_of(&key.jwk)?;
    let slot = Slot::new(name, algorithm);
    if slot.rsa_bits.is_none() {
        return Some(slot);
    }
    // Six bits in each character; a modulus has no zeros in front.
    let bits = key.jwk.get("n")?.len() * 6;
    let bits = if bits <= 2_056 {
        RsaBits::B2048
    } else if bits <= 3_080 {
        RsaBits::B3072
    } else {
        RsaBits::B4096
    };
    Some(Slot::rsa(name, algorithm, bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::by_hand;
    use countersign_claims::UnixTime;
    use countersign_token::{Algorithm, SigningKey};

    #[test]
    fn a_ring_says_what_it_is_for() {
        let now = UnixTime::from_secs(1_800_000_000);
        let named = |key: SigningKey| {
            let kid = key.verifying_key().unwrap().thumbprint().to_string();
            key.with_kid(kid)
        };
        let rsa = |bits| named(SigningKey::generate_rsa(Algorithm::Ps256, bits).unwrap());
        let mut config = RingConfig::new([
            Slot::new("ed", Algorithm::Ed25519).max_lifetime(Duration::from_secs(60)),
            Slot::rsa("large", Algorithm::Ps256, RsaBits::B3072),
            Slot::rsa("small", Algorithm::Ps256, RsaBits::B2048),
            Slot::new("gone", Algorithm::Es512),
        ]);
        config.timing.overlap = Duration::from_secs(2 * 24 * 3_600);
        let keys = [
            ("ed", KeyState::Retiring, named(SigningKey::generate(Algorithm::Es256).unwrap())),
            ("ed", KeyState::Active, named(SigningKey::generate(Algorithm::Ed25519).unwrap())),
            ("large", KeyState::Active, rsa(RsaBits::B3072)),
            ("small", KeyState::Announced, rsa(RsaBits::B2048)),
        ];
        let keys: Vec<_> = keys.iter().map(|(slot, state, key)| (*slot, *state, key)).collect();
        let ring = by_hand::state(&config, now, keys).unwrap();

        let found = RingConfig::of_ring(&ring);
        found.check().unwrap();
        let slots: Vec<_> =
            found.slots.iter().map(|slot| (slot.name.as_str(), slot.algorithm, slot.rsa_bits)).collect();
        assert_eq!(
            slots,
            [
                ("ed", Algorithm::Ed25519, None),
                ("large", Algorithm::Ps256, Some(RsaBits::B3072)),
                ("small", Algorithm::Ps256, Some(RsaBits::B2048)),
            ]
        );
        assert_eq!(found.max_lifetime(&found.slots[0]), Duration::from_secs(60));
        assert_eq!(found.timing.overlap, config.timing.overlap);
    }
}
