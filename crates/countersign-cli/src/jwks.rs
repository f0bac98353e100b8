//! `countersign jwks`.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign::Algorithm;
use countersign::claims::Found;
use countersign::jwks::{Finding, HttpFetch, KeyReview, MAX_BODY_BYTES, Remote, Review};
use countersign::token::{Fetch as _, FetchError, FetchRequest, Fetched};
use serde::Serialize;

use crate::exit::{self, Answer, Exit, Failure};
use crate::output::{Screen, shown};
use crate::{input, runtime};

/// How long a server may take to answer: twice as long as a verifier gives it.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Jwks {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What a verifier takes of a published key set, what it skips and why; and what should not stay as it is.
    ///
    /// What is found to be a danger (a private key or a shared secret in the set, a weak RSA key, a `kid` that is there twice, plain http, no usable
    /// key) is exit code 1; the rest are warnings, and with --strict they are, too.
    #[command(after_help = exit::HELP)]
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// A JWK Set (RFC 7517): its URL, or a file (`-`: standard input).
    #[arg(value_name = "FILE|URL")]
    place: OsString,

    /// Warnings are exit code 1, too.
    #[arg(long)]
    strict: bool,
}

#[derive(Serialize)]
struct Checked<'a> {
    good: bool,
    bytes: usize,
    keys: Vec<Key<'a>>,
    cache: Option<Cache<'a>>,
    findings: Vec<Remark>,
}

#[derive(Serialize)]
struct Key<'a> {
    kid: Option<&'a str>,
    kty: Option<&'a str>,
    alg: Option<&'a str>,
    r#use: Option<&'a str>,
    crv: Option<&'a str>,
    bits: Option<usize>,
    taken: bool,
    algorithms: Vec<&'static str>,
    skipped_because: Option<String>,
}

/// What the answer says of itself.
#[derive(Serialize)]
struct Cache<'a> {
    cache_control: Option<&'a str>,
    age_seconds: Option<u64>,
    etag: Option<&'a str>,
    last_modified: Option<&'a str>,
}

#[derive(Serialize)]
struct Remark {
    code: &'static str,
    danger: bool,
    key: Option<usize>,
    message: String,
}

impl Jwks {
    pub(crate) fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        let Command::Check(command) = self.command;
        command.run(screen)
    }
}

impl Check {
    fn run(self, screen: &Screen) -> Result<Answer, Failure> {
        match input::url(&self.place) {
            Some(url) => {
                let place = Remote::new(url).map_err(|error| Failure::usage(error.to_string()))?;
                let answer = runtime::wait(fetch(url))??;
                let review = review(&answer.body)?.with_place(&place).with_answer(&answer);
                Ok(self.answer(&review, Some(&answer), screen))
            }
            None => {
                let octets = input::published(Path::new(&self.place), MAX_BODY_BYTES, screen)?;
                let octets = octets.ok_or_else(too_large)?;
                Ok(self.answer(&review(&octets)?, None, screen))
            }
        }
    }

    fn answer(&self, review: &Review, answer: Option<&Fetched>, screen: &Screen) -> Answer {
        let good = !review.is_dangerous() && (review.findings.is_empty() || !self.strict);
        let exit = if good { Exit::Good } else { Exit::Refused };
        let document = Checked {
            good,
            bytes: review.bytes,
            keys: review.keys.iter().map(key).collect(),
            cache: answer.map(cache),
            findings: review.findings.iter().copied().map(found).collect(),
        };
        Answer::new(exit, text(review, answer, screen), &document)
    }
}

async fn fetch(url: &str) -> Result<Fetched, Failure> {
    let request = FetchRequest::new(url, MAX_BODY_BYTES, PATIENCE);
    match HttpFetch::new().fetch(request).await {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(answer) => Err(unavailable(&format!("the answer has status {}", answer.status))),
        Err(FetchError::TooLarge) => Err(too_large()),
        Err(error) => Err(unavailable(&error.to_string())),
    }
}

fn unavailable(error: &str) -> Failure {
    Failure::unavailable("cannot_fetch", format!("no key set: {error}"))
}

fn too_large() -> Failure {
    Failure::refused("too_large", format!("a verifier reads no more than {MAX_BODY_BYTES} bytes"))
}

fn review(document: &[u8]) -> Result<Review, Failure> {
    Review::of(document).map_err(|error| Failure::refused("not_a_key_set", format!("a verifier refuses it: {error}")))
}

fn key(key: &KeyReview) -> Key<'_> {
    Key {
        kid: key.kid.as_deref(),
        kty: key.kty.as_deref(),
        alg: key.alg.as_deref(),
        r#use: key.purpose.as_deref(),
        crv: key.curve.as_deref(),
        bits: key.bits,
        taken: key.taken.is_ok(),
        algorithms: key.taken.iter().flat_map(|algorithms| algorithms.iter()).map(Algorithm::name).collect(),
        skipped_because: key.taken.as_ref().err().map(ToString::to_string),
    }
}

fn cache(answer: &Fetched) -> Cache<'_> {
    Cache {
        cache_control: answer.cache_control.as_deref(),
        age_seconds: answer.age.map(|age| age.as_secs()),
        etag: answer.etag.as_deref(),
        last_modified: answer.last_modified.as_deref(),
    }
}

fn found(finding: Finding) -> Remark {
    Remark { code: finding.code(), danger: finding.is_danger(), key: finding.key(), message: finding.to_string() }
}

fn text(review: &Review, answer: Option<&Fetched>, screen: &Screen) -> String {
    let paint = screen.paint();
    let taken = review.keys.iter().filter(|key| key.taken.is_ok()).count();
    let skipped = review.keys.len() - taken;
    let mut lines =
        vec![format!("{} keys: {taken} taken, {skipped} skipped; {} bytes", review.keys.len(), review.bytes)];
    for (index, key) in review.keys.iter().enumerate() {
        let (verdict, why) = match &key.taken {
            Ok(_) => (paint.good("taken  "), String::new()),
            Err(reason) => (paint.bad("skipped"), format!(": {reason}")),
        };
        lines.push(format!("  {verdict} {index:>3}  {}{why}", description(key)));
    }
    if let Some(answer) = answer {
        lines.push(headers(answer));
    }
    for finding in &review.findings {
        let level = if finding.is_danger() { paint.bad("danger") } else { "warning".to_owned() };
        let of = finding.key().map_or_else(String::new, |key| format!("key {key}: "));
        lines.push(format!("{level}: {of}{finding} ({})", finding.code()));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

/// What it is, in the publisher's words.
fn description(key: &KeyReview) -> String {
    let name = key.kid.as_deref().map_or_else(|| "(no kid)".to_owned(), |kid| Found::new(kid).to_string());
    let size = match (&key.curve, key.bits) {
        (Some(curve), _) => format!(" {}", brief(curve)),
        (None, Some(bits)) => format!(" {bits}"),
        (None, None) => String::new(),
    };
    let kty = key.kty.as_deref().map_or_else(|| "(no kty)".to_owned(), brief);
    let alg = key.alg.as_deref().map_or_else(|| "no alg".to_owned(), brief);
    let purpose =
        key.purpose.as_deref().map_or_else(|| "no use".to_owned(), |purpose| format!("use {}", brief(purpose)));
    format!("{name}  {kty}{size}, {alg}, {purpose}")
}

/// Registered names are short and need no quotes; what is neither is shown for what it is.
fn brief(name: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte);
    if name.len() <= 32 && !name.is_empty() && name.bytes().all(fits) {
        name.to_owned()
    } else {
        Found::new(name).to_string()
    }
}

fn headers(answer: &Fetched) -> String {
    let text = |name: &str, value: &Option<String>| Some(format!("{name}: {}", shown(value.as_deref()?)));
    let headers: Vec<_> = [
        text("Cache-Control", &answer.cache_control),
        answer.age.map(|age| format!("Age: {}", age.as_secs())),
        text("ETag", &answer.etag),
        text("Last-Modified", &answer.last_modified),
    ]
    .into_iter()
    .flatten()
    .collect();
    if headers.is_empty() { "no cache headers".to_owned() } else { headers.join("; ") }
}
