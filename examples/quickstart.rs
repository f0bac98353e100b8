//! An issuer and an API that trusts it, on loopback, in one process: `cargo run --example quickstart`.
//!
//! The API is protected by three lines, marked below. Everything else is the issuer, which in real life is somebody else's,
//! and the calls that this program makes to itself to show what happens.

// A program that shows something prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use axum::routing::{delete, get};
use axum::{Json, Router};
use clap::Parser;
use countersign::{Algorithm, Authenticated, Claims, Forbidden, JwtAuth, SigningKey, scope};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

/// An issuer and a protected API on loopback, and the calls that show what the protection does.
#[derive(Parser)]
struct Options {
    /// The port of the API; 0 for any that is free.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Make the calls, show the answers, and end: with success only if they are 200, 401 and 403.
    #[arg(long)]
    once: bool,
}

/// What the handlers want to know of a token.
#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

async fn hello(claims: Claims<MyClaims>) -> String {
    format!("Hello, {}!\n", claims.sub)
}

/// Needs a scope that our token does not have.
async fn delete_everything(caller: Authenticated) -> Result<&'static str, Forbidden> {
    caller.require(&scope("admin"))?;
    Ok("Everything is gone.\n")
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("The answers are not what they should be.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<bool, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await.map_err(|error| {
        format!("Cannot listen on port {}: {error}. Choose another with --port, or --port 0 for any.", options.port)
    })?;
    let api = format!("http://{}", listener.local_addr()?);

    let (issuer, key) = start_issuer().await?;

    // The protection: who issues the tokens, and for whom they must be.
    let auth = JwtAuth::new(format!("{issuer}/jwks.json")).issuer(&*issuer).audience("quickstart");
    let app = Router::new().route("/hello", get(hello)).route("/everything", delete(delete_everything)).layer(auth);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let token = key.sign_as(
        "at+jwt",
        &json!({
            "iss": issuer,
            "aud": "quickstart",
            "sub": "ada",
            "scope": "greet",
            "iat": now.as_secs(),
            "exp": (now + Duration::from_secs(3600)).as_secs(),
        }),
    )?;
    println!("Issuer:  {issuer}/jwks.json\nAPI:     {api}\n\nA token, good for an hour:\n\n{token}\n");

    let bearer = format!("Authorization: Bearer {token}");
    let mut as_expected = true;
    for call in [
        Call { expected: 200, method: "GET", path: "/hello", token: Some(&token) },
        Call { expected: 401, method: "GET", path: "/hello", token: None },
        Call { expected: 403, method: "DELETE", path: "/everything", token: Some(&token) },
    ] {
        let header = call.token.map(|_| format!("-H '{bearer}' ")).unwrap_or_default();
        println!("$ curl -i -X {} {header}{api}{}", call.method, call.path);
        as_expected &= call.make(&api).await?;
    }
    if options.once {
        return Ok(as_expected);
    }
    println!("Paste these lines into another terminal. Ctrl-C ends.");
    tokio::select! {
        served = serving => served??,
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    Ok(as_expected)
}

/// An issuer as far as a verifier sees one: a name, and its public keys at a URL.
async fn start_issuer() -> Result<(String, SigningKey), Box<dyn Error>> {
    let key = SigningKey::generate(Algorithm::Es256)?.with_kid("quickstart-1");
    let jwks = json!({ "keys": [key.public_jwk()?] });
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let issuer = format!("http://{}", listener.local_addr()?);
    let routes = Router::new().route("/jwks.json", get(move || async move { Json(jwks) }));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok((issuer, key))
}

/// A request to the API, and what should come of it.
struct Call<'a> {
    expected: u16,
    method: &'a str,
    path: &'a str,
    token: Option<&'a str>,
}

impl Call<'_> {
    async fn make(&self, api: &str) -> Result<bool, Box<dyn Error>> {
        // Whatever proxy the environment names, it cannot reach our loopback.
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut request = client.request(self.method.parse()?, format!("{api}{}", self.path));
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await?;
        let status = response.status();
        println!("  {status}");
        if let Some(challenge) = response.headers().get("www-authenticate") {
            println!("  www-authenticate: {}", challenge.to_str()?);
        }
        for line in response.text().await?.lines() {
            println!("  {line}");
        }
        println!();
        Ok(status.as_u16() == self.expected)
    }
}
