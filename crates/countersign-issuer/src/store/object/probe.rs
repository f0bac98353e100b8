//! Whether a store does what conditional writes rely on. That it does so atomically cannot be tried.

use object_store::{Error, PutMode};

use super::super::{StoreError, StoreErrorKind, Version};
use super::error::{was_retried, write_error};
use super::place::{Condition, Headers, Place, version};

/// The object that shows that a place is the right one.
pub(super) const MARKER: &str = "marker";

const WHAT: &str = "the probe";

/// The most that is read back of it, bytes: more than was written.
const MAX_PROBE_BYTES: usize = 64;

const HEADERS: Headers<'static> = Headers { content_type: "text/plain", cache_control: "no-store" };

pub(super) async fn probe(place: &Place) -> Result<(), StoreError> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "the crypto library has no randomness"))?;
    let name = format!("probe-{:032x}", u128::from_ne_bytes(random));
    let probed = place.in_time(StoreErrorKind::Unavailable, async {
        if place.is_single_writer { written(place, &name).await } else { conditions(place, &name).await }
    });
    let probed = probed.await;
    let removed = place.remove(&name).await;
    probed?;
    removed.map_err(doubtful)?;
    place.in_time(StoreErrorKind::Unavailable, mark(place)).await
}

async fn conditions(place: &Place, name: &str) -> Result<(), StoreError> {
    let first = place.put(name, WHAT, PutMode::Create, b"1", HEADERS).await.map_err(doubtful)?;
    is_there(place, name, b"1", &first).await?;

    must_fail(place, name, PutMode::Create, "writes over an object that must not be there (If-None-Match: *)").await?;
    is_there(place, name, b"1", &first).await?;

    let second = match place.try_put(name, Condition::Is(&first).mode(), b"2", HEADERS).await {
        Ok(put) => version(put.e_tag.as_deref(), put.version.as_deref())?,
        Err(error) if is_refusal(&error) => {
            return Err(unfit(
                place,
                "does not write over an object that is just the one which must be there (If-Match)",
            ));
        }
        Err(error) => return Err(doubtful(write_error("probing", &error))),
    };
    is_there(place, name, b"2", &second).await?;

    must_fail(
        place,
        name,
        Condition::Is(&first).mode(),
        "writes over an object that is not the one which must be there (If-Match)",
    )
    .await?;
    is_there(place, name, b"2", &second).await?;

    place.remove(name).await.map_err(doubtful)?;
    is_gone(place, name).await?;
    let otherwise = "writes an object anew that must be there and is not (If-Match)";
    must_fail(place, name, Condition::Is(&second).mode(), otherwise).await?;
    is_gone(place, name).await
}

/// All that is to be had where there are no conditions.
async fn written(place: &Place, name: &str) -> Result<(), StoreError> {
    let version = place.put(name, WHAT, PutMode::Overwrite, b"1", HEADERS).await.map_err(doubtful)?;
    is_there(place, name, b"1", &version).await
}

async fn must_fail(place: &Place, name: &str, mode: PutMode, otherwise: &str) -> Result<(), StoreError> {
    match place.try_put(name, mode, b"x", HEADERS).await {
        Err(error) if is_refusal(&error) => Ok(()),
        // That it failed for another reason shows nothing.
        Err(error) => Err(doubtful(write_error("probing", &error))),
        Ok(_) => Err(unfit(place, otherwise)),
    }
}

/// Whether it was the condition, and nothing else.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. })
        && !was_retried(error)
}

async fn is_there(place: &Place, name: &str, bytes: &[u8], version: &Version) -> Result<(), StoreError> {
    match place.look(name, WHAT, MAX_PROBE_BYTES).await? {
        Some(found) if found.bytes == bytes && found.version == *version => Ok(()),
        Some(found) if found.bytes == bytes => {
            Err(unfit(place, "names the same object by one ETag when it is written and by another when it is read"))
        }
        _ => Err(unfit(place, "does not show at once what was written last, or has written what it said it had not")),
    }
}

async fn is_gone(place: &Place, name: &str) -> Result<(), StoreError> {
    match place.look(name, WHAT, MAX_PROBE_BYTES).await? {
        None => Ok(()),
        Some(_) => Err(unfit(place, "still shows an object that was removed")),
    }
}

/// Puts the marker there, if it is not.
async fn mark(place: &Place) -> Result<(), StoreError> {
    if place.look(MARKER, "the marker", MARKER.len()).await?.is_some() {
        return Ok(());
    }
    // Others may do the same at the same time, and write the same.
    place.put(MARKER, "the marker", PutMode::Overwrite, MARKER.as_bytes(), HEADERS).await.map(drop).map_err(doubtful)
}

/// Nothing hangs on whether this was applied.
fn doubtful(error: StoreError) -> StoreError {
    match error.kind() {
        StoreErrorKind::Unknown => StoreError::new(StoreErrorKind::Unavailable, error.to_string()),
        _ => error,
    }
}

fn unfit(place: &Place, does: &str) -> StoreError {
    let text = format!("the store of {} {does}: two processes would lose each other's writes there", place.path);
    StoreError::new(StoreErrorKind::Unfit, text)
}
