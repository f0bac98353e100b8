//! Where a ring is kept: a directory, or a prefix of a bucket in S3 or what speaks like it.

#[cfg(feature = "s3")]
mod s3;

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use countersign_issuer::{KeyStore, StoreError, StoreErrorKind};

/// What a place in S3 begins with.
const S3: &str = "s3://";

/// Where a ring is kept. As a text it is `s3://BUCKET/PREFIX`, or else the path of a directory.
///
/// Rings below different prefixes of one bucket have nothing to do with each other, also where one prefix begins with the
/// other. One that is already somebody else's, of another issuer or under another key-encryption key, is not opened, and
/// nothing is written there ([`RingBuilder::start`](countersign_issuer::RingBuilder::start)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingPlace {
    /// A directory of this machine (`DirectoryStore`).
    Directory(PathBuf),
    /// A prefix of a bucket (`ObjectKeyStore`).
    S3 {
        /// Its name. It has to be there.
        bucket: String,
        /// Without slashes around it; empty: all of the bucket.
        prefix: String,
    },
}

impl FromStr for RingPlace {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix(S3) {
            Some(rest) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_end_matches('/').to_owned() }
            }
            None => Self::Directory(text.into()),
        })
    }
}

impl fmt::Display for RingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "{S3}{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "{S3}{bucket}/{prefix}"),
        }
    }
}

impl RingPlace {
    /// What cannot be such a place, whatever there is.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let Self::S3 { bucket, prefix } = self else { return None };
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(fits) {
            return Some("a bucket's name is 3 to 63 small letters, digits, `-` or `.`");
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_good = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(fits);
        if !prefix.is_empty() && (prefix.len() > MAX_PREFIX_BYTES || !prefix.split('/').all(is_good)) {
            return Some(PREFIX);
        }
        if !cfg!(feature = "s3") {
            return Some("this build has no S3 (its feature `s3` is off)");
        }
        None
    }

    /// Opens it. A directory is made if it is not there; a bucket is not asked yet.
    ///
    /// The endpoint, the region and the credentials of S3 are those of the environment (`AWS_ENDPOINT`, `AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, … and what a cluster gives its workloads). An endpoint over plain `http` must be on loopback, unless
    /// `AWS_ALLOW_HTTP` is `true`. Blocks.
    ///
    /// # Errors
    /// As the store says; [`StoreErrorKind::Unfit`] for S3 where this build has none, or where the environment does not make
    /// sense.
    pub fn open(&self) -> Result<Arc<dyn KeyStore>, StoreError> {
        if let Some(flaw) = self.flaw() {
            return Err(StoreError::new(StoreErrorKind::Unfit, flaw));
        }
        match self {
            #[cfg(unix)]
            Self::Directory(path) => Ok(Arc::new(countersign_issuer::DirectoryStore::open(path)?)),
            #[cfg(feature = "s3")]
            Self::S3 { bucket, prefix } => Ok(Arc::new(s3::open(bucket, prefix)?)),
            #[cfg(not(all(unix, feature = "s3")))]
            _ => Err(StoreError::new(StoreErrorKind::Unfit, "this build cannot keep a ring there")),
        }
    }
}

/// S3 takes names of 1,024 bytes, and below a prefix there are some of a hundred.
const MAX_PREFIX_BYTES: usize = 512;

const PREFIX: &str = "a prefix is up to 512 letters, digits, `-`, `_` and `.` with single `/` between them";
const _: () = assert!(MAX_PREFIX_BYTES == 512, "PREFIX says so");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_by_how_it_begins_and_has_one_spelling() {
        for (text, back) in [
            ("s3://rings/prod", "s3://rings/prod"),
            ("s3://rings/prod/eu/", "s3://rings/prod/eu"),
            ("s3://rings/", "s3://rings"),
            ("/var/lib/ring", "/var/lib/ring"),
            ("s3:/rings", "s3:/rings"),
        ] {
            let place: RingPlace = text.parse().unwrap();
            assert_eq!((&*place.to_string(), matches!(place, RingPlace::S3 { .. })), (back, back.starts_with(S3)));
            assert_eq!(back.parse(), Ok(place));
        }
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_before_it_is_asked() {
        for text in [
            "s3://",
            "s3://ab",
            "s3://Rings",
            "s3://user:secret@rings/a",
            "s3://rings?x/a",
            "s3://rings/a//b",
            "s3://rings/../a",
            "s3://rings/./a",
            "s3://rings//a",
            "s3://rings/a b",
            "s3://rings/a?x=1",
            "s3://rings/%2e",
        ] {
            let place: RingPlace = text.parse().unwrap();
            assert!(place.flaw().is_some() && place.open().is_err_and(|error| error.kind() == StoreErrorKind::Unfit));
        }
        let good: RingPlace = "s3://rings/prod.eu/blue_1".parse().unwrap();
        assert_eq!(good.flaw().is_none(), cfg!(feature = "s3"));
    }

    #[test]
    fn a_prefix_has_so_many_bytes() {
        let flaw = |length: usize| RingPlace::S3 { bucket: "rings".into(), prefix: "p".repeat(length) }.flaw();
        assert_eq!(flaw(MAX_PREFIX_BYTES).is_none(), cfg!(feature = "s3"));
        assert_eq!(flaw(MAX_PREFIX_BYTES + 1), Some(PREFIX));
    }
}
