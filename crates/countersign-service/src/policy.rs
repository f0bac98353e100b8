//! Who may have which tokens signed: a document of profiles, clients and grants, and the decision by it. Pure: the time
//! is an argument.
//!
//! ```toml
//! version = 1
//!
//! [profiles.access]                       # what a token can be
//! slots = ["es256"]                       # of the ring; a request may choose among several by `alg` and `key_bits`
//! lifetime = 300                          # seconds, if the request does not say
//! max_lifetime = 900                      # by default what the slot allows
//! on_exceed = "refuse"                    # or "clamp": a shorter life in place of a refusal
//!
//! [clients.web.grants.orders]             # what a client may ask for
//! profiles = ["access"]
//! subjects = { self = true, prefixes = ["user:"] }
//! audiences = { exact = ["orders"] }
//! scopes = ["orders:read"]
//! claims.tenant = { type = "string", values = ["acme"], required = true }
//! ```
//!
//! Of a grant there are, besides, `max_lifetime`, `algorithms`, `rsa_bits`, `valid_from` and `valid_until`, and:
//!
//! ```toml
//! [clients.web.grants.payments]
//! # …
//! rate = { per_second = 1, burst = 10 }   # of its tokens, within the `rate` of the client
//! max_nbf_delay = 60                      # seconds between `iat` and `nbf`; 0 unless it is said
//! binding = "certificate"                 # or "key", "any", "none"
//! ```
//!
//! With the `binding` `certificate` all tokens of the grant are bound to the certificate of the connection
//! (`cnf.x5t#S256`), and there is none over one without; with `key`, to the key that `cnf.jkt` of the request names; with
//! `any`, to either if the request's `cnf` says so. A request never names another certificate than its own.
//!
//! Clients show who they are by a key of their `jwks` (a JSON text with public keys), or of those that they publish at their `jwks_uri`, by a
//! token of one of `workload_issuers` whose claims are those of one of their `workloads`, by one of their `certificates`, or, where
//! `allow_client_secret_basic` says so, by a secret; a `rate` bounds how often each may ask:
//!
//! ```toml
//! allow_client_secret_basic = false
//!
//! [workload_issuers."https://token.actions.githubusercontent.com"]    # jwks, jwks_uri, or neither: discovered
//!
//! [clients.web]
//! jwks = '{"keys":[…]}'
//! rate = { per_second = 100, burst = 200 }
//! workloads = [{ issuer = "https://token.actions.githubusercontent.com", claims = { repository = "acme/web" } }]
//! certificates = [{ san_dns = "web.internal" }, { san_uri = "spiffe://acme.example/web" }, { sha256 = "…" }]
//!
//! [clients.billing]
//! jwks_uri = "https://billing.example/.well-known/jwks.json"          # fetched when it asks for the first time
//! ```
//!
//! Of a certificate that an authority vouches for one name is enough: a `san_dns`, a `san_uri`, or the `subject` as RFC
//! 4514 writes it (`openssl x509 -subject -nameopt RFC2253,utf8,-esc_msb`). One that the client has signed itself is known
//! by its `sha256` (`x5t#S256`) and nothing else. No two clients have one name, and whoever has names of two is neither.
//!
//! Whoever keeps the ring has **rights** of its own beside grants: no grant gives one, and no right signs anything.
//!
//! ```toml
//! [clients.ops]
//! jwks = '{"keys":[…]}'
//! admin = ["keys:read", "keys:rotate", "keys:revoke"]                 # AdminRight; without it, none
//! ```
//!
//! - What no grant allows is denied. A request has to fit into **one** grant as a whole; what two grants allow between
//!   them, nobody may ask for.
//! - `sub` is the client itself if the request names none, and there is no token without `aud`.
//! - A refusal is that of the grant that the request came furthest in, the first by name if several are as far
//!   ([`Denial`] is in the order of the questions).
//! - Unknown members, profiles and slots, lists that can never be satisfied, and claims that belong to the issuer make
//!   the whole document invalid: there is no policy that is in force in part.

mod admin;
mod claim;
mod confirmation;
mod credentials;
mod denied;
mod document;
mod error;
mod grant;
mod read;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign::UnixTime;
use countersign::token::Algorithm;
use countersign_issuer::RingConfig;

pub use admin::{AdminRight, decide_admin};
pub use claim::{ClaimKind, DEFAULT_MAX_CLAIM_BYTES, MAX_CLAIM_BYTES};
use confirmation::Binding;
pub use confirmation::Confirmation;
pub(crate) use credentials::{Credentials, KeysFrom, Rate, SecretTag};
pub use denied::{Denial, Denied};
pub use error::PolicyError;
use grant::{Grant, Window};
pub use request::{Granted, Request};

/// The version of the document that is read here.
pub const POLICY_VERSION: i64 = 1;

/// The longest document, bytes: some ten thousand grants, and read within a second.
pub const MAX_POLICY_BYTES: usize = 4 * 1024 * 1024;

/// Clients of one document, at most: each has counters in memory.
pub const MAX_CLIENTS: usize = 10_000;

/// Clients of one document whose keys are fetched, at most. Whoever sends tokens in the name of one can have its keys looked for every second or
/// so, and some 300 kB remembered of keys that it does not have: 80 MB of all of them.
pub const MAX_CLIENT_URLS: usize = 256;

/// Profiles of one document, and grants of one client, at most: each request is held against all grants of its client.
pub const MAX_GRANTS: usize = 64;

/// Entries of a list, and claims of a grant, at most, for the same reason.
pub const MAX_ENTRIES: usize = 256;

/// The longest name, scope, audience or subject, bytes.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// The longest token by default, bytes: half of the 8 KiB that a header of a request usually may have.
pub const DEFAULT_MAX_TOKEN_BYTES: usize = 4_096;

/// What `max_token_bytes` can be at most: no header takes more.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// A document that was checked as a whole.
#[derive(Debug)]
pub struct Policy {
    revision: Box<str>,
    allows_basic: bool,
    workload_issuers: BTreeMap<Box<str>, KeysFrom>,
    profiles: BTreeMap<Box<str>, Profile>,
    clients: BTreeMap<Box<str>, Client>,
}

#[derive(Debug)]
struct Profile {
    /// The first that is allowed is taken.
    slots: Vec<SlotFacts>,
    typ: Option<Box<str>>,
    lifetime: Duration,
    max_lifetime: Duration,
    is_clamped: bool,
    max_token_bytes: usize,
}

#[derive(Debug)]
struct SlotFacts {
    name: Box<str>,
    algorithm: Algorithm,
    rsa_bits: Option<u32>,
}

#[derive(Debug)]
struct Client {
    window: Window,
    credentials: Credentials,
    admin: BTreeSet<AdminRight>,
    /// By name.
    grants: Vec<Grant>,
}

/// Whether a client, a profile or a grant can be called so: 1 to 128 letters, digits, `-`, `.`, `_` or `~`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    read::is_name(name)
}

impl Policy {
    /// Reads a document for a ring with these slots.
    ///
    /// # Errors
    /// [`PolicyError`]: the first thing that is wrong with it, and where.
    pub fn parse(text: &str, ring: &RingConfig) -> Result<Self, PolicyError> {
        read::read(text, ring)
    }

    /// Under which nobody may have anything signed.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            revision: Box::default(),
            allows_basic: false,
            workload_issuers: BTreeMap::new(),
            profiles: BTreeMap::new(),
            clients: BTreeMap::new(),
        }
    }

    /// What its author calls this edition of it; empty if he does not.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The names of all clients.
    pub fn clients(&self) -> impl Iterator<Item = &str> {
        self.clients.keys().map(|name| &**name)
    }

    /// What this client may do to the ring; nothing, if there is no such client.
    pub fn admin_rights(&self, client: &str) -> impl Iterator<Item = AdminRight> {
        self.clients.get(client).into_iter().flat_map(|client| client.admin.iter().copied())
    }

    fn valid_client(&self, client: &str, now: UnixTime) -> Result<&Client, Denied> {
        let entry = self.clients.get(client).ok_or(Denied::of_client(Denial::UnknownClient))?;
        if entry.window.contains(now) { Ok(entry) } else { Err(Denied::of_client(Denial::ClientNotValid)) }
    }

    /// By what each client is known.
    pub(crate) fn credentials(&self) -> impl Iterator<Item = (&str, &Credentials)> {
        self.clients.iter().map(|(name, client)| (&**name, &client.credentials))
    }

    /// By what this client is known.
    pub(crate) fn credentials_of(&self, client: &str) -> Option<&Credentials> {
        self.clients.get(client).map(|client| &client.credentials)
    }

    /// How many grants a request of this client's may be held against.
    pub(crate) fn grants_of(&self, client: &str) -> usize {
        self.clients.get(client).map_or(0, |client| client.grants.len())
    }

    /// How often each grant may be used that has a rate of its own: client, grant and rate.
    pub(crate) fn grant_rates(&self) -> impl Iterator<Item = (&str, &str, Rate)> {
        self.clients.iter().flat_map(|(client, entry)| {
            entry.grants.iter().filter_map(move |grant| Some((&**client, &*grant.name, grant.rate?)))
        })
    }

    /// Whether any token is bound to a certificate.
    pub(crate) fn binds_to_certificates(&self) -> bool {
        let mut grants = self.clients.values().flat_map(|client| &client.grants);
        grants.any(|grant| matches!(grant.binding, Binding::Certificate | Binding::Any))
    }

    /// Where the keys are of those whose workloads may be clients.
    pub(crate) fn workload_issuers(&self) -> impl Iterator<Item = (&str, &KeysFrom)> {
        self.workload_issuers.iter().map(|(issuer, keys)| (&**issuer, keys))
    }

    /// Whether secrets are asked for at all.
    pub(crate) fn allows_basic(&self) -> bool {
        self.allows_basic
    }
}

/// Whether `client` may have at the time `now` what it asks for, and how it is to be signed.
///
/// # Errors
/// [`Denied`].
pub fn decide(policy: &Policy, client: &str, request: &Request, now: UnixTime) -> Result<Granted, Denied> {
    let entry = policy.valid_client(client, now)?;
    let mut nearest: Option<Denied> = None;
    for grant in &entry.grants {
        match decide_by(policy, grant, client, request, now) {
            Ok(granted) => return Ok(granted),
            Err(denial) if nearest.as_ref().is_some_and(|nearest| nearest.denial.step() >= denial.step()) => {}
            Err(denial) => nearest = Some(Denied { denial, grant: Some(grant.name.clone()) }),
        }
    }
    // Of a profile that none of its grants has, no grant is to blame.
    Err(match nearest {
        Some(Denied { denial: denial @ Denial::Profile, .. }) => Denied::of_client(denial),
        Some(denied) => denied,
        None => Denied::of_client(Denial::Profile),
    })
}

/// In the order of [`Denial`].
fn decide_by(
    policy: &Policy,
    grant: &Grant,
    client: &str,
    request: &Request,
    now: UnixTime,
) -> Result<Granted, Denial> {
    let profile = policy.profiles.get(&*request.profile).filter(|_| grant.profiles.contains(&*request.profile));
    let profile = profile.ok_or(Denial::Profile)?;
    grant.check_window(now)?;
    grant.check_subject(client, request)?;
    grant.check_audiences(request)?;
    grant.check_scopes(request)?;
    let slot = profile.choose(grant, request)?;
    let lifetime = profile.lifetime(grant, request)?;
    grant.check_delay(request)?;
    let confirmation = grant.check_confirmation(request)?;
    grant.check_claims(request)?;
    Ok(Granted {
        grant: grant.name.clone(),
        slot: slot.name.clone(),
        algorithm: slot.algorithm,
        rsa_bits: slot.rsa_bits,
        typ: profile.typ.clone(),
        lifetime,
        confirmation,
        is_clamped: profile.is_clamped,
        max_token_bytes: profile.max_token_bytes,
    })
}

impl Profile {
    /// The first slot that is as the request wants it and the grant allows.
    fn choose(&self, grant: &Grant, request: &Request) -> Result<&SlotFacts, Denial> {
        let is_algorithm_fit = |slot: &&SlotFacts| {
            request.algorithm.is_none_or(|wanted| wanted == slot.algorithm)
                && grant.algorithms.as_ref().is_none_or(|allowed| allowed.contains(&slot.algorithm))
        };
        let is_size_fit = |slot: &&SlotFacts| {
            request.rsa_bits.is_none_or(|wanted| slot.rsa_bits == Some(wanted))
                && slot.rsa_bits.is_none_or(|bits| grant.rsa_bits.as_ref().is_none_or(|fit| fit.contains(&bits)))
        };
        if !self.slots.iter().any(|slot| is_algorithm_fit(&slot)) {
            return Err(Denial::Algorithm);
        }
        self.slots.iter().find(|slot| is_algorithm_fit(slot) && is_size_fit(slot)).ok_or(Denial::KeySize)
    }

    /// What was asked for, or else what is usual here, as far as the grant goes.
    fn lifetime(&self, grant: &Grant, request: &Request) -> Result<Duration, Denial> {
        let most = grant.max_lifetime.map_or(self.max_lifetime, |most| most.min(self.max_lifetime));
        match request.lifetime {
            Some(wanted) if wanted > most && !self.is_clamped => Err(Denial::Lifetime { most }),
            wanted => Ok(wanted.unwrap_or(self.lifetime).min(most)),
        }
    }
}

#[cfg(test)]
mod tests;
