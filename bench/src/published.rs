//! Issuers that publish their keys in memory, so that the real sources are measured and no network.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign::token::{Fetch, FetchError, FetchRequest, Fetched, SignError};
use countersign::{Algorithm, Issuers, Keys, Remote, SigningKey};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::request::claims;
use crate::{Failure, unix_seconds};

/// The key sets of all issuers, by their URLs.
#[derive(Clone)]
pub struct Published(Arc<HashMap<String, Vec<u8>>>);

impl Published {
    pub fn new(signers: &[SigningKey]) -> Result<Self, Failure> {
        let documents = signers
            .iter()
            .enumerate()
            .map(|(n, signer)| Ok((jwks_url(n), json!({ "keys": [signer.public_jwk()?] }).to_string().into_bytes())));
        Ok(Self(Arc::new(documents.collect::<Result<_, Failure>>()?)))
    }

    /// The first of them, by itself: as `JwtAuth::new` has it.
    pub async fn first(&self) -> Result<Keys, Failure> {
        let keys = Keys::remote(Remote::new(jwks_url(0))?.fetch(self.clone()));
        keys.handle().ready().await.map_err(|reason| reason.to_string())?;
        Ok(keys)
    }

    /// The first `count` of them.
    pub fn issuers(&self, count: usize) -> Issuers {
        let published = self.clone();
        let issuers = (0..count).fold(Issuers::new(), |issuers, n| {
            issuers.issuer_at(issuer(n), Remote::new(jwks_url(n)).expect("a good URL"))
        });
        issuers.each(move |remote| remote.fetch(published.clone()))
    }
}

impl Fetch for Published {
    fn fetch(&self, request: FetchRequest) -> Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + '_>> {
        Box::pin(async move {
            let mut fetched = Fetched::default();
            fetched.status = 200;
            fetched.body = self.0.get(&request.url).ok_or(FetchError::Broken("no such issuer".into()))?.clone();
            Ok(fetched)
        })
    }
}

/// The source of these issuers, once all have keys.
pub async fn running(issuers: Issuers, count: usize) -> Keys {
    let keys = Keys::issuers(issuers);
    while keys.handle().status().keys < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    keys
}

/// Drives the tasks of sources until they have keys, and then no more: no task disturbs what is timed.
pub fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_time().build()?)
}

pub fn signers(count: usize, algorithm: Algorithm) -> Result<Vec<SigningKey>, SignError> {
    (0..count).map(|n| Ok(SigningKey::generate(algorithm)?.with_kid(kid(n)))).collect()
}

/// One of this issuer's, signed now.
pub fn token(signer: &SigningKey, issuer: &str) -> Result<String, Failure> {
    let mut claims = claims(unix_seconds()?);
    claims["iss"] = issuer.into();
    Ok(signer.sign_as("at+jwt", &claims)?)
}

pub fn issuer(number: usize) -> String {
    format!("https://login.example/realms/{number:08}")
}

fn jwks_url(number: usize) -> String {
    format!("https://login.example/realms/{number:08}/jwks.json")
}

pub fn kid(number: usize) -> String {
    format!("3f0c6a52-{number:08}")
}
