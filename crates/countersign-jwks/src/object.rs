//! A JWK Set in an object store: S3, GCS, Azure, or whatever else [`object_store`] speaks to.

use std::error::Error as _;
use std::future::poll_fn;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_token::Fetched;
use object_store::path::Path;
use object_store::{Attribute, Attributes, Error, GetOptions, GetResult, ObjectStore};

use crate::hints::Hints;
use crate::load::{Document, Landing, Load, Loading, Look, MAX_BODY_BYTES, TOO_LARGE};
use crate::shared::since_epoch;

/// How much earlier than the last one an object may have been written by its own account: stores say it in whole seconds, and the
/// clocks of their machines differ.
const WRITTEN_TOLERANCE: Duration = Duration::from_secs(5);

/// What [`RequestError`](https://docs.rs/object_store/0.14.2/src/object_store/client/retry.rs.html), which is private, says before the status.
const BEFORE_STATUS: &str = "Server returned non-2xx status code: ";

/// How many causes of an error are looked through: more than there are, in case they go round in a circle.
const MAX_CAUSES: usize = 16;

/// Looks at one object.
///
/// An answer here has no `Date`, and needs none: what a store says is so now, by its promise of strong consistency (S3, GCS and Azure
/// give it), and not when the object was written. An object that was written a week ago is no older than the answer of a mirror that
/// came yesterday, so its time must not pass for a [date](Hints::date), nor for anybody's clock.
///
/// Where something lags all the same (a cache before the bucket, a replica, a store that promises less), an object shows that was
/// written *before* the last one from here. That one is refused as long as the keys in force are fresh, by when lagging copies
/// have caught up; after that it is what somebody wants: the new version was deleted, so that the one before it is current again.
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// Tells its validators from those of other places.
    place: u64,
    last: Mutex<Option<Last>>,
}

/// Of the object that was read last.
struct Last {
    /// When it was written, by the store's clock, since the Unix epoch.
    written: Duration,
    etag: Option<Arc<str>>,
    /// What its `Cache-Control` says: a "not modified" does not come with it.
    lifetime: Option<Duration>,
}

impl Object {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        // By its address: no two stores that are alive have the same, and the text of a store may be that of another.
        let address = Arc::as_ptr(&store).cast::<()>().addr();
        let place = BuildHasherDefault::<DefaultHasher>::default().hash_one((address, path.as_ref()));
        Self { store, path, place, last: Mutex::new(None) }
    }

    async fn look(&self, look: Look) -> Landing {
        let mut options = GetOptions::default();
        // What another place said of its document says nothing of this one.
        if look.validators.place == self.place {
            options.if_none_match = look.validators.etag.as_deref().map(Into::into);
        }
        let etag = options.if_none_match.clone();
        let answer = match self.store.get_opts(&self.path, options).await {
            Ok(answer) => answer,
            Err(Error::NotModified { .. }) if etag.is_some() => {
                let lifetime = self
                    .last()
                    .as_ref()
                    .filter(|last| last.etag.as_deref() == etag.as_deref())
                    .and_then(|last| last.lifetime);
                return Landing::NotModified(Box::new(Hints { lifetime, ..Hints::default() }));
            }
            Err(error) => return Landing::failed(text(&error)),
        };
        let written = u64::try_from(answer.meta.last_modified.timestamp()).map(Duration::from_secs).unwrap_or_default();
        if look.has_fresh_keys && self.was_written_before(written) {
            return Landing::failed("the object was written before the last one that was read: a copy lags behind");
        }
        let hints = Box::new(self.hints(&answer));
        match self.document(answer).await {
            Ok(document) => {
                let (etag, lifetime) = (hints.validators.etag.clone(), hints.lifetime);
                *self.last() = Some(Last { written, etag, lifetime });
                Landing::Fetched(Box::new(document), hints)
            }
            Err(error) => Landing::failed(error),
        }
    }

    fn was_written_before(&self, written: Duration) -> bool {
        self.last().as_ref().is_some_and(|last| written.saturating_add(WRITTEN_TOLERANCE) < last.written)
    }

    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        // Nothing in the critical sections can leave it half done.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the object's metadata says: the ETag, and `Cache-Control`, if whoever wrote it has set one.
    fn hints(&self, answer: &GetResult) -> Hints {
        let mut described = Fetched::default();
        described.etag.clone_from(&answer.meta.e_tag);
        described.cache_control = attribute(&answer.attributes, &Attribute::CacheControl).map(Into::into);
        let mut hints = Hints::of(&described, since_epoch());
        hints.validators.place = self.place;
        hints
    }

    async fn document(&self, answer: GetResult) -> Result<Document, String> {
        let encoding = attribute(&answer.attributes, &Attribute::ContentEncoding).unwrap_or_default();
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            return Err("the object has a Content-Encoding".into());
        }
        Document::published(body(answer).await?)
    }
}

impl Load for Object {
    fn load(&self, look: Look) -> Loading<'_> {
        Box::pin(self.look(look))
    }
}

fn attribute<'a>(attributes: &'a Attributes, name: &Attribute) -> Option<&'a str> {
    attributes.get(name).map(AsRef::as_ref)
}

/// Reads as long as it is short enough, whatever the metadata promised.
async fn body(answer: GetResult) -> Result<Vec<u8>, String> {
    if answer.meta.size > MAX_BODY_BYTES as u64 {
        return Err(TOO_LARGE.into());
    }
    let mut stream = answer.into_stream();
    let mut body = Vec::new();
    while let Some(chunk) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
        let chunk = chunk.map_err(|error| text(&error))?;
        if chunk.len() > MAX_BODY_BYTES - body.len() {
            return Err(TOO_LARGE.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong, in our own words: those of the library have URLs, which may be signed, and what the server answered.
fn text(error: &Error) -> String {
    match error {
        Error::NotFound { .. } => "there is no such object, or no such bucket".into(),
        Error::PermissionDenied { .. } => "access to the object is denied".into(),
        Error::Unauthenticated { .. } => "the store does not accept the credentials".into(),
        Error::NotModified { .. } => "status 304 to a request that was not conditional".into(),
        Error::NotImplemented { .. } | Error::NotSupported { .. } => "the store cannot do that".into(),
        error => cause(error).map_or_else(|| "the store failed".into(), |cause| format!("the store failed: {cause}")),
    }
}

/// The status of the answer, or what the operating system says, if either is among the causes.
fn cause(error: &Error) -> Option<String> {
    let mut cause = error.source();
    for _ in 0..MAX_CAUSES {
        let error = cause?;
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind().to_string());
        }
        if let Some(status) = status(&error.to_string()) {
            return Some(format!("the answer has status {status}"));
        }
        cause = error.source();
    }
    None
}

fn status(text: &str) -> Option<u16> {
    text.strip_prefix(BEFORE_STATUS)?.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{GetResultPayload, ObjectMeta};

    /// An answer that promises so many octets and brings these.
    fn answer(promised: usize, chunks: &[&'static [u8]]) -> GetResult {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok((*chunk).into())).collect();
        let meta = ObjectMeta {
            location: Path::from("keys"),
            last_modified: Default::default(),
            size: promised as u64,
            e_tag: None,
            version: None,
        };
        GetResult {
            payload: GetResultPayload::Stream(Box::pin(tokio_stream::iter(chunks))),
            meta,
            range: 0..promised as u64,
            attributes: Attributes::new(),
            extensions: Default::default(),
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_is_allowed_whatever_the_metadata_says() {
        static FULL: [u8; MAX_BODY_BYTES] = [b' '; MAX_BODY_BYTES];
        assert_eq!(body(answer(4, &[b"ke", b"ys"])).await, Ok(b"keys".to_vec()));
        assert_eq!(body(answer(MAX_BODY_BYTES, &[&FULL])).await.map(|body| body.len()), Ok(MAX_BODY_BYTES));
        for (promised, chunks) in [(MAX_BODY_BYTES + 1, &[b"x".as_slice()][..]), (1, &[&FULL, b"x"])] {
            assert_eq!(body(answer(promised, chunks)).await, Err(TOO_LARGE.into()), "{promised}");
        }
    }

    #[test]
    fn errors_are_told_in_our_own_words() {
        let wrapped = |source: &str| Error::Generic { store: "S3", source: source.to_owned().into() };
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "https://hunter2");
        for (error, told) in [
            (wrapped("GET https://keys.example/?sig=hunter2"), "the store failed"),
            (Error::Generic { store: "S3", source: Box::new(refused) }, "the store failed: connection refused"),
            (wrapped(&format!("{BEFORE_STATUS}503 Slow: hunter2")), "the store failed: the answer has status 503"),
            (wrapped(&format!("{BEFORE_STATUS}hunter2")), "the store failed"),
            (wrapped(&format!("{BEFORE_STATUS}5")), "the store failed"),
            (
                Error::PermissionDenied { path: "hunter2".into(), source: "hunter2".into() },
                "access to the object is denied",
            ),
        ] {
            assert_eq!(text(&error), told);
        }
    }
}
