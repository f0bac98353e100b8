//! What a second thread adds: whatever all requests write, two cores would fight for.
//!
//! Beside the layer stands what the machine itself allows: the bare check, which writes nothing that both have, and the handler alone, which makes what the layer's
//! requests make and touches their memory. With a layer for each thread, nothing is written that both have: what that gains more, the layer loses to
//! lines of memory that both write.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use countersign::{Algorithm, Keys, Policy, RequireJwtLayer, SigningKey, Verifier};
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::request::{AUDIENCE, Handler, ISSUER, MyClaims, request, serve, tokens};
use crate::swaps::Source;
use crate::timing::{BATCH, Effort, median, on_processor};
use crate::verification::raw;
use crate::{Failure, unix_seconds};

/// How many tokens each thread has, all of them different.
const TOKENS: usize = 1_024;

/// How often they come before they are timed: twice is enough for nearly all.
const ACQUAINTANCE: usize = 8;

/// Of these, odd, the middle one counts.
const ROUNDS: usize = 5;

/// How far apart the swaps of the keys are: a hundred a second.
const TICK: Duration = Duration::from_millis(10);

/// After so long a thread lets others run that wait for its processor: with real-time priority the one that swaps keys would else seldom do so while two
/// run (16 to 34 times a second, where it should a hundred times).
const TURN: Duration = Duration::from_millis(1);

/// Of the time on the wall, what each thread must have had a processor. With less, the two have not always run together, and have gained, or lost, what
/// they would not have.
const UNDISTURBED: f64 = 0.97;

/// How often a token may be verified, in the mean, before one that was seen before is said to have been verified anew: twice, and a few once more.
const VERIFICATIONS: usize = 3;

/// What one thread does, again and again.
type Work<'a> = Box<dyn FnMut() + 'a>;

/// What is measured: how a thread of this number gets its work.
type Load<'a> = dyn Fn(usize) -> Work<'a> + Sync + 'a;

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let mut table = String::from(
        "### One thread and two, while the keys change 100 times a second\n\n\
         | | | two threads × one | × what the bare check gains | µs, one | µs, two | had a processor | all rounds |\n\
         |---|---|---:|---:|---:|---:|---:|---|\n",
    );
    let mut notes = String::new();
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let (rows, note) = measure(algorithm, effort)?;
        table.push_str(&rows);
        notes.push_str(&note);
    }
    Ok(format!("{table}\n{notes}"))
}

/// An algorithm's rows, and what is to be said of them.
fn measure(algorithm: Algorithm, effort: &Effort) -> Result<(String, String), Failure> {
    let signer = SigningKey::generate(algorithm)?.with_kid("3f0c6a52-2026-11");
    let tokens = tokens(&signer, unix_seconds()?, 2 * TOKENS)?;
    let tokens = [&tokens[..TOKENS], &tokens[TOKENS..]];
    let source = Source::rotating(&signer)?;
    let verifier = || {
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
        Verifier::new(source.keys.clone(), policy).algorithms(algorithm).with_claims::<MyClaims>()
    };
    let first = RequireJwtLayer::new(verifier().without_token_cache());
    let cached = RequireJwtLayer::new(verifier());
    let of_thread = [(); 2].map(|()| RequireJwtLayer::new(verifier()));
    let bare = |thread: usize| raw(algorithm, &signer, tokens[thread]).expect("good");
    let alone = |thread: usize| handled(tokens[thread]);
    let new_to = |thread: usize| served_by(&first, tokens[thread], 0);
    let known_to = |thread: usize| served_by(&cached, tokens[thread], ACQUAINTANCE);
    let known_to_own = |thread: usize| served_by(&of_thread[thread], tokens[thread], ACQUAINTANCE);
    let loads: [(&str, &Load<'_>); 5] = [
        ("the bare check", &bare),
        ("the handler alone", &alone),
        ("the layer, each token at first sight", &new_to),
        ("the layer, each token seen before", &known_to),
        ("the same, and each thread has a layer of its own", &known_to_own),
    ];
    let mut measured = [(); 5].map(|()| Vec::new());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| source.look_until(&over, TICK));
        for _ in 0..ROUNDS {
            for ((_, load), rounds) in loads.iter().zip(&mut measured) {
                let run = |threads: &[usize]| run(threads, *load, &source, effort);
                rounds.push(Round { one: [run(&[0]), run(&[1])], two: run(&[0, 1]) });
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    for (layer, tokens) in [(&cached, 2 * TOKENS), (&of_thread[0], TOKENS), (&of_thread[1], TOKENS)] {
        let verified = layer.verifier().token_cache_status().map_or(u64::MAX, |status| status.misses);
        if verified > (VERIFICATIONS * tokens) as u64 {
            return Err(format!("{tokens} tokens that were seen before were verified {verified} times").into());
        }
    }
    let gain = |rounds: &[Round]| median(&mut rounds.iter().map(Round::gain).collect::<Vec<_>>());
    let of_bare = gain(&measured[0]);
    let rows = loads.iter().zip(&measured).map(|((name, _), rounds)| {
        let middle = |of: fn(&Round) -> f64| median(&mut rounds.iter().map(of).collect::<Vec<_>>());
        let mut all: Vec<f64> = rounds.iter().map(Round::gain).collect();
        all.sort_by(f64::total_cmp);
        let all: Vec<String> = all.iter().map(|gain| format!("{gain:.2}")).collect();
        let gain = gain(rounds);
        format!(
            "| {algorithm} | {name} | {gain:.2} | {:.2} | {:.3} | {:.3} | {:.0} % | {} |\n",
            gain / of_bare,
            middle(|round| 2e6 / round.one.iter().map(|run| run.calls).sum::<f64>()),
            middle(|round| 2e6 / round.two.calls),
            middle(Round::had_processor) * 1e2,
            all.join(" "),
        )
    });
    let rows = rows.collect();
    let note = note(algorithm, &measured.concat())?;
    Ok((rows, note))
}

/// What the rows do not show: whether the keys did change, and whether others were in the way.
fn note(algorithm: Algorithm, rounds: &[Round]) -> Result<String, Failure> {
    let together: Duration = rounds.iter().map(|round| round.two.took).sum();
    let swaps = rounds.iter().map(|round| round.two.swaps).sum::<u64>() as f64 / together.as_secs_f64();
    if swaps == 0.0 {
        return Err("the keys did not change while they should".into());
    }
    let mut note = format!("- {algorithm}: {swaps:.0} changes of the keys a second while two threads ran.");
    let disturbed = rounds.iter().filter(|round| round.had_processor() < UNDISTURBED).count();
    if disturbed > 0 {
        let all = rounds.len();
        note.push_str(&format!(
            " **In {disturbed} of {all} runs a thread had no processor for more than {:.0} % of the time.**",
            (1.0 - UNDISTURBED) * 1e2
        ));
    }
    note.push('\n');
    Ok(note)
}

/// Each thread by itself, and the two together.
#[derive(Clone)]
struct Round {
    one: [Run; 2],
    two: Run,
}

impl Round {
    fn gain(&self) -> f64 {
        2.0 * self.two.calls / self.one.iter().map(|run| run.calls).sum::<f64>()
    }

    fn had_processor(&self) -> f64 {
        self.one.iter().map(|run| run.had_processor).fold(self.two.had_processor, f64::min)
    }
}

#[derive(Clone)]
struct Run {
    /// A second, of all threads, by the clock on the wall.
    calls: f64,
    /// The part of the time in which each thread was on a processor, at least.
    had_processor: f64,
    /// Of the keys.
    swaps: u64,
    took: Duration,
}

/// The handler alone, called with these tokens in turn.
fn handled<'a>(tokens: &[String]) -> Work<'a> {
    let handler = Handler::reading::<MyClaims>();
    Box::new(in_turn(tokens, handler.clone(), handler))
}

/// Serves these tokens in turn, after they have come so often.
fn served_by<'a>(layer: &RequireJwtLayer<Keys>, tokens: &[String], times: usize) -> Work<'a> {
    let handler = Handler::reading::<MyClaims>();
    let mut once = in_turn(tokens, layer.layer(handler.clone()), handler);
    (0..times * tokens.len()).for_each(|_| once());
    Box::new(once)
}

fn in_turn<'a, S>(tokens: &[String], mut service: S, handler: Handler) -> impl FnMut() + use<'a, S>
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible> + 'a,
{
    let mut requests: Vec<_> = tokens.iter().map(|token| request(token).expect("good")).collect();
    let mut at = 0;
    move || {
        at = (at + 1) % requests.len();
        requests[at] = serve(&mut service, &handler, std::mem::take(&mut requests[at]));
    }
}

/// What these threads do together. They begin together, with all that they need, and end within a batch of each other.
fn run(threads: &[usize], load: &Load<'_>, source: &Source, effort: &Effort) -> Run {
    let (start, ran) = (Barrier::new(threads.len()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for thread in threads {
            let (start, ran) = (&start, &ran);
            scope.spawn(move || {
                let mut work = load(*thread);
                start.wait();
                let generation = source.generation();
                let (began, on, mut count) = (Instant::now(), on_processor(), 0);
                let mut turn = Duration::ZERO;
                let took = loop {
                    (0..BATCH).for_each(|_| work());
                    count += BATCH;
                    let took = began.elapsed();
                    if took >= effort.round * 25 {
                        break took;
                    }
                    if took - turn >= TURN {
                        turn = took;
                        thread::yield_now();
                    }
                };
                let run = Run {
                    calls: count as f64 / took.as_secs_f64(),
                    had_processor: (on_processor() - on).as_secs_f64() / took.as_secs_f64(),
                    swaps: source.generation() - generation,
                    took,
                };
                ran.lock().expect("nobody panics").push(run);
            });
        }
    });
    let all = ran.into_inner().expect("nobody panics").into_iter();
    all.reduce(|one, other| Run {
        calls: one.calls + other.calls,
        had_processor: one.had_processor.min(other.had_processor),
        swaps: one.swaps.max(other.swaps),
        took: one.took.max(other.took),
    })
    .expect("there is a thread")
}
