//! A prefix of an object store, and what is done with objects in it.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult,
    UpdateVersion,
};

use super::super::{StoreError, StoreErrorKind, Stored, Version, check_size};
use super::DEFAULT_TIME_LIMIT;
use super::error::{read_error, write_error};
use super::probe::MARKER;

/// Between the two things by which stores name a version. Neither has it: it cannot be in a header field.
const BETWEEN: char = '\n';

#[derive(Clone)]
pub(super) struct Place {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
    pub(super) is_single_writer: bool,
    pub(super) time_limit: Duration,
}

/// What a write is for.
#[derive(Clone, Copy)]
pub(super) enum Condition<'a> {
    Absent,
    Is(&'a Version),
}

impl<'a> From<Option<&'a Version>> for Condition<'a> {
    fn from(expected: Option<&'a Version>) -> Self {
        expected.map_or(Self::Absent, Self::Is)
    }
}

/// What an object is served with.
#[derive(Clone, Copy)]
pub(super) struct Headers<'a> {
    pub(super) content_type: &'a str,
    pub(super) cache_control: &'a str,
}

impl Place {
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { store, path, is_single_writer: false, time_limit: DEFAULT_TIME_LIMIT }
    }

    pub(super) fn moved(&self, store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { store, path, ..self.clone() }
    }

    fn at(&self, name: &str) -> Path {
        self.path.clone().join(name)
    }

    /// What is there; `None` only if the marker is.
    pub(super) async fn read(&self, name: &str, what: &str, limit: usize) -> Result<Option<Stored>, StoreError> {
        self.in_time(StoreErrorKind::Unavailable, async {
            if let Some(found) = self.look(name, what, limit).await? {
                return Ok(Some(found));
            }
            // The bucket may be gone, or be another one.
            match self.look(MARKER, "the marker", MARKER.len()).await? {
                Some(_) => Ok(None),
                None => {
                    let text = format!(
                        "{what} is not there, but nor is {}: is it the right place, and was it probed?",
                        self.at(MARKER)
                    );
                    Err(StoreError::new(StoreErrorKind::Unavailable, text))
                }
            }
        })
        .await
    }

    /// What is there, whether this is the right place or not.
    pub(super) async fn look(&self, name: &str, what: &str, limit: usize) -> Result<Option<Stored>, StoreError> {
        let answer = match self.store.get_opts(&self.at(name), GetOptions::default()).await {
            Ok(answer) => answer,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(read_error(what, &error)),
        };
        let version = version(answer.meta.e_tag.as_deref(), answer.meta.version.as_deref())?;
        let bytes = body(answer, what, limit).await?;
        Ok(Some(Stored { bytes, version }))
    }

    pub(super) async fn write(
        &self,
        name: &str,
        what: &str,
        condition: Condition<'_>,
        bytes: &[u8],
        limit: usize,
        headers: Headers<'_>,
    ) -> Result<Version, StoreError> {
        check_size(what, bytes, limit)?;
        self.in_time(StoreErrorKind::Unknown, async {
            let mode = if self.is_single_writer {
                self.check_before(name, what, condition, limit).await?;
                PutMode::Overwrite
            } else {
                condition.mode()
            };
            self.put(name, what, mode, bytes, headers).await
        })
        .await
    }

    /// As good as a condition if there is nobody else.
    async fn check_before(
        &self,
        name: &str,
        what: &str,
        condition: Condition<'_>,
        limit: usize,
    ) -> Result<(), StoreError> {
        let found = self.look(name, what, limit).await?.map(|stored| stored.version);
        let holds = match condition {
            Condition::Absent => found.is_none(),
            Condition::Is(expected) => found.as_ref() == Some(expected),
        };
        if holds {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::Conflict, format!("another version of {what} is there")))
    }

    pub(super) async fn put(
        &self,
        name: &str,
        what: &str,
        mode: PutMode,
        bytes: &[u8],
        headers: Headers<'_>,
    ) -> Result<Version, StoreError> {
        let put = self
            .try_put(name, mode, bytes, headers)
            .await
            .map_err(|error| write_error(&format!("writing {what}"), &error))?;
        version(put.e_tag.as_deref(), put.version.as_deref())
    }

    pub(super) async fn try_put(
        &self,
        name: &str,
        mode: PutMode,
        bytes: &[u8],
        headers: Headers<'_>,
    ) -> Result<PutResult, Error> {
        let attributes = Attributes::from_iter([
            (Attribute::ContentType, headers.content_type.to_owned()),
            (Attribute::CacheControl, headers.cache_control.to_owned()),
        ]);
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        self.store.put_opts(&self.at(name), bytes.to_vec().into(), options).await
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.in_time(StoreErrorKind::Unknown, async {
            match self.store.delete(&self.at(name)).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(write_error("removing an object", &error)),
            }
        })
        .await
    }

    /// The names of all objects here, but not of those below.
    pub(super) async fn names(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        const WHAT: &str = "the list of keys";
        self.in_time(StoreErrorKind::Unavailable, async {
            let mut names = Vec::new();
            let mut list = self.store.list(Some(&self.path));
            while let Some(found) = poll_fn(|context| list.as_mut().poll_next(context)).await {
                let found = found.map_err(|error| read_error(WHAT, &error))?;
                let mut parts = found.location.prefix_match(&self.path).into_iter().flatten();
                if let (Some(name), None) = (parts.next(), parts.next()) {
                    names.push(name.as_ref().to_owned());
                }
                if names.len() > limit {
                    return Err(StoreError::new(
                        StoreErrorKind::Unfit,
                        format!("there are more than {limit} private keys"),
                    ));
                }
            }
            Ok(names)
        })
        .await
    }

    /// When an object was written that is written now, in whole seconds since the epoch. Others may write it, too:
    /// that, too, is between the question and the answer.
    pub(super) async fn touch(&self, name: &str) -> Result<i64, StoreError> {
        const WHAT: &str = "the time";
        self.in_time(StoreErrorKind::Unavailable, async {
            let headers = Headers { content_type: "text/plain", cache_control: "no-store" };
            self.put(name, WHAT, PutMode::Overwrite, b"-", headers).await?;
            let found = self.store.head(&self.at(name)).await.map_err(|error| read_error(WHAT, &error))?;
            Ok(found.last_modified.timestamp())
        })
        .await
    }

    pub(super) async fn in_time<T>(
        &self,
        late: StoreErrorKind,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let limit = self.time_limit;
        tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(StoreError::new(late, format!("the store has not answered within {limit:?}"))))
    }
}

impl Condition<'_> {
    pub(super) fn mode(self) -> PutMode {
        let Self::Is(expected) = self else { return PutMode::Create };
        let (e_tag, version) = match expected.as_str().split_once(BETWEEN) {
            Some((e_tag, version)) => (e_tag, Some(version.to_owned())),
            None => (expected.as_str(), None),
        };
        let e_tag = (!e_tag.is_empty()).then(|| e_tag.to_owned());
        PutMode::Update(UpdateVersion { e_tag, version })
    }
}

/// Both, since stores differ in which one they want to have back.
pub(super) fn version(e_tag: Option<&str>, version: Option<&str>) -> Result<Version, StoreError> {
    Ok(Version::new(match (e_tag, version) {
        (Some(e_tag), None) => e_tag.to_owned(),
        (e_tag, Some(version)) => format!("{}{BETWEEN}{version}", e_tag.unwrap_or_default()),
        (None, None) => {
            return Err(StoreError::new(
                StoreErrorKind::Unfit,
                "the store gives its objects neither an ETag nor a version",
            ));
        }
    }))
}

/// Reads as long as it is short enough, whatever the metadata promised.
async fn body(answer: GetResult, what: &str, limit: usize) -> Result<Vec<u8>, StoreError> {
    if answer.meta.size > limit as u64 {
        return Err(StoreError::too_large(what, limit));
    }
    let mut stream = answer.into_stream();
    let mut body = Vec::new();
    while let Some(chunk) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
        let chunk = chunk.map_err(|error| read_error(what, &error))?;
        if chunk.len() > limit - body.len() {
            return Err(StoreError::too_large(what, limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
