//! `oidc-provider` as a process that dies: under load, and before the service starts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::example::Example;
use crate::load::{Load, Seen};
use crate::node::NodeJs;
use crate::provider::{BLIND_FOR, Provider, TRUSTED_FOR, accepted, may_be_new, refused};
use crate::service::{Answer, client};
use crate::tally::Tally;
use crate::{Result, TIMEOUT};

/// How long the provider is gone while tokens of it are shown.
const GONE_FOR: Duration = Duration::from_secs(2);

/// How long a service is in use that cannot get its first keys: more than one look, even if each hangs for 2 s.
const WITHOUT_KEYS_FOR: Duration = Duration::from_secs(5);

/// How long after the provider is back the first token may be accepted. A look that hangs is abandoned after 2 s, and the next
/// begins within one more.
const BACK_WITHIN: Duration = Duration::from_secs(4);

/// The longest `Retry-After`, seconds, while there are no keys.
const MAX_RETRY_AFTER: u64 = 5;

/// What a caller waits between two requests.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn run(nodejs: &NodeJs, tally: &mut Tally) -> Result<()> {
    killed_and_replaced(nodejs, tally).await?;
    for hangs in [false, true] {
        absent_at_the_start(nodejs, hangs, tally).await?;
    }
    Ok(())
}

/// The provider is killed under load, stays away for a while, and comes back without any of the keys that it had.
async fn killed_and_replaced(nodejs: &NodeJs, tally: &mut Tally) -> Result<()> {
    let provider = Provider::start(nodejs, 0, &[]).await?;
    let at = provider.at.clone();
    let api = Example::start("axum", &at.jwks, &at.issuer, &at.audience).await?;
    let load = Load::start(&api.url)?;
    load.add("old", provider.tokens(&at.audience).await?).await;
    tally.check("killed: before", load.has_seen(accepted, "old", BLIND_FOR).await);

    let gone = provider.kill().await?;
    let before = load.seen().await.concat().len();
    tokio::time::sleep(GONE_FOR).await;
    let seen = load.seen().await.concat();
    tally.expect("killed: nobody is refused while it is gone", seen.len() > before && seen.iter().all(accepted));

    let provider = gone.start(nodejs, 0).await?;
    load.add("new", provider.tokens(&at.audience).await?).await;
    tally.check("killed: a token of a new key is accepted in the end", load.has_seen(accepted, "new", BLIND_FOR).await);
    tally
        .check("killed: a token of an old key is refused in the end", load.has_seen(refused, "old", TRUSTED_FOR).await);
    let seen = load.stop().await?;
    provider.stop().await?;

    let of = |generation: &'static str| seen.iter().flatten().filter(move |seen| seen.generation == generation);
    tally.expect("killed: no token of a new key is ever refused", of("new").all(|seen| may_be_new(seen.status)));
    let judged = |seen: &Seen| accepted(seen) || refused(seen) || may_be_new(seen.status);
    tally.expect("killed: no token of an old key sees anything but 200, 429 and 401", of("old").all(judged));
    for (caller, seen) in seen.iter().enumerate() {
        // An old token is accepted, and then not any more; a new one the other way round.
        let mut last = HashMap::new();
        let mut steady = true;
        for seen in seen {
            let is_accepted = accepted(seen);
            let was_accepted = last.insert(&seen.token, is_accepted).unwrap_or(seen.generation == "old");
            steady &= is_accepted == was_accepted || is_accepted == (seen.generation == "new");
        }
        tally.expect(&format!("killed: caller {caller} sees one change of each token"), steady);
    }
    for generation in ["old", "new"] {
        let told = |status| of(generation).filter(|seen| seen.status == status).count();
        let [ok, again, refused] = [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED].map(told);
        println!("killed: tokens of {generation} keys: 200 {ok} times, 429 {again} times, 401 {refused} times");
    }
    Ok(())
}

/// The service starts while nobody listens at the provider's address, or somebody who never answers.
async fn absent_at_the_start(nodejs: &NodeJs, hangs: bool, tally: &mut Tally) -> Result<()> {
    let name = if hangs { "hanging at the start" } else { "down at the start" };
    let provider = Provider::start(nodejs, 0, &[]).await?;
    let at = provider.at.clone();
    // Of a key that will be there again.
    let tokens = provider.tokens(&at.audience).await?;
    let gone = provider.kill().await?;
    let impostor = if hangs { Some(Impostor::listen(gone.port).await?) } else { None };

    let api = Example::start("axum", &at.jwks, &at.issuer, &at.audience).await?;
    let calls = Calls::start(&api, tokens)?;
    tokio::time::sleep(WITHOUT_KEYS_FOR).await;
    if let Some(impostor) = &impostor {
        tally.expect(&format!("{name}: it is asked"), impostor.accepted() > 0);
        impostor.leave();
    }
    let provider = gone.start(nodejs, 1).await?;
    let back = Instant::now();
    tally.check(&format!("{name}: accepted in the end"), calls.is_accepted(TIMEOUT).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = calls.stop().await?;
    provider.stop().await?;
    drop(impostor);

    let refusals = seen.iter().take_while(|seen| seen.status != StatusCode::OK).count();
    let (before, after) = seen.split_at(refusals);
    let is_told_when = |seen: &Called| {
        let is_soon = seen.retry_after.is_some_and(|seconds| (1..=MAX_RETRY_AFTER).contains(&seconds));
        seen.status == StatusCode::SERVICE_UNAVAILABLE && is_soon
    };
    tally.expect(
        &format!("{name}: 503 until then, each with Retry-After"),
        refusals > 1 && before.iter().all(is_told_when),
    );
    tally.expect(&format!("{name}: and 200 from then on"), after.iter().all(|seen| seen.status == StatusCode::OK));
    if let Some(first) = after.first() {
        let took = first.at.saturating_duration_since(back);
        tally.expect(&format!("{name}: the first 200 comes within {BACK_WITHIN:?}"), took <= BACK_WITHIN);
        println!("{name}: 503 {refusals} times, and the first 200 after {took:?}");
    }
    Ok(())
}

/// Somebody at the provider's address who lets everybody connect and answers nobody.
struct Impostor {
    /// How many have connected.
    accepted: watch::Receiver<usize>,
    leave: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Impostor {
    async fn listen(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let (count, accepted) = watch::channel(0);
        let (leave, mut left) = watch::channel(false);
        let task = tokio::spawn(async move {
            // Whoever is connected stays so, and waits, even when nobody listens any more.
            let mut connections = Vec::new();
            loop {
                tokio::select! {
                    Ok((connection, _)) = listener.accept() => connections.push(connection),
                    _ = left.changed() => break,
                }
                count.send_replace(connections.len());
            }
            drop(listener);
            std::future::pending::<()>().await;
            drop(connections);
        });
        Ok(Self { accepted, leave, task })
    }

    fn accepted(&self) -> usize {
        *self.accepted.borrow()
    }

    /// Makes room for another, and answers those who are connected no more than before.
    fn leave(&self) {
        self.leave.send_replace(true);
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A caller who shows tokens to a service, one after the other and all over again, and writes down when it was told what.
struct Calls {
    seen: watch::Receiver<Vec<Called>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

#[derive(Clone)]
struct Called {
    at: Instant,
    status: StatusCode,
    retry_after: Option<u64>,
}

impl Calls {
    fn start(api: &Example, tokens: Vec<String>) -> Result<Self> {
        let (client, url) = (client()?, format!("{}/hello", api.url));
        let (told, seen) = watch::channel(Vec::new());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            for token in tokens.iter().cycle() {
                if *stopped.borrow() {
                    break;
                }
                let request = client.get(&url).header(AUTHORIZATION, format!("Bearer {token}"));
                let answer = Answer::of(request).await?;
                let retry_after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                let called = Called { at: Instant::now(), status: answer.status, retry_after };
                told.send_modify(|seen: &mut Vec<Called>| seen.push(called));
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        });
        Ok(Self { seen, stop, task })
    }

    /// Waits until it has been accepted once.
    async fn is_accepted(&self, within: Duration) -> Result<()> {
        let mut seen = self.seen.clone();
        let accepted = seen.wait_for(|seen| seen.iter().any(|seen| seen.status == StatusCode::OK));
        match tokio::time::timeout(within, accepted).await {
            Ok(accepted) => Ok(accepted.map(drop)?),
            Err(_) => Err(format!("not after {within:?}").into()),
        }
    }

    /// Ends, and returns everything in its order.
    async fn stop(self) -> Result<Vec<Called>> {
        self.stop.send_replace(true);
        self.task.await??;
        Ok(self.seen.borrow().clone())
    }
}
