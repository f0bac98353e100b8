//! A hundred verifiers, each with strangers of its own, and one provider for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::verifier::{Fault, Refusal};
use countersign::{JwtAuth, SystemClock};
use countersign_testkit::IdentityProvider;
use countersign_tests::Result;
use countersign_tests::crowd::{AUDIENCE, earliest_look, made_up};
use tokio::task::JoinSet;

use crate::Broken;

const VERIFIERS: usize = 100;

/// How many strangers each of them has, and how long one of them rests: four thousand names a second, all together, while none of them has
/// to wait.
const STRANGERS: usize = 4;
const REST: Duration = Duration::from_millis(100);

/// Seconds of which the mean is a rate: three times the longest distance between two looks.
const STEADY: usize = 15;

const SECOND: Duration = Duration::from_secs(1);

/// What strangers were told.
#[derive(Default)]
struct Told {
    refused: AtomicUsize,
    ask_again: AtomicUsize,
    other: AtomicUsize,
}

pub(crate) async fn run(spell: Duration, broken: &mut Broken) -> Result<()> {
    let provider = IdentityProvider::start();
    let auths: Vec<_> = (0..VERIFIERS)
        .map(|_| JwtAuth::new(provider.jwks_url()).issuer(provider.issuer()).audience(AUDIENCE))
        .collect();
    for auth in &auths {
        auth.handle().keys().ready().await.map_err(|unready| unready.to_string())?;
    }
    let at_first = provider.fetches();

    let (told, names) = (Arc::new(Told::default()), Arc::new(AtomicU32::new(0)));
    let start = Instant::now();
    let mut strangers = JoinSet::new();
    for auth in &auths {
        for _ in 0..STRANGERS {
            strangers.spawn(pester(auth.clone(), provider.clone(), Arc::clone(&told), Arc::clone(&names)));
        }
    }
    let mut per_second = Vec::new();
    let mut before = at_first;
    while start.elapsed() < spell {
        let second = u32::try_from(per_second.len() + 1)?;
        tokio::time::sleep_until((start + SECOND * second).into()).await;
        let fetches = provider.fetches();
        per_second.push(fetches - before);
        before = fetches;
        // Each verifier may have looked so often by now.
        let looks = (0..).take_while(|n| earliest_look(*n) <= start.elapsed()).count();
        broken.expect("fleet: one fetch per spacing from each", fetches - at_first <= looks * VERIFIERS, || {
            format!("{} after {:?}", fetches - at_first, start.elapsed())
        });
    }
    let good = provider.token(AUDIENCE).sign();
    for auth in &auths {
        let accepted = auth.verifier().verify_or_wait(&good, &SystemClock).await;
        broken.expect("fleet: a good token is accepted", accepted.is_ok(), || format!("{accepted:?}"));
    }
    strangers.shutdown().await;
    let other = told.other.load(Ordering::Relaxed);
    broken.expect("fleet: strangers are refused, or told to ask again", other == 0, || other.to_string());

    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!("| {VERIFIERS} verifiers, one provider | |\n|---|---:|");
    println!("| fetches at the start, without a flood | {at_first} |");
    println!("| made-up names in {} s | {} |", per_second.len(), names.load(Ordering::Relaxed));
    println!(
        "| of which refused (401) / told to ask again (429) | {} / {} |",
        count(&told.refused),
        count(&told.ask_again)
    );
    println!("| fetches in the first second of the flood | {} |", per_second[0]);
    println!(
        "| fetches in each second since | {} |",
        per_second[1..].iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    );
    // By then the distances have grown to their cap, and these are whole ones.
    if let Some(steady) =
        per_second.len().checked_sub(STEADY).filter(|from| *from >= STEADY).map(|from| &per_second[from..])
    {
        let rate = steady.iter().sum::<usize>() as f64 / STEADY as f64;
        println!("| fetches per second over the last {STEADY} s | {rate:.1} |");
    }
    Ok(())
}

/// Shows one made-up name after the other.
async fn pester(auth: JwtAuth, provider: IdentityProvider, told: Arc<Told>, names: Arc<AtomicU32>) {
    let verifier = auth.verifier();
    loop {
        let token = made_up(&provider, names.fetch_add(1, Ordering::Relaxed));
        let answer = verifier.verify_or_wait(&token, &SystemClock).await;
        let counter = match answer.as_ref().map_err(Refusal::fault) {
            Err(Fault::Token) => &told.refused,
            Err(Fault::AskAgain) => &told.ask_again,
            _ => &told.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(REST).await;
    }
}
