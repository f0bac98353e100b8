//! The example of an MCP-style resource server, and what a client of it does.

use countersign_examples::{Answer, Client, Running, documented_calls_of};
use countersign_testkit::{IdentityProvider, Token};
use serde_json::{Value, json};

/// The value of a parameter of a challenge.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    challenge.split_once(&format!("{name}=\""))?.1.split('"').next()
}

async fn rpc(client: &Client, url: &str, token: Option<&Token>, message: Value) -> Answer {
    let mut request = client.request("POST", url).header("content-type", "application/json").body(message.to_string());
    if let Some(token) = token {
        request = request.bearer_auth(token.sign());
    }
    client.send(request).await
}

fn message(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

fn result(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str::<Value>(&answer.body).unwrap()["result"].clone()
}

#[tokio::test]
async fn a_client_that_knows_the_url_finds_its_way() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("mcp", &idp);
    let (client, url) = (Client::http1(), example.url("/mcp"));

    let refused = rpc(&client, &url, None, message("initialize", &json!({}))).await;
    assert_eq!(refused.content(), (401, ""));
    assert_eq!(parameter(refused.challenge(), "error"), None);
    assert_eq!(parameter(refused.challenge(), "scope"), Some("tools:read"));

    let metadata = client.get_bare(parameter(refused.challenge(), "resource_metadata").unwrap()).await;
    assert_eq!((metadata.status, metadata.header("content-type")), (200, "application/json"));
    let metadata: Value = serde_json::from_str(&metadata.body).unwrap();
    // RFC 9728 §3.3: identical to the URL that was called.
    assert_eq!(metadata["resource"], url);
    assert_eq!(metadata["authorization_servers"], json!([idp.issuer()]));

    let reader = idp.token(metadata["resource"].as_str().unwrap()).scope("tools:read");
    let hello = result(&rpc(&client, &url, Some(&reader), message("initialize", &json!({}))).await);
    assert_eq!(hello["protocolVersion"], "2025-06-18");
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(rpc(&client, &url, Some(&reader), initialized).await.content(), (202, ""));
    let tools = result(&rpc(&client, &url, Some(&reader), message("tools/list", &json!({}))).await);
    assert_eq!(tools["tools"][0]["name"], "whoami");

    let call = message("tools/call", &json!({ "name": "whoami" }));
    let refused = rpc(&client, &url, Some(&reader), call.clone()).await;
    assert_eq!(refused.content(), (403, ""));
    assert_eq!(parameter(refused.challenge(), "error"), Some("insufficient_scope"));
    let needed = parameter(refused.challenge(), "scope").unwrap();
    assert_eq!(needed, "tools:read tools:call", "all at once");
    assert!(parameter(refused.challenge(), "resource_metadata").is_some());

    let caller = reader.scope(needed);
    let called = result(&rpc(&client, &url, Some(&caller), call).await);
    assert_eq!(called["content"][0]["text"], "ada");
}

#[tokio::test]
async fn tokens_for_others_and_in_other_places_are_refused() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("mcp", &idp);
    let (client, url) = (Client::http1(), example.url("/mcp"));
    let list = || message("tools/list", &json!({}));
    for audience in ["orders", &example.url(""), &example.url("/mcp/"), &example.url("/MCP")] {
        let refused = rpc(&client, &url, Some(&idp.token(audience).scope("tools:read")), list()).await;
        assert_eq!(refused.content(), (401, ""), "{audience}");
        assert_eq!(parameter(refused.challenge(), "error"), Some("invalid_token"));
    }
    // MCP: tokens never stand in the query.
    let in_query = format!("{url}?access_token={}", idp.token(&url).scope("tools:read").sign());
    assert_eq!(rpc(&client, &in_query, None, list()).await.status, 401);
}

#[tokio::test]
async fn pages_of_other_origins_get_nothing() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("mcp", &idp);
    let (client, url) = (Client::http1(), example.url("/mcp"));
    let token = idp.token(&url).scope("tools:read");
    for (origin, status) in [("https://evil.example", 403), ("null", 403), (&*example.url(""), 200)] {
        let request = client.request("POST", &url).header("origin", origin).header("content-type", "application/json");
        let request = request.bearer_auth(token.sign()).body(message("ping", &json!({})).to_string());
        assert_eq!(client.send(request).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn what_the_protocol_does_not_have_is_turned_away() {
    let idp = IdentityProvider::start();
    let example = Running::start_trusting("mcp", &idp);
    let (client, url) = (Client::http1(), example.url("/mcp"));
    let token = idp.token(&url).scope("tools:read");
    for (revision, status) in [("2025-06-18", 200), ("2025-03-26", 200), ("1900-01-01", 400)] {
        let request = client.request("POST", &url).header("mcp-protocol-version", revision);
        let request = request.header("content-type", "application/json").bearer_auth(token.sign());
        let answer = client.send(request.body(message("ping", &json!({})).to_string())).await;
        assert_eq!(answer.status, status, "{revision}");
    }
    for (body, status) in [
        (json!({ "jsonrpc": "2.0", "id": null, "method": "ping" }), 400),
        (json!({ "jsonrpc": "2.0", "id": {}, "method": "ping" }), 400),
        (json!({ "jsonrpc": "2.0", "id": 1, "result": {} }), 202),
        (json!({ "jsonrpc": "2.0", "method": "notifications/cancelled" }), 202),
        (json!({ "jsonrpc": "2.0" }), 400),
    ] {
        assert_eq!(rpc(&client, &url, Some(&token), body.clone()).await.content(), (status, ""), "{body}");
    }
    let opened = client.get(&url, &token).await;
    assert_eq!((opened.status, opened.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("mcp", include_str!("../../mcp.rs")).await;
}
