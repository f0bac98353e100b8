use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use countersign_token::{Algorithm, AlgorithmSet, MAX_KID_BYTES};

use crate::cache::Seal;
use crate::error::SourceError;
use crate::lifetimes::{Lifetimes, MIN_LIFETIME};
use crate::load::Load;
use crate::remote::DEFAULT_CLOCK_TOLERANCE;
use crate::settings::Settings;

mod contents;
mod files;
mod watched;

pub(crate) use files::open_without_waiting;

pub use files::{MAX_ENTRIES, MAX_FILES};
pub use watched::POLL_INTERVAL;
use watched::Watched;

/// Keys in files of this machine, which are read again when they change: no restart, and nobody refused meanwhile.
///
/// Every [`POLL_INTERVAL`] somebody looks whether they have changed; a token that names an unknown key has them read at once. They
/// are read as a whole: files that are malformed, half written, missing, too large, or [open to others](Self::dangerous_allow_access_by_others), leave the
/// keys in force as they are, until [`max_stale`](Self::max_stale), and the handle says why. So does an empty file or directory: only a JWK Set without keys
/// takes all of them away. **Replace files by renaming** others onto them, as Kubernetes does; what is written in place may be seen half done.
///
/// Only regular files are read, of at most [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES); symbolic links are followed. Setters accept anything;
/// [`check`](Self::check) says what does not go, without looking at any file.
///
/// ```
/// use countersign_jwks::{Keys, Local};
/// use countersign_token::Algorithm;
///
/// let keys = Keys::local(Local::secrets("/run/secrets/jwt", Algorithm::Hs256));
/// ```
#[derive(Clone, Debug)]
pub struct Local {
    path: PathBuf,
    format: Format,
    kid: Option<Box<str>>,
    unnamed_keys_match_any_kid: bool,
    allow_access_by_others: bool,
    default_lifetime: Duration,
    max_stale: Option<Duration>,
    issuer: Option<Arc<str>>,
}

/// What is expected at the path.
#[derive(Clone, Copy, Debug)]
enum Format {
    Jwks,
    Pem(AlgorithmSet),
    Directory(AlgorithmSet),
    Secrets(Algorithm),
}

impl Local {
    /// A JWK Set (RFC 7517 §5). As it is the owner's own, secrets may be in it ([`Origin::Local`](countersign_token::Origin::Local)), and then it must
    /// be [out of bounds for others](Self::dangerous_allow_access_by_others). A key that cannot be used is skipped; the handle says which, and why.
    #[must_use]
    pub fn jwks(path: impl Into<PathBuf>) -> Self {
        Self::new(path.into(), Format::Jwks)
    }

    /// A PEM file with the sections that [`VerifyingKey::from_pem`](countersign_token::VerifyingKey::from_pem) reads: one, or several that
    /// are tried one after the other, at most [`MAX_CANDIDATES`](countersign_token::MAX_CANDIDATES). `algorithms` is what they may be used for.
    ///
    /// The keys have no name, and so answer for tokens that name none. For others give them [one](Self::kid), or let them
    /// [match any](Self::unnamed_keys_match_any_kid).
    ///
    /// **Not for certificate chains:** the key of every certificate in it is one that tokens may be signed with.
    #[must_use]
    pub fn pem(path: impl Into<PathBuf>, algorithms: impl Into<AlgorithmSet>) -> Self {
        Self::new(path.into(), Format::Pem(algorithms.into()))
    }

    /// A directory of keys: its files `*.jwks` and `*.json`, each as in [`jwks`](Self::jwks), and `*.pem`, `*.crt` and `*.cer`, each with one section,
    /// whose key is called like the file without the extension, and is used for `algorithms`. Hidden files, subdirectories and
    /// all else are ignored, so that a mounted `ConfigMap` with its `..data` is what it looks like.
    ///
    /// One file that is malformed keeps all as they are. At most [`MAX_FILES`] such files, and [`MAX_KEYS`](countersign_token::MAX_KEYS) in all of them.
    #[must_use]
    pub fn directory(path: impl Into<PathBuf>, algorithms: impl Into<AlgorithmSet>) -> Self {
        Self::new(path.into(), Format::Directory(algorithms.into()))
    }

    /// HMAC secrets in a text file in UTF-8, one a line: the current one, and below it those before it whose tokens are still accepted; at most
    /// [`MAX_CANDIDATES`](countersign_token::MAX_CANDIDATES), since no more would be tried. Each is the octets of its line, as it stands there, without the end of the line (LF or
    /// CR LF); blank lines do not count. A line that begins with `base64:` is what comes after that, decoded: in the standard alphabet or the one for
    /// URLs, with or without padding. A secret is at least as long as its hash (RFC 7518 §3.2): 32, 48 or 64 octets.
    ///
    /// The file must be [out of bounds for others](Self::dangerous_allow_access_by_others). Names, and their absence, are as with [`pem`](Self::pem). Whoever verifies
    /// with these must also allow the algorithm: by default only asymmetric ones are.
    ///
    /// To rotate without a refusal: put the new secret into the file of every verifier; sign with it once they have read it, which is after
    /// twice [`POLL_INTERVAL`]; take the old one out when its last token has expired, and it is dead with the next look.
    #[must_use]
    pub fn secrets(path: impl Into<PathBuf>, algorithm: Algorithm) -> Self {
        Self::new(path.into(), Format::Secrets(algorithm))
    }

    fn new(path: PathBuf, format: Format) -> Self {
        Self {
            path,
            format,
            kid: None,
            unnamed_keys_match_any_kid: false,
            allow_access_by_others: false,
            default_lifetime: Lifetimes::default().default,
            max_stale: None,
            issuer: None,
        }
    }

    /// What the keys of [`pem`](Self::pem) and [`secrets`](Self::secrets) are called, all of them.
    #[must_use]
    pub fn kid(mut self, kid: impl Into<Box<str>>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// Lets keys without a name also answer for tokens whose `kid` no key has
    /// ([`KeySet::unnamed_keys_match_any_kid`](countersign_token::KeySet::unnamed_keys_match_any_kid)). Off by default.
    #[must_use]
    pub fn unnamed_keys_match_any_kid(mut self) -> Self {
        self.unnamed_keys_match_any_kid = true;
        self
    }

    /// Reads files although others than their owner and group have access to them. Without it a file with secrets is refused if others
    /// may do anything with it (mode `& 0o007`), and one with public keys if they may write to it (`& 0o002`): who reads the one or writes to the other can
    /// sign tokens. On Unix only; elsewhere modes are not looked at, nor are access lists anywhere.
    ///
    /// Kubernetes mounts a `Secret` with mode 0644 unless told otherwise: rather than call this, give the volume `defaultMode: 0440` and the pod an `fsGroup`.
    #[must_use]
    pub fn dangerous_allow_access_by_others(mut self) -> Self {
        self.allow_access_by_others = true;
        self
    }

    /// Binds each key to this issuer, so that it vouches for tokens of no other
    /// ([`VerifyingKey::bound_to_issuer`](countersign_token::VerifyingKey::bound_to_issuer)).
    #[must_use]
    pub fn bound_to_issuer(mut self, issuer: impl Into<Arc<str>>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// How often the keys are read again even if nothing seems to have changed: after 75 % ± 10 % of this.
    /// [`DEFAULT_LIFETIME`](crate::DEFAULT_LIFETIME) unless set; from
    /// [`MIN_DEFAULT_LIFETIME`](crate::MIN_DEFAULT_LIFETIME) to [`MAX_LIFETIME`](crate::MAX_LIFETIME).
    #[must_use]
    pub fn default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime;
        self
    }

    /// How long the keys are still believed after they were last read well; after that no token is accepted. Unless set, it is
    /// [`DEFAULT_MAX_STALE`](crate::DEFAULT_MAX_STALE) or twice the [lifetime](Self::default_lifetime), whichever is longer; from
    /// the latter (2 min at least) to [`MAX_MAX_STALE`](crate::MAX_MAX_STALE).
    #[must_use]
    pub fn max_stale(mut self, max_stale: Duration) -> Self {
        self.max_stale = Some(max_stale);
        self
    }

    /// Whether these settings go together. Looks at no file.
    ///
    /// # Errors
    /// [`SourceError`], the first that applies.
    pub fn check(&self) -> Result<(), SourceError> {
        if self.path.as_os_str().is_empty() {
            return Err(SourceError::NoPath);
        }
        let fits = match self.format {
            Format::Jwks => true,
            Format::Pem(algorithms) | Format::Directory(algorithms) => {
                !algorithms.intersection(AlgorithmSet::ASYMMETRIC).is_empty()
            }
            Format::Secrets(algorithm) => AlgorithmSet::HMAC.contains(algorithm),
        };
        if !fits {
            return Err(SourceError::NoAlgorithm);
        }
        if let Some(kid) = &self.kid {
            if matches!(self.format, Format::Jwks | Format::Directory(_)) {
                return Err(SourceError::NamedAlready);
            }
            if kid.len() > MAX_KID_BYTES {
                return Err(SourceError::LongKid);
            }
        }
        self.lifetimes().check()
    }

    pub(crate) fn settings(self) -> Settings {
        Settings {
            label: self.path.to_string_lossy().into(),
            // Files are there when the next process starts.
            name: None,
            lifetimes: self.lifetimes(),
            issuer: self.issuer.clone(),
            clock_tolerance: DEFAULT_CLOCK_TOLERANCE,
            cache: None,
            seal: Seal::default(),
            backs_off_without_keys: false,
            events: None,
            router: Weak::new(),
            group: None,
            load: self.check().map(|()| Arc::new(Watched::new(self)) as Arc<dyn Load>),
        }
    }

    /// Nothing in a file says how long it is good for, so the longest lifetime is the default one.
    fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            default: self.default_lifetime,
            max: Some(self.default_lifetime.max(MIN_LIFETIME)),
            stale: self.max_stale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifetimes::{MAX_LIFETIME, MAX_MAX_STALE, MIN_DEFAULT_LIFETIME};

    #[test]
    fn settings_that_do_not_go_together_are_found_without_a_look_at_any_file() {
        let (minute, pem) = (MIN_LIFETIME, || Local::pem("a", Algorithm::Es256));
        for (local, expected) in [
            (Local::jwks("/nowhere"), Ok(())),
            (Local::jwks(""), Err(SourceError::NoPath)),
            (Local::secrets("a", Algorithm::Hs512), Ok(())),
            (Local::secrets("a", Algorithm::Rs256), Err(SourceError::NoAlgorithm)),
            (Local::pem("a", AlgorithmSet::HMAC), Err(SourceError::NoAlgorithm)),
            (Local::directory("a", AlgorithmSet::EMPTY), Err(SourceError::NoAlgorithm)),
            (pem().kid("k".repeat(MAX_KID_BYTES)), Ok(())),
            (pem().kid("k".repeat(MAX_KID_BYTES + 1)), Err(SourceError::LongKid)),
            (Local::jwks("a").kid("k"), Err(SourceError::NamedAlready)),
            (Local::directory("a", Algorithm::Es256).kid("k"), Err(SourceError::NamedAlready)),
            (pem().default_lifetime(MIN_DEFAULT_LIFETIME).max_stale(2 * minute), Ok(())),
            (pem().default_lifetime(MAX_LIFETIME).max_stale(MAX_MAX_STALE), Ok(())),
            (pem().default_lifetime(Duration::ZERO), Err(SourceError::DefaultLifetime(Duration::ZERO))),
            (pem().default_lifetime(2 * MAX_LIFETIME), Err(SourceError::DefaultLifetime(2 * MAX_LIFETIME))),
            (
                pem().default_lifetime(minute).max_stale(minute),
                Err(SourceError::MaxStale { max_stale: minute, max_lifetime: minute }),
            ),
        ] {
            assert_eq!(local.check(), expected, "{local:?}");
            assert_eq!(local.clone().settings().load.err(), expected.err(), "{local:?}");
        }
    }
}
