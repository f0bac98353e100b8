//! A JWK Set behind a URL.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use countersign_token::{Fetch, FetchError, FetchRequest, Fetched};
use url::Url;

use crate::hints::Hints;
use crate::load::{Document, Landing, Load, Loading, Look, MAX_BODY_BYTES};
use crate::shared::since_epoch;

pub(crate) struct JwksUrl {
    url: Url,
    /// Tells its validators from those of other places.
    place: u64,
    fetch: Arc<dyn Fetch>,
}

impl JwksUrl {
    pub(crate) fn new(url: Url, fetch: Arc<dyn Fetch>) -> Self {
        let place = BuildHasherDefault::<DefaultHasher>::default().hash_one(&url);
        Self { url, place, fetch }
    }

    async fn look(&self, look: Look) -> Landing {
        let mut request = FetchRequest::new(self.url.as_str(), MAX_BODY_BYTES, look.timeout);
        request.revalidate = look.revalidate;
        // What another place said of its document says nothing of this one.
        let is_conditional = look.validators.place == self.place && !look.validators.is_empty();
        if is_conditional {
            request.etag = look.validators.etag.as_deref().map(Into::into);
            request.last_modified = look.validators.last_modified.as_deref().map(Into::into);
        }
        match self.fetch.fetch(request).await {
            Ok(fetched) if fetched.status == 304 && !is_conditional => {
                Landing::failed("status 304 to a request that was not conditional")
            }
            Ok(fetched) => self.landing(fetched),
            Err(error) => Landing::failed(error.to_string()),
        }
    }

    /// What an answer is. Whatever [`Fetch`] says, only status 200 brings a key set.
    fn landing(&self, fetched: Fetched) -> Landing {
        let mut hints = Box::new(Hints::of(&fetched, since_epoch()));
        hints.validators.place = self.place;
        match fetched.status {
            200 => match Document::published(fetched.body) {
                Ok(document) => Landing::Fetched(Box::new(document), hints),
                Err(error) => Landing::failed(error),
            },
            304 => Landing::NotModified(hints),
            300..=399 => Landing::failed(FetchError::Redirected.to_string()),
            status => {
                Landing::Failed { error: format!("the answer has status {status}"), retry_after: hints.retry_after }
            }
        }
    }
}

impl Load for JwksUrl {
    fn load(&self, look: Look) -> Loading<'_> {
        Box::pin(self.look(look))
    }
}
