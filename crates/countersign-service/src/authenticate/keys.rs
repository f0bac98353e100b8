//! The public keys of the clients: those of each for its own assertions and requests, in the policy or fetched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use countersign::token::{Answer, Ask, KeySource, Miss, UnverifiedToken};
use countersign::{Issuers, KeySet, Keys, Remote};

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
    known: HashMap<Box<str>, ClientKey>,
    /// Of all clients whose keys are elsewhere, also under the policies before and behind this one. There is one fetcher, so that all of
    /// them together fetch no more than so much at once.
    fetched: Option<Keys>,
}

enum ClientKey {
    Inline(Keys),
    At(Box<str>),
}

impl ClientKeys {
    /// `before` is those in force, whose fetched keys are taken over. Fetches nothing that was not fetched already, until
    /// these are [in force](Self::put_in_force).
    pub(super) fn of(policy: &Policy, before: Option<&Self>) -> Self {
        let with_keys = policy.credentials().filter_map(|(client, credentials)| {
            let key = match credentials.keys.as_ref()? {
                // What cannot be read was refused with the document.
                KeysFrom::Inline(document) => {
                    ClientKey::Inline(Keys::fixed(KeysFrom::inline(document, client).unwrap_or_default()))
                }
                KeysFrom::At(url) => ClientKey::At(url.clone()),
                KeysFrom::Discovered => return None,
            };
            Some((client.into(), key))
        });
        let clients =
            Clients { known: with_keys.collect(), fetched: before.and_then(|before| before.0.fetched.clone()) };
        let fetched = clients.fetched.clone().or_else(|| fetched(&clients));
        Self(Arc::new(Clients { fetched, ..clients }))
    }

    /// Around `store`, which has requests judged by these in place of `before`: what is added is there before that, and what has gone until then.
    pub(crate) fn put_in_force(&self, before: &Self, store: impl FnOnce()) {
        let Some(handle) = before.0.fetched.as_ref().map(Keys::handle) else {
            // If any are fetched, that was made with all of them.
            return store();
        };
        for (client, url) in self.0.urls().filter(|(client, url)| before.0.url(client) != Some(url)) {
            // Its settings were checked with the document, and there is room for more than a policy has.
            if let Err(error) = Remote::new(url).and_then(|remote| handle.add_issuer(client, remote)) {
                tracing::error!(target: "countersign::service", client, %error, "the keys of a client cannot be fetched");
            }
        }
        store();
        for (client, _) in before.0.urls().filter(|(client, _)| self.0.url(client).is_none()) {
            handle.remove_issuer(client);
        }
    }

    /// Those of the client that the token says it is from, to be kept.
    pub(crate) fn current_for(&self, token: &UnverifiedToken<'_>) -> Option<Arc<KeySet>> {
        self.of_client(token)?.current_for(token)
    }

    fn of_client(&self, token: &UnverifiedToken<'_>) -> Option<&Keys> {
        match token.with_unverified_issuer(|client| client.find_in(&self.0.known)).flatten()? {
            ClientKey::Inline(keys) => Some(keys),
            ClientKey::At(_) => self.0.fetched.as_ref(),
        }
    }

    fn asked_for(&self, miss: &Miss<'_>) -> Option<&Keys> {
        miss.token.and_then(|token| self.of_client(token))
    }
}

impl Clients {
    fn urls(&self) -> impl Iterator<Item = (&str, &str)> {
        self.known.keys().filter_map(|client| Some((&**client, self.url(client)?)))
    }

    fn url(&self, client: &str) -> Option<&str> {
        match self.known.get(client)? {
            ClientKey::At(url) => Some(url),
            ClientKey::Inline(_) => None,
        }
    }
}

/// Each when its first token comes, and until none has come for an hour.
fn fetched(clients: &Clients) -> Option<Keys> {
    let mut urls = clients.urls().peekable();
    urls.peek()?;
    let issuers = Issuers::new().lazy().each(|remote| remote.max_lifetime(MAX_LIFETIME).max_stale(MAX_STALE));
    let issuers = urls.fold(issuers, |issuers, (client, url)| match Remote::new(url) {
        Ok(remote) => issuers.issuer_at(client, remote),
        // It was refused with the document.
        Err(_) => issuers,
    });
    Some(Keys::issuers(issuers))
}

impl KeySource for ClientKeys {
    type Snapshot<'a> = <Keys as KeySource>::Snapshot<'a>;
    type Waiting = <Keys as KeySource>::Waiting;

    /// There are none that are good for every token.
    fn snapshot(&self) -> Option<Self::Snapshot<'_>> {
        None
    }

    fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<Self::Snapshot<'_>> {
        self.of_client(token)?.snapshot_for(token)
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
