//! What the errors of `object_store` mean, in our own words: its own have URLs, which may be signed, and what the
//! server answered.

use std::error::Error as _;
use std::io::ErrorKind;

use object_store::Error;

use super::super::{StoreError, StoreErrorKind};

/// What [`RequestError`](https://docs.rs/object_store/0.14.2/src/object_store/client/retry.rs.html), which is private,
/// says before the status.
const BEFORE_STATUS: &str = "Server returned non-2xx status code: ";

/// What [`RetryError`](https://docs.rs/object_store/0.14.2/src/object_store/client/retry.rs.html) says behind the
/// number of retries, if there were any.
const AFTER_RETRIES: &str = " retries, max_retries: ";

/// How many causes of an error are looked through: more than there are, in case they go round in a circle.
const MAX_CAUSES: usize = 16;

/// Of a read, for which `NotFound` was dealt with already.
pub(super) fn read_error(what: &str, error: &Error) -> StoreError {
    let kind = match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Denied,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreErrorKind::Unfit,
        // Of a list, this is all that is said.
        error if matches!(cause(error), Some(Cause::Status(401 | 403))) => StoreErrorKind::Denied,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, format!("reading {what}: {}", text(error)))
}

/// Of a write, conditional or not: [`StoreErrorKind::Unknown`] unless it certainly was not applied.
pub(super) fn write_error(doing: &str, error: &Error) -> StoreError {
    let kind = match error {
        // Whatever came after a retry says nothing of the first attempt.
        _ if was_retried(error) => StoreErrorKind::Unknown,
        // They may have been retried where nobody sees it.
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => StoreErrorKind::Unknown,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Denied,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreErrorKind::Unfit,
        // The bucket.
        Error::NotFound { .. } => StoreErrorKind::Unavailable,
        error => match cause(error) {
            // "A header you provided implies functionality that is not implemented": the condition.
            Some(Cause::Status(501)) => StoreErrorKind::Unfit,
            // Time-outs of the server, which may go on with what it has.
            Some(Cause::Status(408)) => StoreErrorKind::Unknown,
            Some(Cause::Status(401 | 403)) => StoreErrorKind::Denied,
            Some(Cause::Status(400..=499)) => StoreErrorKind::Unavailable,
            Some(Cause::System(
                ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable,
            )) => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Unknown,
        },
    };
    StoreError::new(kind, format!("{doing}: {}", text(error)))
}

fn text(error: &Error) -> String {
    match error {
        Error::NotFound { .. } => "there is no such bucket".into(),
        Error::AlreadyExists { .. } => "there is one already".into(),
        Error::Precondition { .. } | Error::NotModified { .. } => "another version is there".into(),
        Error::PermissionDenied { .. } => "access is denied".into(),
        Error::Unauthenticated { .. } => "the store does not accept the credentials".into(),
        Error::NotSupported { .. } | Error::NotImplemented { .. } => "the store cannot do that".into(),
        error => match cause(error) {
            Some(Cause::Status(status)) => format!("the answer has status {status}"),
            Some(Cause::System(kind)) => kind.to_string(),
            None => "the store failed".into(),
        },
    }
}

enum Cause {
    Status(u16),
    System(ErrorKind),
}

/// The status of the answer, or what the operating system says, if either is among the causes.
fn cause(error: &Error) -> Option<Cause> {
    causes(error).find_map(|error| {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(Cause::System(error.kind()));
        }
        status(&error.to_string()).map(Cause::Status)
    })
}

/// Whether the client has sent it more than once.
pub(super) fn was_retried(error: &Error) -> bool {
    causes(error).any(|error| error.to_string().contains(AFTER_RETRIES))
}

fn causes(error: &Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |error: &&_| (*error).source()).take(MAX_CAUSES)
}

fn status(text: &str) -> Option<u16> {
    text.strip_prefix(BEFORE_STATUS)?.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;
    use std::io;

    /// An error as the client of a store makes it: what it was doing, and the cause.
    #[derive(Debug)]
    struct Doing(String, Option<io::Error>);

    impl fmt::Display for Doing {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl std::error::Error for Doing {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_ref().map(|error| error as _)
        }
    }

    fn generic(text: &str, cause: Option<ErrorKind>) -> Error {
        Error::Generic { store: "S3", source: Box::new(Doing(text.into(), cause.map(Into::into))) }
    }

    fn status(status: &str) -> Error {
        generic(&format!("{BEFORE_STATUS}{status}: <Error>hunter2</Error>"), None)
    }

    const RETRIED: &str =
        "Error performing PUT https://hunter2 in 1s, after 2 retries, max_retries: 10, retry_timeout: 180s  - x";

    #[test]
    fn a_write_is_unknown_unless_it_certainly_was_not_applied() {
        let path = || "keys".to_owned();
        let source = || Box::new(Doing("https://hunter2".into(), None));
        let retried = || Box::new(Doing(RETRIED.into(), None));
        for (error, kind) in [
            (Error::AlreadyExists { path: path(), source: source() }, StoreErrorKind::Unknown),
            (Error::Precondition { path: path(), source: source() }, StoreErrorKind::Unknown),
            (Error::NotModified { path: path(), source: source() }, StoreErrorKind::Unknown),
            (Error::PermissionDenied { path: path(), source: source() }, StoreErrorKind::Denied),
            (Error::PermissionDenied { path: path(), source: retried() }, StoreErrorKind::Unknown),
            (Error::Unauthenticated { path: path(), source: source() }, StoreErrorKind::Denied),
            (Error::NotFound { path: path(), source: source() }, StoreErrorKind::Unavailable),
            (Error::NotFound { path: path(), source: retried() }, StoreErrorKind::Unknown),
            (Error::NotSupported { source: source() }, StoreErrorKind::Unfit),
            (status("400 Bad Request"), StoreErrorKind::Unavailable),
            (status("403 Forbidden"), StoreErrorKind::Denied),
            (status("408 Request Timeout"), StoreErrorKind::Unknown),
            (status("429 Too Many Requests"), StoreErrorKind::Unavailable),
            (status("500 Internal Server Error"), StoreErrorKind::Unknown),
            (status("501 Not Implemented"), StoreErrorKind::Unfit),
            (status("503 Slow Down"), StoreErrorKind::Unknown),
            (generic("connecting", Some(ErrorKind::ConnectionRefused)), StoreErrorKind::Unavailable),
            (generic(RETRIED, Some(ErrorKind::ConnectionRefused)), StoreErrorKind::Unknown),
            (generic("reading", Some(ErrorKind::ConnectionReset)), StoreErrorKind::Unknown),
            (generic("reading", Some(ErrorKind::TimedOut)), StoreErrorKind::Unknown),
            (generic("hunter2", None), StoreErrorKind::Unknown),
        ] {
            let told = write_error("it", &error);
            assert_eq!(told.kind(), kind, "{error}");
            assert!(!told.to_string().contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_read_that_fails_says_nothing_of_what_is_there() {
        for (error, kind) in [
            (status("403 Forbidden"), StoreErrorKind::Denied),
            (status("404 Not Found"), StoreErrorKind::Unavailable),
            (status("503 Slow Down"), StoreErrorKind::Unavailable),
            (generic("connecting", Some(ErrorKind::ConnectionRefused)), StoreErrorKind::Unavailable),
            (Error::PermissionDenied { path: "k".into(), source: "hunter2".into() }, StoreErrorKind::Denied),
            (Error::Unauthenticated { path: "k".into(), source: "hunter2".into() }, StoreErrorKind::Denied),
            (Error::Precondition { path: "k".into(), source: "hunter2".into() }, StoreErrorKind::Unavailable),
        ] {
            let told = read_error("it", &error);
            assert_eq!(told.kind(), kind, "{error}");
            assert!(!told.to_string().contains("hunter2"), "{told}");
        }
    }
}
