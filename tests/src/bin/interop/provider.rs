//! npm `oidc-provider`, certified, as the issuer of a protected example: its tokens as they come over HTTP, two restarts
//! with new keys while the example is in use, and the [`crate::outages`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::JwtAuth;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Result;
use crate::example::Example;
use crate::load::{Load, Seen};
use crate::minted::{Hostile, Stage};
use crate::node::NodeJs;
use crate::outages;
use crate::program::Program;
use crate::service::{Answer, Service, client};
use crate::tally::Tally;

/// How long after its `exp` the example's service still takes a token.
const LEEWAY: Duration = Duration::from_secs(30);

/// How long a token of a key that nobody has announced may be told to ask again. Forced fetches are at most 5 s apart; the
/// rest is for the fetch itself on a busy machine.
pub(crate) const BLIND_FOR: Duration = Duration::from_secs(10);

/// How long a token of a withdrawn key may be accepted once a fetch has been provoked: that fetch.
pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(10);

const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"];

pub(crate) async fn run(nodejs: &NodeJs, tally: &mut Tally) -> Result<()> {
    let mut first = Provider::start(nodejs, 0, &[]).await?;
    let at = first.at.clone();
    let api = Example::start("axum", &at.jwks, &at.issuer, &at.audience).await?;

    let tokens = first.tokens(&at.audience).await?;
    good_tokens(&first, &api, &tokens, tally).await?;
    refused_tokens(&mut first, &api, tally).await?;

    let load = Load::start(&api.url)?;
    load.add("first", tokens.clone()).await;
    tally.check("before any change", load.has_seen(accepted, "first", BLIND_FOR).await);

    // A rotation that nobody has announced: the provider is killed, comes back, and signs with new keys at once.
    let second = first.kill().await?.start(nodejs, 1).await?;
    let second_tokens = second.tokens(&at.audience).await?;
    for token in tokens.iter().zip(&second_tokens) {
        tally.expect("a restarted provider signs with another key", kid(token.0)? != kid(token.1)?);
    }
    load.add("second", second_tokens).await;
    tally.check("a token of a new key is accepted in the end", load.has_seen(accepted, "second", BLIND_FOR).await);
    let short_lived = second.tokens(&format!("{}/short", at.audience)).await?;

    // The same again in good order, but now the first keys are not published any more.
    let third = second.stop().await?.start(nodejs, 1).await?;
    load.add("third", third.tokens(&at.audience).await?).await;
    tally.check("and again", load.has_seen(accepted, "third", BLIND_FOR).await);
    tally.check("a token of a withdrawn key is refused in the end", load.has_seen(refused, "first", TRUSTED_FOR).await);

    let seen = load.stop().await?;
    key_changes(&seen, tally);

    // Other providers, while these tokens expire.
    outages::run(nodejs, tally).await?;

    for (alg, token) in ALGORITHMS.iter().zip(&short_lived) {
        let expires_at = UNIX_EPOCH + Duration::from_secs(claims(token)?["exp"].as_u64().ok_or("no exp")?);
        let wait = (expires_at + LEEWAY + Duration::from_secs(1)).duration_since(SystemTime::now());
        tokio::time::sleep(wait.unwrap_or_default()).await;
        let answer = get(&api, "/hello", token).await?;
        let told = answer.challenge().contains("the token has expired");
        tally.check(&format!("{alg} expired"), answer.is_refusal(StatusCode::UNAUTHORIZED, "invalid_token"));
        tally.expect(&format!("{alg} expired, and told so"), told);
    }
    third.program.finish().await
}

/// Each gets as far as the handler; the scopes that it has been given count.
async fn good_tokens(provider: &Provider, api: &Example, tokens: &[String], tally: &mut Tally) -> Result<()> {
    let without_scope = provider.tokens_for(&provider.at.audience, None).await?;
    for ((alg, token), without) in ALGORITHMS.iter().zip(tokens).zip(&without_scope) {
        let header = header(token)?;
        tally.expect(&format!("{alg} is what it is signed with"), header["alg"] == *alg && header["typ"] == "at+jwt");
        for (token, path, status, body) in [
            (token, "/hello", StatusCode::OK, Some(format!("Hello, service-{alg}!"))),
            (token, "/orders", StatusCode::OK, None),
            (without, "/hello", StatusCode::OK, Some(format!("Hello, service-{alg}!"))),
        ] {
            let answer = get(api, path, token).await?;
            let as_expected = answer.status == status && body.is_none_or(|body| answer.body == body.as_bytes());
            let outcome = if as_expected { Ok(()) } else { Err(answer.describe().into()) };
            tally.check(&format!("{alg} {path}"), outcome);
        }
        let answer = get(api, "/orders", without).await?;
        let named = answer.challenge().contains(r#"scope="orders:read""#);
        tally.check(&format!("{alg} lacks the scope"), answer.is_refusal(StatusCode::FORBIDDEN, "insufficient_scope"));
        tally.expect(&format!("{alg} lacks the scope, and is told which"), named);
    }
    Ok(())
}

/// What the same provider hands out and what is still not for this API.
async fn refused_tokens(provider: &mut Provider, api: &Example, tally: &mut Tally) -> Result<()> {
    let audience = provider.at.audience.clone();
    let mut refused = BTreeMap::new();
    for (what, resource) in [
        ("for another resource", "https://other.example".to_owned()),
        ("opaque", format!("{audience}/opaque")),
        ("encrypted", format!("{audience}/encrypted")),
        ("signed with a shared secret", format!("{audience}/hmac")),
    ] {
        for (alg, token) in ALGORITHMS.iter().zip(provider.tokens(&resource).await?) {
            refused.insert(format!("{what}, client for {alg}"), token);
        }
    }
    let [app, like_api] = &provider.at.apps;
    let by_app: LoggedIn = provider.program.ask(&json!({ "login": "ada", "client": app })).await?;
    let by_like_api: LoggedIn = provider.program.ask(&json!({ "login": "ada", "client": like_api })).await?;
    refused.insert("an ID token".to_owned(), by_app.id_token);
    for (what, token) in refused {
        let answer = get(api, "/hello", &token).await?;
        tally.check(&what, answer.is_refusal(StatusCode::UNAUTHORIZED, "invalid_token"));
    }
    let answer = get(api, "/hello", &by_app.access_token).await?;
    let greeted = answer.status == StatusCode::OK && answer.body == b"Hello, ada!";
    tally.check("a person's token", if greeted { Ok(()) } else { Err(answer.describe().into()) });

    // An ID token of a client that is called what the API is called has `iss`, `aud`, `sub` and `exp` of an access token, and
    // nothing that says what it is. RFC 9068 is how one can tell.
    let at = &provider.at;
    let profile = JwtAuth::new(&at.jwks).issuer(&*at.issuer).audience(&*at.audience).access_token_profile();
    let profile = Service::start(profile).await?;
    // Without keys it would be refused for its claims before anybody looks at its signature.
    tokio::time::timeout(crate::TIMEOUT, profile.auth.handle().keys().ready())
        .await?
        .map_err(|unready| unready.to_string())?;
    let id_token = Hostile::new("an ID token with the audience of the API", Stage::Claims, by_like_api.id_token);
    tally.check("RFC 9068, an ID token for a client called like the API", profile.refuses(&id_token, 1).await);
    for token in provider.tokens(&audience).await?.iter().chain([&by_app.access_token, &by_like_api.access_token]) {
        tally.check("RFC 9068, the provider's access tokens", profile.accepts(token).await);
    }
    Ok(())
}

/// What the callers have seen, each in its own order.
fn key_changes(seen: &[Vec<Seen>], tally: &mut Tally) {
    let of = |generation: &'static str| seen.iter().flatten().filter(move |seen| seen.generation == generation);
    for generation in ["second", "third"] {
        let never_refused = of(generation).all(|seen| may_be_new(seen.status));
        tally.expect(&format!("no token of a {generation} key is ever refused"), never_refused);
    }
    let first_is_judged = of("first").all(|seen| accepted(seen) || refused(seen) || may_be_new(seen.status));
    tally.expect("no token of a first key sees anything but 200, 429 and 401", first_is_judged);
    for (caller, seen) in seen.iter().enumerate() {
        // Whatever is accepted once stays accepted, until its key is withdrawn; what is withdrawn does not come back.
        let mut last = BTreeMap::new();
        let mut steady = true;
        for seen in seen {
            if let Some(before) = last.insert(&seen.token, seen) {
                let withdrawn = seen.generation == "first" && accepted(before);
                let news = !accepted(before) && seen.generation != "first";
                steady &= withdrawn || news || accepted(before) == accepted(seen);
            }
        }
        tally
            .expect(&format!("caller {caller}: accepted once, accepted until it is withdrawn, and then never"), steady);
    }
    for generation in ["first", "second", "third"] {
        let told = |status| of(generation).filter(|seen| seen.status == status).count();
        let [ok, again, refused] = [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED].map(told);
        println!("tokens of {generation} keys: 200 {ok} times, 429 {again} times, 401 {refused} times");
    }
}

pub(crate) fn may_be_new(status: StatusCode) -> bool {
    status == StatusCode::OK || status == StatusCode::TOO_MANY_REQUESTS
}

pub(crate) fn accepted(seen: &Seen) -> bool {
    seen.status == StatusCode::OK
}

pub(crate) fn refused(seen: &Seen) -> bool {
    seen.status == StatusCode::UNAUTHORIZED && seen.challenge.contains(r#"error="invalid_token""#)
}

async fn get(api: &Example, path: &str, token: &str) -> Result<Answer> {
    Answer::of(client()?.get(format!("{}{path}", api.url)).header(AUTHORIZATION, format!("Bearer {token}"))).await
}

fn header(token: &str) -> Result<Value> {
    part(token, 0)
}

fn claims(token: &str) -> Result<Value> {
    part(token, 1)
}

fn kid(token: &str) -> Result<String> {
    Ok(header(token)?["kid"].as_str().ok_or("no kid")?.to_owned())
}

fn part(token: &str, n: usize) -> Result<Value> {
    let part = token.split('.').nth(n).ok_or("not that many parts")?;
    Ok(serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part)?)?)
}

/// `provider.mjs`.
pub(crate) struct Provider {
    program: Program,
    pub(crate) at: At,
    /// Generations of private keys, the newest first.
    keys: Vec<Value>,
}

/// A provider that does not run any more, and what it leaves behind.
pub(crate) struct Gone {
    pub(crate) port: u16,
    keys: Vec<Value>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct At {
    pub(crate) issuer: String,
    pub(crate) jwks: String,
    pub(crate) audience: String,
    /// The token endpoint.
    token: String,
    clients: Vec<Client>,
    /// The clients that people log in with; the second is called like the audience.
    apps: [String; 2],
}

#[derive(Clone, Deserialize)]
struct Client {
    alg: String,
    id: String,
    secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    access_token: String,
    id_token: String,
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
}

impl Provider {
    /// Starts one at that port (0: any), with a new generation of keys before these.
    pub(crate) async fn start(nodejs: &NodeJs, port: u16, keys: &[Value]) -> Result<Self> {
        let mut program = nodejs.start("provider.mjs")?;
        let mut told: Value = program.ask(&json!({ "port": port, "keys": keys })).await?;
        let keys = serde_json::from_value(told["keys"].take())?;
        let at: At = serde_json::from_value(told)?;
        if at.clients.iter().map(|client| &*client.alg).ne(ALGORITHMS) {
            return Err("it has other algorithms".into());
        }
        Ok(Self { program, at, keys })
    }

    /// Takes it down in good order.
    pub(crate) async fn stop(self) -> Result<Gone> {
        let gone = self.leaves()?;
        self.program.finish().await?;
        Ok(gone)
    }

    pub(crate) async fn kill(self) -> Result<Gone> {
        let gone = self.leaves()?;
        self.program.kill().await?;
        Ok(gone)
    }

    fn leaves(&self) -> Result<Gone> {
        Ok(Gone { port: Url::parse(&self.at.issuer)?.port().ok_or("no port")?, keys: self.keys.clone() })
    }

    /// A token with the scope `orders:read` for each algorithm, in their order.
    pub(crate) async fn tokens(&self, resource: &str) -> Result<Vec<String>> {
        self.tokens_for(resource, Some("orders:read")).await
    }

    async fn tokens_for(&self, resource: &str, scope: Option<&str>) -> Result<Vec<String>> {
        let mut tokens = Vec::new();
        for Client { id, secret, .. } in &self.at.clients {
            let mut form = Url::parse(&self.at.token)?;
            form.query_pairs_mut().append_pair("grant_type", "client_credentials").append_pair("resource", resource);
            form.query_pairs_mut().extend_pairs(scope.map(|scope| ("scope", scope)));
            let request = client()?
                .post(&self.at.token)
                .basic_auth(id, Some(secret))
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or_default().to_owned());
            let answer = Answer::of(request).await?;
            if answer.status != StatusCode::OK {
                return Err(format!("the token endpoint says {}", String::from_utf8_lossy(&answer.body)).into());
            }
            tokens.push(serde_json::from_slice::<Issued>(&answer.body)?.access_token);
        }
        Ok(tokens)
    }
}

impl Gone {
    /// Up again at the same place, with a new generation of keys before `kept` of the old ones.
    pub(crate) async fn start(self, nodejs: &NodeJs, kept: usize) -> Result<Provider> {
        Provider::start(nodejs, self.port, &self.keys[..kept]).await
    }
}
