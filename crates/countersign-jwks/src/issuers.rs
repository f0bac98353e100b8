//! Many issuers behind one layer: which there are, and within what bounds.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::SourceError;
use crate::remote::{DEFAULT_CLOCK_TOLERANCE, Remote};

/// How long an issuer goes without a token before its keys are let go of, unless [`Issuers::idle_after`] says otherwise.
pub const DEFAULT_IDLE_AFTER: Duration = Duration::from_secs(60 * 60);

/// The shortest time after which an issuer may be idle: less would only make it fetch more often.
pub const MIN_IDLE_AFTER: Duration = Duration::from_secs(60);

/// How many tenants' keys are held at once, unless [`Issuers::max_tenants`] says otherwise. Each has a task and some kilobytes.
pub const DEFAULT_MAX_TENANTS: usize = 1_000;

/// The most issuers of a source, and the most tenants. A task each is what a process bears.
pub const MAX_ISSUERS: usize = 20_000;

/// The longest name of a tenant, bytes. Those in use are domain names and UUIDs.
pub const MAX_TENANT_BYTES: usize = 128;

/// What stands for the tenant in a template.
const TENANT: &str = "{tenant}";

type Check = Arc<dyn Fn(&str) -> bool + Send + Sync>;

type Configure = Arc<dyn Fn(Remote) -> Remote + Send + Sync>;

/// The issuers whose tokens one layer accepts: listed ones, and tenants of one.
///
/// A token says who it is from (`iss`), and it is tried with the keys of that issuer and of no other; nobody has vouched for that name yet,
/// so it chooses and does nothing else. Each key is [bound](countersign_token::VerifyingKey::bound_to_issuer) to its issuer. No token can make
/// us ask anybody who is not listed here, or admitted as a tenant.
///
/// ```
/// use countersign_jwks::{Issuers, Keys, Tenants};
///
/// let issuers = Issuers::new()
///     .issuer("https://login.example")
///     .tenants(Tenants::of("https://login.other.example/{tenant}/v2.0").allow(["t1", "t2"]));
/// issuers.check()?;
/// let keys = Keys::issuers(issuers);
/// # Ok::<(), countersign_jwks::SourceError>(())
/// ```
///
/// # What is bounded
/// - Requests to issuers: each has the spacing of a source of its own, and no more than [`MAX_FETCHES`](crate::MAX_FETCHES) are under way at once in all. A look that is not its turn waits up to 4 s,
///   and is put off then; that comes on top of the bounds of a single source.
/// - Tenants: [`max_tenants`](Self::max_tenants) at once. When they are all in use, a new one has to wait (429). Of tenants that only a
///   [check](Tenants::admit_if) lets in, at most 64 may be without keys at once, for 16 s at least: so real ones come in as fast as their keys do, and
///   a check that lets made-up names through makes us ask for four new ones a second. A tenant whose keys cannot be had is asked for
///   them ever more seldom, up to once a minute.
/// - Tasks and memory: those of tenants, and of [lazy](Self::lazy) issuers, are let go of when no token has come for [`idle_after`](Self::idle_after), or for a minute if they have no keys.
///
/// A tenant counts as in use as long as tokens name it, and nobody has vouched for those: whoever knows the names of as many tenants with keys as there is
/// room for can keep others out. Make room for all that you list.
///
/// One issuer that cannot be reached is no outage of all: tokens of it get 429 and not 503 as long as another issuer's can be judged.
#[derive(Clone)]
pub struct Issuers {
    pub(crate) listed: Vec<(Arc<str>, Remote)>,
    pub(crate) tenants: Vec<Tenants>,
    pub(crate) lazy: bool,
    pub(crate) idle_after: Duration,
    pub(crate) max_tenants: usize,
    pub(crate) configure: Option<Configure>,
    clock_tolerance: Duration,
    /// The first thing that was impossible.
    fault: Option<SourceError>,
}

impl Default for Issuers {
    fn default() -> Self {
        Self::new()
    }
}

impl Issuers {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            listed: Vec::new(),
            tenants: Vec::new(),
            lazy: false,
            idle_after: DEFAULT_IDLE_AFTER,
            max_tenants: DEFAULT_MAX_TENANTS,
            configure: None,
            clock_tolerance: DEFAULT_CLOCK_TOLERANCE,
            fault: None,
        }
    }

    /// This issuer, with the keys that its metadata leads to ([`Remote::discover`]).
    #[must_use]
    pub fn issuer(mut self, issuer: impl AsRef<str>) -> Self {
        match Remote::discover(issuer.as_ref()) {
            Ok(remote) => self.issuer_at(issuer, remote),
            Err(error) => {
                self.fault.get_or_insert(error);
                self
            }
        }
    }

    /// This issuer, whatever its name looks like, with keys from there.
    #[must_use]
    pub fn issuer_at(mut self, issuer: impl AsRef<str>, remote: Remote) -> Self {
        let issuer: Arc<str> = issuer.as_ref().into();
        self.listed.push((Arc::clone(&issuer), remote.bound_to_issuer(issuer)));
        self
    }

    /// These tenants of one issuer.
    #[must_use]
    pub fn tenants(mut self, tenants: Tenants) -> Self {
        self.tenants.push(tenants);
        self
    }

    /// Fetches the keys of a listed issuer when its first token comes, and lets go of them when it is idle. Otherwise those of
    /// all listed issuers are fetched at once, and kept. For hundreds of them and more.
    #[must_use]
    pub fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// How long an issuer goes without a token before its keys are let go of. [`DEFAULT_IDLE_AFTER`] unless set; at least
    /// [`MIN_IDLE_AFTER`].
    #[must_use]
    pub fn idle_after(mut self, idle_after: Duration) -> Self {
        self.idle_after = idle_after;
        self
    }

    /// How many tenants' keys are held at once. [`DEFAULT_MAX_TENANTS`] unless set; at most [`MAX_ISSUERS`].
    #[must_use]
    pub fn max_tenants(mut self, max_tenants: usize) -> Self {
        self.max_tenants = max_tenants;
        self
    }

    /// Settings of each issuer's source: lifetimes, staleness, cache, fetcher.
    ///
    /// ```
    /// use std::time::Duration;
    /// use countersign_jwks::{Issuers, Remote};
    ///
    /// let day = Duration::from_secs(86_400);
    /// let issuers = Issuers::new().issuer("https://login.example").each(move |remote: Remote| remote.max_stale(2 * day));
    /// ```
    #[must_use]
    pub fn each(mut self, configure: impl Fn(Remote) -> Remote + Send + Sync + 'static) -> Self {
        self.configure = Some(Arc::new(configure));
        self
    }

    /// The [clock tolerance](Remote::clock_tolerance) of each source that sets none of its own.
    #[must_use]
    pub fn clock_tolerance(mut self, tolerance: Duration) -> Self {
        self.clock_tolerance = tolerance;
        self
    }

    /// Whether these settings go together.
    ///
    /// # Errors
    /// [`SourceError`], the first that applies.
    pub fn check(&self) -> Result<(), SourceError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.listed.is_empty() && self.tenants.is_empty() {
            return Err(SourceError::NoIssuer);
        }
        if self.listed.len() > MAX_ISSUERS || self.max_tenants > MAX_ISSUERS {
            return Err(SourceError::TooManyIssuers);
        }
        if self.idle_after < MIN_IDLE_AFTER {
            return Err(SourceError::IdleAfter(self.idle_after));
        }
        let mut names = HashSet::new();
        for (issuer, remote) in &self.listed {
            if issuer.is_empty() {
                return Err(SourceError::NotAnIssuer);
            }
            if !names.insert(issuer) {
                return Err(SourceError::IssuerTwice);
            }
            self.configured(remote.clone()).check()?;
        }
        for tenants in &self.tenants {
            tenants.check_names()?;
            // Any name will do: what is around it decides.
            let tenant = tenants.admitted.iter().next().map_or("t", |tenant| tenant);
            self.configured(tenants.source(tenant).ok_or(SourceError::Template)??).check()?;
        }
        Ok(())
    }

    pub(crate) fn configured(&self, remote: Remote) -> Remote {
        let remote = match &self.configure {
            Some(configure) => configure(remote),
            None => remote,
        };
        remote.clock_tolerance_or(self.clock_tolerance)
    }
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuers")
            .field("listed", &self.listed.len())
            .field("tenants", &self.tenants)
            .field("lazy", &self.lazy)
            .field("idle_after", &self.idle_after)
            .field("max_tenants", &self.max_tenants)
            .finish_non_exhaustive()
    }
}

/// The tenants of one issuer, whose names differ in one place: `https://login.example/{tenant}/v2.0`.
///
/// None are admitted until [`allow`](Self::allow) or [`admit_if`](Self::admit_if) says which. A tenant's name is at most [`MAX_TENANT_BYTES`] of
/// ASCII letters, digits, `-`, `_` and `.`, and begins with a letter or digit: whatever comes in a token, it can neither leave its place in the URL nor
/// name another host. If the place is in the host, it has no `.` either.
#[derive(Clone)]
pub struct Tenants {
    template: Box<str>,
    jwks: Option<Box<str>>,
    admitted: HashSet<Box<str>>,
    check: Option<Check>,
}

impl Tenants {
    /// The tenants whose issuers are named so, with `{tenant}` in one place. The keys of each are those that its metadata leads to.
    #[must_use]
    pub fn of(template: impl Into<Box<str>>) -> Self {
        Self { template: template.into(), jwks: None, admitted: HashSet::new(), check: None }
    }

    /// The keys are at a URL made from this template instead, and no metadata is read.
    #[must_use]
    pub fn jwks(mut self, template: impl Into<Box<str>>) -> Self {
        self.jwks = Some(template.into());
        self
    }

    /// Admits these tenants. Called again, those as well.
    #[must_use]
    pub fn allow<T: Into<Box<str>>>(mut self, tenants: impl IntoIterator<Item = T>) -> Self {
        self.admitted.extend(tenants.into_iter().map(Into::into));
        self
    }

    /// Admits tenants that `check` says yes to. It is asked within a request, for names that strangers make up, so it must be quick: a look
    /// into memory, not into a database.
    ///
    /// A tenant that has been admitted is not asked about again until it is idle, or [removed](crate::KeysHandle::remove_issuer).
    #[must_use]
    pub fn admit_if(mut self, check: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.check = Some(Arc::new(check));
        self
    }

    pub(crate) fn template(&self) -> &str {
        &self.template
    }

    /// What stands before and behind the tenant's name.
    pub(crate) fn around(&self) -> Option<(&str, &str)> {
        self.template.split_once(TENANT)
    }

    /// Whether it is one of ours, and whether a list says so.
    pub(crate) fn admits(&self, tenant: &str) -> Option<Admitted> {
        if !is_plain(tenant) || (self.is_in_host() && tenant.contains('.')) {
            None
        } else if self.admitted.contains(tenant) {
            Some(Admitted::Listed)
        } else if self.check.as_ref().is_some_and(|check| check(tenant)) {
            Some(Admitted::Checked)
        } else {
            None
        }
    }

    /// Where a tenant's keys come from. `None` if the templates are none.
    pub(crate) fn source(&self, tenant: &str) -> Option<Result<Remote, SourceError>> {
        let issuer = filled(&self.template, tenant)?;
        Some(match &self.jwks {
            Some(jwks) => Remote::new(filled(jwks, tenant)?).map(|remote| remote.bound_to_issuer(issuer)),
            None => Remote::discover(issuer),
        })
    }

    /// Whether those that are listed can ever be admitted.
    fn check_names(&self) -> Result<(), SourceError> {
        let is_possible = |tenant: &str| is_plain(tenant) && !(self.is_in_host() && tenant.contains('.'));
        if self.admitted.iter().all(|tenant| is_possible(tenant)) { Ok(()) } else { Err(SourceError::TenantName) }
    }

    fn is_in_host(&self) -> bool {
        let in_host = |template: &str| {
            let before = template.split(TENANT).next().unwrap_or_default();
            before.split_once("://").is_none_or(|(_, host)| !host.contains(['/', '?', '#']))
        };
        in_host(&self.template) || self.jwks.as_deref().is_some_and(in_host)
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants")
            .field("template", &self.template)
            .field("admitted", &self.admitted.len())
            .finish_non_exhaustive()
    }
}

/// How a tenant was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Its owner knows it by name.
    Listed,
    /// Somebody's check let it in: it may be made up.
    Checked,
}

fn filled(template: &str, tenant: &str) -> Option<String> {
    let (before, behind) = template.split_once(TENANT)?;
    (!behind.contains(TENANT)).then(|| format!("{before}{tenant}{behind}"))
}

fn is_plain(tenant: &str) -> bool {
    tenant.len() <= MAX_TENANT_BYTES
        && tenant.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && tenant.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_cannot_leave_its_place() {
        let tenants = Tenants::of("https://login.example/{tenant}/v2.0").admit_if(|_| true);
        for tenant in ["t1", "contoso.example", "6babcaad-604b-40ac-a9d7-9fd97c0b779f", "A_b-c.d", &"x".repeat(128)] {
            assert_eq!(tenants.admits(tenant), Some(Admitted::Checked), "{tenant}");
        }
        for tenant in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "a:b",
            "a b",
            "a%2fb",
            "a\\b",
            "\u{e9}",
            "a\0",
            "a\nb",
            "-a",
            "{tenant}",
            &"x".repeat(129),
        ] {
            assert_eq!(tenants.admits(tenant), None, "{tenant}");
        }
        let in_host = Tenants::of("https://{tenant}.login.example").admit_if(|_| true);
        assert_eq!((in_host.admits("t1"), in_host.admits("evil.example")), (Some(Admitted::Checked), None));
        let none = Tenants::of("https://login.example/{tenant}");
        assert_eq!(none.admits("t1"), None, "nobody is admitted unless somebody says so");
        let listed = none.allow(["t1"]).admit_if(|tenant| tenant == "t2");
        assert_eq!(
            ["t1", "t2", "t3"].map(|tenant| listed.admits(tenant)),
            [Some(Admitted::Listed), Some(Admitted::Checked), None]
        );
    }

    #[cfg(feature = "reqwest")]
    #[test]
    fn what_contradicts_itself_is_found_by_check() {
        let tenants = |template: &str| Issuers::new().tenants(Tenants::of(template).allow(["t"])).check();
        assert_eq!(tenants("https://login.example/{tenant}/v2.0"), Ok(()));
        assert_eq!(tenants("https://login.example/"), Err(SourceError::Template));
        assert_eq!(tenants("https://{tenant}.example/{tenant}"), Err(SourceError::Template));
        assert_eq!(tenants("http://login.example/{tenant}"), Err(SourceError::PlainHttp));
        let named = |template: &str, name: &str| Issuers::new().tenants(Tenants::of(template).allow([name])).check();
        assert_eq!(named("https://login.example/{tenant}", "a/b"), Err(SourceError::TenantName));
        assert_eq!(named("https://{tenant}.login.example/", "a.b"), Err(SourceError::TenantName));
        assert_eq!(tenants("https://login.example/?t={tenant}"), Err(SourceError::NotAnIssuer));
        let one = || Issuers::new().issuer("https://a.example");
        assert_eq!(one().check(), Ok(()));
        assert_eq!(one().issuer("https://b.example").check(), Ok(()));
        for (issuers, error) in [
            (Issuers::new(), SourceError::NoIssuer),
            (one().issuer("https://a.example"), SourceError::IssuerTwice),
            (one().issuer("nonsense"), SourceError::NotAUrl),
            (one().idle_after(Duration::from_secs(1)), SourceError::IdleAfter(Duration::from_secs(1))),
            (one().max_tenants(MAX_ISSUERS + 1), SourceError::TooManyIssuers),
            (one().issuer("http://a.example"), SourceError::PlainHttp),
        ] {
            assert_eq!(issuers.check(), Err(error), "{issuers:?}");
        }
        assert_eq!(one().issuer("http://a.example").each(Remote::dangerous_allow_http).check(), Ok(()));
    }
}
