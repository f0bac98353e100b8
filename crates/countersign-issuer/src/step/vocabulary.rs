//! What the shell and the core say to each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::UnixTime;

use crate::publication::Publication;
use crate::state::{PublicJwk, RingState};
use crate::store::Version;

/// How the store, or whoever serves the public set, did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// It is certainly not there.
    NotFound,
    /// Another version is there, or so it is said: it may be one's own, if a client has tried again after an answer was
    /// lost.
    Conflict,
    /// It may have happened, or may yet happen.
    Unknown,
    /// It did not happen, because the store could not be reached or did not work.
    Unavailable,
    /// It did not happen, because it is not allowed.
    Denied,
    /// What is there cannot be understood.
    Unreadable,
}

/// How the private part of a key could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenFailure {
    /// It is certainly not there. The only one of them that is a reason to rotate.
    NotFound,
    /// The store, or who unseals, cannot be reached.
    Unavailable,
    /// It may not be read, or not be unsealed.
    Denied,
    /// It cannot be unsealed with what this node has.
    Undecryptable,
    /// It is there, and it is not the private part of the key that is published.
    Mismatch,
}

/// What has happened.
///
/// Each [`Effect`] that asks for something is answered by exactly one event, unless the process dies. There is never
/// more than one unanswered of each kind (and `kid` or slot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The shell wants to end as soon as the node [owes nothing](super::Node::owes_nothing): it makes no more keys, and
    /// hurries with those that it has announced.
    End,
    /// Somebody wants something. The answer is an [`Effect::Reply`] with that number.
    Command {
        /// Chosen by the shell, unlike that of any other command of this process.
        id: u64,
        /// What.
        command: Command,
    },
    /// The answer to [`Effect::Load`].
    Loaded(Result<Loaded, Failure>),
    /// The answer to [`Effect::Save`].
    Saved(Result<Version, Failure>),
    /// The answer to [`Effect::Generate`].
    Generated {
        /// Its slot.
        slot: String,
        /// The public part; the shell keeps the private one by its `kid`. `None` if none could be made.
        key: Option<PublicJwk>,
    },
    /// The answer to [`Effect::ReadPublished`]: the bytes, if there are any.
    PublishedRead(Result<ReadSet, Failure>),
    /// The answer to [`Effect::Publish`].
    Published(Result<Version, Failure>),
    /// The answer to [`Effect::ReadBack`].
    ReadBack(Result<Arc<[u8]>, Failure>),
    /// The answer to [`Effect::Seal`].
    Sealed {
        /// Whose.
        kid: String,
        /// Whether.
        result: Result<(), Failure>,
    },
    /// The answer to [`Effect::Open`].
    Opened {
        /// Whose.
        kid: String,
        /// Whether the shell has the private part now, unsealed from what is stored and tested against the public one.
        result: Result<(), OpenFailure>,
    },
    /// The answer to [`Effect::Destroy`].
    Destroyed {
        /// Whose.
        kid: String,
        /// Whether; that there was none is a success.
        result: Result<(), Failure>,
    },
    /// The answer to [`Effect::ListSealed`]: the names of all stored private parts.
    SealedListed(Result<Vec<String>, Failure>),
    /// The answer to [`Effect::PushRevocation`].
    RevocationPushed {
        /// Whose.
        kid: String,
        /// Whether the sink has taken it.
        is_done: bool,
    },
}

/// The published set as it was read from the store; `None` if there is certainly none.
pub type ReadSet = Option<(Arc<[u8]>, Version)>;

/// The state as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// `None` if there is certainly none.
    pub state: Option<(Arc<RingState>, Version)>,
    /// What time it was by the store's clock, in whole seconds, while it was read; `None` if it has none.
    pub store_time: Option<UnixTime>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Read the state.
    Load,
    /// Write the state, if that version is still there; with `None`, if there is none.
    Save {
        /// What to write.
        state: Arc<RingState>,
        /// Over what.
        expected: Option<Version>,
    },
    /// Make a key, test it by a signature, keep its private part by its `kid`.
    Generate {
        /// For which slot.
        slot: String,
    },
    /// Read the published set from the store.
    ReadPublished,
    /// Write the published set, if that version is still there; with `None`, if there is none.
    Publish {
        /// What to write.
        publication: Publication,
        /// Over what.
        expected: Option<Version>,
    },
    /// Read the published set from the URL from which verifiers read it.
    ReadBack,
    /// Seal the private part that is in memory and store it, if there is none of that name.
    Seal {
        /// Whose.
        kid: String,
    },
    /// Read the stored private part, unseal it, sign with it and verify with this public part; keep it to sign with.
    Open {
        /// Whose.
        kid: String,
        /// The part that is published.
        jwk: PublicJwk,
    },
    /// Destroy the stored private part.
    Destroy {
        /// Whose.
        kid: String,
    },
    /// List the stored private parts.
    ListSealed,
    /// Forget the private part that is in memory. No answer.
    Forget {
        /// Whose.
        kid: String,
    },
    /// Tell verifiers that nothing of this key counts any more.
    PushRevocation {
        /// Whose.
        kid: String,
        /// Until when tokens of it may be offered.
        until: UnixTime,
    },
    /// Answer a command.
    Reply {
        /// Which.
        id: u64,
        /// With what.
        reply: Reply,
    },
    /// Tell the operator: metric, event, log. No answer; not repeated while it stays so.
    Alarm(Alarm),
    /// What was alarming is so no more. No answer.
    Clear(Alarm),
    /// Say that something has happened, for events and metrics. No answer.
    Note(Note),
    /// Send a [`Event::Tick`] after that time, or anything else before. No answer; the last one counts.
    Wake(Duration),
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Make the standby the active key, at once if there is one, else as soon as there is.
    Rotate {
        /// In which slots; in all of them if there is none.
        slots: Vec<String>,
    },
    /// Nothing that these keys have signed shall count any more.
    Compromise {
        /// Which.
        which: Compromised,
        /// What to do where no key is left to sign with: with `true` the next key signs as soon as it was read back,
        /// which verifiers accept that look for a key they do not know; with `false` it waits until nobody can lack it
        /// (I1).
        sign_at_once: bool,
    },
    /// Give up a key that has not signed yet.
    Abandon {
        /// Which.
        kid: String,
    },
    /// Take over keys of a service that has signed with them.
    Adopt {
        /// All of them.
        keys: Vec<Adopted>,
    },
}

/// Which keys are compromised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Compromised {
    /// One.
    Key(String),
    /// Those that sign in these slots; in all of them if there is none.
    Signing(Vec<String>),
    /// All that there are, standbys and retiring ones included.
    All,
}

/// A key of a running service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Adopted {
    /// Into which slot.
    pub slot: String,
    /// Its public part, with the `kid` that its tokens have.
    pub jwk: PublicJwk,
    /// To go on signing with it: the shell has the private part in memory, by its `kid`. Otherwise its tokens are only
    /// verified.
    pub signs: bool,
    /// Until when tokens live that the service has signed with it.
    pub tokens_until: UnixTime,
    /// When it has to be gone, if it has to.
    pub remove_at: Option<UnixTime>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The slots that were rotated, and those that will be as soon as they have a standby.
    Rotated {
        /// Now.
        now: Vec<String>,
        /// Later.
        later: Vec<String>,
    },
    /// The keys are revoked, and this is what remains.
    Revoked {
        /// Which.
        kids: Vec<String>,
        /// For how long their tokens may still be accepted.
        exposure: Exposure,
        /// The slots that do not sign for now.
        halted: Vec<String>,
    },
    /// It is given up.
    Abandoned,
    /// They are part of the ring.
    Adopted,
    /// It had been done before, in a write whose answer was lost.
    Done,
    /// It is not done, and will not be.
    Refused(Refusal),
}

/// For how long tokens of a revoked key may still be accepted (I9), from the reply on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exposure {
    /// By verifiers with a live feed: `min(V, C + P) + ε`, with the `C` of the other.
    pub with_feed: Duration,
    /// By those without: `C + P + ε`, with an `A` of [`KEPT_AT_LEAST`](crate::KEPT_AT_LEAST) if it is shorter, as long as they can fetch the set; otherwise until their own limit.
    pub without_feed: Duration,
}

/// Whole seconds, rounded up.
impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [with_feed, without_feed] =
            [self.with_feed, self.without_feed].map(|time| time.as_millis().div_ceil(1_000));
        write!(f, "for {with_feed} s where a feed is followed, and for {without_feed} s where the keys are fetched")
    }
}

/// Why a command is not done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such slot.
    NoSuchSlot(String),
    /// There is no such key.
    NoSuchKey(String),
    /// The key is in a state in which that cannot be done.
    WrongState(String),
    /// The slot has a key that signs, or is about to.
    SlotTaken(String),
    /// A `kid` that was used before.
    KidUsed(String),
    /// The store did not take the write in time. It may have been applied if `is_doubtful`.
    StoreFailed {
        /// Whether.
        is_doubtful: bool,
    },
    /// The clock of this node is not to be trusted.
    ClockUnsound,
    /// The set would have too many keys (I7).
    TooManyKeys,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchSlot(slot) => write!(f, "there is no slot `{slot}`"),
            Self::NoSuchKey(kid) => write!(f, "there is no key {kid}"),
            Self::WrongState(kid) => write!(f, "key {kid} is in a state in which that cannot be done"),
            Self::SlotTaken(slot) => write!(f, "slot `{slot}` has a key that signs, or is about to"),
            Self::KidUsed(kid) => write!(f, "there is, or was, a key {kid}"),
            Self::StoreFailed { is_doubtful: true } => {
                f.write_str("the store did not say whether it is done: look again")
            }
            Self::StoreFailed { is_doubtful: false } => f.write_str("the store did not take it"),
            Self::ClockUnsound => f.write_str("the clock of this node is not to be trusted"),
            Self::TooManyKeys => f.write_str("the published set would have too many keys"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What an operator has to know, until it is over. `OBSERVABILITY.md` says of each what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Alarm {
    /// The state cannot be read or written.
    StoreFailing(Failure),
    /// The published set cannot be read or written.
    PublishFailing(Failure),
    /// The published set cannot be read where verifiers read it.
    ReadBackFailing(Failure),
    /// The private part of a new key cannot be stored; the current keys stay.
    PrivateStoreFailed(String),
    /// The private part of a key cannot be had, which is no reason to rotate.
    PrivateUnavailable(String, OpenFailure),
    /// The private part of a key is certainly gone.
    PrivateMissing(String),
    /// A private part cannot be destroyed.
    DestroyFailing(String),
    /// No key can be made.
    GenerationFailing(String),
    /// This node's clock differs from the store's, or was set: it neither rotates nor signs (I10).
    ClockUnsound,
    /// A slot should have been rotated long since (I11).
    RotationOverdue(String),
    /// An older state was put in the place of one that this node remembers.
    StateRolledBack,
    /// There is a published set and no state: somebody has lost it, or the set is another service's, which can be
    /// adopted.
    StateLost,
    /// The published set was changed by somebody else.
    SetEdited,
    /// The published set has a key that no state knows; it is left as it is (I8).
    WouldShrink(String),
    /// The published set is a later one than the state knows.
    SetAhead,
    /// There is nothing to publish, or too much.
    Unpublishable,
    /// The sink does not take revocations.
    RevocationFailing(String),
    /// The core has prepared a write that breaks its own rules, and has not made it.
    Defect(String),
}

impl Alarm {
    /// All that [`code`](Self::code) can be.
    pub const CODES: [&'static str; 18] = [
        "store_failing",
        "publish_failing",
        "read_back_failing",
        "private_store_failed",
        "private_unavailable",
        "private_missing",
        "destroy_failing",
        "generation_failing",
        "clock_unsound",
        "rotation_overdue",
        "state_rolled_back",
        "state_lost",
        "set_edited",
        "would_shrink",
        "set_ahead",
        "unpublishable",
        "revocation_failing",
        "defect",
    ];

    /// The kind, as it stands in metrics: without the names that belong to it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        let at = match self {
            Self::StoreFailing(_) => 0,
            Self::PublishFailing(_) => 1,
            Self::ReadBackFailing(_) => 2,
            Self::PrivateStoreFailed(_) => 3,
            Self::PrivateUnavailable(..) => 4,
            Self::PrivateMissing(_) => 5,
            Self::DestroyFailing(_) => 6,
            Self::GenerationFailing(_) => 7,
            Self::ClockUnsound => 8,
            Self::RotationOverdue(_) => 9,
            Self::StateRolledBack => 10,
            Self::StateLost => 11,
            Self::SetEdited => 12,
            Self::WouldShrink(_) => 13,
            Self::SetAhead => 14,
            Self::Unpublishable => 15,
            Self::RevocationFailing(_) => 16,
            Self::Defect(_) => 17,
        };
        Self::CODES[at]
    }
}

/// What has happened, for events and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Note {
    /// This node has written a version of the state.
    Saved {
        /// Its number.
        seq: u64,
        /// The changes of keys in it: `kid`, and what it became.
        moves: Vec<(String, crate::state::KeyState)>,
    },
    /// Another node's version was seen.
    Seen {
        /// Its number.
        seq: u64,
    },
    /// A set was published.
    Published {
        /// Its number.
        seq: u64,
    },
    /// Another node was faster.
    LostRace,
    /// A write had been made although its answer said otherwise, or nothing.
    DoubtResolved,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alarm_has_a_code_of_its_own() {
        let name = String::new;
        let alarms = [
            Alarm::StoreFailing(Failure::Denied),
            Alarm::PublishFailing(Failure::Denied),
            Alarm::ReadBackFailing(Failure::Denied),
            Alarm::PrivateStoreFailed(name()),
            Alarm::PrivateUnavailable(name(), OpenFailure::Denied),
            Alarm::PrivateMissing(name()),
            Alarm::DestroyFailing(name()),
            Alarm::GenerationFailing(name()),
            Alarm::ClockUnsound,
            Alarm::RotationOverdue(name()),
            Alarm::StateRolledBack,
            Alarm::StateLost,
            Alarm::SetEdited,
            Alarm::WouldShrink(name()),
            Alarm::SetAhead,
            Alarm::Unpublishable,
            Alarm::RevocationFailing(name()),
            Alarm::Defect(name()),
        ];
        assert_eq!(alarms.each_ref().map(Alarm::code), Alarm::CODES);
        // The name of each is that of its variant.
        for alarm in &alarms {
            let variant: String = format!("{alarm:?}").chars().take_while(char::is_ascii_alphanumeric).collect();
            assert_eq!(alarm.code().replace('_', ""), variant.to_ascii_lowercase());
        }
    }
}
