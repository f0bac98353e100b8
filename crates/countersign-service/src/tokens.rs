//! Tokens, one at a time and in batches.

mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use countersign_issuer::MintError;
use countersign_issuer::step::NotSigning;
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::idempotency::Given;
use crate::intake::{Admitted, Begin, keep};
use crate::policy::{self, Denied, Granted};
use crate::problem::Problem;
use crate::service::{InForce, Inner, TokenService};
use crate::wire::{self, Answer, Answers, Item, no_store};

/// Batches of more are signed elsewhere than where requests are taken in: with elliptic curves, a token takes some 20 µs.
const FEW: usize = 8;

/// What is read and held against the grants of its client elsewhere too: bytes of the body times grants. With the worst of both a
/// byte costs some 30 ns for each grant, so what is done where requests are taken in takes half a millisecond; the longest body
/// held against the most grants takes 100.
const SHORT: usize = 16 * 1024;

/// How long a request waits for its turn to have something signed that takes long, at most.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// `POST /v1/tokens`.
pub(crate) async fn one(State(service): State<TokenService>, request: Request) -> Result<Response, Problem> {
    let begun = Instant::now();
    let inner = &service.0;
    let in_force = inner.in_force();
    let Admitted { caller, certificate, body, ticket } = match inner.take_in(&in_force, request).await? {
        Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
        Begin::New(admitted) => admitted,
    };
    let weigh = {
        let (shared, in_force, client) = (Arc::clone(inner), Arc::clone(&in_force), caller.client.clone());
        let body = body.clone();
        move || -> Result<Wish, Problem> {
            Ok(shared.weigh(&in_force, &client, over(certificate.as_deref(), wire::request(&body)?)))
        }
    };
    let sign = {
        let (shared, client) = (Arc::clone(inner), caller.client.clone());
        move |wish: Wish| {
            let made = shared.make(&client, &wish);
            (wish, made)
        }
    };
    let is_long = in_force.is_long(&caller.client, &body);
    let (wish, made) = inner.weigh_and_sign(is_long, weigh, Wish::is_slow, sign).await?;
    inner.write_down(&in_force, &caller, begun, [(&wish, &made)].into_iter()).await?;
    let answer = made?;
    let body = Bytes::from(serde_json::to_vec(&answer).map_err(|_| Problem::unwritable())?);
    keep(ticket, || given(&body, [&answer]), answer.expires_at(), inner.clock.now());
    Ok(no_store(StatusCode::OK, body))
}

/// `POST /v1/tokens:batch`.
pub(crate) async fn batch(State(service): State<TokenService>, request: Request) -> Result<Response, Problem> {
    let begun = Instant::now();
    let inner = &service.0;
    let in_force = inner.in_force();
    let Admitted { caller, certificate, body, ticket } = match inner.take_in(&in_force, request).await? {
        Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
        Begin::New(admitted) => admitted,
    };
    let weigh = {
        let (shared, in_force, client) = (Arc::clone(inner), Arc::clone(&in_force), caller.client.clone());
        let body = body.clone();
        move || -> Result<Vec<Result<Wish, Problem>>, Problem> {
            let asked = wire::batch(&body)?;
            // The first was counted already.
            in_force.count_others(&client, asked.len())?;
            let weigh = |asked| shared.weigh(&in_force, &client, over(certificate.as_deref(), asked));
            Ok(asked.into_iter().map(|asked| asked.map(weigh)).collect())
        }
    };
    let sign = {
        let (shared, client) = (Arc::clone(inner), caller.client.clone());
        move |wishes: Vec<Result<Wish, Problem>>| -> Vec<(Option<Wish>, Result<Answer, Problem>)> {
            let sign = |wish: Result<Wish, Problem>| match wish {
                Ok(wish) => {
                    let made = shared.make(&client, &wish);
                    (Some(wish), made)
                }
                Err(problem) => (None, Err(problem)),
            };
            wishes.into_iter().map(sign).collect()
        }
    };
    let is_slow =
        |wishes: &Vec<Result<Wish, Problem>>| wishes.len() > FEW || wishes.iter().flatten().any(Wish::is_slow);
    let is_long = in_force.is_long(&caller.client, &body);
    let results = inner.weigh_and_sign(is_long, weigh, is_slow, sign).await?;
    let decided = results.iter().filter_map(|(wish, made)| Some((wish.as_ref()?, made)));
    inner.write_down(&in_force, &caller, begun, decided).await?;
    let items = results.iter().map(|(_, made)| match made {
        Ok(answer) => Item::Token(answer),
        Err(problem) => Item::Problem(problem.body()),
    });
    let answers = Answers { results: items.collect() };
    let body = Bytes::from(serde_json::to_vec(&answers).map_err(|_| Problem::unwritable())?);
    let is_final = !results.iter().any(|(_, made)| made.as_ref().is_err_and(Problem::is_temporary));
    let made = || results.iter().flat_map(|(_, made)| made);
    let first_end = made().map(Answer::expires_at).min();
    if is_final {
        keep(ticket, || given(&body, made()), first_end.unwrap_or(i64::MAX), inner.clock.now());
    }
    Ok(no_store(StatusCode::OK, body))
}

/// What is asked for, and whether it may be had.
struct Wish {
    asked: policy::Request,
    decided: Result<Granted, Denied>,
    /// Whether a key signs. What cannot be had is not counted.
    signs: Result<(), NotSigning>,
    /// By the rate of the grant.
    counted: Result<(), Problem>,
}

impl Wish {
    /// RSA: a fifth of a millisecond with 2048 bits, and more than one with 4096.
    fn is_slow(&self) -> bool {
        self.decided.as_ref().is_ok_and(|granted| granted.rsa_bits().is_some())
    }
}

impl InForce {
    fn is_long(&self, client: &str, body: &[u8]) -> bool {
        body.len().saturating_mul(self.policy.grants_of(client).max(1)) > SHORT
    }
}

impl Inner {
    /// Where requests are taken in if that is soon done, and otherwise when there is a turn for it.
    async fn weigh_and_sign<W: Send + 'static, S: Send + 'static>(
        &self,
        is_long: bool,
        weigh: impl FnOnce() -> Result<W, Problem> + Send + 'static,
        is_slow: impl FnOnce(&W) -> bool,
        sign: impl FnOnce(W) -> S + Send + 'static,
    ) -> Result<S, Problem> {
        if is_long {
            return elsewhere(&self.signing, move || weigh().map(sign)).await?;
        }
        let weighed = weigh()?;
        if is_slow(&weighed) { elsewhere(&self.signing, move || sign(weighed)).await } else { Ok(sign(weighed)) }
    }

    fn weigh(&self, in_force: &InForce, client: &str, asked: policy::Request) -> Wish {
        let decided = policy::decide(&in_force.policy, client, &asked, self.clock.now());
        let (mut signs, mut counted) = (Ok(()), Ok(()));
        match &decided {
            Ok(granted) => match self.ring.signer(granted.slot()) {
                Ok(_) => counted = in_force.count_grant(client, granted.grant()),
                Err(why) => signs = Err(why),
            },
            Err(denied) => {
                self.numbers.denied(denied.code());
                tracing::info!(target: "countersign::service", client, reason = denied.code(), grant = denied.grant.as_deref(), "token denied");
            }
        }
        Wish { asked, decided, signs, counted }
    }

    fn make(&self, client: &str, wish: &Wish) -> Result<Answer, Problem> {
        let Wish { asked, decided, signs, counted } = wish;
        let granted = decided.as_ref().map_err(|denied| Problem::from(denied.clone()))?;
        counted.clone()?;
        let begun = Instant::now();
        // If none has signed then, none does now: it would not be counted.
        let signs = signs.map_err(MintError::from);
        let minted = signs.and_then(|()| self.minter.mint(granted.slot(), &granted.mint(client, asked)));
        self.numbers.signed(granted.slot(), minted.is_ok(), begun.elapsed());
        match minted {
            Ok(minted) => {
                let (kid, jti, exp) = (&*minted.kid, &*minted.jti, minted.expires_at.as_secs());
                tracing::info!(target: "countersign::service", client, grant = granted.grant(), kid, jti, exp, "token signed");
                Ok(Answer::new(minted, granted.confirmation()))
            }
            Err(error) => {
                tracing::warn!(target: "countersign::service", client, grant = granted.grant(), reason = error.code(), "token not signed");
                Err(error.into())
            }
        }
    }
}

/// On a thread for work that takes long, of which as many run at once as there are `turns`.
async fn elsewhere<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let busy = |_| Problem::unavailable("temporarily_unavailable", "too much is being signed");
    let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(turns).acquire_owned()).await.map_err(busy)?;
    let turn = turn.map_err(|_| Problem::unwritable())?;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.map_err(|_| Problem::unwritable())
}

/// What is asked for, and over which certificate.
fn over(certificate: Option<&str>, asked: policy::Request) -> policy::Request {
    match certificate {
        Some(certificate) => asked.shown_certificate(certificate),
        None => asked,
    }
}

fn given<'a>(body: &Bytes, tokens: impl IntoIterator<Item = &'a Answer>) -> Given {
    tokens.into_iter().fold(Given::new(body.clone()), |given, token| given.with_token(token.kid(), token.jti()))
}

#[cfg(test)]
mod tests;
