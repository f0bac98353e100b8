//! Keys out of files, and no network: `cargo run --example static_keys`, which makes a key and prints a token to try.
//!
//! With keys of your own, public ones in PEM (`PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`) or a secret of 32 octets or
//! more for HS256; several keys are how one rotates without an issuer's key set:
//!
//! ```text
//! cargo run --example static_keys -- --key old.pem --key new.pem
//! cargo run --example static_keys -- --secret hmac.bin
//! ```
//!
//! ```text
//! TOKEN=…                                                                               # the token that it prints
//! curl -i http://127.0.0.1:3000/hello                                                   # 401
//! curl -i http://127.0.0.1:3000/hello -H "Authorization: Bearer $TOKEN"                 # 200
//! curl -i -X DELETE http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"      # 403
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use axum::Router;
use axum::routing::{delete, get};
use clap::Parser;
use countersign::{Algorithm, AlgorithmSet, Authenticated, Forbidden, JwtAuth, KeySet, VerifyingKey, scope};
use countersign_testkit::{TestKey, Token};
use tokio::net::TcpListener;

#[derive(Parser)]
struct Options {
    /// The port to listen on, on loopback; 0 for any that is free.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// A file with a public key in PEM. May be given several times.
    #[arg(long)]
    key: Vec<PathBuf>,
    /// A file with a secret for HS256: all of its octets, a line feed at the end too.
    #[arg(long)]
    secret: Option<PathBuf>,
    /// The `iss` of the tokens.
    #[arg(long, default_value = "https://issuer.example")]
    issuer: String,
    /// The `aud` of the tokens that are for this service.
    #[arg(long, default_value = "orders")]
    audience: String,
}

/// An elliptic-curve key in PEM may be for ES256, ES384 or ES512, an RSA key for six algorithms: the key itself decides
/// which of those allowed fit it. So a public key never verifies HS256, and a secret nothing else.
fn keys(options: &Options) -> Result<KeySet, Box<dyn Error>> {
    let mut keys = Vec::new();
    for file in &options.key {
        keys.push(VerifyingKey::from_pem(std::fs::read(file)?, AlgorithmSet::ASYMMETRIC)?);
    }
    if let Some(file) = &options.secret {
        keys.push(VerifyingKey::from_secret(&std::fs::read(file)?, Algorithm::Hs256)?);
    }
    if keys.is_empty() {
        let key = TestKey::nth(Algorithm::Ed25519, 0);
        let token = Token::new(&key).issuer(&options.issuer).audience(&options.audience).scope("orders:read").sign();
        println!("a token, good for an hour:\n\n{token}\n");
        keys.push(VerifyingKey::from_pem(key.public_pem(), Algorithm::Ed25519)?);
    }
    // PEM has no place for a key's name, and the tokens may have a `kid` all the same.
    Ok(KeySet::new(keys).unnamed_keys_match_any_kid())
}

async fn hello(token: Authenticated) -> String {
    format!("Hello, {}!", token.subject().unwrap_or("stranger"))
}

async fn cancel_all(token: Authenticated) -> Result<&'static str, Forbidden> {
    token.require(&scope("orders:write"))?;
    Ok("cancelled")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();

    let mut auth = JwtAuth::with_keys(keys(&options)?).issuer(&*options.issuer).audience(&*options.audience);
    if options.secret.is_some() {
        // Only asymmetric algorithms are allowed by default.
        auth = auth.algorithms(AlgorithmSet::ASYMMETRIC.with(Algorithm::Hs256));
    }
    let app = Router::new().route("/hello", get(hello)).route("/orders", delete(cancel_all)).layer(auth);

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
