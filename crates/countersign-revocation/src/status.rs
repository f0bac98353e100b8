use std::borrow::Cow;
use std::time::Duration;

/// A [list](crate::RevocationList) in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListStatus {
    /// How many tokens (`jti`s) are revoked.
    pub tokens: usize,
    /// How many keys.
    pub keys: usize,
    /// How many cut-offs there are.
    pub cut_offs: usize,
    /// How much memory that takes, in bytes, with what is over and not cleared away yet.
    pub bytes: usize,
    /// How old it is: the age of the feed that is oldest. Zero without feeds, `None` if one of them has not delivered yet, or not everything.
    pub age: Option<Duration>,
    /// Whether something could not be taken because there is no room.
    pub full: bool,
    /// Whether a feed could not hand on everything, so that something is revoked that is not known here.
    pub incomplete: bool,
    /// What it follows, in that order.
    pub feeds: Vec<FeedStatus>,
}

/// One of a list's feeds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedStatus {
    /// What it calls itself.
    pub name: Cow<'static, str>,
    /// How old what it has delivered is; `None`: nothing yet, or not everything.
    pub age: Option<Duration>,
    /// How many entries (tokens, keys and cut-offs) come from it.
    pub entries: usize,
    /// What went wrong last, if nothing has gone well since.
    pub last_error: Option<Cow<'static, str>>,
}
