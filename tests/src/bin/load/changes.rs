//! Five hundred requests a second over 64 connections, before and after something happens to the provider's keys.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use countersign::JwtAuth;
use countersign_testkit::IdentityProvider;
use countersign_tests::crowd::{AUDIENCE, Crowd, Seen, Shown, Tokens, accepted_after, first_accepted};
use countersign_tests::documented::A_FETCH;
use countersign_tests::{Result, service};
use tokio::runtime::{Builder, Runtime};

use crate::Broken;

pub(crate) const CONNECTIONS: u32 = 64;

/// Requests a second, all connections together.
pub(crate) const RATE: u32 = 500;

/// What an answer's keys are good for where that matters: short, so that ten seconds are many lifetimes.
const LIFETIME: Duration = Duration::from_secs(3);

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Rotation,
    Emergency,
    Withdrawal,
    Outage,
}

pub(crate) const CHANGES: [Change; 4] = [Change::Rotation, Change::Emergency, Change::Withdrawal, Change::Outage];

/// How long the load goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    pub(crate) before: Duration,
    pub(crate) after: Duration,
}

pub(crate) const HEAD: &str = "| what happens | token of | when | requests | 200 | 401 | 429 | 503 | p50 | p99 |\n\
                               |---|---|---|---:|---:|---:|---:|---:|---:|---:|";

/// What became of it.
pub(crate) struct Outcome {
    change: Change,
    spell: Spell,
    changed: Instant,
    fetches: usize,
    seen: Vec<Vec<Seen>>,
}

pub(crate) async fn run(change: Change, spell: Spell) -> Result<Outcome> {
    let provider = IdentityProvider::start();
    let old = provider.key();
    if change == Change::Withdrawal {
        provider.rotate();
    }
    let auth = JwtAuth::new(provider.jwks_url()).issuer(provider.issuer()).audience(AUDIENCE);
    let server = Server::start(match change {
        Change::Rotation | Change::Emergency => auth,
        Change::Withdrawal | Change::Outage => auth.default_lifetime(LIFETIME),
    });
    let server = server.await?;

    let old: Shown = ("the old key", provider.token(AUDIENCE).signed_by(&old).sign().into());
    let new = || -> Shown { ("the new key", provider.token(AUDIENCE).sign().into()) };
    let tokens = Tokens::default();
    tokens.set([old.clone()].into_iter().chain((change == Change::Withdrawal).then(new)));
    let shown = tokens.clone();
    let period = Duration::from_secs(CONNECTIONS.into()) / RATE;
    let crowd = Crowd::gather(server.address, CONNECTIONS, period, move |n| shown.nth(n, CONNECTIONS)).await?;
    tokio::time::sleep(spell.before).await;
    match change {
        Change::Rotation => drop(provider.rotate()),
        Change::Emergency => drop(provider.replace_keys()),
        Change::Withdrawal => provider.withdraw(&provider.published()[0]),
        Change::Outage => provider.stop(),
    }
    let changed = Instant::now();
    if matches!(change, Change::Rotation | Change::Emergency) {
        tokens.set([old, new()]);
    }
    tokio::time::sleep(spell.after).await;
    let seen = crowd.disperse().await?;
    Ok(Outcome { change, spell, changed, fetches: provider.fetches(), seen })
}

/// A service with threads of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts it, and waits until it has its keys.
    pub(crate) async fn start(auth: JwtAuth) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = runtime.spawn(async move {
            let address = service::serve(auth.clone()).await?;
            auth.handle().keys().ready().await.map_err(|unready| unready.to_string())?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(address)
        });
        Ok(Self { address: address.await??, runtime: Some(runtime) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Outcome {
    /// Prints its rows, and says which rules it broke.
    pub(crate) fn report(&self, broken: &mut Broken) {
        let mut groups: BTreeMap<_, Vec<&Seen>> = BTreeMap::new();
        for seen in self.seen.iter().flatten() {
            groups.entry((Reverse(seen.name), seen.sent >= self.changed)).or_default().push(seen);
        }
        for ((Reverse(name), after), seen) in &groups {
            self.print(name, if *after { "after" } else { "before" }, seen);
        }
        let count = |name: &str, allowed: &[u16]| {
            let others = self.seen.iter().flatten().filter(|seen| seen.name == name);
            others.filter(|seen| !allowed.contains(&seen.answer.status)).count()
        };
        let change = self.change;
        let mut only = |name: &str, allowed: &[u16]| {
            let others = count(name, allowed);
            broken
                .expect(&format!("{change:?}: a token of {name} gets {allowed:?}"), others == 0, || others.to_string());
        };
        match change {
            Change::Rotation => {
                only("the old key", &[200]);
                only("the new key", &[200]);
                broken.expect("Rotation: two fetches", self.fetches == 2, || self.fetches.to_string());
            }
            Change::Emergency | Change::Withdrawal => {
                only("the old key", &[200, 401, 429]);
                only("the new key", &[200]);
                let bound = self.changed + LIFETIME + A_FETCH;
                let dead =
                    if change == Change::Withdrawal { Some(bound) } else { first_accepted(&self.seen, "the new key") };
                let late = dead.map(|dead| (dead, accepted_after(&self.seen, "the old key", dead)));
                broken.expect(&format!("{change:?}: the old key is dead"), matches!(late, Some((_, None))), || {
                    late.and_then(|(dead, late)| Some(late?.sent - dead))
                        .map_or("nobody followed".to_owned(), |late| format!("accepted {late:?} late"))
                });
            }
            Change::Outage => only("the old key", &[200]),
        }
        let all = self.seen.iter().map(Vec::len).sum::<usize>();
        let due = (self.spell.before + self.spell.after).as_secs() * u64::from(RATE);
        // A machine that cannot bear the load shows nothing.
        broken.expect(&format!("{change:?}: the load was there"), all as u64 >= due / 2, || format!("{all} of {due}"));
    }

    fn print(&self, name: &str, when: &str, seen: &[&Seen]) {
        let count = |status| seen.iter().filter(|seen| seen.answer.status == status).count();
        let mut took: Vec<_> = seen.iter().map(|seen| seen.took).collect();
        took.sort_unstable();
        let percentile = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        let (what, name) = match (self.change, name) {
            (Change::Rotation, _) => ("rotation, unannounced", name),
            (Change::Emergency, _) => ("emergency rotation", name),
            (Change::Withdrawal, "the old key") => ("withdrawal", "the withdrawn key"),
            (Change::Withdrawal, _) => ("withdrawal", "the other key"),
            (Change::Outage, _) => ("outage", "the key"),
        };
        println!(
            "| {what} | {name} | {when} | {} | {} | {} | {} | {} | {:.2} ms | {:.2} ms |",
            seen.len(),
            count(200),
            count(401),
            count(429),
            count(503),
            percentile(50).as_secs_f64() * 1e3,
            percentile(99).as_secs_f64() * 1e3,
        );
    }
}
