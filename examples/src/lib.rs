//! What the examples share, so that each shows little but itself: their command line and an issuer to try them with; and
//! what their tests start them and talk to them by.

#![allow(clippy::print_stdout, reason = "examples talk to the person who runs them")]

mod client;
mod documented;
mod ring;
mod running;

use std::net::{Ipv4Addr, SocketAddr};

use countersign_testkit::{IdentityProvider, Token};

pub use client::{Answer, Client};
pub use documented::{documented_calls_of, documented_calls_to};
pub use ring::{NodeOptions, RingOptions, Scratch};
pub use running::{Running, example_binary, send_signal};

/// The command line of an example that serves.
#[derive(Debug, clap::Parser)]
pub struct Options {
    /// The port to listen on, on loopback; 0 for any that is free.
    #[arg(long, default_value_t = 3000)]
    pub port: u16,
    /// Where the issuer publishes its keys. Without it, the example starts an issuer of its own.
    #[arg(long, requires = "issuer")]
    pub jwks_url: Option<String>,
    /// The `iss` of its tokens.
    #[arg(long, requires = "jwks_url")]
    pub issuer: Option<String>,
    /// The `aud` of the tokens that are for this service.
    #[arg(long, default_value = "orders")]
    pub audience: String,
}

/// Who is trusted.
#[derive(Debug)]
pub struct Trusted {
    /// Where its keys are.
    pub jwks_url: String,
    /// Its name.
    pub issuer: String,
    /// Runs as long as this does.
    _own: Option<IdentityProvider>,
}

impl Options {
    /// Where to listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The issuer of the command line; or else a new one on loopback, whose first token is printed, good for an hour and with
    /// the scope `orders:read`.
    #[must_use]
    pub fn trusted(&self) -> Trusted {
        self.trusted_with(|token| token)
    }

    /// As [`trusted`](Self::trusted); the token that is printed has what `claims` puts into it.
    #[must_use]
    pub fn trusted_with(&self, claims: impl FnOnce(Token) -> Token) -> Trusted {
        if let (Some(jwks_url), Some(issuer)) = (&self.jwks_url, &self.issuer) {
            return Trusted { jwks_url: jwks_url.clone(), issuer: issuer.clone(), _own: None };
        }
        let idp = IdentityProvider::start();
        let token = claims(idp.token(&self.audience).scope("orders:read")).sign();
        println!("a token, good for an hour:\n\n{token}\n");
        Trusted { jwks_url: idp.jwks_url(), issuer: idp.issuer().to_owned(), _own: Some(idp) }
    }
}
