//! Contenders take turns, under each load.

use std::thread;
use std::time::{Duration, Instant};

use countersign::Algorithm;
use countersign_bench::Failure;
use countersign_bench::timing::{Effort, Timed, median, medians};
use http::StatusCode;
use tokio::runtime::Runtime;

use crate::back_end::With;
use crate::call::{Contend as _, Token};
use crate::contenders::{Entrant, Kind, Setup};
use crate::issuer::Issuer;
use crate::provider;

/// One algorithm's column of the tables: a row for each contender, in their order.
pub struct Column {
    pub algorithm: Algorithm,
    pub token_bytes: usize,
    pub rows: Vec<Result<Figures, String>>,
    /// Bad signature, expired, unknown `kid`; for contenders that have something to say of it.
    pub refusals: Vec<[Option<Refused>; 3]>,
}

/// Of one contender.
pub struct Figures {
    /// Microseconds for the same token again; there is none for who has seen no token.
    pub same: Option<f64>,
    /// Microseconds for distinct tokens in turn.
    pub distinct: f64,
    pub allocations: f64,
    pub allocated_bytes: f64,
}

#[derive(Clone, Copy)]
pub struct Refused {
    pub micros: f64,
    pub status: StatusCode,
    /// For a fetch, which is in its time.
    pub waits: bool,
}

/// How often what remembers tokens is shown all of them beforehand: once to hear of them, once to let them in.
const ACQUAINTANCE: usize = 3;

/// For those who fetch their keys in the background, and refuse everybody until they have them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls of which the median's allocations count; a queue that grows now and then is not what a request costs.
const COUNTED_CALLS: usize = 31;

pub fn column(
    algorithm: Algorithm,
    entrants: &[Entrant],
    tokens: usize,
    effort: &Effort,
    runtime: &Runtime,
) -> Result<Column, Failure> {
    let issuer = Issuer::new(algorithm)?;
    let tokens = issuer.tokens(tokens, 0)?;
    let provider = runtime.block_on(provider::serve(&issuer.jwks()?))?;
    let setup = Setup { issuer: &issuer, provider: &provider, runtime };

    let mut made: Vec<Result<With, String>> =
        entrants.iter().map(|entrant| enter(entrant, &setup, &tokens[0])).collect();
    for (entrant, contender) in entrants.iter().zip(&mut made) {
        if let (Kind::Ours, Ok(contender)) = (entrant.kind, contender) {
            contender.before_round();
            for token in (0..ACQUAINTANCE).flat_map(|_| &tokens) {
                contender.once(token);
            }
        }
    }
    let same = load(entrants, &mut made, &tokens[..1], effort, |kind| kind != Kind::OursAnew);
    let distinct = load(entrants, &mut made, &tokens, effort, |_| true);

    let mut rows = Vec::new();
    for (at, contender) in made.iter_mut().enumerate() {
        rows.push(match contender {
            Ok(contender) => {
                let loads = if entrants[at].kind == Kind::OursAnew { &tokens[..] } else { &tokens[..1] };
                let (allocations, allocated_bytes) = allocations(contender, loads);
                Ok(Figures { same: same[at], distinct: distinct[at].unwrap_or(f64::NAN), allocations, allocated_bytes })
            }
            Err(reason) => Err(reason.clone()),
        });
    }
    let refusals = if matches!(algorithm, Algorithm::Rs256 | Algorithm::Hs256) {
        refusals(&issuer, entrants, &mut made, effort)?
    } else {
        Vec::new()
    };
    Ok(Column { algorithm, token_bytes: tokens[0].text.len(), rows, refusals })
}

/// A contender that accepts a good token, or why there is none.
fn enter(entrant: &Entrant, setup: &Setup<'_>, token: &Token) -> Result<With, String> {
    let mut contender = entrant.enter(setup).map_err(|error| error.to_string())?;
    contender.before_round();
    let began = Instant::now();
    loop {
        match contender.once(token) {
            StatusCode::OK => return Ok(contender),
            status if began.elapsed() > PATIENCE => {
                return Err(format!("answers a good token with {}", status.as_u16()));
            }
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// A contender's turn: the tokens one after the other, over and over.
struct Turn<'a> {
    contender: &'a mut With,
    tokens: &'a [Token],
    next: usize,
    expected: StatusCode,
    waits: bool,
}

impl Timed for Turn<'_> {
    fn before_round(&mut self) {
        self.contender.before_round();
    }

    fn once(&mut self) {
        let status = self.contender.once(&self.tokens[self.next]);
        assert_eq!(status, self.expected, "another answer than before");
        self.next = if self.next + 1 == self.tokens.len() { 0 } else { self.next + 1 };
    }

    fn waits(&self) -> bool {
        self.waits
    }
}

/// Microseconds per call, for those whose kind takes part.
fn load(
    entrants: &[Entrant],
    made: &mut [Result<With, String>],
    tokens: &[Token],
    effort: &Effort,
    takes_part: fn(Kind) -> bool,
) -> Vec<Option<f64>> {
    let mut places = Vec::new();
    let mut turns = Vec::new();
    for (at, contender) in made.iter_mut().enumerate() {
        if let (true, Ok(contender)) = (takes_part(entrants[at].kind), contender) {
            places.push(at);
            turns.push(Turn { contender, tokens, next: 0, expected: StatusCode::OK, waits: false });
        }
    }
    let mut times = vec![None; entrants.len()];
    for (at, time) in places.into_iter().zip(medians(&mut turns, effort)) {
        times[at] = Some(time);
    }
    times
}

/// How many per call, and how many bytes they ask for.
fn allocations(contender: &mut With, tokens: &[Token]) -> (f64, f64) {
    contender.before_round();
    let (mut counts, mut bytes) = (Vec::new(), Vec::new());
    for token in tokens.iter().cycle().take(COUNTED_CALLS) {
        let counted = allocation_counter::measure(|| {
            contender.once(token);
        });
        counts.push(counted.count_total as f64);
        bytes.push(counted.bytes_total as f64);
    }
    (median(&mut counts), median(&mut bytes))
}

fn refusals(
    issuer: &Issuer,
    entrants: &[Entrant],
    made: &mut [Result<With, String>],
    effort: &Effort,
) -> Result<Vec<[Option<Refused>; 3]>, Failure> {
    let mut refusals = vec![[None; 3]; entrants.len()];
    let tokens = [issuer.with_bad_signature()?, issuer.expired()?, issuer.with_unknown_kid()?];
    for (which, token) in tokens.iter().enumerate() {
        let mut places = Vec::new();
        let mut turns = Vec::new();
        for (at, contender) in made.iter_mut().enumerate() {
            let Ok(contender) = contender else { continue };
            if matches!(entrants[at].kind, Kind::Open | Kind::OursAnew) {
                continue;
            }
            contender.before_round();
            // Twice, as the first may wait for what the second need not.
            contender.once(token);
            let expected = contender.once(token);
            let waits = contender.has_waited();
            // A function that is given its key does not know of other names, nor a bare check of time.
            let is_mute = expected == StatusCode::OK && matches!(entrants[at].kind, Kind::Raw | Kind::Library);
            if !is_mute {
                places.push((at, expected, waits));
                turns.push(Turn { contender, tokens: std::slice::from_ref(token), next: 0, expected, waits });
            }
        }
        for ((at, status, waits), micros) in places.into_iter().zip(medians(&mut turns, effort)) {
            refusals[at][which] = Some(Refused { micros, status, waits });
        }
    }
    Ok(refusals)
}
