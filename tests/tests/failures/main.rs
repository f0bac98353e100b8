//! What `FAILURES.md` says, over real sockets: each row of its tables is read and tried, so that it cannot say what is not so.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod keys;
mod provider;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::{Handle, JwtAuth, KeyStatus};
use countersign_testkit::IdentityProvider;
use countersign_tests::crowd::AUDIENCE;
use countersign_tests::service::{self, Connection};

/// A provider, and a service that trusts it.
struct Stage {
    provider: IdentityProvider,
    handle: Handle,
    address: SocketAddr,
}

impl Stage {
    /// A service that has the provider's keys.
    async fn with_keys() -> Self {
        Self::with_keys_that(|auth| auth).await
    }

    async fn with_keys_that(change: impl FnOnce(JwtAuth) -> JwtAuth) -> Self {
        let stage = Self::of(IdentityProvider::start(), change).await;
        stage.handle.keys().ready().await.unwrap();
        stage
    }

    async fn of(provider: IdentityProvider, change: impl FnOnce(JwtAuth) -> JwtAuth) -> Self {
        let auth = change(JwtAuth::new(provider.jwks_url()).issuer(provider.issuer()).audience(AUDIENCE));
        let address = service::serve(auth.clone()).await.unwrap();
        Self { provider, handle: auth.handle(), address }
    }

    /// A good token, signed with the key that the provider signs with now.
    fn token(&self) -> Arc<str> {
        self.provider.token(AUDIENCE).sign().into()
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.address).await.unwrap()
    }

    fn status(&self) -> KeyStatus {
        self.handle.keys().status()
    }
}

/// Between two looks whether it has happened.
const LOOK: Duration = Duration::from_millis(50);
