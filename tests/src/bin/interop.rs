//! Tokens and key sets against `jose`, a JOSE implementation in another language, in both directions and over a real
//! socket: what it mints must verify here, what an attacker makes of it must not, and what is minted here must verify there.
//!
//! `tests/interop/run` installs the Node part and starts this; the argument is the directory of the Node part.

#![expect(clippy::print_stdout, reason = "the output is what this program is for")]

use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_claims::Policy;
use countersign_token::{Algorithm, AlgorithmSet, JwkSet, KeySet, Origin, SigningKey, VerifyingKey};
use countersign_verifier::{Fault, Refusal, Verifier};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How long the key server may take for its one answer. It is in the same machine and has the answer ready.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://api.example";

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        println!("usage: interop <directory of the Node part>");
        return ExitCode::FAILURE;
    };
    let mut tally = Tally::default();
    let outcome = theirs(Path::new(&directory), &mut tally).and_then(|()| ours(Path::new(&directory), &mut tally));
    if let Err(error) = outcome {
        tally.check("the run itself", Err(error));
    }
    println!("interop: {} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `jose` minted, and what an attacker made of it.
fn theirs(directory: &Path, tally: &mut Tally) -> Result<()> {
    let mut node = Node::start(directory, "mint.mjs")?;
    let minted: Minted = serde_json::from_str(&node.line()?)?;
    let document = http_get(&minted.jwks)?;
    let published = JwkSet::parse(&document, Origin::Remote)?;
    tally.expect("every key of the fetched set is usable", published.skipped().is_empty());
    let published = published.into_key_set();
    if minted.algorithms.is_empty() || published.is_empty() {
        return Err("nothing was minted".into());
    }

    for Skipped { alg, reason } in &minted.skipped {
        tally.skip(alg, reason);
    }
    let judge_published = judge(published, AlgorithmSet::ASYMMETRIC, &minted);
    for token in &minted.algorithms {
        let judge_secret;
        let judge: &dyn Fn(&str) -> Result<Value, Refusal> = match &token.secret {
            Some(secret) => {
                judge_secret = judge(secret_set(token, secret)?, AlgorithmSet::HMAC, &minted);
                &judge_secret
            }
            None => &judge_published,
        };
        let good = [("good token", &token.token)];
        let also_good = token.also_good.iter().map(|variant| (variant.name.as_str(), &variant.token));
        for (name, text) in good.into_iter().chain(also_good) {
            let outcome = match judge(text) {
                Ok(claims) if claims["iss"] == minted.issuer.as_str() && claims["client_id"] == "client-1" => Ok(()),
                Ok(_) => Err("verified, but the claims differ".into()),
                Err(refusal) => Err(refusal.into()),
            };
            tally.check(&format!("{} minted by jose, {name}", token.alg), outcome);
        }
        for hostile in &token.hostile {
            let outcome = match judge(&hostile.token) {
                Ok(_) => Err("accepted".into()),
                Err(refusal) if refusal.fault() == Fault::Token && hostile.stage == stage(&refusal) => Ok(()),
                Err(refusal) => Err(format!("refused, but for another reason: {refusal}").into()),
            };
            tally.check(&format!("{} refused, {}", token.alg, hostile.name), outcome);
        }
    }

    let farewell: Farewell = serde_json::from_str(&node.finish()?)?;
    tally.expect("no token made anybody fetch the attacker's key set", farewell.attacker_fetches == 0);
    Ok(())
}

/// What we mint, judged by `jose`; and that it does judge, by a token whose signature is not ours.
fn ours(directory: &Path, tally: &mut Tally) -> Result<()> {
    let mut node = Node::start(directory, "verify.mjs")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada \u{1f989}", "client_id": "c", "jti": "1", "iat": now, "exp": now + 300,
    });
    for algorithm in Algorithm::ALL {
        let key = SigningKey::generate(algorithm)?.with_kid("ours");
        let stranger = SigningKey::generate(algorithm)?.with_kid("ours");
        let (key, secret) = if algorithm.is_symmetric() {
            let secret = key.signature(b"64 octets that nobody can guess")?.repeat(2);
            (SigningKey::from_secret(algorithm, &secret)?.with_kid("ours"), Some(secret))
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
            tally.skip(algorithm.name(), &reason);
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

/// The judge of the tokens that `jose` made: the claims, or why the token is refused.
fn judge(keys: KeySet, algorithms: AlgorithmSet, minted: &Minted) -> impl Fn(&str) -> Result<Value, Refusal> + use<> {
    let policy = Policy::new().issuer(&*minted.issuer).audience(&*minted.audience);
    let verifier = Verifier::new(Arc::new(keys), policy).algorithms(algorithms);
    move |token| {
        let verified = verifier.verify(token, SystemTime::now().into())?;
        // The policy has read it as an object already; `null` would not be the claims that are expected.
        Ok(serde_json::from_slice(verified.payload()).unwrap_or_default())
    }
}

/// A token that nobody signed must not get as far as its claims, and one that is refused for what it says must have been
/// signed in earnest: otherwise it shows nothing.
fn stage(refusal: &Refusal) -> Stage {
    if matches!(refusal, Refusal::Claim(_)) { Stage::Claims } else { Stage::Token }
}

fn secret_set(token: &MintedToken, secret: &str) -> Result<KeySet> {
    let secret = BASE64_URL_SAFE_NO_PAD.decode(secret)?;
    let algorithm = Algorithm::from_name(&token.alg).ok_or("an algorithm that is not known here")?;
    Ok(KeySet::new([VerifyingKey::from_secret(&secret, algorithm)?.with_kid(&*token.kid)?]))
}

/// One GET over a socket of our own: HTTP/1.0, so that the body ends where the connection does.
fn http_get(url: &str) -> Result<Vec<u8>> {
    let (authority, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or("not a plain http URL with a path")?;
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(FETCH_TIMEOUT))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no end of the header section")?;
    let status = answer.split(|byte| *byte == b' ').nth(1).ok_or("no status")?;
    if status != b"200" {
        return Err(format!("status {}", status.escape_ascii()).into());
    }
    Ok(answer.split_off(end + 4))
}

/// A Node program that is spoken to line by line, and that ends when its standard input does.
struct Node {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(directory: &Path, program: &str) -> Result<Self> {
        let mut process = Command::new("node")
            .arg(program)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start node: {error}"))?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        Ok(Self { process, input, output })
    }

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

    /// Node knows ML-DSA from version 24 on; everything else it has to know.
    fn skip(&mut self, algorithm: &str, reason: &str) {
        println!("skipped {algorithm}: this Node cannot do it ({reason})");
        if !algorithm.starts_with("ML-DSA-") {
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
struct Hostile {
    name: String,
    stage: Stage,
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
