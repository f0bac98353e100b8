//! An issuer and an API that trusts it, on loopback, in one process: `cargo run --example quickstart`.
//!
//! The API is protected by three lines, marked below. Everything else is the issuer, which may be somebody else's, and the
//! calls that this program makes to itself to show what happens. `issuer_and_api` has both as a service would have them.

// A program that shows something prints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get};
use clap::Parser;
use countersign::{Algorithm, Authenticated, Claims, Forbidden, JwtAuth, scope};
use countersign_issuer::{Kek, KekRing, MemoryStore, Mint, Ring, RingConfig, Slot};
use serde::Deserialize;
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

    let (issuer, ring) = start_issuer().await?;
    let jwks_url = format!("{issuer}{JWKS_PATH}");

    // The protection: who issues the tokens, and for whom they must be.
    let auth = JwtAuth::new(&jwks_url).issuer(&*issuer).audience("quickstart");
    let app = Router::new().route("/hello", get(hello)).route("/everything", delete(delete_everything)).layer(auth);
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });

    let mint =
        Mint::new(Duration::from_secs(3600)).subject("ada").client_id("web").audience("quickstart").scope("greet");
    let token = ring.minter().mint("es256", &mint)?.token;
    println!("Issuer:  {jwks_url}\nAPI:     {api}\n\nA token, good for an hour:\n\n{token}\n");

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

const JWKS_PATH: &str = "/.well-known/jwks.json";

/// An issuer: a ring of keys that are made, announced, used and retired by themselves, and the public ones at a URL.
async fn start_issuer() -> Result<(String, Ring), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let issuer = format!("http://{}", listener.local_addr()?);

    // One kind of key. A ring that shall outlive its process is kept in a directory or in S3, and sealed under a key that
    // somebody else keeps.
    let mut config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
    // The first of several nodes waits for half of this at most, for another to be quicker. There is no other.
    config.timing.tick = Duration::from_millis(100);
    let keks = KekRing::new([Kek::random()?])?;
    let ring = Ring::builder(&*issuer, config, Arc::new(MemoryStore::new()), keks).start().await?;
    ring.ready_within(Duration::from_secs(30)).await?;

    let routes = Router::new().route_service(JWKS_PATH, ring.jwks());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok((issuer, ring))
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
