//! Peers that are middleware: each as its README recommends, checking `iss`, `aud`, `exp` and `nbf` where it can, with the
//! claims read into a type where it can.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum_keycloak_auth::decode::KeycloakToken;
use axum_keycloak_auth::instance::{KeycloakAuthInstance, KeycloakConfig};
use axum_keycloak_auth::layer::KeycloakAuthLayer;
use countersign_bench::request::{AUDIENCE, ISSUER};
use jwt_authorizer::IntoLayer as _;
use oauth_resource_server::axum::AuthLayer;
use oauth_resource_server::{AuthorizedToken, KeyNaming, OAuthConfig, OAuthValidator, static_token_policy};
use serde::Deserialize;
use tower_layer::Layer as _;
use tower_oauth2_resource_server::server::OAuth2ResourceServer;
use tower_oauth2_resource_server::tenant::TenantConfiguration;
use tower_oauth2_resource_server::validation::ClaimsValidationSpec;
use url::Url;

use crate::call::{Calls, Inner, MyClaims};
use crate::contenders::{Made, Setup};
use crate::provider::REALM;

/// Its response must be made of an error of its own, which is for axum 0.7 only: the handler behind it answers with that
/// version's body.
pub fn jwt_authorizer(setup: &Setup<'_>) -> Made {
    let validation = jwt_authorizer::Validation::new().iss(&[ISSUER]).aud(&[AUDIENCE]).nbf(true);
    let builder = jwt_authorizer::AuthorizerBuilder::<MyClaims>::from_jwks_url(&setup.provider.jwks_url);
    let authorizer = setup.runtime.block_on(builder.validation(validation).build())?;
    let inner: Inner<axum_core_04::body::Body> = Inner::looking(|extensions| {
        extensions.get::<jsonwebtoken_9::TokenData<MyClaims>>().is_some_and(|token| !token.claims.sub.is_empty())
    });
    Ok(Box::new(Calls::new(authorizer.into_layer().layer(inner))?))
}

pub fn tower_oauth2_resource_server(setup: &Setup<'_>) -> Made {
    let audiences = vec![AUDIENCE.to_owned()];
    let mut tenant = TenantConfiguration::builder(ISSUER)
        .jwks_url(&setup.provider.jwks_url)
        .audiences(&audiences)
        .claims_validation(ClaimsValidationSpec::recommended(ISSUER, &audiences));
    if setup.issuer.algorithm.is_symmetric() {
        tenant = tenant.allowed_algorithms(&[jsonwebtoken_11::Algorithm::HS256]);
    }
    let server = setup.runtime.block_on(async {
        OAuth2ResourceServer::<MyClaims>::builder().add_tenant(tenant.build().await?).build().await
    });
    let inner: Inner<Body> = Inner::looking(has_my_claims);
    Ok(Box::new(Calls::new(server?.into_layer().layer(inner))?))
}

/// One static key, and no look at `kid`.
pub fn tower_jwt(setup: &Setup<'_>) -> Made {
    let mut validation = tower_jwt::Validation::new(setup.issuer.algorithm.name().parse()?);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_nbf = true;
    let key = tower_jwt::DecodingKey::from_jwk(&serde_json::from_value(setup.issuer.jwk()?)?)?;
    let inner: Inner<Body> = Inner::looking(|extensions| {
        extensions.get::<tower_jwt::RequestClaim<MyClaims>>().is_some_and(|token| !token.claim.sub.is_empty())
    });
    Ok(Box::new(Calls::new(tower_jwt::JwtLayer::<MyClaims>::new(validation, key).layer(inner))?))
}

/// With its cache, without which it fetches on each request, and without its rate limit, under which a request with an
/// unknown `kid` waits for up to a minute.
pub fn axum_jose(setup: &Setup<'_>) -> Made {
    let url = Url::parse(&setup.provider.jwks_url)?;
    let keys = axum_jose::RemoteJwkSet::builder(url).with_cache(Duration::from_secs(300)).build();
    let layer = axum_jose::AuthorizationLayer::with_remote_jwk_set(keys, Url::parse(ISSUER)?, AUDIENCE.to_owned());
    let inner: Inner<Body> = Inner::looking(|extensions| {
        extensions.get::<axum_jose::authorization::Claims>().is_some_and(|claims| claims.0["sub"].is_string())
    });
    Ok(Box::new(Calls::new(layer.layer(inner))?))
}

/// It refuses nobody: the handler has to.
pub fn axum_jwt_oidc(setup: &Setup<'_>) -> Made {
    let config =
        axum_jwt_oidc::OidcConfig::new(ISSUER.to_owned(), AUDIENCE.to_owned(), setup.provider.jwks_url.clone());
    let mut validation = axum_jwt_oidc::Validation::new(setup.issuer.algorithm.name().parse()?);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_nbf = true;
    let layer = axum_jwt_oidc::OidcAuthLayer::<MyClaims>::new(axum_jwt_oidc::OidcValidator::new(config), validation);
    let inner: Inner<Body> = Inner::looking(has_my_claims);
    Ok(Box::new(Calls::new(layer.layer(inner))?))
}

/// Discovers the keys below its realm; has no check of the issuer.
pub fn axum_keycloak_auth(setup: &Setup<'_>) -> Made {
    let config =
        KeycloakConfig::builder().server(Url::parse(&setup.provider.server_url)?).realm(REALM.to_owned()).build();
    let instance = Arc::new(KeycloakAuthInstance::new(config));
    let discovered = async {
        while !instance.is_operational().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    setup.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), discovered).await })?;
    let layer = KeycloakAuthLayer::<String, Extra>::builder()
        .instance(instance)
        .expected_audiences(vec![AUDIENCE.to_owned()])
        .build();
    let inner: Inner<Body> = Inner::looking(|extensions| {
        extensions.get::<KeycloakToken<String, Extra>>().is_some_and(|token| !token.subject.is_empty())
    });
    Ok(Box::new(Calls::new(layer.layer(inner))?))
}

/// What axum-keycloak-auth does not read into a type of its own.
#[derive(Clone, Deserialize)]
#[expect(dead_code, reason = "reading them is the work")]
struct Extra {
    roles: Vec<String>,
}

/// Has its own type of claims. It wants a scope.
pub fn oauth_resource_server(setup: &Setup<'_>) -> Made {
    if setup.issuer.algorithm.is_symmetric() {
        return Err("refuses HMAC, by design".into());
    }
    let config = OAuthConfig {
        enabled: true,
        issuer: ISSUER.to_owned(),
        jwks_uri: Some(setup.provider.jwks_url.clone()),
        audience: AUDIENCE.to_owned(),
        resource: "https://orders.example".to_owned(),
        required_scope: Some("orders:read".to_owned()),
        scopes_supported: Some(vec!["orders:read".to_owned()]),
        ..OAuthConfig::default()
    };
    let resolved = config.resolve(KeyNaming::Dotted("oauth")).map_err(|error| format!("{error:?}"))?;
    let resolved = resolved.ok_or("it is enabled")?;
    let validator = Arc::new(OAuthValidator::new(&resolved)?);
    setup.runtime.block_on(validator.refresh_now())?;
    validator.spawn_background_refresh();
    let layer = AuthLayer::from_decision(static_token_policy(None, Some(&resolved), false)?, Some(validator))?;
    let inner: Inner<Body> =
        Inner::looking(|extensions| extensions.get::<AuthorizedToken>().is_some_and(|token| token.subject.is_some()));
    Ok(Box::new(Calls::new(layer.layer(inner))?))
}

fn has_my_claims(extensions: &http::Extensions) -> bool {
    extensions.get::<MyClaims>().is_some_and(|claims| !claims.sub.is_empty())
}
