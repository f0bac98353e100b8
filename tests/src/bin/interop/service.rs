use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::verifier::{Fault, Refusal};
use countersign::{JwtAuth, Verified};
use countersign_tests::service;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::Value;

use crate::minted::{Hostile, Stage};
use crate::{Result, TIMEOUT};

/// An axum service on a loopback socket behind a `JwtAuth`; it ends with the program.
pub(crate) struct Service {
    pub(crate) auth: JwtAuth,
    url: String,
    client: reqwest::Client,
}

/// What a service said.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A client that asks loopback, whatever proxy the environment names.
pub(crate) fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?)
}

impl Service {
    pub(crate) async fn start(auth: JwtAuth) -> Result<Self> {
        let address = service::serve(auth.clone()).await?;
        Ok(Self { auth, url: format!("http://{address}{}", service::PATH), client: client()? })
    }

    /// Whether the handler gets to see exactly the claims of `token`.
    pub(crate) async fn accepts(&self, token: &str) -> Result<()> {
        self.judge(token, 1).await?;
        let answer = self.call(authorization(token).ok_or("no header can hold it")?, 1).await?;
        if answer.status != StatusCode::OK {
            return Err(format!("the verifier accepts it, but the service says {}", answer.describe()).into());
        }
        let payload = token.split('.').nth(1).ok_or("no payload")?;
        let signed: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload)?)?;
        let seen: Value = serde_json::from_slice(&answer.body)?;
        if seen == signed { Ok(()) } else { Err("verified, but the handler sees other claims".into()) }
    }

    /// Whether the client is refused for the token and told no more than that, and the reason belongs to the stage.
    pub(crate) async fn refuses(&self, hostile: &Hostile, asks: usize) -> Result<()> {
        // Over HTTP first: whoever comes second to an unknown key may find that somebody has looked for it already.
        if let Some(authorization) = authorization(&hostile.token) {
            let answer = self.call(authorization, asks).await?;
            let (status, error) = if is_token_syntax(&hostile.token) {
                (StatusCode::UNAUTHORIZED, "invalid_token")
            } else {
                (StatusCode::BAD_REQUEST, "invalid_request")
            };
            answer.is_refusal(status, error)?;
        }
        match self.judge(&hostile.token, asks).await {
            Ok(_) => Err("accepted".into()),
            Err(refusal) if refusal.fault() == Fault::Token && hostile.stage == stage(&refusal) => Ok(()),
            Err(refusal) => Err(format!("refused, but for another reason: {refusal}").into()),
        }
    }

    /// Makes the call, and again as long as the answer is that asking again may help, at most `asks` times.
    async fn call(&self, authorization: HeaderValue, asks: usize) -> Result<Answer> {
        let mut asked = 1;
        loop {
            let request = self.client.get(&self.url).header(AUTHORIZATION, authorization.clone());
            let answer = Answer::of(request).await?;
            if answer.status != StatusCode::TOO_MANY_REQUESTS || asked == asks {
                return Ok(answer);
            }
            let seconds = answer.headers.get(RETRY_AFTER).ok_or("429 without Retry-After")?.to_str()?.parse()?;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            asked += 1;
        }
    }

    /// The same without HTTP: the full reason of a refusal.
    async fn judge(&self, token: &str, asks: usize) -> Result<Verified, Refusal> {
        let verifier = self.auth.verifier();
        let mut asked = 1;
        loop {
            match verifier.verify_or_wait(token, &|| SystemTime::now().into()).await {
                Err(Refusal::KeyNotCheckedYet { retry_after }) if asked < asks => {
                    tokio::time::sleep(retry_after).await;
                    asked += 1;
                }
                outcome => return outcome,
            }
        }
    }
}

impl Answer {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Self { status, headers, body: response.bytes().await?.into() })
    }

    /// The challenge, or nothing.
    pub(crate) fn challenge(&self) -> &str {
        self.headers.get(WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap_or_default())
    }

    /// Whether it is that status, with that `error` in the challenge, and no word more.
    pub(crate) fn is_refusal(&self, status: StatusCode, error: &str) -> Result<()> {
        let told = self.challenge().contains(&format!("error=\"{error}\""));
        if self.status == status && told && self.body.is_empty() {
            return Ok(());
        }
        Err(format!("{status} with {error} expected, the service says {}", self.describe()).into())
    }

    pub(crate) fn describe(&self) -> String {
        format!("{} {:?} with {} bytes", self.status, self.headers.get(WWW_AUTHENTICATE), self.body.len())
    }
}

/// The header with `token` in it; none if it would not arrive as it is: a field holds no line feed, and white space at its
/// end does not belong to it (RFC 9110 §5.5).
fn authorization(token: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.ends_with([' ', '\t']))
}

/// Whether it can be one token: what is more, or less, is no well-formed request.
fn is_token_syntax(token: &str) -> bool {
    !token.contains([' ', ','])
}

/// A token that nobody signed must not get as far as its claims, and one that is refused for what it says must have been
/// signed in earnest: otherwise it shows nothing.
fn stage(refusal: &Refusal) -> Stage {
    if matches!(refusal, Refusal::Claim(_)) { Stage::Claims } else { Stage::Token }
}
