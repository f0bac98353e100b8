//! What verifiers make of keys.

use std::time::Duration;

use countersign_jwks::Keys;
use countersign_testkit::TestKey;
use countersign_token::{Answer, Ask, KeySource, Miss};
use serde_json::json;

use crate::PATIENCE;

/// The JWK Set of these keys.
#[must_use]
pub fn jwks(keys: &[TestKey]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(TestKey::public_jwk).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// Whether the keys in force have this one.
#[must_use]
pub fn has(keys: &Keys, key: &TestKey) -> bool {
    keys.snapshot().is_some_and(|set| set.candidates(key.kid(), key.algorithm()).next().is_some())
}

/// Whether a verifier finds this key, waiting if there is something to wait for.
pub async fn finds(keys: &Keys, key: &TestKey) -> bool {
    if has(keys, key) {
        return true;
    }
    let generation = keys.snapshot().map(|set| set.generation());
    let answer = match keys.ask(Miss { generation, kid: key.kid(), algorithm: key.algorithm(), token: None }) {
        Ask::Answered(answer) => answer,
        Ask::Wait(waiting) => waiting.await,
    };
    answer == Answer::Changed && has(keys, key)
}

/// Waits until it is so.
///
/// # Panics
/// If it never is.
pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}
