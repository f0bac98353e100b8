//! The public keys of the clients: those of each for its own assertions and requests.

use std::collections::HashMap;
use std::future::Ready;
use std::sync::Arc;

use countersign::KeySet;
use countersign::token::{Answer, Ask, KeySource, Miss, UnverifiedToken};

use crate::policy::Policy;

#[derive(Clone)]
pub(crate) struct ClientKeys(Arc<HashMap<Box<str>, Arc<KeySet>>>);

impl ClientKeys {
    pub(super) fn of(policy: &Policy) -> Self {
        let with_keys = policy.credentials().filter(|(_, credentials)| !credentials.keys.is_empty());
        Self(Arc::new(with_keys.map(|(client, credentials)| (client.into(), Arc::clone(&credentials.keys))).collect()))
    }

    /// Those of the client that the token says it is from.
    pub(crate) fn of_client(&self, token: &UnverifiedToken<'_>) -> Option<&Arc<KeySet>> {
        token.with_unverified_issuer(|client| client.find_in(&self.0)).flatten()
    }
}

impl KeySource for ClientKeys {
    type Snapshot<'a> = &'a KeySet;
    type Waiting = Ready<Answer>;

    /// There are none that are good for every token.
    fn snapshot(&self) -> Option<&KeySet> {
        None
    }

    fn snapshot_for(&self, token: &UnverifiedToken<'_>) -> Option<&KeySet> {
        self.of_client(token).map(|keys| &**keys)
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn ask(&self, miss: Miss<'_>) -> Ask<Self::Waiting> {
        let is_known = miss.token.is_some_and(|token| self.snapshot_for(token).is_some());
        Ask::Answered(if is_known { Answer::Absent } else { Answer::UnknownIssuer })
    }

    fn is_known_absent(&self, _: Miss<'_>) -> bool {
        true
    }
}
