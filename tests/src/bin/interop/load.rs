use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::AUTHORIZATION;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Result;
use crate::service::{Answer, client};

/// How many callers there are.
const CALLERS: usize = 4;

/// What a caller waits between two requests: some two hundred requests a second in all, so that no change goes unseen.
const PAUSE: Duration = Duration::from_millis(20);

/// How often somebody looks whether it has happened.
const LOOK: Duration = Duration::from_millis(50);

/// Callers that show tokens to a service, one after the other and all over again.
pub(crate) struct Load {
    shared: Arc<Shared>,
    callers: JoinSet<Result<()>>,
    stop: watch::Sender<bool>,
}

struct Shared {
    url: String,
    tokens: Mutex<Vec<(&'static str, String)>>,
    /// What each caller has seen, in its order.
    seen: Mutex<Vec<Vec<Seen>>>,
}

/// What a token got.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) generation: &'static str,
    pub(crate) token: String,
    pub(crate) status: StatusCode,
    pub(crate) challenge: String,
}

impl Load {
    pub(crate) fn start(service: &str) -> Result<Self> {
        let shared = Arc::new(Shared {
            url: format!("{service}/hello"),
            tokens: Mutex::default(),
            seen: Mutex::new(vec![Vec::new(); CALLERS]),
        });
        let (stop, stopped) = watch::channel(false);
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            callers.spawn(call(caller, Arc::clone(&shared), client()?, stopped.clone()));
        }
        Ok(Self { shared, callers, stop })
    }

    /// Shows these as well from now on.
    pub(crate) async fn add(&self, generation: &'static str, tokens: Vec<String>) {
        self.shared.tokens.lock().await.extend(tokens.into_iter().map(|token| (generation, token)));
    }

    /// Waits until each caller has seen that happen to each token of that generation.
    pub(crate) async fn has_seen(&self, what: fn(&Seen) -> bool, generation: &str, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let mut tokens = self.shared.tokens.lock().await.clone();
            tokens.retain(|(of, _)| *of == generation);
            let seen = self.seen().await;
            let has = |seen: &[Seen], token: &str| seen.iter().any(|seen| seen.token == token && what(seen));
            if seen.iter().all(|seen| tokens.iter().all(|(_, token)| has(seen, token))) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let last = |token| seen.iter().map(move |seen| seen.iter().rfind(|seen| seen.token == token));
                let last = tokens.iter().flat_map(|(_, token)| last(token.as_str()));
                let last: Vec<_> = last.map(|last| last.map(|seen| seen.status.as_u16())).collect();
                return Err(format!("not after {within:?}; the last they saw was {last:?}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What each caller has seen up to now.
    pub(crate) async fn seen(&self) -> Vec<Vec<Seen>> {
        self.shared.seen.lock().await.clone()
    }

    /// Ends, and returns what each caller has seen. A request without an answer is an error.
    pub(crate) async fn stop(mut self) -> Result<Vec<Vec<Seen>>> {
        self.stop.send_replace(true);
        while let Some(ended) = self.callers.join_next().await {
            ended??;
        }
        Ok(std::mem::take(&mut *self.shared.seen.lock().await))
    }
}

async fn call(caller: usize, shared: Arc<Shared>, client: reqwest::Client, stop: watch::Receiver<bool>) -> Result<()> {
    while !*stop.borrow() {
        for (generation, token) in shared.tokens.lock().await.clone() {
            let request = client.get(&shared.url).header(AUTHORIZATION, format!("Bearer {token}"));
            let answer = Answer::of(request).await?;
            let challenge = answer.challenge().to_owned();
            shared.seen.lock().await[caller].push(Seen { generation, token, status: answer.status, challenge });
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
