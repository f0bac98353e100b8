use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::{Algorithm, JwtAuth, KeySet, KeysHandle, VerifyingKey};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::service::Service;
use crate::tally::Tally;
use crate::{Result, TIMEOUT};

/// How often a token whose key has to be looked for is shown before it must have been judged. Forced fetches are at most
/// 5 s apart and a request waits 2 s, so the third time would do.
const MAX_ASKS: usize = 4;

/// A line of `mint.mjs` and of `mint.py`: what one library has minted.
#[derive(Deserialize)]
pub(crate) struct Minted {
    pub(crate) library: String,
    pub(crate) version: String,
    pub(crate) jwks: String,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// How many keys are in the set.
    published: usize,
    pub(crate) algorithms: Vec<MintedTokens>,
    skipped: Vec<Skipped>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MintedTokens {
    pub(crate) alg: String,
    pub(crate) kid: String,
    /// base64url; HMAC only.
    pub(crate) secret: Option<String>,
    token: String,
    also_good: Vec<Variant>,
    pub(crate) hostile: Vec<Hostile>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) token: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hostile {
    pub(crate) name: String,
    pub(crate) stage: Stage,
    /// It names a key that is not published, or not for its algorithm.
    #[serde(default)]
    pub(crate) key_unknown: bool,
    pub(crate) token: String,
}

/// What a hostile token must fail on: its shape, key or signature, or, properly signed, what it says.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    Token,
    Claims,
}

#[derive(Deserialize)]
struct Skipped {
    alg: String,
    reason: String,
}

/// The last line of `mint.mjs` and of `mint.py`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Farewell {
    pub(crate) attacker_fetches: u64,
}

impl Hostile {
    pub(crate) fn new(name: &str, stage: Stage, token: String) -> Self {
        Self { name: name.to_owned(), stage, key_unknown: false, token }
    }
}

impl MintedTokens {
    pub(crate) fn good(&self) -> impl Iterator<Item = Variant> {
        let plain = Variant { name: "good token".to_owned(), token: self.token.clone() };
        [plain].into_iter().chain(self.also_good.iter().cloned())
    }
}

/// Judgements that have to wait until somebody has looked for a key.
pub(crate) struct Pending {
    library: String,
    published: usize,
    keys: KeysHandle,
    unknown: JoinSet<(String, Result<()>)>,
}

impl Minted {
    /// Shows everything to a service that trusts this issuer, except for what has to wait.
    pub(crate) async fn judged_here(&self, may_lack: impl Fn(&str) -> bool, tally: &mut Tally) -> Result<Pending> {
        let Self { library, version, .. } = self;
        println!("{library} {version}");
        let published = Arc::new(Service::start(self.trusted_by(JwtAuth::new(&self.jwks))).await?);
        let keys = published.auth.handle().keys().clone();
        tokio::time::timeout(TIMEOUT, keys.ready()).await?.map_err(|unready| unready.to_string())?;
        let all_usable = keys.status().keys == self.published && self.published > 0;
        tally.expect(&format!("every key of {library}'s set is usable"), all_usable);
        for Skipped { alg, reason } in &self.skipped {
            tally.skip(library, alg, reason, may_lack(alg));
        }

        let mut unknown = JoinSet::new();
        for tokens in &self.algorithms {
            let service = match &tokens.secret {
                Some(secret) => Arc::new(Service::start(self.trusted_by(sharing(secret, tokens)?)).await?),
                None => Arc::clone(&published),
            };
            for Variant { name, token } in tokens.good() {
                tally.check(&format!("{} minted by {library}, {name}", tokens.alg), service.accepts(&token).await);
            }
            for hostile in &tokens.hostile {
                let what = format!("{} by {library} refused, {}", tokens.alg, hostile.name);
                if hostile.key_unknown {
                    unknown.spawn(refuses_in_the_end(Arc::clone(&service), hostile.clone(), what));
                } else {
                    tally.check(&what, service.refuses(hostile, 1).await);
                }
            }
        }
        Ok(Pending { library: library.clone(), published: self.published, keys, unknown })
    }

    fn trusted_by(&self, auth: JwtAuth) -> JwtAuth {
        auth.issuer(&*self.issuer).audience(&*self.audience)
    }
}

impl Pending {
    /// The rest; and that nothing of it all has changed anything.
    pub(crate) async fn finish(mut self, tally: &mut Tally) -> Result<()> {
        while let Some(ended) = self.unknown.join_next().await {
            let (what, outcome) = ended?;
            tally.check(&what, outcome);
        }
        let status = self.keys.status();
        let undisturbed = status.generation == Some(1) && status.keys == self.published && status.fetches_failed == 0;
        tally.expect(&format!("{}: after all that the keys are those of the first fetch", self.library), undisturbed);
        Ok(())
    }
}

/// A token that names a key which is not there is not refused before the issuer has been asked for that key. Strangers
/// can make up such tokens, so the asking is spaced, and until it has been done the answer is 429: a client that then does
/// as `Retry-After` says gets its 401.
async fn refuses_in_the_end(service: Arc<Service>, hostile: Hostile, what: String) -> (String, Result<()>) {
    let outcome = service.refuses(&hostile, MAX_ASKS).await;
    (what, outcome)
}

/// A service that has been given the secret of these tokens.
fn sharing(secret: &str, tokens: &MintedTokens) -> Result<JwtAuth> {
    let algorithm = Algorithm::from_name(&tokens.alg).ok_or("an algorithm that is not known here")?;
    let secret = BASE64_URL_SAFE_NO_PAD.decode(secret)?;
    let keys = KeySet::new([VerifyingKey::from_secret(&secret, algorithm)?.with_kid(&*tokens.kid)?]);
    Ok(JwtAuth::with_keys(keys).algorithms(algorithm))
}
