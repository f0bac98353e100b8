use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use countersign_token::KeySet;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How many events wait for a watcher that does not come round to them; the oldest go first.
pub const MAX_EVENTS: usize = 64;

/// Something that an operator may want to know of a source.
///
/// Names of keys are the provider's text: escape them. None is longer than 256 bytes, and no set has more than 256 keys.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyEvent {
    /// Another set of keys is in force than before, or the first.
    Rotated {
        /// Its number.
        generation: u64,
        /// How many keys it has.
        keys: usize,
        /// The names of keys that the set before it did not have, compared by thumbprint; `None` for one without a `kid`.
        added: Vec<Option<Box<str>>>,
        /// The names of keys that only the set before it had, likewise.
        removed: Vec<Option<Box<str>>>,
    },
    /// The keys have outlived what they are good for, because they could not be fetched anew. They stay in force until
    /// [`max_stale`](crate::Remote::max_stale).
    Stale,
    /// The keys are too old to be believed. None are in force.
    TooOld,
    /// The keys were stale, or too old, and have been fetched again.
    Recovered,
    /// An answer with keys was not believed, so that the keys in force remain.
    Refused {
        /// Why, in words; control characters are escaped.
        reason: Arc<str>,
    },
    /// Keys that a cache, or an export, has kept are in force until the first fetch ends.
    Restored {
        /// How many.
        keys: usize,
        /// How long ago their provider confirmed them.
        age: Duration,
    },
    /// The provider's clock disagrees with ours by more than is [tolerated](crate::Remote::clock_tolerance): tokens will be refused as
    /// expired, or as not valid yet, that are neither. Said once until they agree again.
    ClockOff {
        /// How far the provider's clock is ahead, seconds; negative if it is behind.
        seconds: i64,
    },
    /// The watcher was so slow that this many events were dropped. [`KeysHandle::status`](crate::KeysHandle::status) says how
    /// things are.
    Missed(u64),
    /// A fetch brought nothing.
    Failed {
        /// Why, in words; control characters are escaped.
        error: Arc<str>,
    },
}

/// For logs.
impl fmt::Display for KeyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rotated { generation, keys, added, removed } => {
                let (added, removed) = (added.len(), removed.len());
                write!(f, "key set {generation} is in force: {keys} keys, {added} new, {removed} gone")
            }
            Self::Stale => f.write_str("the keys are stale"),
            Self::TooOld => f.write_str("the keys are too old to be trusted"),
            Self::Recovered => f.write_str("the keys are fresh again"),
            Self::Refused { reason } => write!(f, "an answer was not believed: {reason}"),
            Self::Restored { keys, age } => {
                write!(f, "{keys} keys that were kept are in force, {} s old", age.as_secs())
            }
            Self::ClockOff { seconds } => write!(f, "the provider's clock is {}", Offset(*seconds)),
            Self::Missed(count) => write!(f, "{count} events were missed"),
            Self::Failed { error } => write!(f, "the keys could not be fetched: {error}"),
        }
    }
}

/// How far a clock is ahead of ours, seconds, in words.
pub(crate) struct Offset(pub(crate) i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s {} ours", self.0.unsigned_abs(), if self.0 < 0 { "behind" } else { "ahead of" })
    }
}

impl KeyEvent {
    pub(crate) fn rotated(old: Option<&KeySet>, new: &KeySet) -> Self {
        let thumbprints = |set: &KeySet| set.iter().map(|key| *key.thumbprint()).collect::<HashSet<_>>();
        let (before, after) = (old.map(thumbprints).unwrap_or_default(), thumbprints(new));
        let names = |set: &KeySet, others: &HashSet<_>| {
            set.iter().filter(|key| !others.contains(key.thumbprint())).map(|key| key.kid().map(Into::into)).collect()
        };
        Self::Rotated {
            generation: new.generation(),
            keys: new.len(),
            added: names(new, &before),
            removed: old.map(|old| names(old, &after)).unwrap_or_default(),
        }
    }
}

/// An event, and the name of the source in logs.
pub(crate) type Named = (Arc<str>, KeyEvent);

/// The events of a source from now on. Made by [`KeysHandle::events`](crate::KeysHandle::events).
#[derive(Debug)]
pub struct KeyEvents(pub(crate) Vec<broadcast::Receiver<Named>>);

impl KeyEvents {
    /// Waits for the next event. `None` if there can be no more: keys that never change have none, and the source may be gone.
    ///
    /// # Cancel safety
    /// No event is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<KeyEvent> {
        self.next_named().await.map(|(_, event)| event)
    }

    /// The same, with the name that the source has in logs: its URL without the query, or its issuer. For sources with many.
    pub async fn next_named(&mut self) -> Option<(Arc<str>, KeyEvent)> {
        loop {
            let (index, received) = {
                let mut receiving: Vec<_> = self.0.iter_mut().map(|receiver| Box::pin(receiver.recv())).collect();
                if receiving.is_empty() {
                    return None;
                }
                poll_fn(|context| {
                    for (index, receiving) in receiving.iter_mut().enumerate() {
                        if let Poll::Ready(received) = receiving.as_mut().poll(context) {
                            return Poll::Ready((index, received));
                        }
                    }
                    Poll::Pending
                })
                .await
            };
            match received {
                Ok(named) => return Some(named),
                Err(RecvError::Lagged(count)) => return Some(("".into(), KeyEvent::Missed(count))),
                Err(RecvError::Closed) => drop(self.0.swap_remove(index)),
            }
        }
    }
}
