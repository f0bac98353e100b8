//! The kinds of work, and how it fails.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::seal::SealError;
use crate::step::{Effect, Failure, OpenFailure};
use crate::store::{StoreError, StoreErrorKind};

/// A piece of work, for events, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Work {
    /// Read the state and the store's clock.
    LoadState,
    /// Write the state.
    SaveState,
    /// Make a key.
    MakeKey,
    /// Read the published set from the store.
    ReadPublished,
    /// Write the published set.
    Publish,
    /// Read the published set where verifiers do.
    ReadBack,
    /// Seal a private part and store it.
    StorePrivate,
    /// Read a private part, unseal it and test it.
    OpenPrivate,
    /// Seal a private part anew, under the first key-encryption key.
    RewrapPrivate,
    /// Destroy a private part.
    DestroyPrivate,
    /// List the private parts.
    ListPrivate,
    /// Tell the sink of a revoked key.
    PushRevocation,
}

impl Work {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::LoadState,
        Self::SaveState,
        Self::MakeKey,
        Self::ReadPublished,
        Self::Publish,
        Self::ReadBack,
        Self::StorePrivate,
        Self::OpenPrivate,
        Self::RewrapPrivate,
        Self::DestroyPrivate,
        Self::ListPrivate,
        Self::PushRevocation,
    ];

    /// As it stands in metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::LoadState => "load_state",
            Self::SaveState => "save_state",
            Self::MakeKey => "make_key",
            Self::ReadPublished => "read_published",
            Self::Publish => "publish",
            Self::ReadBack => "read_back",
            Self::StorePrivate => "store_private",
            Self::OpenPrivate => "open_private",
            Self::RewrapPrivate => "rewrap_private",
            Self::DestroyPrivate => "destroy_private",
            Self::ListPrivate => "list_private",
            Self::PushRevocation => "push_revocation",
        }
    }

    /// What an effect is; `None` of those that are done at once.
    pub(super) fn of(effect: &Effect) -> Option<Self> {
        Some(match effect {
            Effect::Load => Self::LoadState,
            Effect::Save { .. } => Self::SaveState,
            Effect::Generate { .. } => Self::MakeKey,
            Effect::ReadPublished => Self::ReadPublished,
            Effect::Publish { .. } => Self::Publish,
            Effect::ReadBack => Self::ReadBack,
            Effect::Seal { .. } => Self::StorePrivate,
            Effect::Open { .. } => Self::OpenPrivate,
            Effect::Destroy { .. } => Self::DestroyPrivate,
            Effect::ListSealed => Self::ListPrivate,
            Effect::PushRevocation { .. } => Self::PushRevocation,
            _ => return None,
        })
    }
}

/// Whether a test is told of an effect that has not begun or of one that has ended.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// Nothing of it was done.
    Before,
    /// It was done, and nobody has heard of it.
    After,
}

/// How something failed: what the core makes of it, and what people read.
pub(super) struct Failed<F> {
    pub(super) failure: F,
    pub(super) text: Arc<str>,
}

impl<F> Failed<F> {
    pub(super) fn new(failure: F, text: impl Into<Arc<str>>) -> Self {
        Self { failure, text: text.into() }
    }
}

impl From<StoreError> for Failed<Failure> {
    fn from(error: StoreError) -> Self {
        let failure = match error.kind() {
            StoreErrorKind::NotFound => Failure::NotFound,
            StoreErrorKind::Conflict => Failure::Conflict,
            StoreErrorKind::Unknown => Failure::Unknown,
            StoreErrorKind::Unavailable => Failure::Unavailable,
            StoreErrorKind::Denied | StoreErrorKind::Unfit => Failure::Denied,
        };
        Self::new(failure, error.to_string())
    }
}

impl From<StoreError> for Failed<OpenFailure> {
    fn from(error: StoreError) -> Self {
        let failure = match error.kind() {
            StoreErrorKind::NotFound => OpenFailure::NotFound,
            // The last two are no answers to a read.
            StoreErrorKind::Unavailable | StoreErrorKind::Unknown | StoreErrorKind::Conflict => {
                OpenFailure::Unavailable
            }
            StoreErrorKind::Denied | StoreErrorKind::Unfit => OpenFailure::Denied,
        };
        Self::new(failure, error.to_string())
    }
}

impl From<SealError> for Failed<OpenFailure> {
    fn from(error: SealError) -> Self {
        let failure = match error {
            SealError::Crypto => OpenFailure::Unavailable,
            _ => OpenFailure::Undecryptable,
        };
        Self::new(failure, error.to_string())
    }
}

/// A store that never answers must not stop the node.
pub(super) async fn within<T>(
    limit: Duration,
    late: StoreErrorKind,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::new(late, format!("the store has not answered within {limit:?}"));
    timeout(limit, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_told_as_it_is_and_only_not_found_is_missing() {
        for (kind, failure, open) in [
            (StoreErrorKind::NotFound, Failure::NotFound, OpenFailure::NotFound),
            (StoreErrorKind::Conflict, Failure::Conflict, OpenFailure::Unavailable),
            (StoreErrorKind::Unknown, Failure::Unknown, OpenFailure::Unavailable),
            (StoreErrorKind::Unavailable, Failure::Unavailable, OpenFailure::Unavailable),
            (StoreErrorKind::Denied, Failure::Denied, OpenFailure::Denied),
            (StoreErrorKind::Unfit, Failure::Denied, OpenFailure::Denied),
        ] {
            assert_eq!(Failed::<Failure>::from(StoreError::new(kind, "")).failure, failure);
            assert_eq!(Failed::<OpenFailure>::from(StoreError::new(kind, "")).failure, open);
        }
        for error in [SealError::Undecryptable, SealError::Malformed, SealError::UnknownVersion(2), SealError::TooLarge]
        {
            assert_eq!(Failed::<OpenFailure>::from(error).failure, OpenFailure::Undecryptable);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_has_answered_after_the_limit() {
        let hangs = std::future::pending::<Result<(), StoreError>>();
        let error = within(Duration::from_secs(5), StoreErrorKind::Unknown, hangs).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unknown);
    }
}
