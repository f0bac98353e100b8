//! The public keys of the clients: those of each for its own assertions and requests, in the policy or fetched.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign::jwks::FetchPool;
use countersign::token::{Answer, Ask, KeySource, Miss, UnverifiedToken};
use countersign::{Keys, Remote, VerifyingKey};

use crate::policy::{KeysFrom, Policy};

/// How long a set that a client publishes is good for, at most, whatever its answer says: for as long a key that it has withdrawn can
/// be good.
const MAX_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// How long it is good for while it cannot be fetched again. Its own site is what a client can be asked to keep up.
const MAX_STALE: Duration = Duration::from_secs(60 * 60);

/// Those of all clients under one policy. Clones are the same.
#[derive(Clone)]
pub(crate) struct ClientKeys(Arc<Clients>);

struct Clients {
    known: HashMap<Box<str>, Arc<KeysOf>>,
    /// For all that are fetched, also under other policies.
    pool: FetchPool,
}

/// Those of one client. They outlive policies that say the same of them, so that what was fetched stays.
struct KeysOf {
    client: Box<str>,
    from: KeysFrom,
    /// From the first token on: nothing is fetched for whom nobody comes.
    keys: OnceLock<Keys>,
    pool: FetchPool,
}

impl ClientKeys {
    /// `before` is those in force, from which is taken over what stays the same.
    pub(super) fn of(policy: &Policy, before: Option<&Self>) -> Self {
        let pool = before.map_or_else(FetchPool::new, |before| before.0.pool.clone());
        let known = policy.credentials().filter_map(|(client, credentials)| {
            let from = credentials.keys.as_ref()?;
            let known = before.and_then(|before| before.0.known.get(client)).filter(|known| known.from == *from);
            let made = || {
                let (client, from) = (client.into(), from.clone());
                Arc::new(KeysOf { client, from, keys: OnceLock::new(), pool: pool.clone() })
            };
            Some((client.into(), known.map_or_else(made, Arc::clone)))
        });
        Self(Arc::new(Clients { known: known.collect(), pool: pool.clone() }))
    }

    /// Those of the client that the token says it is from.
    pub(crate) fn of_client(&self, token: &UnverifiedToken<'_>) -> Option<&Keys> {
        token.with_unverified_issuer(|client| client.find_in(&self.0.known)).flatten().map(|known| known.keys())
    }

    /// Whether this is a key of that client.
    pub(crate) fn has(&self, client: &str, key: &VerifyingKey) -> bool {
        let keys = self.0.known.get(client).and_then(|known| known.keys().snapshot());
        keys.is_some_and(|keys| keys.iter().any(|one| one.thumbprint() == key.thumbprint()))
    }

    fn asked_for(&self, miss: &Miss<'_>) -> Option<&Keys> {
        miss.token.and_then(|token| self.of_client(token))
    }
}

impl KeysOf {
    fn keys(&self) -> &Keys {
        let Self { client, from, keys, pool } = self;
        let configure = |remote: Remote| remote.max_lifetime(MAX_LIFETIME).max_stale(MAX_STALE).pooled(pool);
        keys.get_or_init(|| published(client, from, configure))
    }
}

/// The keys of a client, or of an issuer of workload tokens, each good for what that has signed only. Those that are elsewhere begin to be
/// fetched, as `configure` says.
pub(super) fn published(issuer: &str, from: &KeysFrom, configure: impl FnOnce(Remote) -> Remote) -> Keys {
    let remote = match from {
        KeysFrom::Inline(document) => return Keys::fixed(KeysFrom::inline(document, issuer).unwrap_or_default()),
        KeysFrom::At(url) => Remote::new(url),
        KeysFrom::Discovered => Remote::discover(issuer),
    };
    // What cannot be read was refused with the document; here it would be an issuer without keys.
    remote.map_or_else(
        |_| Keys::fixed(Default::default()),
        |remote| Keys::remote(configure(remote.bound_to_issuer(issuer))),
    )
}

impl KeySource for ClientKeys {
    type Snapshot<'a> = <Keys as KeySource>::Snapshot<'a>;
    type Waiting = <Keys as KeySource>::Waiting;

    /// There are none that are good for every token.
    fn snapshot(&self) -> Option<Self::Snapshot<'_>> {
        None
    }

    fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<Self::Snapshot<'_>> {
        self.of_client(token)?.snapshot()
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Self::Waiting> {
        self.asked_for(&miss).map_or(Ask::Answered(Answer::UnknownIssuer), |keys| keys.ask(miss))
    }

    fn is_known_absent(&self, miss: Miss<'_>) -> bool {
        self.asked_for(&miss).is_none_or(|keys| keys.is_known_absent(miss))
    }

    fn signature_mismatch(&self, miss: Miss<'_>) {
        if let Some(keys) = self.asked_for(&miss) {
            keys.signature_mismatch(miss);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use countersign_testkit::IdentityProvider;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_client_publishes_is_good_for_minutes_whatever_it_says() {
        let provider = IdentityProvider::start();
        provider.set_header("cache-control", "max-age=86400");
        let (client, from) = ("far".into(), KeysFrom::At(provider.jwks_url().into()));
        let known = KeysOf { client, from, keys: OnceLock::new(), pool: FetchPool::new() };
        let handle = known.keys().handle();
        handle.ready_within(Duration::from_secs(60)).await.unwrap();
        let status = handle.status();
        assert_eq!((status.lifetime, status.max_stale), (Some(MAX_LIFETIME), Some(MAX_STALE)));
        assert!(known.keys().are_bound());
    }
}
