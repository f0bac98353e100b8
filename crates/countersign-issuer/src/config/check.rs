use std::fmt;
use std::time::Duration;

use super::{KEPT_AT_LEAST, MAX_JWKS_BYTES, MAX_KEYS, RingConfig, Slot, WARN_KEYS};

/// Why a configuration is refused: which invariant it would break, and by which numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// No slot.
    NoSlots,
    /// Two slots of one name.
    SameName(String),
    /// Something is wrong with a slot by itself.
    Slot {
        /// Its name.
        name: String,
        /// What.
        flaw: &'static str,
    },
    /// A quantity that must not be zero, nor longer than ten years, nor finer than a millisecond.
    Quantity {
        /// Its field in [`Timing`](crate::Timing).
        name: &'static str,
        /// What it was.
        value: Duration,
    },
    /// An inequality does not hold.
    Inequality {
        /// The invariant that it stands for.
        invariant: &'static str,
        /// What is needed, what was found, and what follows.
        arithmetic: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlots => f.write_str("a ring needs a slot"),
            Self::SameName(name) => write!(f, "two slots are called `{name}`"),
            Self::Slot { name, flaw } => write!(f, "slot `{name}`: {flaw}"),
            Self::Quantity { name, value } => {
                write!(
                    f,
                    "`{name}` is {value:?}; it must be whole milliseconds, more than none and less than ten years"
                )
            }
            Self::Inequality { invariant, arithmetic } => write!(f, "{invariant}: {arithmetic}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What works and will probably be regretted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The JWKS will have more than [`WARN_KEYS`] keys.
    ManyKeys {
        /// How many.
        keys: usize,
        /// How many bytes that makes, about.
        bytes: usize,
    },
    /// `A` is shorter than [`KEPT_AT_LEAST`].
    ShortMaxAge(Duration),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManyKeys { keys, bytes } => write!(
                f,
                "the JWKS will have {keys} keys in about {bytes} bytes, which each verifier fetches again and again; a longer R or a \
                 shorter O makes it smaller",
            ),
            Self::ShortMaxAge(max_age) => write!(
                f,
                "max_age is {}, and countersign's verifiers keep a set for {} whatever it says: the exposure of a revoked key has \
                 that in it, and a key may sign before they have it, for which they then look",
                Seconds(*max_age),
                Seconds(KEPT_AT_LEAST)
            ),
        }
    }
}

/// No quantity of a ring is longer, so that no sum of them overflows.
pub(super) const MAX_QUANTITY: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);

/// `{"keys":[],"seq":18446744073709551615}`
const SET_FRAME_BYTES: usize = 40;

impl RingConfig {
    /// Whether the configuration can keep the invariants.
    ///
    /// # Errors
    /// The first that it cannot, with the arithmetic.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_quantities()?;
        self.check_slots()?;
        self.check_lease()?;
        self.check_retention()?;
        self.check_cadence()?;
        self.check_size()
    }

    /// What works and will probably be regretted. Nothing says so by itself: show it where the node is started.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let (keys, bytes) = self.expected_size();
        let many = (keys > WARN_KEYS).then_some(Warning::ManyKeys { keys, bytes });
        let max_age = self.timing.max_age;
        let short = (max_age < KEPT_AT_LEAST).then_some(Warning::ShortMaxAge(max_age));
        many.into_iter().chain(short).collect()
    }

    /// Keys and bytes of the JWKS once the ring has run for `O`.
    fn expected_size(&self) -> (usize, usize) {
        let (overlap, rotation) = (self.timing.overlap.as_millis(), self.timing.rotation.as_millis().max(1));
        let per_slot = usize::try_from(overlap.div_ceil(rotation)).unwrap_or(usize::MAX).saturating_add(2);
        let bytes = self.slots.iter().map(|slot| per_slot.saturating_mul(slot.jwk_bytes()));
        (self.slots.len().saturating_mul(per_slot), bytes.fold(SET_FRAME_BYTES, usize::saturating_add))
    }

    fn check_quantities(&self) -> Result<(), ConfigError> {
        let t = &self.timing;
        let lifetimes = self.slots.iter().filter_map(|slot| slot.max_lifetime).map(|it| ("max_lifetime", it, true));
        let quantities = [
            ("max_age", t.max_age, true),
            ("intermediary", t.intermediary, false),
            ("publish_lag", t.publish_lag, false),
            ("clock_error", t.clock_error, false),
            ("leeway", t.leeway, false),
            ("max_lifetime", t.max_lifetime, true),
            ("lease", t.lease, true),
            ("rotation", t.rotation, true),
            ("tick", t.tick, true),
            ("fan_out", t.fan_out, false),
            ("heartbeat", t.heartbeat, true),
            ("overlap", t.overlap, true),
            ("keygen", t.keygen, false),
            ("publish", t.publish, false),
            ("hard_limit", t.hard_limit, true),
            ("orphan", t.orphan, true),
        ];
        for (name, value, positive) in quantities.into_iter().chain(lifetimes) {
            if value.subsec_nanos() % 1_000_000 != 0 || value > MAX_QUANTITY || (positive && value.is_zero()) {
                return Err(ConfigError::Quantity { name, value });
            }
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), ConfigError> {
        if self.slots.is_empty() {
            return Err(ConfigError::NoSlots);
        }
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(flaw) = slot.flaw() {
                return Err(ConfigError::Slot { name: slot.name.clone(), flaw });
            }
            if self.slots[..index].iter().any(|other| other.name == slot.name) {
                return Err(ConfigError::SameName(slot.name.clone()));
            }
        }
        Ok(())
    }

    /// A node must see the state often enough to sign at all.
    fn check_lease(&self) -> Result<(), ConfigError> {
        let t = &self.timing;
        at_least("I3", "G", t.lease, &[("K", t.tick), ("t_publish", t.publish)], || {
            "signers would be without a view that is young enough".to_owned()
        })
    }

    fn check_retention(&self) -> Result<(), ConfigError> {
        let t = &self.timing;
        let twice = t.clock_error * 2;
        for slot in &self.slots {
            let terms = [("G", t.lease), ("L", self.max_lifetime(slot)), ("W", t.leeway), ("2ε", twice)];
            at_least("I4", "O", t.overlap, &terms, || {
                let most = t.overlap.saturating_sub(t.lease).saturating_sub(t.leeway).saturating_sub(twice);
                let most = Seconds(most);
                format!("keys would be removed before their last token has expired; L may be {most} at most")
            })
            .map_err(|error| about(slot, error))?;
        }
        Ok(())
    }

    fn check_cadence(&self) -> Result<(), ConfigError> {
        let t = &self.timing;
        let announcement = [
            ("C", t.cache_bound()),
            ("P", t.publish_lag),
            ("ε", t.clock_error),
            ("K", t.tick),
            ("t_keygen", t.keygen),
            ("t_publish", t.publish),
        ];
        at_least("I6", "R", t.rotation, &announcement, || {
            "a key would be due before its successor may sign".to_owned()
        })?;
        at_least("I11", "R_hard", t.hard_limit, &[("R", t.rotation), ("3K", t.tick * 3)], || {
            "a key would stop to sign before its rotation is late".to_owned()
        })?;
        // A shared cache may show the set without the key for A.
        let confirmation =
            [("A", t.max_age), ("P", t.publish_lag), ("ε", t.clock_error), ("K", t.tick), ("t_publish", t.publish)];
        at_least("I11", "T_orphan", t.orphan, &confirmation, || {
            "a key would be given up before it can have been read back".to_owned()
        })
    }

    fn check_size(&self) -> Result<(), ConfigError> {
        let (overlap, rotation) = (Seconds(self.timing.overlap), Seconds(self.timing.rotation));
        let (keys, bytes) = self.expected_size();
        let slots = self.slots.len();
        let arithmetic = if keys > MAX_KEYS {
            format!(
                "{slots} × (2 + ⌈O/R⌉) ≤ {MAX_KEYS} keys is needed, but with O = {overlap} and R = {rotation} it is {keys}; publishing \
                 often is H, not R",
            )
        } else if bytes > MAX_JWKS_BYTES {
            format!(
                "a JWKS of {MAX_JWKS_BYTES} bytes at most is needed, but {keys} keys with O = {overlap} and R = {rotation} are about {bytes}",
            )
        } else {
            return Ok(());
        };
        Err(ConfigError::Inequality { invariant: "I7", arithmetic })
    }
}

/// `left ≥ Σ right`, or the arithmetic.
fn at_least(
    invariant: &'static str,
    name: &str,
    left: Duration,
    right: &[(&str, Duration)],
    why: impl FnOnce() -> String,
) -> Result<(), ConfigError> {
    let sum = right.iter().map(|(_, value)| *value).fold(Duration::ZERO, Duration::saturating_add);
    if left >= sum {
        return Ok(());
    }
    let names = right.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>().join(" + ");
    let values = right.iter().map(|(_, value)| Seconds(*value).to_string()).collect::<Vec<_>>().join(" + ");
    let (left, sum, why) = (Seconds(left), Seconds(sum), why());
    let arithmetic = format!("{name} ≥ {names} is needed, but {left} < {values} = {sum}: {why}");
    Err(ConfigError::Inequality { invariant, arithmetic })
}

fn about(slot: &Slot, error: ConfigError) -> ConfigError {
    match error {
        ConfigError::Inequality { invariant, arithmetic } => {
            ConfigError::Inequality { invariant, arithmetic: format!("slot `{}`: {arithmetic}", slot.name) }
        }
        other => other,
    }
}

/// All sums are shown in one unit, so that they can be checked by eye.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_millis() {
            0 => write!(f, "{} s", self.0.as_secs()),
            millis => write!(f, "{}.{millis:03} s", self.0.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_token::{Algorithm, RsaBits};
    use proptest::prelude::*;

    fn config() -> RingConfig {
        RingConfig::new([Slot::new("es256", Algorithm::Es256)])
    }

    fn refusal(change: impl FnOnce(&mut RingConfig)) -> String {
        let mut config = config();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_keep_every_invariant() {
        assert_eq!(config().check(), Ok(()));
        assert_eq!(config().warnings(), []);
    }

    #[test]
    fn i9_a_max_age_that_our_verifiers_do_not_hear_is_warned_of() {
        let mut config = config();
        config.timing.max_age = KEPT_AT_LEAST;
        assert_eq!(config.warnings(), []);
        config.timing.max_age = Duration::from_secs(59);
        assert_eq!(config.check(), Ok(()));
        let warnings = config.warnings();
        assert!(matches!(warnings[..], [Warning::ShortMaxAge(_)]), "{warnings:?}");
        assert!(warnings[0].to_string().starts_with("max_age is 59 s, and"), "{}", warnings[0]);
    }

    #[test]
    fn i4_the_longest_lifetime_at_an_overlap_of_a_day_is_as_the_page_says() {
        let most = Duration::from_secs(23 * 3_600 + 57 * 60 + 30);
        let mut config = config();
        config.timing.max_lifetime = most;
        assert_eq!(config.check(), Ok(()));
        config.timing.max_lifetime = most + Duration::from_secs(1);
        let error = config.check().unwrap_err().to_string();
        assert!(error.starts_with("I4") && error.contains("L may be 86250 s at most"), "{error}");
    }

    #[test]
    fn i4_a_slot_with_a_lifetime_of_its_own_is_named() {
        let error = refusal(|config| {
            config.slots.push(Slot::new("long", Algorithm::Ed25519).max_lifetime(Duration::from_secs(100_000)));
        });
        assert!(error.contains("slot `long`"), "{error}");
    }

    #[test]
    fn i6_a_rotation_shorter_than_an_announcement_is_refused_with_the_arithmetic() {
        let error = refusal(|config| config.timing.rotation = Duration::from_secs(600));
        let expected = "I6: R ≥ C + P + ε + K + t_keygen + t_publish is needed, but 600 s < 600 s + 10 s + 30 s + 10 s + 2 s + 5 s = 657 s: \
                        a key would be due before its successor may sign";
        assert_eq!(error, expected);
    }

    #[test]
    fn i6_the_owners_quarter_of_an_hour_is_legal_for_one_small_slot_only() {
        let mut config = config();
        config.timing.rotation = Duration::from_secs(900);
        assert_eq!(config.check(), Ok(()));
        assert!(matches!(config.warnings()[..], [Warning::ManyKeys { keys: 98, .. }]));
        config.slots.push(Slot::rsa("rs256-2048", Algorithm::Rs256, RsaBits::B2048));
        let error = config.check().unwrap_err().to_string();
        assert!(error.starts_with("I7: 2 × (2 + ⌈O/R⌉) ≤ 100 keys is needed"), "{error}");
    }

    #[test]
    fn i7_a_set_of_too_many_bytes_is_refused() {
        let error = refusal(|config| {
            config.slots = vec![Slot::rsa("rs256-4096", Algorithm::Rs256, RsaBits::B4096)];
            config.timing.rotation = Duration::from_secs(1_000);
        });
        assert!(error.starts_with("I7: a JWKS of 49152 bytes"), "{error}");
    }

    #[test]
    fn i3_a_tick_as_long_as_the_lease_is_refused() {
        let error = refusal(|config| config.timing.tick = Duration::from_secs(30));
        assert!(error.starts_with("I3: G ≥ K + t_publish is needed, but 30 s < 30 s + 5 s = 35 s"), "{error}");
    }

    #[test]
    fn i11_a_hard_limit_below_the_period_is_refused() {
        let error = refusal(|config| config.timing.hard_limit = Duration::from_secs(24 * 3_600));
        assert!(error.starts_with("I11: R_hard ≥ R + 3K"), "{error}");
        let error = refusal(|config| config.timing.orphan = Duration::from_secs(300));
        assert!(error.starts_with("I11: T_orphan ≥ A + P"), "{error}");
    }

    #[test]
    fn slots_that_cannot_be_are_refused() {
        assert_eq!(refusal(|config| config.slots.clear()), "a ring needs a slot");
        assert_eq!(
            refusal(|config| config.slots.push(Slot::new("es256", Algorithm::Es384))),
            "two slots are called `es256`"
        );
        for slot in [
            Slot::new("", Algorithm::Es256),
            Slot::new("a/b", Algorithm::Es256),
            Slot::new("x".repeat(65), Algorithm::Es256),
            Slot::new("hs", Algorithm::Hs256),
            Slot::rsa("es", Algorithm::Es256, RsaBits::B2048),
        ] {
            assert!(refusal(|config| config.slots = vec![slot.clone()]).starts_with("slot `"), "{slot:?}");
        }
    }

    #[test]
    fn quantities_of_nothing_of_nanoseconds_or_of_an_age_are_refused() {
        for value in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            assert!(refusal(|config| config.timing.rotation = value).starts_with("`rotation` is"), "{value:?}");
        }
    }

    #[test]
    fn the_estimate_of_a_keys_bytes_is_not_below_what_a_key_has() {
        for slot in [
            Slot::new("es256", Algorithm::Es256),
            Slot::new("es384", Algorithm::Es384),
            Slot::new("ed25519", Algorithm::Ed25519),
            Slot::new("ml-dsa-44", Algorithm::MlDsa44),
        ] {
            let jwk = countersign_token::SigningKey::generate(slot.algorithm).unwrap();
            let jwk = jwk.with_kid("x".repeat(43)).public_jwk().unwrap().to_string();
            assert!(jwk.len() < slot.jwk_bytes(), "{} bytes, estimated {}", jwk.len(), slot.jwk_bytes());
        }
    }

    proptest! {
        #[test]
        fn no_configuration_makes_the_check_panic(values in proptest::array::uniform16(any::<u64>()), millis in any::<bool>()) {
            let mut config = config();
            let mut values = values.into_iter().map(|value| {
                if millis { Duration::from_millis(value % 100_000_000) } else { Duration::from_secs(value) }
            });
            let mut next = || values.next().unwrap();
            let t = &mut config.timing;
            for field in [
                &mut t.max_age, &mut t.intermediary, &mut t.publish_lag, &mut t.clock_error, &mut t.leeway, &mut t.max_lifetime,
                &mut t.lease, &mut t.rotation, &mut t.tick, &mut t.fan_out, &mut t.heartbeat, &mut t.overlap, &mut t.keygen,
                &mut t.publish, &mut t.hard_limit, &mut t.orphan,
            ] {
                *field = next();
            }
            if config.check().is_ok() {
                let t = &config.timing;
                prop_assert!(t.overlap >= t.lease + t.max_lifetime + t.leeway + 2 * t.clock_error);
                prop_assert!(t.rotation >= t.announcement() + t.tick);
                prop_assert!(config.expected_size().0 <= MAX_KEYS);
            }
            let _ = config.warnings();
        }
    }
}
