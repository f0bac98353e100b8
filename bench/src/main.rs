//! The cost of a request's authentication, beside that of the bare signature check: `cargo run --release`.
//!
//! Contenders are interleaved in one process, so that a noisy machine disturbs all of them alike; what counts is the ratio
//! to the first row of the same run. Results go to standard output, and with `--write` into `README.md` beside this crate.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use clap::Parser;
use countersign::{Algorithm, KeySet, Keys, Policy, RequireJwtLayer, SigningKey, UnixTime, Verified, Verifier};
use http::{HeaderMap, Request, Response, header};
use serde::Deserialize;
use serde_json::json;
use tower_layer::Layer;
use tower_service::Service;

#[derive(Parser)]
struct Options {
    /// A few rounds only: to see that it runs.
    #[arg(long)]
    quick: bool,
    /// Put the tables into README.md.
    #[arg(long)]
    write: bool,
}

/// Rounds per contender, of which the median counts.
const ROUNDS: usize = 60;

/// How long one contender runs in one round.
const ROUND: Duration = Duration::from_millis(4);

const ISSUER: &str = "https://login.example/realms/production";

#[derive(Deserialize)]
#[expect(dead_code, reason = "reading them is the work")]
struct MyClaims {
    sub: String,
    azp: String,
    roles: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let (rounds, round) = if options.quick { (3, Duration::from_millis(1)) } else { (ROUNDS, ROUND) };
    let mut report = String::new();
    for algorithm in Algorithm::ALL {
        let table = measure(algorithm, rounds, round)?;
        println!("{table}");
        report.push_str(&table);
        report.push('\n');
    }
    let table = look_ups(rounds, round)?;
    println!("{table}");
    report.push_str(&table);
    if options.write {
        write_report(&report)?;
    }
    Ok(())
}

/// One thing that is measured: does its work once per call.
struct Contender<'a> {
    name: &'static str,
    once: Box<dyn FnMut() + 'a>,
}

fn measure(algorithm: Algorithm, rounds: usize, round: Duration) -> Result<String, Box<dyn std::error::Error>> {
    let signer = SigningKey::generate(algorithm)?.with_kid("3f0c6a52-2026-11");
    let other = SigningKey::generate(algorithm)?.with_kid("91d2b7e4-2026-12");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let token = signer.sign_as("at+jwt", &claims(now))?;

    let policy = || Policy::new().issuer(ISSUER).audience("orders");
    let keys = || -> Result<Keys, countersign::token::SignError> {
        Ok(Keys::fixed(KeySet::new([signer.verifying_key()?, other.verifying_key()?])))
    };
    let verifier = Verifier::new(keys()?, policy()).algorithms(algorithm).max_token_bytes(16 * 1024);
    let typed = || -> Result<_, countersign::token::SignError> {
        Ok(Verifier::new(keys()?, policy()).algorithms(algorithm).max_token_bytes(16 * 1024).with_claims::<MyClaims>())
    };
    let mut eager = RequireJwtLayer::new(typed()?).layer(Handler);
    let mut lazy = RequireJwtLayer::new(typed_less(keys()?, policy(), algorithm)).layer(Handler);
    let mut bare = Handler;
    let headers = headers(&token)?;
    let raw = raw(algorithm, &signer, &token)?;

    let mut contenders = vec![
        Contender { name: "raw `aws-lc-rs`, prepared key, decoded signature", once: raw },
        Contender {
            name: "`Verifier::verify`",
            once: Box::new(|| {
                drop(black_box(verifier.verify(&token, UnixTime::from(SystemTime::now())).expect("good")))
            }),
        },
        Contender { name: "the layer, whole `Service` call", once: Box::new(|| call(&mut lazy, &headers)) },
        Contender { name: "the layer, typed claims read", once: Box::new(|| call(&mut eager, &headers)) },
        Contender { name: "(the handler without the layer)", once: Box::new(|| call(&mut bare, &headers)) },
    ];
    let oracle = jsonwebtoken_decode(algorithm, &signer, &token)?;
    if let Some(once) = oracle {
        contenders.push(Contender { name: "`jsonwebtoken` 11 `decode` (aws_lc_rs)", once });
    }

    let medians = medians(&mut contenders, rounds, round);
    let mut table = format!(
        "### {algorithm} (token of {} bytes)\n\n| | × raw | µs | allocations | bytes allocated |\n|---|---:|---:|---:|---:|\n",
        token.len()
    );
    for (at, contender) in contenders.iter_mut().enumerate() {
        let allocated = allocation_counter::measure(|| (contender.once)());
        table.push_str(&format!(
            "| {} | {:.2} | {:.2} | {} | {} |\n",
            contender.name,
            medians[at] / medians[0],
            medians[at],
            allocated.count_total,
            allocated.bytes_total,
        ));
    }
    Ok(table)
}

/// What it costs to find a key by (`kid`, `alg`) in sets of different sizes, and to find that there is none.
fn look_ups(rounds: usize, round: Duration) -> Result<String, Box<dyn std::error::Error>> {
    let names: Vec<String> = (0..10_000).map(|n| format!("3f0c6a52-{n:08}")).collect();
    let keys: Vec<std::sync::Arc<_>> = names
        .iter()
        .map(|name| {
            Ok(std::sync::Arc::new(SigningKey::generate(Algorithm::Ed25519)?.with_kid(&**name).verifying_key()?))
        })
        .collect::<Result<_, countersign::token::SignError>>()?;
    let sets: Vec<(usize, KeySet)> =
        [1, 100, 10_000].map(|size| (size, KeySet::new(keys[..size].iter().cloned()))).into();
    let mut contenders = Vec::new();
    for (size, set) in &sets {
        for (what, found) in [("a key that is there", true), ("a key that is not", false)] {
            let (names, mut at) = (&names, 0);
            contenders.push(Contender {
                name: what,
                once: Box::new(move || {
                    // Eight names from all over the set, in turn: more keys than an issuer signs with at a time.
                    at = (at + size.div_ceil(8)) % size;
                    let name = if found { names[at].as_str() } else { "91d2b7e4-00000000" };
                    assert_eq!(set.candidates(Some(black_box(name)), Algorithm::Ed25519).next().is_some(), found);
                }),
            });
        }
    }
    let medians = medians(&mut contenders, rounds, round);
    let mut table = String::from(
        "### Look-up of a key by (`kid`, `alg`)\n\n| keys in the set | | × one key | µs |\n|---:|---|---:|---:|\n",
    );
    for (at, contender) in contenders.iter().enumerate() {
        let (size, _) = &sets[at / 2];
        table.push_str(&format!(
            "| {size} | {} | {:.2} | {:.3} |\n",
            contender.name,
            medians[at] / medians[at % 2],
            medians[at]
        ));
    }
    Ok(table)
}

/// Microseconds per call of each contender: the median of interleaved rounds.
fn medians(contenders: &mut [Contender<'_>], rounds: usize, round: Duration) -> Vec<f64> {
    // How often each runs in one round.
    let repeats: Vec<u32> = contenders
        .iter_mut()
        .map(|contender| {
            let (mut count, start) = (0, Instant::now());
            while start.elapsed() < round {
                (contender.once)();
                count += 1;
            }
            count.max(1)
        })
        .collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::with_capacity(rounds); contenders.len()];
    for _ in 0..rounds {
        for (at, contender) in contenders.iter_mut().enumerate() {
            let start = Instant::now();
            for _ in 0..repeats[at] {
                (contender.once)();
            }
            times[at].push(start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats[at]));
        }
    }
    times
        .iter_mut()
        .map(|times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
        .collect()
}

fn typed_less(keys: Keys, policy: Policy, algorithm: Algorithm) -> Verifier<Keys> {
    Verifier::new(keys, policy).algorithms(algorithm).max_token_bytes(16 * 1024)
}

fn claims(now: u64) -> serde_json::Value {
    json!({
        "iss": ISSUER,
        "sub": "5f2c8f0e-7f4e-4c53-9d3a-0d6f1b7b8a11",
        "aud": ["orders", "billing"],
        "exp": now + 3600,
        "nbf": now,
        "iat": now,
        "jti": "0b1e6a3c-52c7-4f7e-8f27-6a1f8a1c9e55",
        "typ": "Bearer",
        "azp": "web-frontend",
        "scope": "openid profile orders:read orders:write",
        "roles": ["user", "editor", "reviewer"],
    })
}

fn headers(token: &str) -> Result<HeaderMap, header::InvalidHeaderValue> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, "orders.example".parse()?);
    headers.insert(header::USER_AGENT, "bench/1.0".parse()?);
    headers.insert(header::ACCEPT, "application/json".parse()?);
    headers.insert(header::ACCEPT_ENCODING, "gzip".parse()?);
    headers.insert("x-request-id", "7f4e4c539d3a".parse()?);
    headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse()?);
    Ok(headers)
}

/// The physical limit: what the crypto library takes, with everything else done beforehand.
fn raw<'a>(
    algorithm: Algorithm,
    signer: &SigningKey,
    token: &'a str,
) -> Result<Box<dyn FnMut() + 'a>, Box<dyn std::error::Error>> {
    let (input, encoded) = token.rsplit_once('.').ok_or("three parts")?;
    let signature = B64.decode(encoded)?;
    let hash = match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    };
    if let Some(hash) = hash {
        // The tag fits only its own secret, which stays inside `signer`; any key and its own tag cost the same.
        let key = hmac::Key::new(hash, &[7; 64]);
        let tag = hmac::sign(&key, input.as_bytes());
        return Ok(Box::new(move || hmac::verify(&key, black_box(input.as_bytes()), tag.as_ref()).expect("good")));
    }
    let jwk = signer.public_jwk()?;
    let member = |name: &str| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        Ok(B64.decode(jwk[name].as_str().ok_or("a member")?)?)
    };
    let scheme: &'static dyn signature::VerificationAlgorithm = match algorithm {
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDsa | Algorithm::Ed25519 => &signature::ED25519,
        Algorithm::MlDsa44 => &signature::ML_DSA_44,
        Algorithm::MlDsa65 => &signature::ML_DSA_65,
        Algorithm::MlDsa87 => &signature::ML_DSA_87,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    };
    let rsa = match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    };
    let key = if let Some(rsa) = rsa {
        signature::RsaPublicKeyComponents { n: member("n")?, e: member("e")? }
            .to_parsed_public_key(rsa)
            .map_err(|error| error.to_string())?
    } else {
        let public = match jwk["kty"].as_str() {
            Some("EC") => [vec![4], member("x")?, member("y")?].concat(),
            Some("AKP") => member("pub")?,
            _ => member("x")?,
        };
        signature::ParsedPublicKey::new(scheme, public).map_err(|error| error.to_string())?
    };
    Ok(Box::new(move || key.verify_sig(black_box(input.as_bytes()), &signature).expect("good")))
}

/// What most Rust services do today; `None` for algorithms that it does not know.
fn jsonwebtoken_decode<'a>(
    algorithm: Algorithm,
    signer: &SigningKey,
    token: &'a str,
) -> Result<Option<Box<dyn FnMut() + 'a>>, Box<dyn std::error::Error>> {
    let Ok(theirs) = algorithm.name().parse::<jsonwebtoken::Algorithm>() else { return Ok(None) };
    if algorithm.is_symmetric() {
        return Ok(None);
    }
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(signer.public_jwk()?)?;
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk)?;
    let mut validation = jsonwebtoken::Validation::new(theirs);
    validation.validate_nbf = true;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&["orders"]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    Ok(Some(Box::new(move || {
        drop(black_box(jsonwebtoken::decode::<MyClaims>(token, &key, &validation).expect("good")));
    })))
}

/// The trivial inner service; it looks at what the layer left for it.
#[derive(Clone)]
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        black_box(request.extensions().get::<Verified>().and_then(Verified::subject));
        ready(Ok(Response::new(())))
    }
}

fn call<S>(service: &mut S, headers: &HeaderMap)
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let mut context = Context::from_waker(Waker::noop());
    let mut request = Request::new(());
    *request.headers_mut() = headers.clone();
    assert!(service.poll_ready(&mut context).is_ready());
    let future = pin!(service.call(request));
    match future.poll(&mut context) {
        Poll::Ready(Ok(response)) => assert!(response.status().is_success()),
        Poll::Pending => unreachable!("the keys are there"),
    }
}

fn write_report(tables: &str) -> std::io::Result<()> {
    const START: &str = "<!-- tables -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(path)?;
    let head = text.split_once(START).map_or(text.as_str(), |(head, _)| head);
    std::fs::write(path, format!("{head}{START}\n{}", tables.trim_end().to_owned() + "\n"))
}
