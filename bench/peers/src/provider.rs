//! The issuer's documents, over HTTP in the same process: peers that take keys from a URL fetch them here.

use std::net::Ipv4Addr;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use countersign_bench::Failure;
use countersign_bench::request::ISSUER;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub struct Provider {
    pub jwks_url: String,
    /// Below it is the realm `bench`, as Keycloak has it.
    pub server_url: String,
}

/// The realm that Keycloak's paths have in them.
pub const REALM: &str = "bench";

/// Serves until the runtime ends.
pub async fn serve(jwks: &Value) -> Result<Provider, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let server_url = format!("http://{}/", listener.local_addr()?);
    let jwks_url = format!("{server_url}jwks.json");
    // What OpenID Connect Discovery 1.0 §3 requires.
    let metadata = json!({
        "issuer": ISSUER,
        "authorization_endpoint": format!("{ISSUER}/authorize"),
        "token_endpoint": format!("{ISSUER}/token"),
        "jwks_uri": jwks_url,
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    let app = Router::new()
        .route("/jwks.json", document(jwks))
        .route(&format!("/realms/{REALM}/.well-known/openid-configuration"), document(&metadata));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(Provider { jwks_url, server_url })
}

fn document(content: &Value) -> axum::routing::MethodRouter {
    let text = content.to_string();
    get(move || async move { ([(CONTENT_TYPE, "application/json")], text) })
}
