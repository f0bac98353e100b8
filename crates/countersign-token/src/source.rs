use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::algorithm::Algorithm;
use crate::compact::UnverifiedToken;
use crate::keyset::KeySet;

/// Where a verifier finds its keys: a snapshot that can be read without waiting, and something to wait for when the
/// snapshot does not have the key.
///
/// A verifier knows nothing else of fetching, files or runtimes; a JWKS URL, a static set and an issuer in the same
/// process all look like this. The trait is not object-safe, so that snapshots cost no allocation and no reference
/// count; a source that is one of several kinds is an enum.
///
/// # Security & performance
/// `snapshot` is called once per request and must not block. `ask` is called for tokens that nobody has vouched for:
/// whatever it does must be bounded in number and in time, and must not do more work for more such tokens.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of keys",
    note = "use `countersign_jwks::Keys`, a `KeySet`, or an `Arc` of either"
)]
pub trait KeySource: Send + Sync + 'static {
    /// A key set that stays whole and readable for as long as this is held. Held briefly: never across an `.await`.
    type Snapshot<'a>: Deref<Target = KeySet>
    where
        Self: 'a;

    /// What a request that lacks a key waits for; bounded in time by the source itself.
    type Waiting: Future<Output = Answer> + Send + 'static;

    /// The keys in force, or `None` while there are none that may be used: not yet fetched, or too old.
    fn snapshot(&self) -> Option<Self::Snapshot<'_>>;

    /// The keys in force for this token, for sources that keep those of several issuers apart and choose by
    /// [who it says it is from](UnverifiedToken::with_unverified_issuer). Others have the same keys for every token.
    fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<Self::Snapshot<'_>> {
        let _ = token;
        self.snapshot()
    }

    /// The keys in force for every token that a key has verified and whose `iss` is what `issuer` says: those of [`snapshot_for`](Self::snapshot_for), without
    /// taking the token apart again. `None` if there are none, or if the source cannot tell them by the issuer; it is asked by token then.
    ///
    /// A source that only ever has one set of keys gives its [`snapshot`](Self::snapshot).
    fn snapshot_for_issuer<'i>(&self, issuer: impl FnOnce() -> Option<&'i str>) -> Option<Self::Snapshot<'_>> {
        let _ = issuer;
        None
    }

    /// Whether there are keys for any token at all: it is what makes the difference between "ask again" and "unavailable" for one that
    /// there are none for.
    fn has_keys(&self) -> bool {
        self.snapshot().is_some()
    }

    /// Called when the snapshot had no key for a token, or when there was no snapshot.
    ///
    /// The caller notes `miss.generation` *before* its look-up, so that a set published in between is not missed.
    fn ask(&self, miss: Miss<'_>) -> Ask<Self::Waiting>;

    /// Whether it is known already that nobody has the key for a token: [`ask`](Self::ask) would answer [`Answer::Absent`] at once. Asked first, because
    /// a token of an unknown key need not be looked at any further. By default nothing is known.
    fn is_known_absent(&self, miss: Miss<'_>) -> bool {
        let _ = miss;
        false
    }

    /// Told when a token's signature did not match the key of that name: the source may look whether the key was
    /// replaced under its old name. Never waits, never delays the refusal. By default nothing happens.
    fn signature_mismatch(&self, miss: Miss<'_>) {
        let _ = miss;
    }
}

/// The look-up that failed.
#[derive(Clone, Copy, Debug)]
pub struct Miss<'a> {
    /// [`KeySet::generation`] of the snapshot that was looked at; `None` when there was none.
    pub generation: Option<u64>,
    /// The token's `kid`: hostile text.
    pub kid: Option<&'a str>,
    /// The token's algorithm.
    pub algorithm: Algorithm,
    /// The token itself, for sources that have to know whose key it is. `None` if the asker has none; such a source then has no key.
    pub token: Option<&'a UnverifiedToken<'a>>,
}

/// What a source says to a [`Miss`].
#[derive(Debug)]
pub enum Ask<W> {
    /// The answer is known.
    Answered(Answer),
    /// The answer comes.
    Wait(W),
}

/// How a [`Miss`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// There is a newer snapshot: look again.
    Changed,
    /// A look at the source that began after the kid was first seen did not find it: the token's fault.
    Absent,
    /// There are keys of several issuers, and the token says that it is from none of them: the token's fault.
    UnknownIssuer,
    /// There are usable keys, but nobody could look for this one in time: ask again.
    NotYet {
        /// When asking again may help, seconds from now.
        retry_after: Duration,
    },
    /// There are no usable keys: nobody's token can be judged.
    Unavailable {
        /// Why.
        reason: Unready,
        /// When asking again may help, seconds from now.
        retry_after: Duration,
    },
}

/// Why there are no usable keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unready {
    /// The first look at the source has not ended yet.
    Starting,
    /// No look at the source has succeeded so far.
    NeverFetched,
    /// The last good set is older than may be trusted.
    TooOld,
    /// There is no async runtime to run the fetching task on.
    NoRuntime,
    /// The issuer has withdrawn all its keys.
    NoKeys,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "the first fetch of the keys has not ended yet",
            Self::NeverFetched => "the keys could not be fetched yet",
            Self::TooOld => "the keys are too old to be trusted",
            Self::NoKeys => "the issuer has no usable keys any more",
            Self::NoRuntime => "there is no async runtime to fetch the keys on",
        })
    }
}

/// A static set: what it does not have, it will never have.
impl KeySource for KeySet {
    type Snapshot<'a> = &'a KeySet;
    type Waiting = std::future::Ready<Answer>;

    fn snapshot(&self) -> Option<Self::Snapshot<'_>> {
        Some(self)
    }

    fn snapshot_for_issuer<'i>(&self, _: impl FnOnce() -> Option<&'i str>) -> Option<Self::Snapshot<'_>> {
        Some(self)
    }

    fn ask(&self, _: Miss<'_>) -> Ask<Self::Waiting> {
        Ask::Answered(Answer::Absent)
    }

    fn is_known_absent(&self, _: Miss<'_>) -> bool {
        true
    }
}

impl<K: KeySource> KeySource for std::sync::Arc<K> {
    type Snapshot<'a> = K::Snapshot<'a>;
    type Waiting = K::Waiting;

    fn snapshot(&self) -> Option<Self::Snapshot<'_>> {
        K::snapshot(self)
    }

    fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<Self::Snapshot<'_>> {
        K::snapshot_for(self, token)
    }

    fn snapshot_for_issuer<'i>(&self, issuer: impl FnOnce() -> Option<&'i str>) -> Option<Self::Snapshot<'_>> {
        K::snapshot_for_issuer(self, issuer)
    }

    fn has_keys(&self) -> bool {
        K::has_keys(self)
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Self::Waiting> {
        K::ask(self, miss)
    }

    fn is_known_absent(&self, miss: Miss<'_>) -> bool {
        K::is_known_absent(self, miss)
    }

    fn signature_mismatch(&self, miss: Miss<'_>) {
        K::signature_mismatch(self, miss);
    }
}
