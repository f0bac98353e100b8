use std::fmt;

/// What kind of failure it was, which is what decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoreErrorKind {
    /// There is certainly no such thing.
    NotFound,
    /// Another version was there, and nothing was written.
    Conflict,
    /// The write may have been applied, or may yet be: nobody knows before it is read back.
    Unknown,
    /// The store could not be asked, or does not work. Nothing was written. It may be better next time.
    Unavailable,
    /// The store does not let us. Nothing was written. It will not be better before somebody does something.
    Denied,
    /// What is there must not be used: a store that breaks its promises, a key that others may read, a document of
    /// absurd size. It will not be better before somebody does something.
    Unfit,
}

impl StoreErrorKind {
    /// As it stands in metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Unfit => "unfit",
        }
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Why a store did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    kind: StoreErrorKind,
    text: Box<str>,
}

impl StoreError {
    /// For those who write a store of their own. The text is for people, who may see it in logs: what failed, where,
    /// and what to do; nothing of what is stored, no credentials, no URLs.
    #[must_use]
    pub fn new(kind: StoreErrorKind, text: impl Into<Box<str>>) -> Self {
        Self { kind, text: text.into() }
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    pub(crate) fn too_large(what: &str, limit: usize) -> Self {
        Self::new(StoreErrorKind::Unfit, format!("{what} is larger than {limit} bytes"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StoreError {}
