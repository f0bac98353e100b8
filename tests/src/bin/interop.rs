//! Tokens and key sets against `jose`, a JOSE implementation in another language, in both directions and over real
//! sockets: what it mints must get through an axum service behind `JwtAuth`, what an attacker makes of it must not, and
//! what is minted here must verify there.
//!
//! `tests/interop/run` installs the Node part and starts this; the argument is the directory of the Node part.

#![expect(clippy::print_stdout, reason = "the output is what this program is for")]

use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign::verifier::{Fault, Refusal};
use countersign::{Algorithm, Claims, JwtAuth, KeySet, SigningKey, Verified, VerifyingKey};
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How long an answer may take, and the first fetch of the keys. Everybody is in the same machine; two seconds of it
/// may be the wait for a key.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often a token whose key has to be looked for is shown before it must have been judged. Forced fetches are at most
/// 5 s apart and a request waits 2 s, so the third time would do.
const MAX_ASKS: usize = 4;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://api.example";

#[tokio::main]
async fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        println!("usage: interop <directory of the Node part>");
        return ExitCode::FAILURE;
    };
    let mut tally = Tally::default();
    if let Err(error) = both_directions(Path::new(&directory), &mut tally).await {
        tally.check("the run itself", Err(error));
    }
    println!("interop: {} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn both_directions(directory: &Path, tally: &mut Tally) -> Result<()> {
    let nodejs = NodeJs::find(directory)?;
    theirs(&nodejs, tally).await?;
    ours(&nodejs, tally)
}

/// What `jose` minted, and what an attacker made of it.
async fn theirs(nodejs: &NodeJs, tally: &mut Tally) -> Result<()> {
    let mut node = nodejs.start("mint.mjs")?;
    let minted: Minted = serde_json::from_str(&node.line()?)?;
    let published = JwtAuth::new(&minted.jwks).issuer(&*minted.issuer).audience(&*minted.audience);
    let published = Arc::new(Service::start(published).await?);
    let keys = published.auth.handle().keys().clone();
    tokio::time::timeout(TIMEOUT, keys.ready()).await?.map_err(|unready| unready.to_string())?;
    let asymmetric = minted.algorithms.iter().filter(|token| token.secret.is_none()).count();
    tally.expect("every key of the fetched set is usable", keys.status().keys == asymmetric && asymmetric > 0);

    for Skipped { alg, reason } in &minted.skipped {
        tally.skip(alg, reason, nodejs.may_lack(alg));
    }
    let mut unknown = JoinSet::new();
    for token in minted.algorithms {
        let service = match &token.secret {
            Some(secret) => {
                let algorithm = Algorithm::from_name(&token.alg).ok_or("an algorithm that is not known here")?;
                let auth = JwtAuth::with_keys(secret_set(&token.kid, secret, algorithm)?).algorithms(algorithm);
                Arc::new(Service::start(auth.issuer(&*minted.issuer).audience(&*minted.audience)).await?)
            }
            None => Arc::clone(&published),
        };
        let good = [("good token", &token.token)];
        let also_good = token.also_good.iter().map(|variant| (variant.name.as_str(), &variant.token));
        for (name, text) in good.into_iter().chain(also_good) {
            tally.check(&format!("{} minted by jose, {name}", token.alg), service.accepts(text).await);
        }
        for hostile in token.hostile {
            let what = format!("{} refused, {}", token.alg, hostile.name);
            if hostile.key_unknown {
                unknown.spawn(refuses_in_the_end(Arc::clone(&service), hostile, what));
            } else {
                tally.check(&what, service.refuses(&hostile, 1).await);
            }
        }
    }
    while let Some(ended) = unknown.join_next().await {
        let (what, outcome) = ended?;
        tally.check(&what, outcome);
    }

    let status = keys.status();
    let undisturbed = status.generation == Some(1) && status.keys == asymmetric && status.fetches_failed == 0;
    tally.expect("after all that the keys are those of the first fetch", undisturbed);
    let farewell: Farewell = serde_json::from_str(&node.finish()?)?;
    tally.expect("no token made anybody fetch the attacker's key set", farewell.attacker_fetches == 0);
    Ok(())
}

/// What we mint, judged by `jose`; and that it does judge, by a token whose signature is not ours.
fn ours(nodejs: &NodeJs, tally: &mut Tally) -> Result<()> {
    let mut node = nodejs.start("verify.mjs")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada \u{1f989}", "client_id": "c", "jti": "1", "iat": now, "exp": now + 300,
    });
    for algorithm in Algorithm::ALL {
        let key = SigningKey::generate(algorithm)?.with_kid("ours");
        let stranger = SigningKey::generate(algorithm)?.with_kid("ours");
        let (key, secret) = if algorithm.is_symmetric() {
            let secret = key.signature(b"64 octets that nobody can guess")?.repeat(2);
            (SigningKey::from_secret(&secret, algorithm)?.with_kid("ours"), Some(secret))
        } else {
            (key, None)
        };
        let mut question = json!({ "alg": algorithm.name(), "issuer": ISSUER, "audience": AUDIENCE });
        match secret {
            Some(secret) => question["secret"] = BASE64_URL_SAFE_NO_PAD.encode(secret).into(),
            None => question["jwks"] = json!({ "keys": [key.public_jwk()?] }),
        }

        question["token"] = key.sign_as("at+jwt", &claims)?.into();
        let answer: Judgement = serde_json::from_str(&node.ask(&question)?)?;
        if let Some(reason) = answer.skipped {
            tally.skip(algorithm.name(), &reason, nodejs.may_lack(algorithm.name()));
            continue;
        }
        let outcome = match answer.error {
            Some(error) => Err(error.into()),
            None if answer.claims == claims => Ok(()),
            None => Err("verified, but the claims differ".into()),
        };
        tally.check(&format!("{algorithm} minted here, verified by jose"), outcome);

        question["token"] = stranger.sign_as("at+jwt", &claims)?.into();
        let answer: Judgement = serde_json::from_str(&node.ask(&question)?)?;
        tally
            .expect(&format!("{algorithm} of a stranger's key, refused by jose"), !answer.ok && answer.error.is_some());
    }
    node.finish().map(drop)
}

/// An axum service on a loopback socket behind a `JwtAuth`; it ends with the program.
struct Service {
    auth: JwtAuth,
    url: String,
    client: reqwest::Client,
}

/// What the service said.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Service {
    async fn start(auth: JwtAuth) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/claims", listener.local_addr()?);
        let app = Router::new().route("/claims", get(echo)).layer(auth.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { auth, url, client })
    }

    /// Whether the handler gets to see exactly the claims of `token`.
    async fn accepts(&self, token: &str) -> Result<()> {
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
    async fn refuses(&self, hostile: &Hostile, asks: usize) -> Result<()> {
        // Over HTTP first: whoever comes second to an unknown key may find that somebody has looked for it already.
        if let Some(authorization) = authorization(&hostile.token) {
            let answer = self.call(authorization, asks).await?;
            let (status, error) = if is_token_syntax(&hostile.token) {
                (StatusCode::UNAUTHORIZED, r#"error="invalid_token""#)
            } else {
                (StatusCode::BAD_REQUEST, r#"error="invalid_request""#)
            };
            let challenge = answer.headers.get(WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap_or_default());
            if answer.status != status || !challenge.contains(error) || !answer.body.is_empty() {
                return Err(format!("{status} with {error} expected, the service says {}", answer.describe()).into());
            }
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
            let response = request.send().await?;
            let (status, headers) = (response.status(), response.headers().clone());
            if status != StatusCode::TOO_MANY_REQUESTS || asked == asks {
                return Ok(Answer { status, headers, body: response.bytes().await?.into() });
            }
            let seconds = headers.get(RETRY_AFTER).ok_or("429 without Retry-After")?.to_str()?.parse()?;
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
    fn describe(&self) -> String {
        format!("{} {:?} with {} bytes", self.status, self.headers.get(WWW_AUTHENTICATE), self.body.len())
    }
}

/// A token that names a key which is not there is not refused before the issuer has been asked for that key. Strangers
/// can make up such tokens, so the asking is spaced, and until it has been done the answer is 429: a client that then does
/// as `Retry-After` says gets its 401.
async fn refuses_in_the_end(service: Arc<Service>, hostile: Hostile, what: String) -> (String, Result<()>) {
    let outcome = service.refuses(&hostile, MAX_ASKS).await;
    (what, outcome)
}

async fn echo(claims: Claims<Value>) -> Json<Value> {
    Json(Value::clone(&claims))
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

fn secret_set(kid: &str, secret: &str, algorithm: Algorithm) -> Result<KeySet> {
    let secret = BASE64_URL_SAFE_NO_PAD.decode(secret)?;
    Ok(KeySet::new([VerifyingKey::from_secret(&secret, algorithm)?.with_kid(kid)?]))
}

/// The Node that runs the Node part.
struct NodeJs {
    directory: PathBuf,
    program: PathBuf,
    /// It is that of the lock file, and so knows every algorithm.
    pinned: bool,
}

impl NodeJs {
    /// That of the lock file, or the system's where there is no such for this machine.
    fn find(directory: &Path) -> Result<Self> {
        let directory = directory.canonicalize()?;
        let program = directory.join("node_modules/.bin/node");
        let reason = match Command::new(&program).arg("--version").output() {
            Ok(output) if output.status.success() => {
                println!("Node of the lock file: {}", String::from_utf8_lossy(&output.stdout).trim());
                return Ok(Self { directory, program, pinned: true });
            }
            Ok(output) => output.status.to_string(),
            Err(error) => error.to_string(),
        };
        println!("the system's Node, and perhaps no ML-DSA: that of the lock file does not run here ({reason})");
        Ok(Self { directory, program: "node".into(), pinned: false })
    }

    /// Whether a run without this algorithm is whole. Node knows ML-DSA from version 24.7 on; everything else it has to
    /// know.
    fn may_lack(&self, algorithm: &str) -> bool {
        !self.pinned && algorithm.starts_with("ML-DSA-")
    }

    fn start(&self, script: &str) -> Result<Node> {
        let mut process = Command::new(&self.program)
            .arg(script)
            .current_dir(&self.directory)
            // It calls ML-DSA experimental, once for each.
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start node: {error}"))?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        Ok(Node { process, input, output })
    }
}

/// A Node program that is spoken to line by line, and that ends when its standard input does.
struct Node {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn line(&mut self) -> Result<String> {
        Ok(self.output.next().ok_or("node ended before it answered")??)
    }

    fn ask(&mut self, question: &Value) -> Result<String> {
        writeln!(self.input.as_mut().ok_or("no standard input")?, "{question}")?;
        self.line()
    }

    /// Closes its input, and returns what it says before it ends well.
    fn finish(mut self) -> Result<String> {
        drop(self.input.take());
        let last = self.output.by_ref().collect::<std::io::Result<Vec<_>>>()?.pop().unwrap_or_default();
        let status = self.process.wait()?;
        if status.success() { Ok(last) } else { Err(format!("node ended with {status}").into()) }
    }
}

/// Leaves no process behind when a check fails half-way.
impl Drop for Node {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn check(&mut self, what: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                println!("FAILED: {what}: {error}");
            }
        }
    }

    fn skip(&mut self, algorithm: &str, reason: &str, allowed: bool) {
        println!("skipped {algorithm}: this Node cannot do it ({reason})");
        if !allowed {
            self.check(algorithm, Err("may not be skipped".into()));
        }
    }

    fn expect(&mut self, what: &str, holds: bool) {
        self.check(what, if holds { Ok(()) } else { Err("it is not so".into()) });
    }
}

/// The first line of `mint.mjs`.
#[derive(Deserialize)]
struct Minted {
    jwks: String,
    issuer: String,
    audience: String,
    algorithms: Vec<MintedToken>,
    skipped: Vec<Skipped>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MintedToken {
    alg: String,
    kid: String,
    /// base64url; HMAC only.
    secret: Option<String>,
    token: String,
    also_good: Vec<Variant>,
    hostile: Vec<Hostile>,
}

#[derive(Deserialize)]
struct Variant {
    name: String,
    token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hostile {
    name: String,
    stage: Stage,
    /// It names a key that is not published, or not for its algorithm.
    #[serde(default)]
    key_unknown: bool,
    token: String,
}

/// What a hostile token must fail on: its shape, key or signature, or, properly signed, what it says.
#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Token,
    Claims,
}

#[derive(Deserialize)]
struct Skipped {
    alg: String,
    reason: String,
}

/// The last line of `mint.mjs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Farewell {
    attacker_fetches: u64,
}

/// A line of `verify.mjs`.
#[derive(Deserialize)]
struct Judgement {
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    claims: Value,
    error: Option<String>,
    skipped: Option<String>,
}
