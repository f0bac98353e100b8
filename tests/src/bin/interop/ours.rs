use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::{Algorithm, SigningKey};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Result;
use crate::program::Program;
use crate::tally::Tally;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://api.example";
const KID: &str = "ours";

/// A line of `verify.mjs` and of `verify.py`.
#[derive(Deserialize)]
pub(crate) struct Judgement {
    pub(crate) ok: bool,
    #[serde(default)]
    claims: Value,
    error: Option<String>,
}

/// The answer may be that there will be none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reply {
    Skipped { skipped: String },
    Judged(Judgement),
}

/// What we mint, judged by `library` with the keys that we publish; and that it does judge, by tokens that are not quite ours.
pub(crate) async fn judged_by(
    library: &str,
    judge: &mut Program,
    may_lack: impl Fn(&str) -> bool,
    tally: &mut Tally,
) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada \u{1f989}", "client_id": "c", "jti": "1", "iat": now, "exp": now + 300,
    });
    for algorithm in Algorithm::ALL {
        let name = algorithm.name();
        let mut question = json!({
            "library": library, "alg": name, "kid": KID, "issuer": ISSUER, "audience": AUDIENCE,
            "typ": "at+jwt", "wantsClaims": true,
        });
        let key = if algorithm.is_symmetric() {
            let secret = SigningKey::generate(algorithm)?.signature(b"64 octets that nobody can guess")?.repeat(2);
            question["secret"] = BASE64_URL_SAFE_NO_PAD.encode(&secret).into();
            SigningKey::from_secret(&secret, algorithm)?.with_kid(KID)
        } else {
            let key = SigningKey::generate(algorithm)?.with_kid(KID);
            // Not alone, so that it has to be found.
            let neighbour = SigningKey::generate(Algorithm::Es256)?.with_kid("neighbour");
            question["jwks"] = json!({ "keys": [neighbour.public_jwk()?, key.public_jwk()?] });
            key
        };

        let token = key.sign_as("at+jwt", &claims)?;
        question["token"] = token.clone().into();
        let judgement = match judge.ask(&question).await? {
            Reply::Judged(judgement) => judgement,
            Reply::Skipped { skipped } => {
                tally.skip(library, name, &skipped, may_lack(name));
                continue;
            }
        };
        let outcome = match judgement.error {
            Some(error) => Err(error.into()),
            None if judgement.claims == claims => Ok(()),
            None => Err("verified, but the claims differ".into()),
        };
        tally.check(&format!("{name} minted here, verified by {library}"), outcome);

        let stranger = SigningKey::generate(algorithm)?.with_kid(KID).sign_as("at+jwt", &claims)?;
        for (what, altered) in [("of a stranger's key", stranger), ("altered", altered(&token)?), ("cut", cut(&token)?)]
        {
            question["token"] = altered.into();
            let judgement: Judgement = judge.ask(&question).await?;
            let refused = !judgement.ok && judgement.error.is_some();
            tally.expect(&format!("{name} minted here and {what}, refused by {library}"), refused);
        }
    }
    Ok(())
}

/// The same token with somebody else's name in it.
fn altered(token: &str) -> Result<String> {
    let [header, payload, signature] = parts(token)?;
    let mut claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload)?)?;
    claims["sub"] = "admin".into();
    Ok(format!("{header}.{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())))
}

/// The same token without its signature.
fn cut(token: &str) -> Result<String> {
    let [header, payload, _] = parts(token)?;
    Ok(format!("{header}.{payload}."))
}

fn parts(token: &str) -> Result<[&str; 3]> {
    let parts: Vec<_> = token.split('.').collect();
    parts.try_into().map_err(|_| "not three parts".into())
}
