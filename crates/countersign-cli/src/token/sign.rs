//! `countersign token sign`.

use std::path::PathBuf;

use clap::Args;
use countersign::claims::{Clock as _, UnixTime};
use countersign::token::{SignError, json};
use countersign::{Algorithm, SigningKey, SystemClock};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::json;
use serde_json::value::RawValue;

use super::checks::algorithms;
use crate::exit::{Answer, Exit, Failure};
use crate::input;
use crate::output::{Screen, shown};

#[derive(Args)]
pub(crate) struct Sign {
    /// The private key, in a file (`-`: on standard input): PEM (`PRIVATE KEY`, `RSA PRIVATE KEY`, `EC PRIVATE KEY`) or a JWK.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// What to sign with. A JWK may say so itself.
    #[arg(long, value_name = "ALG", value_parser = algorithms())]
    alg: Option<Algorithm>,

    /// What the token calls its key, in place of the JWK's own `kid`.
    #[arg(long, value_name = "KID")]
    kid: Option<String>,

    /// What kind of token it is.
    #[arg(long, value_name = "TYPE", default_value = "at+jwt")]
    typ: String,

    /// `iss`.
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,

    /// `sub`.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// `aud`. Again: for them, too.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,

    /// `scope`: one, or several with spaces between them.
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,

    /// One more claim. The value is JSON, or else text. Again: another.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,

    /// More claims: a JSON object, in a file (`-`: on standard input).
    #[arg(long = "claims", value_name = "FILE")]
    claims_file: Option<PathBuf>,

    /// How long it lives, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    lifetime: u32,

    /// `iat`, seconds since 1970, in place of the clock's time.
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
}

/// Claims in their order, each as it was written.
struct Claims(Vec<(String, Box<RawValue>)>);

impl Sign {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let claims = self.claims(screen)?;
        let token = self.key(screen)?.sign_as(&self.typ, &claims).map_err(unsigned)?;
        Ok(Answer::new(Exit::Good, format!("{token}\n"), &json!({ "token": token })))
    }

    fn key(&self, screen: &Screen) -> Result<SigningKey, Failure> {
        let octets = input::private_key(&self.key, screen)?;
        let unusable = |error: &dyn std::fmt::Display| {
            Failure::refused("key_unusable", format!("{} cannot be used: {error}", self.key.display()))
        };
        let is_jwk = octets.trim_ascii_start().starts_with(b"{");
        let key = if is_jwk {
            SigningKey::from_jwk(octets.trim_ascii(), self.alg).map_err(|error| unusable(&error))?
        } else {
            let algorithm = self.alg.ok_or_else(|| Failure::usage("PEM does not say what to sign with: give --alg"))?;
            SigningKey::from_pem(&*octets, algorithm).map_err(|error| unusable(&error))?
        };
        Ok(match &self.kid {
            Some(kid) => key.with_kid(kid.as_str()),
            None => key,
        })
    }

    fn claims(&self, screen: &Screen) -> Result<Claims, Failure> {
        let mut claims = Claims(Vec::new());
        let now = self.now.unwrap_or_else(|| SystemClock.now().as_secs());
        let expires = UnixTime::from_secs(now).saturating_add(std::time::Duration::from_secs(self.lifetime.into()));
        for (name, text) in [("iss", &self.issuer), ("sub", &self.subject)] {
            if let Some(text) = text {
                claims.add(name, &json!(text).to_string())?;
            }
        }
        match self.audience.as_slice() {
            [] => {}
            [audience] => claims.add("aud", &json!(audience).to_string())?,
            audiences => claims.add("aud", &json!(audiences).to_string())?,
        }
        claims.add("iat", &now.to_string())?;
        claims.add("exp", &expires.as_secs().to_string())?;
        if let Some(scope) = &self.scope {
            claims.add("scope", &json!(scope).to_string())?;
        }
        for (name, value) in &self.claims {
            let text = || json!(value).to_string();
            if serde_json::from_str::<&RawValue>(value).is_ok() {
                claims.add(name, value)?;
            } else {
                claims.add(name, &text())?;
            }
        }
        if let Some(path) = &self.claims_file {
            let document = input::document(path, "the file of claims", screen)?;
            let mut members = Vec::new();
            json::members(document.trim_ascii(), usize::MAX, |name, value| {
                members.push((name.into_owned(), value.text().into_owned()));
            })
            .map_err(|error| Failure::usage(format!("the file of claims is unusable: {error}")))?;
            members.iter().try_for_each(|(name, value)| claims.add(name, value))?;
        }
        Ok(claims)
    }
}

impl Claims {
    fn add(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        if self.0.iter().any(|(known, _)| known == name) {
            return Err(Failure::usage(format!("the claim `{}` is there twice", shown(name))));
        }
        let value = RawValue::from_string(value.to_owned());
        let value = value.map_err(|_| Failure::usage(format!("the claim `{}` is not JSON", shown(name))))?;
        self.0.push((name.to_owned(), value));
        Ok(())
    }
}

impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn claim(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a claim is NAME=VALUE"),
    }
}

fn unsigned(error: SignError) -> Failure {
    Failure::unavailable("not_signed", error.to_string())
}
