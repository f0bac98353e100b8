//! What a ring is told: its slots, its quantities, and the inequalities between them.

mod check;
mod found;
mod slot;

use std::time::Duration;

pub use check::{ConfigError, Warning};
pub use slot::{MAX_SLOT_NAME_BYTES, Slot};

/// Public keys in one JWKS above which [`RingConfig::warnings`] speaks up: fetched by each verifier, again and again.
pub const WARN_KEYS: usize = 32;

/// Public keys in one JWKS at most: what AWS accepts of an issuer.
pub const MAX_KEYS: usize = 100;

/// Bytes of one JWKS at most: Nimbus (Java) refuses bodies over 50 KiB by default.
pub const MAX_JWKS_BYTES: usize = 48 * 1024;

/// For how long verifiers of this project keep a set at least, whatever it says (`MIN_LIFETIME` of `countersign-jwks`): a `max_age`
/// that is shorter is not heard by them.
pub const KEPT_AT_LEAST: Duration = Duration::from_secs(60);

/// The quantities of the life cycle. The letters are those of `INVARIANTS.md`, and of what [`RingConfig::check`] says.
///
/// [`Default`] suits most: keys rotate once a day and overlap for another, tokens live for an hour. The value behind
/// each is that default. All are whole milliseconds, ten years at most; which of them may be zero, and how they have to
/// fit together, `check` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Timing {
    /// `A`: the `max-age` that the JWKS is published with. 300 s.
    pub max_age: Duration,
    /// `B`: what intermediaries and stale answers may add to it. A client that ignores `Age` behind a shared cache
    /// doubles it, so 300 s.
    pub intermediary: Duration,
    /// `P`: from the moment at which a set can be read in one place until it can be read everywhere. 10 s.
    pub publish_lag: Duration,
    /// `ε`: how far any two clocks may be apart, of nodes and of verifiers. Each node is held to half of it against the
    /// store's. 30 s.
    pub clock_error: Duration,
    /// `W`: the leeway assumed of any verifier. 60 s, which Envoy, Spring and Nimbus use.
    pub leeway: Duration,
    /// `L`: the longest lifetime of a token, unless a [slot](Slot::max_lifetime) says otherwise. 1 h.
    pub max_lifetime: Duration,
    /// `G`: how old the view of the state may be that is signed by. 30 s.
    pub lease: Duration,
    /// `R`: how long a key signs. 24 h.
    pub rotation: Duration,
    /// `K`: how often a node looks at the state. 10 s.
    pub tick: Duration,
    /// `V`: until a revocation has reached every verifier with a live feed. 2 s. It is what the answer to a
    /// [compromise](crate::Ring::compromise) reckons with; the feed has to keep it.
    pub fan_out: Duration,
    /// `H`: how often the published JWKS is looked at although nothing has changed, and the stored private keys are
    /// listed, in case one has come back. 15 min.
    pub heartbeat: Duration,
    /// `O`: how long a key stays published after it was seen to sign no more. 24 h.
    pub overlap: Duration,
    /// `t_keygen`: the longest that making one key takes, for `check` to reckon with. 2 s, for RSA with 4096 bits on a
    /// busy machine.
    pub keygen: Duration,
    /// `t_publish`: the longest that a write to the store takes. 5 s. Each operation of the store, and each look at the
    /// set where verifiers read it, is given up after it, or after a second if it is shorter.
    pub publish: Duration,
    /// `R_hard`: how long a key signs at the very most, if rotation does not succeed. 30 days.
    pub hard_limit: Duration,
    /// `T_orphan`: after how long an announced key whose private part was not stored, or that was never read back, is
    /// given up. 15 min.
    pub orphan: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            intermediary: Duration::from_secs(300),
            publish_lag: Duration::from_secs(10),
            clock_error: Duration::from_secs(30),
            leeway: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3_600),
            lease: Duration::from_secs(30),
            rotation: Duration::from_secs(24 * 3_600),
            tick: Duration::from_secs(10),
            fan_out: Duration::from_secs(2),
            heartbeat: Duration::from_secs(900),
            overlap: Duration::from_secs(24 * 3_600),
            keygen: Duration::from_secs(2),
            publish: Duration::from_secs(5),
            hard_limit: Duration::from_secs(30 * 24 * 3_600),
            orphan: Duration::from_secs(900),
        }
    }
}

impl Timing {
    /// `C = A + B`: how old a set may be that somebody verifies by.
    #[must_use]
    pub fn cache_bound(&self) -> Duration {
        self.max_age.saturating_add(self.intermediary)
    }

    /// `C + P + ε`: from the moment at which a key was read back until nobody verifies by a set without it.
    #[must_use]
    pub fn announcement(&self) -> Duration {
        self.cache_bound().saturating_add(self.publish_lag).saturating_add(self.clock_error)
    }
}

/// A ring: its slots and its quantities.
///
/// ```
/// use countersign_issuer::{RingConfig, Slot};
/// use countersign_token::{Algorithm, RsaBits};
/// use std::time::Duration;
///
/// let rsa = Slot::rsa("rs256-4096", Algorithm::Rs256, RsaBits::B4096);
/// let mut config = RingConfig::new([Slot::new("es256", Algorithm::Es256), rsa]);
/// config.check()?;
///
/// config.timing.max_lifetime = Duration::from_secs(24 * 3_600);
/// assert_eq!(
///     config.check().unwrap_err().to_string(),
///     "I4: slot `es256`: O ≥ G + L + W + 2ε is needed, but 86400 s < 30 s + 86400 s + 60 s + 60 s = 86550 s: \
///      keys would be removed before their last token has expired; L may be 86250 s at most",
/// );
/// # Ok::<(), countersign_issuer::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingConfig {
    /// One for each kind of key that there always is.
    pub slots: Vec<Slot>,
    /// The quantities.
    pub timing: Timing,
}

impl RingConfig {
    /// With the default quantities.
    #[must_use]
    pub fn new(slots: impl IntoIterator<Item = Slot>) -> Self {
        Self { slots: slots.into_iter().collect(), timing: Timing::default() }
    }

    /// `L` of that slot.
    #[must_use]
    pub fn max_lifetime(&self, slot: &Slot) -> Duration {
        slot.max_lifetime.unwrap_or(self.timing.max_lifetime)
    }

    pub(crate) fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == name)
    }
}
