//! `countersign request`: the token that a client signs for one request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign::claims::signed_request::{BodyDigest, MAX_LIFETIME, RequestSigner, SignRequestError};
use countersign::{Algorithm, Clock as _, SystemClock, UnixTime};
use serde_json::json;

use crate::exit::{self, Answer, Exit, Failure};
use crate::input;
use crate::output::Screen;
use crate::token::checks::algorithms;
use crate::token::sign::signing_key;

#[derive(Args)]
pub(crate) struct Request {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The token for one request: for this method, this URL and this body, once, within a minute.
    ///
    /// It is sent as `Authorization: Bearer`, with the URL and the body exactly as they were given here.
    #[command(after_help = exit::HELP)]
    Sign(Sign),
}

#[derive(Args)]
struct Sign {
    /// The client's private key, in a file (`-`: on standard input): PEM (`PRIVATE KEY`, `RSA PRIVATE KEY`, `EC PRIVATE KEY`) or a JWK.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// What to sign with. A JWK may say so itself.
    #[arg(long, value_name = "ALG", value_parser = algorithms())]
    alg: Option<Algorithm>,

    /// What the token calls its key, in place of the JWK's own `kid`.
    #[arg(long, value_name = "KID")]
    kid: Option<String>,

    /// Whose request it is: `iss` and `sub`.
    #[arg(long, value_name = "NAME")]
    client: String,

    /// What the service calls itself: `aud`. Of a token service it is the issuer.
    #[arg(long, value_name = "AUDIENCE")]
    audience: String,

    /// The method, as it is sent.
    #[arg(long, value_name = "METHOD")]
    method: String,

    /// The URL, as it is sent, with its query. Nothing of it is normalised.
    #[arg(long, value_name = "URL")]
    url: String,

    /// The body, in a file (`-`: on standard input), at most 64 KiB. [default: an empty one]
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,

    /// How long it lives, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = MAX_SECONDS, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_SECONDS)))]
    lifetime: u8,

    /// `iat`, seconds since 1970, in place of the clock's time.
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
}

/// [`MAX_LIFETIME`].
const MAX_SECONDS: u8 = 60;
const _: () = assert!(MAX_LIFETIME.as_secs() == MAX_SECONDS as u64);

impl Request {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        match self.command {
            Command::Sign(command) => command.run(screen),
        }
    }
}

impl Sign {
    fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let is_input = |path: &Path| path == Path::new("-");
        if is_input(&self.key) && self.body.as_deref().is_some_and(is_input) {
            return Err(Failure::usage("standard input is either the key or the body"));
        }
        let key = signing_key(&self.key, self.alg, self.kid.as_deref(), screen)?;
        let body = self.body.as_deref().map(|path| input::document(path, "the body", screen)).transpose()?;
        let digest = BodyDigest::of(body.as_ref().map_or(b"", |body| body.as_slice()));
        let now = self.now.map_or_else(|| SystemClock.now(), UnixTime::from_secs);
        let signer = RequestSigner::new(key, self.client, self.audience).map_err(unsigned)?;
        let signer = signer.lifetime(Duration::from_secs(self.lifetime.into()));
        let token = signer.sign_digest(&self.method, &self.url, &digest, now).map_err(unsigned)?;
        let expires_at = now.as_secs().saturating_add(self.lifetime.into());
        let document = json!({ "token": token, "body_sha256": digest.to_string(), "exp": expires_at });
        Ok(Answer::new(Exit::Good, format!("{token}\n"), &document))
    }
}

/// What was asked for makes no sense, or could not be had.
fn unsigned(error: SignRequestError) -> Failure {
    match error {
        SignRequestError::Sign(_) => Failure::unavailable("not_signed", error.to_string()),
        SignRequestError::SharedSecret => Failure::refused("key_unusable", error.to_string()),
        _ => Failure::usage(error.to_string()),
    }
}
