use axum_08 as axum;

use axum::{Extension, Router, routing::get};
use serde::Deserialize;
use tower_oauth2_resource_server::{error::StartupError, server::OAuth2ResourceServer, tenant::TenantConfiguration};

#[derive(Clone, Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(Extension(claims): Extension<MyClaims>) -> String {
    format!("Hello, {}!", claims.sub)
}

pub async fn app(issuer: &str) -> Result<Router, StartupError> {
    let tenant = TenantConfiguration::builder(issuer).audiences(&["orders"]).build().await?;
    let server = OAuth2ResourceServer::<MyClaims>::builder().add_tenant(tenant).build().await?;
    Ok(Router::new().route("/", get(hello)).layer(server.into_layer()))
}
