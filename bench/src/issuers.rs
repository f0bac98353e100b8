//! What many issuers behind one source cost: to find one's keys, to hold them, to begin.
//!
//! The source is the real one, [`Keys::issuers`], with a task and a key per issuer, fed by [`Published`], which has the documents in
//! memory. Its runtime is driven until all have their keys, and then no more: no task disturbs what is timed.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use countersign::token::{HeaderScratch, KeySource, UnverifiedToken};
use countersign::{Algorithm, Keys, Policy, SigningKey, UnixTime, Verifier};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::memory::{Growth, growth};
use crate::published::{Published, issuer, kid, running, runtime, signers, token};
use crate::request::AUDIENCE;
use crate::timing::{Contender, Effort, medians, table_by_size};

const SIZES: [usize; 3] = [1, 100, 10_000];

/// How many issuers have their turn where some are in use: who has more has them in other layers, or other hours.
const IN_USE: usize = 8;

/// How far the next issuer is from the last where each has its turn: a prime that divides no size.
const STRIDE: usize = 7_919;

/// Issuers whose memory is measured.
const HELD: usize = 1_000;

/// The longest token that is parsed, bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    // Memory first: it is what the process grows by, which what others left behind would hide.
    let memory = memory()?;
    let signers = signers(SIZES[SIZES.len() - 1], Algorithm::Ed25519)?;
    let published = Published::new(&signers)?;
    let start = start(&published)?;
    let runtime = runtime()?;
    let sizes = SIZES
        .iter()
        .map(|size| Running::new(&runtime, &signers[..*size], &published))
        .collect::<Result<Vec<_>, Failure>>()?;
    let stranger = token(&signers[0], "https://login.example/realms/x0000000")?;
    let mut scratch = HeaderScratch::new();
    let stranger = UnverifiedToken::parse(&stranger, MAX_TOKEN_BYTES, &mut scratch)?;

    let mut scratches: Vec<Vec<_>> =
        SIZES.iter().map(|size| (0..*size).map(|_| HeaderScratch::new()).collect()).collect();
    let parsed = sizes
        .iter()
        .zip(&mut scratches)
        .map(|(running, scratches)| running.parsed(scratches))
        .collect::<Result<Vec<_>, Failure>>()?;
    let at_size = sizes.iter().zip(&parsed);
    let at_size = at_size.map(|(running, parsed)| (parsed.len(), contenders(running, parsed, &stranger))).collect();
    let look_up = table_by_size("Look-up of a token's issuer, and of its key", "issuers", at_size, effort);
    let choosing = choosing(&runtime, &sizes, &signers, &published, effort)?;
    Ok(format!("{look_up}\n{choosing}\n{memory}\n{start}"))
}

/// What a token costs one source of many issuers, beside the source of one.
fn choosing(
    runtime: &Runtime,
    sizes: &[Running],
    signers: &[SigningKey],
    published: &Published,
    effort: &Effort,
) -> Result<String, Failure> {
    let alone = runtime.block_on(published.first())?;
    let alone = verifier(alone, Policy::new().issuer(issuer(0)));
    let alone_token = token(&signers[0], &issuer(0))?;
    let mut contenders = vec![Contender {
        prepare: None,
        name: "`Keys::remote`, and `Policy::issuer`",
        once: Box::new(|| verify(&alone, &alone_token)),
    }];
    for (running, name) in sizes.iter().zip([
        "`Keys::issuers`, 1 issuer",
        "`Keys::issuers`, 100 issuers, one of eight in use",
        "`Keys::issuers`, 10,000 issuers, one of eight in use",
    ]) {
        let mut tokens = running.in_use().cycle();
        let once = Box::new(move || verify(&running.verifier, tokens.next().expect("there are some")));
        contenders.push(Contender { prepare: None, name, once });
    }
    let medians = medians(&mut contenders, effort);
    let mut table = String::from(
        "### The whole `Verifier::verify` (Ed25519): choosing by `iss`\n\n\
         | | × one source | µs | allocations |\n|---|---:|---:|---:|\n",
    );
    for (contender, median) in contenders.iter_mut().zip(&medians) {
        let allocated = contender.allocations().allocations;
        table.push_str(&format!("| {} | {:.2} | {median:.2} | {allocated} |\n", contender.name, median / medians[0]));
    }
    Ok(table)
}

fn contenders<'a>(
    running: &'a Running,
    parsed: &'a [UnverifiedToken<'a>],
    stranger: &'a UnverifiedToken<'a>,
) -> Vec<Contender<'a>> {
    let is_there = |(token, kid): (&UnverifiedToken<'_>, &str)| {
        let set = running.keys.snapshot_for(black_box(token));
        set.is_some_and(|set| set.candidates(Some(kid), Algorithm::Ed25519).next().is_some())
    };
    let turns = || parsed.iter().zip(&running.kids).map(|(token, kid)| (token, &**kid));
    let (mut in_use, mut all, mut read) = (turns().take(IN_USE).cycle(), turns().cycle(), parsed.iter().cycle());
    let (mut tokens_in_use, mut tokens) = (running.in_use().cycle(), running.tokens.iter().cycle());
    let some = "there are some";
    vec![
        Contender {
            prepare: None,
            name: "one of eight issuers in use",
            once: Box::new(move || assert!(is_there(in_use.next().expect(some)))),
        },
        Contender {
            prepare: None,
            name: "every issuer in turn",
            once: Box::new(move || assert!(is_there(all.next().expect(some)))),
        },
        Contender {
            prepare: None,
            name: "an issuer that is not there",
            once: Box::new(|| assert!(running.keys.snapshot_for(black_box(stranger)).is_none())),
        },
        Contender {
            prepare: None,
            name: "(reading `iss`, and no more, of every issuer's token in turn)",
            once: Box::new(move || {
                let token = read.next().expect(some);
                assert_eq!(token.with_unverified_issuer(|issuer| issuer.is("")), Some(false));
            }),
        },
        Contender {
            prepare: None,
            name: "the whole `Verifier::verify`, one of eight issuers in use",
            once: Box::new(move || verify(&running.verifier, tokens_in_use.next().expect(some))),
        },
        Contender {
            prepare: None,
            name: "the whole `Verifier::verify`, every issuer in turn",
            once: Box::new(move || verify(&running.verifier, tokens.next().expect(some))),
        },
    ]
}

fn verify(verifier: &Verifier<Keys>, token: &str) {
    drop(black_box(verifier.verify(token, UnixTime::from(SystemTime::now())).expect("good")));
}

fn verifier(keys: Keys, policy: Policy) -> Verifier<Keys> {
    Verifier::new(keys, policy.audience(AUDIENCE)).algorithms(Algorithm::Ed25519).without_token_cache()
}

/// So many issuers, all of which have their keys.
struct Running {
    keys: Keys,
    verifier: Verifier<Keys>,
    /// One of each issuer, in an order in which neighbours are none in memory; and the names of the keys.
    tokens: Vec<String>,
    kids: Vec<String>,
}

impl Running {
    fn new(runtime: &Runtime, signers: &[SigningKey], published: &Published) -> Result<Self, Failure> {
        let count = signers.len();
        let keys = runtime.block_on(running(published.issuers(count), count));
        let in_turn = || (0..count).map(|turn| turn * STRIDE % count);
        Ok(Self {
            verifier: verifier(keys.clone(), Policy::new().issuer_of_key()),
            keys,
            tokens: in_turn().map(|n| token(&signers[n], &issuer(n))).collect::<Result<_, _>>()?,
            kids: in_turn().map(kid).collect(),
        })
    }

    fn in_use(&self) -> impl Iterator<Item = &String> + Clone {
        self.tokens.iter().take(IN_USE)
    }

    /// Its tokens, as the verifier has them when it looks for a key.
    fn parsed<'a>(&'a self, scratches: &'a mut [HeaderScratch]) -> Result<Vec<UnverifiedToken<'a>>, Failure> {
        let tokens = self.tokens.iter().zip(scratches);
        Ok(tokens
            .map(|(token, scratch)| UnverifiedToken::parse(token, MAX_TOKEN_BYTES, scratch))
            .collect::<Result<_, _>>()?)
    }
}

/// What an issuer takes in memory, and how that grows.
fn memory() -> Result<String, Failure> {
    let signers = signers(HELD, Algorithm::Es256)?;
    let published = Published::new(&signers)?;
    let runtime = runtime()?;
    // What is made once per process.
    let first = runtime.block_on(running(published.issuers(1), 1));
    let (listed, lazy) = growth(|| Keys::issuers(published.issuers(HELD).lazy()));
    // Its tasks have begun, and none has run yet.
    let (started, keys) = growth(|| {
        let _context = runtime.enter();
        Keys::issuers(published.issuers(HELD))
    });
    let (fetched, ()) = growth(|| {
        runtime.block_on(async {
            while keys.handle().status().keys < HELD {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    });
    drop(black_box((first, lazy, keys)));
    let mut table = format!(
        "### Memory per issuer, of {HELD} with one ES256 key each\n\n\
         | | Rust's allocator, bytes | resident, bytes |\n|---|---:|---:|\n"
    );
    let all = Growth {
        counted: started.counted + fetched.counted,
        resident: started.resident.zip(fetched.resident).map(|(started, fetched)| started + fetched),
    };
    let begun = Growth {
        counted: started.counted - listed.counted,
        resident: started.resident.zip(listed.resident).map(|(started, listed)| started - listed),
    };
    for (name, growth) in [
        ("listed, `lazy`, no token yet", listed),
        ("and its source: queues, plan, task", begun),
        ("and its keys: document, key set, timer", fetched),
        ("all of it", all),
    ] {
        let per_issuer = |bytes: i64| bytes / i64::try_from(HELD).unwrap_or(i64::MAX);
        let resident = growth.resident.map_or("–".to_owned(), |bytes| per_issuer(bytes).to_string());
        table.push_str(&format!("| {name} | {} | {resident} |\n", per_issuer(growth.counted)));
    }
    Ok(table)
}

/// How long it takes to begin with all issuers that there are.
fn start(published: &Published) -> Result<String, Failure> {
    let count = SIZES[SIZES.len() - 1];
    let runtime = runtime()?;
    let mut table = format!("### To begin with {count} issuers\n\n| | ms |\n|---|---:|\n");
    let mut row = |name: &str, start: Instant| {
        table.push_str(&format!("| {name} | {:.1} |\n", start.elapsed().as_secs_f64() * 1e3));
    };
    let (listed, lazily) = (published.issuers(count), published.issuers(count).lazy());
    let now = Instant::now();
    listed.check()?;
    row("`Issuers::check`", now);
    let now = Instant::now();
    let lazy = runtime.block_on(async { Keys::issuers(lazily) });
    row("`Keys::issuers`, lazy", now);
    let now = Instant::now();
    assert!(runtime.block_on(async { lazy.handle().is_ready() }));
    row("`KeysHandle::is_ready`, lazy", now);
    runtime.block_on(async {
        let now = Instant::now();
        let keys = Keys::issuers(listed);
        row("`Keys::issuers`", now);
        let now = Instant::now();
        assert!(!keys.handle().is_ready(), "no task has run yet");
        row("`KeysHandle::is_ready`, no issuer has keys", now);
        let now = Instant::now();
        keys.handle().ready().await.map_err(|reason| reason.to_string())?;
        row("`KeysHandle::ready`: until the first has", now);
        while keys.handle().status().keys < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        row("until all have, from the same moment", now);
        let now = Instant::now();
        assert!(keys.handle().is_ready());
        row("`KeysHandle::is_ready`, all have keys", now);
        let now = Instant::now();
        assert_eq!(keys.handle().status().keys, count);
        row("`KeysHandle::status`", now);
        Ok::<_, Failure>(())
    })?;
    Ok(table)
}
