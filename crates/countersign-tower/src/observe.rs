use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign_claims::Verified;

use crate::refusal::Refusal;

/// Sees what the layer makes of each request: for metrics, traces, audit logs.
///
/// The layer calls it once for each request, on the request's own way: it must not block, and should not allocate. Handlers and
/// [per-route requirements](crate::require) that refuse a request which the layer has let through report that as well, as
/// [`Outcome::Refused`] after the layer's [`Outcome::Admitted`] or [`Outcome::Anonymous`], with [`Judged::is_by_handler`].
///
/// Not heard of is what does not know of the layer: an [`ExtractError`](crate::handler::ExtractError) that became a `tonic::Status` by `?`,
/// unless a permit was denied, and a [`Forbidden`](crate::handler::Forbidden) made from a bare [`Denied`](countersign_claims::Denied).
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use countersign_tower::{Judged, Observer, Outcome};
///
/// #[derive(Default)]
/// struct Refused(AtomicU64);
///
/// impl Observer for Refused {
///     fn judged(&self, judged: &Judged<'_>) {
///         if let Outcome::Refused(_) = judged.outcome() {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not observe judgements",
    label = "not an `Observer`",
    note = "an observer is a type of yours: `impl Observer for MyMetrics {{ fn judged(&self, judged: &Judged<'_>) {{ … }} }}`"
)]
pub trait Observer: Send + Sync + 'static {
    /// A request has been judged.
    fn judged(&self, judged: &Judged<'_>);
}

/// One that several share.
impl<O: Observer> Observer for Arc<O> {
    fn judged(&self, judged: &Judged<'_>) {
        (**self).judged(judged);
    }
}

/// One judgement, for an [`Observer`].
#[derive(Clone, Copy, Debug)]
pub struct Judged<'r> {
    pub(crate) outcome: Outcome<'r>,
    pub(crate) issuer: Option<&'r str>,
    pub(crate) took: Option<Duration>,
    pub(crate) waited: Option<Duration>,
    pub(crate) by_handler: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Outcome<'r> {
    /// Its token is good: it goes on, with its claims.
    Admitted(&'r Verified),
    /// It was refused.
    Refused(&'r Refusal),
    /// It goes on without a caller, because [that is allowed](crate::RequireJwtLayer::optional): there was no token, or, if that is
    /// allowed too, one that is not valid.
    Anonymous(Option<&'r Refusal>),
    /// Nobody looked at its token: its path is [exempt](crate::RequireJwtLayer::exempt).
    Exempt,
    /// Nobody looked at its token: it is a CORS preflight, and those are [let through](crate::RequireJwtLayer::allow_cors_preflight).
    Preflight,
    /// It went on whatever its token is, because the layer only [watches](crate::RequireJwtLayer::shadow); it would have been admitted.
    ShadowAdmitted(&'r Verified),
    /// It went on whatever its token is; it would have been refused.
    ShadowRefused(&'r Refusal),
    /// It went on whatever its token is; it would have had to wait for its key, so it is not known what would have become of it.
    ShadowUndecided,
}

impl Outcome<'_> {
    /// A short stable name for metrics and logs, out of [`Outcome::NAMES`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Admitted(_) => "admitted",
            Self::Refused(_) => "refused",
            Self::Anonymous(_) => "anonymous",
            Self::Exempt => "exempt",
            Self::Preflight => "preflight",
            Self::ShadowAdmitted(_) => "shadow_admitted",
            Self::ShadowRefused(_) => "shadow_refused",
            Self::ShadowUndecided => "shadow_undecided",
        }
    }

    /// All that [`name`](Self::name) can be.
    pub const NAMES: [&'static str; 8] = [
        "admitted",
        "refused",
        "anonymous",
        "exempt",
        "preflight",
        "shadow_admitted",
        "shadow_refused",
        "shadow_undecided",
    ];
}

impl<'r> Outcome<'r> {
    /// Why it was refused, would have been, or is anonymous in spite of a token.
    #[must_use]
    pub fn refusal(&self) -> Option<&'r Refusal> {
        match self {
            Self::Refused(refusal) | Self::ShadowRefused(refusal) => Some(refusal),
            Self::Anonymous(refusal) => *refusal,
            _ => None,
        }
    }

    /// The token, if it is good.
    #[must_use]
    pub fn verified(&self) -> Option<&'r Verified> {
        match self {
            Self::Admitted(verified) | Self::ShadowAdmitted(verified) => Some(verified),
            _ => None,
        }
    }
}

impl<'r> Judged<'r> {
    /// All that [`name`](Self::name) can be: [`Outcome::NAMES`], and `refused_by_handler`.
    pub const NAMES: [&'static str; 9] = [
        "admitted",
        "refused",
        "refused_by_handler",
        "anonymous",
        "exempt",
        "preflight",
        "shadow_admitted",
        "shadow_refused",
        "shadow_undecided",
    ];

    /// A short stable name for metrics and logs, out of [`Judged::NAMES`]: [`Outcome::name`], but that refusals by handlers have another,
    /// because these requests have been counted before. Without those, the names add up to the requests.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.by_handler { "refused_by_handler" } else { self.outcome.name() }
    }

    /// What became of the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome<'r> {
        self.outcome
    }

    /// Why it was refused, or would have been: [`Refusal::code`], out of a fixed set.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        self.outcome.refusal().map(Refusal::code)
    }

    /// The issuer as it is *configured*, or as the key that verified the token is bound to it; never what a token says on its own.
    /// With one configured issuer it is that one, whatever became of the request; with several, only where the token is good.
    #[must_use]
    pub fn issuer(&self) -> Option<&'r str> {
        self.issuer
    }

    /// How long the judgement took, without the wait for a key and without the inner service. `None` if it was not measured: what
    /// handlers refuse.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        self.took
    }

    /// How long the request waited for its key; `None` if it did not.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        self.waited
    }

    /// Whether the layer let the request through, and a handler or a route's requirement has refused it: it is counted twice then.
    #[must_use]
    pub fn is_by_handler(&self) -> bool {
        self.by_handler
    }
}

/// For `Debug` of what holds observers: how many there are.
pub(crate) struct Count(pub(crate) usize);

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0)
    }
}
