//! The public keys of the clients: those of each for its own assertions and requests.

use std::collections::HashMap;
use std::sync::Arc;

use countersign::token::{Answer, Ask, KeySource, Miss, UnverifiedToken};
use countersign::{Keys, Remote};

use crate::policy::{KeysFrom, Policy};

/// Keys, and where they are from. They outlive policies that say the same of them, so that what was fetched stays.
pub(super) struct Published {
    from: KeysFrom,
    pub(super) keys: Keys,
}

impl Published {
    /// Those of `issuer`, good for what it has signed; they are taken over from `before` if they were there already. Those that
    /// are elsewhere begin to be fetched.
    pub(super) fn of(issuer: &str, from: &KeysFrom, before: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(known) = before.filter(|known| known.from == *from) {
            return Arc::clone(known);
        }
        // What cannot be read was refused with the document; here it would be an issuer without keys.
        let remote = |remote: Result<Remote, _>| {
            remote.map_or_else(
                |_| Keys::fixed(Default::default()),
                |remote: Remote| Keys::remote(remote.bound_to_issuer(issuer)),
            )
        };
        let keys = match from {
            KeysFrom::Inline(document) => Keys::fixed(KeysFrom::inline(document, issuer).unwrap_or_default()),
            KeysFrom::At(url) => remote(Remote::new(url)),
            KeysFrom::Discovered => remote(Remote::discover(issuer)),
        };
        Arc::new(Self { from: from.clone(), keys })
    }
}

#[derive(Clone)]
pub(crate) struct ClientKeys(Arc<HashMap<Box<str>, Arc<Published>>>);

impl ClientKeys {
    pub(super) fn of(policy: &Policy, before: Option<&Self>) -> Self {
        let with_keys = policy.credentials().filter_map(|(client, credentials)| {
            let known = before.and_then(|before| before.0.get(client));
            Some((client.into(), Published::of(client, credentials.keys.as_ref()?, known)))
        });
        Self(Arc::new(with_keys.collect()))
    }

    /// Those of the client that the token says it is from.
    pub(crate) fn of_client(&self, token: &UnverifiedToken<'_>) -> Option<&Keys> {
        token.with_unverified_issuer(|client| client.find_in(&self.0)).flatten().map(|published| &published.keys)
    }

    fn asked_for(&self, miss: &Miss<'_>) -> Option<&Keys> {
        miss.token.and_then(|token| self.of_client(token))
    }
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
