//! Services on loopback, as they are before and after.

use std::future::Future;
use std::pin::Pin;

use countersign_migration::{axum_jwt_auth, hand_written, jwt_authorizer, tower_oauth2_resource_server};
use countersign_testkit::IdentityProvider;
use tokio::net::TcpListener;

/// Starts a service that trusts this provider; where it is, or nothing if it does not start.
pub type Start = for<'a> fn(&'a IdentityProvider) -> Pin<Box<dyn Future<Output = Option<String>> + Send + 'a>>;

/// A section of the page.
#[derive(Clone, Copy)]
pub struct Origin {
    pub heading: &'static str,
    pub before: Start,
    pub after: Start,
}

pub const JWT_AUTHORIZER: Origin = Origin {
    heading: "From `jwt-authorizer`",
    before: |idp| {
        Box::pin(
            async move { Some(serve_07(jwt_authorizer::before::app(&idp.jwks_url(), idp.issuer()).await.ok()?).await) },
        )
    },
    after: |idp| Box::pin(async move { Some(serve(jwt_authorizer::after::app(&idp.jwks_url(), idp.issuer())).await) }),
};

pub const AXUM_JWT_AUTH: Origin = Origin {
    heading: "From `axum-jwt-auth`",
    before: |idp| {
        Box::pin(
            async move { Some(serve(axum_jwt_auth::before::app(&idp.jwks_url(), idp.issuer()).await.ok()?).await) },
        )
    },
    after: |idp| {
        Box::pin(async move { Some(serve(axum_jwt_auth::after::app(&idp.jwks_url(), idp.issuer()).await.ok()?).await) })
    },
};

pub const TOWER_OAUTH2_RESOURCE_SERVER: Origin = Origin {
    heading: "From `tower-oauth2-resource-server`",
    before: |idp| {
        Box::pin(async move { Some(serve(tower_oauth2_resource_server::before::app(idp.issuer()).await.ok()?).await) })
    },
    after: |idp| Box::pin(async move { Some(serve(tower_oauth2_resource_server::after::app(idp.issuer())).await) }),
};

pub const HAND_WRITTEN: Origin = Origin {
    heading: "From middleware of your own with `jsonwebtoken`",
    before: |idp| {
        Box::pin(async move { Some(serve(hand_written::before::app(&idp.jwks_url(), idp.issuer()).await.ok()?).await) })
    },
    after: |idp| Box::pin(async move { Some(serve(hand_written::after::app(&idp.jwks_url(), idp.issuer())).await) }),
};

/// Serves it on loopback, and says where.
pub async fn serve(app: axum_08::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum_08::serve(listener, app).await });
    url
}

/// As [`serve`], for axum 0.7.
pub async fn serve_07(app: axum_07::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum_07::serve(listener, app).await });
    url
}
