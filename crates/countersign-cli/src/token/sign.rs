//! `countersign token sign`.

use std::path::{Path, PathBuf};

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
    #[command(flatten)]
    source: Source,

    /// What kind of token it is.
    #[arg(long, value_name = "TYPE", default_value = "at+jwt")]
    typ: String,

    /// `iss`.
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,

    /// `client_id`.
    #[arg(long, value_name = "CLIENT")]
    client_id: Option<String>,

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
    #[cfg_attr(unix, arg(long, value_name = "SECONDS", conflicts_with = "ring"))]
    #[cfg_attr(not(unix), arg(long, value_name = "SECONDS"))]
    now: Option<i64>,
}

/// Whose key signs.
#[derive(Args)]
#[group(multiple = true)]
struct Source {
    /// The private key, in a file (`-`: on standard input): PEM (`PRIVATE KEY`, `RSA PRIVATE KEY`, `EC PRIVATE KEY`) or a JWK.
    #[cfg_attr(unix, arg(long, value_name = "FILE", required_unless_present = "ring", conflicts_with = "ring"))]
    #[cfg_attr(not(unix), arg(long, value_name = "FILE", required = true))]
    key: Option<PathBuf>,

    /// What to sign with. A JWK may say so itself.
    #[cfg_attr(unix, arg(long, value_name = "ALG", conflicts_with = "ring", value_parser = algorithms()))]
    #[cfg_attr(not(unix), arg(long, value_name = "ALG", value_parser = algorithms()))]
    alg: Option<Algorithm>,

    /// What the token calls its key, in place of the JWK's own `kid`.
    #[cfg_attr(unix, arg(long, value_name = "KID", conflicts_with = "ring"))]
    #[cfg_attr(not(unix), arg(long, value_name = "KID"))]
    kid: Option<String>,

    /// The place of a key ring, in place of a key: its directory, or `s3://BUCKET/PREFIX`. It owns `iat`, `exp` and `jti`, and its `iss` is --issuer.
    #[cfg(unix)]
    #[arg(long, value_name = "PLACE", requires_all = ["slot", "issuer", "kek"])]
    ring: Option<countersign_service::RingPlace>,

    /// The slot of the ring whose key signs.
    #[cfg(unix)]
    #[arg(long, value_name = "SLOT", requires = "ring")]
    slot: Option<String>,

    /// Where the ring's key-encryption key is: `file:PATH`, `env:NAME` or `command:PROGRAM ARGUMENTS`. Again: an older one.
    #[cfg(unix)]
    #[arg(long, value_name = "SOURCE", requires = "ring")]
    kek: Vec<countersign_issuer::KekSource>,

    /// The group of that key's file may read it (0640).
    #[cfg(unix)]
    #[arg(long, requires = "ring")]
    kek_group_may_read: bool,
}

/// Claims in their order, each as it was written.
struct Claims(Vec<(String, Box<RawValue>)>);

impl Sign {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        #[cfg(unix)]
        if self.source.ring.is_some() {
            return crate::runtime::wait(self.mint(screen))?;
        }
        let claims = self.claims(screen)?;
        let token = self.key(screen)?.sign_as(&self.typ, &claims).map_err(unsigned)?;
        Ok(Answer::new(Exit::Good, format!("{token}\n"), &json!({ "token": token })))
    }

    /// With the key of a ring that signs now.
    #[cfg(unix)]
    async fn mint(mut self, screen: &Screen) -> Result<Answer, Failure> {
        use countersign_issuer::step::Role;
        let Source { ring, slot, kek, kek_group_may_read, .. } = &mut self.source;
        let ring = ring.take().ok_or_else(|| Failure::usage("with which ring? Give --ring"))?;
        let kek = std::mem::take(kek);
        let (slot, place) = (slot.take().unwrap_or_default(), crate::ring::Place::new(ring, kek, *kek_group_may_read));
        let found = place.open(self.issuer.as_deref().unwrap_or_default(), false).await?;
        let config = found.config()?;
        let ring = found.start(config, Role::Signer, |builder| builder).await?;
        crate::ring::settle(&ring, crate::ring::PATIENCE_TO_LOOK, screen).await;
        let mint = self.order(screen)?;
        let minted = ring.minter().mint(&slot, &mint).map_err(|error| {
            let exit = if error.is_temporary() { Exit::Unavailable } else { Exit::Refused };
            Failure { exit, code: error.code(), message: error.to_string() }
        })?;
        let document = json!({
            "token": minted.token, "kid": minted.kid, "alg": minted.algorithm.name(), "jti": minted.jti,
            "iat": minted.issued_at.as_secs(), "exp": minted.expires_at.as_secs(),
        });
        Ok(Answer::new(Exit::Good, format!("{}\n", minted.token), &document))
    }

    #[cfg(unix)]
    fn order(&self, screen: &Screen) -> Result<countersign_issuer::Mint, Failure> {
        use countersign_issuer::Mint;
        let mint = Mint::new(std::time::Duration::from_secs(self.lifetime.into())).typ(self.typ.as_str());
        let mint = self.audience.iter().fold(mint, |mint, audience| mint.audience(audience));
        let set = |mint: Mint, value: &Option<String>, set: fn(Mint, &str) -> Mint| match value {
            Some(value) => set(mint, value),
            None => mint,
        };
        let mint = set(mint, &self.subject, Mint::subject);
        let mint = set(mint, &self.scope, Mint::scope);
        let mint = set(mint, &self.client_id, Mint::client_id);
        let mut more = Claims(Vec::new());
        self.add_more(&mut more, screen)?;
        Ok(if more.0.is_empty() { mint } else { mint.claims(&more) })
    }

    fn key(&self, screen: &Screen) -> Result<SigningKey, Failure> {
        let Source { key: path, alg, kid, .. } = &self.source;
        let path = path.as_deref().ok_or_else(|| Failure::usage("with which key? Give --key"))?;
        signing_key(path, *alg, kid.as_deref(), screen)
    }

    fn claims(&self, screen: &Screen) -> Result<Claims, Failure> {
        let mut claims = Claims(Vec::new());
        let now = self.now.unwrap_or_else(|| SystemClock.now().as_secs());
        let expires = UnixTime::from_secs(now).saturating_add(std::time::Duration::from_secs(self.lifetime.into()));
        for (name, text) in [("iss", &self.issuer), ("sub", &self.subject), ("client_id", &self.client_id)] {
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
        self.add_more(&mut claims, screen)?;
        Ok(claims)
    }

    /// What no option is for.
    fn add_more(&self, claims: &mut Claims, screen: &Screen) -> Result<(), Failure> {
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
        Ok(())
    }
}

/// The private key in a file.
pub(crate) fn signing_key(
    path: &Path,
    alg: Option<Algorithm>,
    kid: Option<&str>,
    screen: &Screen,
) -> Result<SigningKey, Failure> {
    let octets = input::private_key(path, screen)?;
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::refused("key_unusable", format!("{} cannot be used: {error}", path.display()))
    };
    let is_jwk = octets.trim_ascii_start().starts_with(b"{");
    let key = if is_jwk {
        SigningKey::from_jwk(octets.trim_ascii(), alg).map_err(|error| unusable(&error))?
    } else {
        let algorithm = alg.ok_or_else(|| Failure::usage("PEM does not say what to sign with: give --alg"))?;
        SigningKey::from_pem(&*octets, algorithm).map_err(|error| unusable(&error))?
    };
    Ok(match kid {
        Some(kid) => key.with_kid(kid),
        None => key,
    })
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
