//! A resource server in the manner of the Model Context Protocol (its authorization and streamable HTTP transport):
//! `cargo run --example mcp`.
//!
//! A client that knows nothing but the URL is told by the challenge where the metadata of the resource is (RFC 9728), and there who issues
//! tokens for it. Tokens are bound to the resource: its URL is their `aud` (RFC 8707). A tool that needs a scope more is refused with all scopes
//! that the call needs.
//!
//! ```text
//! TOKEN=…                                                                              # the token that it prints
//! curl -i http://127.0.0.1:3000/.well-known/oauth-protected-resource/mcp               # 200
//! curl -i -X POST http://127.0.0.1:3000/mcp                                            # 401, and where the metadata is
//! curl -i http://127.0.0.1:3000/mcp -H "Authorization: Bearer $TOKEN"                  # 405; it opens no stream by itself
//! BODY='{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
//! echo "$BODY" | curl -i http://127.0.0.1:3000/mcp -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d @-
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser as _;
use countersign::{Authenticated, Forbidden, JwtAuth, Permit, ResourceMetadata, permission, scope};
use countersign_examples::Options;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The revision of the protocol that this speaks.
const REVISION: &str = "2025-06-18";

/// What a client that names no revision speaks, as that revision says.
const FORMER_REVISION: &str = "2025-03-26";

permission! {
    /// May see which tools there are.
    pub ListTools = scope("tools:read");
    /// May call them.
    pub CallTools = scope("tools:read").and(scope("tools:call"));
}

/// A request or a notification of JSON-RPC 2.0, or a response, of which this server waits for none.
#[derive(Deserialize)]
struct Message {
    /// Notifications have none. (A `null` is one that is there.)
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
}

/// Whatever is there, `null` too.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// What is to be done stands in the body, so the permit is asked for here, and not in the signature.
async fn rpc(caller: Authenticated, headers: HeaderMap, Json(message): Json<Message>) -> Result<Response, Forbidden> {
    let revision = headers.get("mcp-protocol-version").map_or(FORMER_REVISION.as_bytes(), HeaderValue::as_bytes);
    if ![REVISION, FORMER_REVISION].iter().any(|known| known.as_bytes() == revision) {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    }
    let (id, method) = match (message.id, message.method) {
        (Some(id @ (Value::String(_) | Value::Number(_))), Some(method)) => (id, method),
        // Notifications and responses want no answer.
        (None, Some(_)) | (Some(Value::String(_) | Value::Number(_)), None) => {
            return Ok(StatusCode::ACCEPTED.into_response());
        }
        _ => return Ok(StatusCode::BAD_REQUEST.into_response()),
    };
    let result = match &*method {
        "initialize" => Ok(json!({
            "protocolVersion": REVISION,
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "countersign-example", "version": "0.1.0" },
        })),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(tools(&caller.permit()?)),
        "tools/call" => call(&caller.permit()?, &message.params),
        _ => Err((-32601, "there is no such method")),
    };
    Ok(Json(match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err((code, message)) => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }),
    })
    .into_response())
}

fn tools(_: &Permit<ListTools>) -> Value {
    json!({ "tools": [{
        "name": "whoami",
        "description": "Says whose token this is.",
        "inputSchema": { "type": "object" },
    }] })
}

/// Cannot be called without the permit, whatever else this file may forget.
fn call(permit: &Permit<CallTools>, params: &Value) -> Result<Value, (i32, &'static str)> {
    match params["name"].as_str() {
        Some("whoami") => Ok(json!({ "content": [{ "type": "text", "text": permit.subject() }] })),
        _ => Err((-32602, "there is no such tool")),
    }
}

/// A page of another origin must not talk to a server on this machine through a browser (DNS rebinding): the protocol demands that the
/// `Origin` is looked at, where there is one.
async fn same_origin(State(origin): State<String>, headers: HeaderMap, request: Request, next: Next) -> Response {
    match headers.get(header::ORIGIN) {
        Some(found) if found.as_bytes() != origin.as_bytes() => StatusCode::FORBIDDEN.into_response(),
        _ => next.run(request).await,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::parse();
    let listener = TcpListener::bind(options.address()).await?;
    let origin = format!("http://{}", listener.local_addr()?);

    // Who the tokens are for is known to their issuer by this URL, and to nobody by another.
    let resource = format!("{origin}/mcp");
    options.audience.clone_from(&resource);
    let trusted = options.trusted_with(|token| token.scope("tools:read tools:call"));
    let metadata = ResourceMetadata::new(&resource)?
        .authorization_server(&trusted.issuer)
        .scopes(["tools:read", "tools:call"])
        .name("countersign's example");

    let auth = JwtAuth::new(&*trusted.jwks_url)
        .issuer(&*trusted.issuer)
        .audience(&*resource)
        .deny_unbound()
        .require(scope("tools:read"))
        .resource_metadata(metadata.url());
    let app = Router::new()
        .route("/mcp", post(rpc))
        .layer(auth)
        // Whoever has no token yet must be able to read it.
        .route(metadata.path(), get(metadata.clone()))
        .layer(middleware::from_fn_with_state(origin.clone(), same_origin));

    println!("listening on {origin}");
    axum::serve(listener, app).await?;
    Ok(())
}
