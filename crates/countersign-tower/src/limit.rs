use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap};

use crate::refusal::Refusal;

/// A limit on refused requests, so that whoever tries tokens is slowed down. Only refusals count, and only they are limited: a valid
/// caller behind the same address notices nothing. `PeerLimit`, with the feature `governor`, is one.
pub trait RefusalLimit: Send + Sync + 'static {
    /// Counts a refusal. `Some` is the time after which its sender may come again: the answer is then 429
    /// ([`Refusal::Limited`]) in place of what it would have been, and says nothing of the token.
    fn retry_after(&self, refused: &Refused<'_>) -> Option<Duration>;
}

/// One that several layers share.
impl<L: RefusalLimit> RefusalLimit for Arc<L> {
    fn retry_after(&self, refused: &Refused<'_>) -> Option<Duration> {
        (**self).retry_after(refused)
    }
}

/// A request that is about to be refused.
#[derive(Clone, Copy)]
pub struct Refused<'r> {
    pub(crate) refusal: &'r Refusal,
    pub(crate) headers: &'r HeaderMap,
    pub(crate) extensions: &'r Extensions,
}

impl<'r> Refused<'r> {
    /// Why.
    #[must_use]
    pub fn refusal(&self) -> &'r Refusal {
        self.refusal
    }

    /// The request's headers, its own token among them: not for logs.
    #[must_use]
    pub fn headers(&self) -> &'r HeaderMap {
        self.headers
    }

    /// The request's extensions, where servers put the peer's address.
    #[must_use]
    pub fn extensions(&self) -> &'r Extensions {
        self.extensions
    }
}

/// Without the headers, which hold the token, and the extensions.
impl fmt::Debug for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_does_not_show_its_token() {
        let headers = [(http::header::AUTHORIZATION, http::HeaderValue::from_static("Bearer a.secret.b"))];
        let headers = headers.into_iter().collect();
        let refused =
            Refused { refusal: &Refusal::MalformedCredentials, headers: &headers, extensions: &Extensions::new() };
        assert!(!format!("{refused:?}").contains("secret"));
    }
}
