use std::fmt;
use std::time::Duration;

use countersign_token::{Algorithm, SigningKey, VerifyingKey, json};
use serde_json::json;

use crate::load::{Document, MAX_BODY_BYTES};

/// The longest snapshot, bytes: the longest key set, each octet of it escaped, and what is said of it.
pub const MAX_SNAPSHOT_BYTES: usize = 6 * MAX_BODY_BYTES + 4096;

/// The shortest secret that snapshots can be sealed with: that of HMAC with SHA-256 (RFC 7518 §3.2).
pub const MIN_CACHE_SECRET_BYTES: usize = 32;

/// What a snapshot is called that a later version may not understand.
const FORMAT: &str = "countersign keys 1";

/// How far in the future a snapshot may have been confirmed: the clocks of the machines that share a cache differ by less.
const MAX_AHEAD: Duration = Duration::from_secs(300);

/// The key set of a source as its provider sent it, and when. As JSON, for a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The source's name.
    pub(crate) source: String,
    /// When its provider confirmed it, whole seconds since the Unix epoch.
    pub(crate) confirmed: u64,
    /// When it was generated at the latest, by the provider's clock, likewise.
    pub(crate) generated: Option<u64>,
    /// The JWK Set.
    pub(crate) jwks: String,
}

/// The keys of a snapshot that may be believed.
pub(crate) struct Remembered {
    pub(crate) document: Document,
    /// How long ago their provider confirmed them.
    pub(crate) age: Duration,
    /// When they were generated at the latest, by the provider's clock.
    pub(crate) generated: Option<Duration>,
}

/// Why a snapshot is not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportError {
    /// It is cut off, was changed, is sealed with another secret, or is no snapshot.
    NotWhole,
    /// It is that of another source.
    OtherSource,
    /// Its keys were confirmed so long ago.
    TooOld(Duration),
    /// Its keys were confirmed in the future, by more than clocks differ.
    FromTheFuture,
    /// It has no usable key.
    NoKeys,
    /// These keys do not come from a provider.
    NotRemote,
    /// There is no tokio runtime to use it on, or the task has just died.
    NoRuntime,
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWhole => f.write_str("the snapshot is not whole, or not sealed with this secret"),
            Self::OtherSource => f.write_str("the snapshot is that of another source"),
            Self::TooOld(age) => write!(f, "the keys of the snapshot are too old to be trusted: {} s", age.as_secs()),
            Self::FromTheFuture => f.write_str("the keys of the snapshot were confirmed in the future"),
            Self::NoKeys => f.write_str("the snapshot has no usable key"),
            Self::NotRemote => f.write_str("keys that are configured here need no snapshot"),
            Self::NoRuntime => f.write_str("there is no async runtime to use the snapshot on"),
        }
    }
}

impl std::error::Error for ImportError {}

/// What snapshots are sealed with, so that a change shows: a secret, or, where there is none, something that everybody
/// knows, and which shows accidents only.
#[derive(Clone)]
pub(crate) struct Seal {
    secret: Box<[u8]>,
    is_secret: bool,
}

impl Default for Seal {
    fn default() -> Self {
        let secret = b"countersign: against accidents, not against attackers".as_slice().into();
        Self { secret, is_secret: false }
    }
}

impl Seal {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self { secret: secret.into(), is_secret: true }
    }

    pub(crate) fn is_long_enough(&self) -> bool {
        self.secret.len() >= MIN_CACHE_SECRET_BYTES
    }

    /// Whether nobody can forge it.
    pub(crate) fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// The name of a source in a cache: what it is called in logs, and a digest of all that makes it this source and no other, which may
    /// hold a secret.
    pub(crate) fn name(&self, label: &str, identity: &[&str]) -> String {
        /// Hexadecimal digits: half of them would do against accidents.
        const DIGEST: usize = 32;
        let digest = self.of(&joined(identity)).unwrap_or_default();
        format!("{label}#{}", digest.get(..DIGEST).unwrap_or_default())
    }

    fn of(&self, text: &[u8]) -> Option<String> {
        let key = SigningKey::from_secret(&self.secret, Algorithm::Hs256).ok()?;
        Some(key.signature(text).ok()?.iter().map(|octet| format!("{octet:02x}")).collect())
    }

    fn fits(&self, text: &[u8], seal: &str) -> bool {
        let octet = |at: usize| seal.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let tag: Option<Vec<u8>> = (0..seal.len()).step_by(2).map(octet).collect();
        let key = VerifyingKey::from_secret(&self.secret, Algorithm::Hs256).ok();
        // Compared in constant time there.
        key.zip(tag).is_some_and(|(key, tag)| key.verify_bytes(Algorithm::Hs256, text, &tag).is_ok())
    }
}

impl Snapshot {
    pub(crate) fn write(&self, seal: &Seal) -> Vec<u8> {
        json!({
            "format": FORMAT,
            "source": self.source,
            "confirmed": self.confirmed,
            "generated": self.generated,
            "jwks": self.jwks,
            "seal": seal.of(&self.sealed()),
        })
        .to_string()
        .into_bytes()
    }

    pub(crate) fn read(snapshot: &[u8], seal: &Seal) -> Result<Self, ImportError> {
        if snapshot.len() > MAX_SNAPSHOT_BYTES {
            return Err(ImportError::NotWhole);
        }
        let (mut format, mut source, mut confirmed, mut generated, mut jwks, mut tag) =
            (None, None, None, None, None, None);
        json::members(snapshot, usize::MAX, |name, value| match &*name {
            "format" => format = value.string(),
            "source" => source = value.string(),
            "confirmed" => confirmed = value.text().parse().ok(),
            "generated" => generated = value.text().parse().ok(),
            "jwks" => jwks = value.string(),
            "seal" => tag = value.string(),
            _ => {}
        })
        .map_err(|_| ImportError::NotWhole)?;
        let (Some(FORMAT), Some(source), Some(confirmed), Some(jwks), Some(tag)) =
            (format.as_deref(), source, confirmed, jwks, tag)
        else {
            return Err(ImportError::NotWhole);
        };
        let snapshot = Self { source: source.into_owned(), confirmed, generated, jwks: jwks.into_owned() };
        if seal.fits(&snapshot.sealed(), &tag) { Ok(snapshot) } else { Err(ImportError::NotWhole) }
    }

    /// What may be believed of it at the time `now`, since the Unix epoch.
    pub(crate) fn remembered(
        self,
        source: &str,
        max_stale: Duration,
        now: Duration,
    ) -> Result<Remembered, ImportError> {
        if self.source != source {
            return Err(ImportError::OtherSource);
        }
        let confirmed = Duration::from_secs(self.confirmed);
        if confirmed > now.saturating_add(MAX_AHEAD) {
            return Err(ImportError::FromTheFuture);
        }
        let age = now.saturating_sub(confirmed);
        if age >= max_stale {
            return Err(ImportError::TooOld(age));
        }
        let document = Document::published(self.jwks.into_bytes()).map_err(|_| ImportError::NotWhole)?;
        if document.keys.is_empty() {
            return Err(ImportError::NoKeys);
        }
        Ok(Remembered { document, age, generated: self.generated.map(Duration::from_secs) })
    }

    /// What the seal is over: each part with its length, so that none can pass for another.
    fn sealed(&self) -> Vec<u8> {
        let generated = self.generated.map(|generated| generated.to_string()).unwrap_or_default();
        joined(&[FORMAT, &self.source, &self.confirmed.to_string(), &generated, &self.jwks])
    }
}

fn joined(parts: &[&str]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_be_bytes());
        joined.extend_from_slice(part.as_bytes());
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn snapshot() -> Snapshot {
        let key = SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid("k\u{e9}\"1").public_jwk().unwrap();
        Snapshot {
            source: "https://issuer.example/keys".into(),
            confirmed: NOW.as_secs() - 60,
            generated: Some(NOW.as_secs() - 61),
            jwks: json!({ "keys": [key] }).to_string(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        for snapshot in [snapshot(), Snapshot { generated: None, ..snapshot() }] {
            let written = snapshot.write(&Seal::default());
            assert_eq!(Snapshot::read(&written, &Seal::default()), Ok(snapshot));
        }
    }

    #[test]
    fn what_is_not_whole_is_refused_wherever_it_was_cut_or_changed() {
        let written = snapshot().write(&Seal::default());
        for length in 0..written.len() {
            assert_eq!(Snapshot::read(&written[..length], &Seal::default()), Err(ImportError::NotWhole), "{length}");
        }
        for at in 0..written.len() {
            let mut changed = written.clone();
            changed[at] ^= 1;
            let read = Snapshot::read(&changed, &Seal::default());
            // A change of case in the seal, or of an escape, may mean the same.
            assert!(read.as_ref().is_err() || read == Ok(snapshot_of(&written)), "{at}");
        }
    }

    fn snapshot_of(written: &[u8]) -> Snapshot {
        Snapshot::read(written, &Seal::default()).unwrap()
    }

    #[test]
    fn a_sealed_snapshot_is_that_of_whoever_has_the_secret() {
        let ours = Seal::new(&[7; MIN_CACHE_SECRET_BYTES]);
        let snapshot = snapshot();
        assert_eq!(Snapshot::read(&snapshot.write(&ours), &ours).as_ref(), Ok(&snapshot));
        for (theirs, reader) in
            [(Seal::default(), &ours), (Seal::new(&[8; 32]), &ours), (ours.clone(), &Seal::default())]
        {
            assert_eq!(Snapshot::read(&snapshot.write(&theirs), reader), Err(ImportError::NotWhole));
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(garbage: Vec<u8>, jwks in r"\PC{0,40}", confirmed: u64, generated: Option<u64>, seal in "[0-9a-fé]{0,8}") {
            let _ = Snapshot::read(&garbage, &Seal::default());
            let snapshot = Snapshot { source: "s".into(), confirmed, generated, jwks };
            let written = snapshot.write(&Seal::default());
            let read = Snapshot::read(&written, &Seal::default());
            proptest::prop_assert_eq!(read.as_ref(), Ok(&snapshot));
            let _ = snapshot.remembered("s", DAY, NOW);
            proptest::prop_assert!(!Seal::default().fits(b"x", &seal));
        }
    }

    #[test]
    fn sources_that_differ_in_anything_have_different_names_that_show_no_secret() {
        let seal = Seal::default();
        let mut names = std::collections::HashSet::new();
        for identity in [["a?k=1", ""], ["a?k=2", ""], ["a", "?k=1"], ["", "a?k=1"], ["a?k=1", "issuer"]] {
            let name = seal.name("a", &identity);
            assert!(name.starts_with("a#") && !name.contains("k="), "{name}");
            assert!(names.insert(name));
        }
        assert!(names.insert(Seal::new(&[7; 32]).name("a", &["a?k=1", ""])), "nobody without the secret can guess");
    }

    #[test]
    fn it_is_of_this_source_and_neither_too_old_nor_from_the_future() {
        let restored = |change: &dyn Fn(&mut Snapshot)| {
            let mut snapshot = snapshot();
            change(&mut snapshot);
            let restored = snapshot.remembered("https://issuer.example/keys", DAY, NOW);
            restored.map(|it| (it.document.keys.len(), it.age.as_secs()))
        };
        let confirmed = |at: u64| restored(&move |snapshot| snapshot.confirmed = at);
        assert_eq!(restored(&|_| ()), Ok((1, 60)));
        assert_eq!(confirmed(NOW.as_secs() - 86_399), Ok((1, 86_399)));
        assert_eq!(confirmed(NOW.as_secs() - 86_400), Err(ImportError::TooOld(DAY)));
        assert_eq!(confirmed(0), Err(ImportError::TooOld(NOW)));
        assert_eq!(confirmed(NOW.as_secs() + 300), Ok((1, 0)));
        assert_eq!(confirmed(NOW.as_secs() + 301), Err(ImportError::FromTheFuture));
        assert_eq!(confirmed(u64::MAX), Err(ImportError::FromTheFuture));
        assert_eq!(restored(&|snapshot| snapshot.source.push('/')), Err(ImportError::OtherSource));
        assert_eq!(restored(&|snapshot| snapshot.jwks = r#"{"keys":[]}"#.into()), Err(ImportError::NoKeys));
        assert_eq!(restored(&|snapshot| snapshot.jwks = "[]".into()), Err(ImportError::NotWhole));
    }
}
