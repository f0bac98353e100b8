//! What a second thread adds: whatever all requests write, two cores would fight for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use countersign::{Algorithm, Keys, Policy, RequireJwtLayer, SigningKey, Verifier};
use tower_layer::Layer;

use crate::request::{AUDIENCE, Handler, ISSUER, claims, request, serve};
use crate::swaps::Source;
use crate::timing::{BATCH, Effort, median};
use crate::verification::{MyClaims, raw};
use crate::{Failure, unix_seconds};

/// How many tokens each thread has, all of them different.
const TOKENS: usize = 1_024;

/// Of these, odd, the middle one counts.
const ROUNDS: usize = 5;

/// How far apart the swaps of the keys are: a hundred a second.
const TICK: Duration = Duration::from_millis(10);

/// What one thread does, again and again.
type Work<'a> = Box<dyn FnMut() + 'a>;

/// What is measured: how a thread of this number gets its work.
type Load<'a> = dyn Fn(usize) -> Work<'a> + Sync + 'a;

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let mut table = String::from(
        "### One thread and two, while the keys change 100 times a second\n\n\
         | | | two threads × one | × what the bare check gains | all rounds |\n|---|---|---:|---:|---|\n",
    );
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        table.push_str(&measure(algorithm, effort)?);
    }
    Ok(table)
}

fn measure(algorithm: Algorithm, effort: &Effort) -> Result<String, Failure> {
    let signer = SigningKey::generate(algorithm)?.with_kid("3f0c6a52-2026-11");
    let now = unix_seconds()?;
    let tokens: Vec<Vec<String>> = (0..2).map(|thread| tokens(&signer, now, thread)).collect::<Result<_, _>>()?;
    let source = Source::rotating(&signer)?;
    let verifier = || {
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
        Verifier::new(source.keys.clone(), policy).algorithms(algorithm).with_claims::<MyClaims>()
    };
    let first = RequireJwtLayer::new(verifier().without_token_cache());
    let cached = RequireJwtLayer::new(verifier());
    let bare = |thread: usize| raw(algorithm, &signer, &tokens[thread]).expect("good");
    let new_to = |thread: usize| served_by(&first, &tokens[thread]);
    let known_to = |thread: usize| served_by(&cached, &tokens[thread]);
    let loads: [(&str, &Load<'_>); 3] = [
        ("the bare check", &bare),
        ("the layer, each token at first sight", &new_to),
        ("the layer, each token seen before", &known_to),
    ];
    let mut gains = [(); 3].map(|()| Vec::new());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| source.look_until(&over, TICK));
        for _ in 0..ROUNDS {
            for ((_, load), gains) in loads.iter().zip(&mut gains) {
                gains.push(throughput(2, *load, effort) / throughput(1, *load, effort));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let medians = gains.each_mut().map(|gains| median(gains));
    let mut rows = String::new();
    for (((name, _), gains), gain) in loads.iter().zip(&gains).zip(medians) {
        let all: Vec<String> = gains.iter().map(|gain| format!("{gain:.2}")).collect();
        let of_bare = gain / medians[0];
        rows.push_str(&format!("| {algorithm} | {name} | {gain:.2} | {of_bare:.2} | {} |\n", all.join(" ")));
    }
    Ok(rows)
}

/// Serves these tokens in turn; by then each has been seen twice.
fn served_by<'a>(layer: &RequireJwtLayer<Keys>, tokens: &[String]) -> Work<'a> {
    let handler = Handler::reading::<MyClaims>();
    let mut service = layer.layer(handler.clone());
    let mut requests: Vec<_> = tokens.iter().map(|token| request(token).expect("good")).collect();
    let mut at = 0;
    let mut once = move || {
        at = (at + 1) % requests.len();
        requests[at] = serve(&mut service, &handler, std::mem::take(&mut requests[at]));
    };
    (0..2 * tokens.len()).for_each(|_| once());
    Box::new(once)
}

/// Calls per second of so many threads together.
fn throughput(threads: usize, load: &Load<'_>, effort: &Effort) -> f64 {
    let (start, calls) = (Barrier::new(threads), Mutex::new(0.0));
    thread::scope(|scope| {
        for thread in 0..threads {
            let (start, calls) = (&start, &calls);
            scope.spawn(move || {
                let mut work = load(thread);
                start.wait();
                let (began, mut count) = (Instant::now(), 0);
                while began.elapsed() < effort.round * 25 {
                    (0..BATCH).for_each(|_| work());
                    count += BATCH;
                }
                *calls.lock().expect("nobody panics") += count as f64 / began.elapsed().as_secs_f64();
            });
        }
    });
    calls.into_inner().expect("nobody panics")
}

fn tokens(signer: &SigningKey, now: u64, thread: usize) -> Result<Vec<String>, Failure> {
    (0..TOKENS)
        .map(|at| {
            let mut claims = claims(now);
            claims["jti"] = format!("0b1e6a3c-52c7-4f7e-{thread:04}-{at:012}").into();
            Ok(signer.sign_as("at+jwt", &claims)?)
        })
        .collect()
}
