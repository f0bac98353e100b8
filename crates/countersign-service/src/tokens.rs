//! Tokens, one at a time and in batches.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use countersign::UnixTime;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::authenticate::Caller;
use crate::body;
use crate::idempotency::{Begun, KEPT_FOR, MAX_KEY, Ticket};
use crate::policy::{self, Granted};
use crate::problem::Problem;
use crate::serve::Peer;
use crate::service::{InForce, Inner, TokenService, no_store};
use crate::wire::{self, Answer, Answers, Item};

/// Batches of more are signed elsewhere than where requests are taken in: with elliptic curves, a token takes some 20 µs.
const FEW: usize = 8;

/// How long a request waits for its turn to have something signed that takes long, at most.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// `POST /v1/tokens`.
pub(crate) async fn one(State(service): State<TokenService>, request: Request) -> Result<Response, Problem> {
    let inner = &service.0;
    let in_force = inner.in_force();
    let Admitted { client, certificate, body, ticket } = match inner.take_in(&in_force, request).await? {
        Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
        Begin::New(admitted) => admitted,
    };
    let asked = over(certificate.as_deref(), wire::request(&body)?);
    let granted = inner.decide(&in_force, &client, &asked)?;
    let answer = if is_slow(&granted) {
        let shared = Arc::clone(inner);
        let client = client.clone();
        inner.elsewhere(move || shared.sign(&client, &granted, &asked)).await??
    } else {
        inner.sign(&client, &granted, &asked)?
    };
    let body = Bytes::from(serde_json::to_vec(&answer).map_err(|_| unwritable())?);
    keep(ticket, &body, answer.expires_at(), inner.clock.now());
    Ok(no_store(StatusCode::OK, body))
}

/// `POST /v1/tokens:batch`.
pub(crate) async fn batch(State(service): State<TokenService>, request: Request) -> Result<Response, Problem> {
    let inner = &service.0;
    let in_force = inner.in_force();
    let Admitted { client, certificate, body, ticket } = match inner.take_in(&in_force, request).await? {
        Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
        Begin::New(admitted) => admitted,
    };
    let asked = wire::batch(&body)?;
    // The first was counted already.
    in_force.count_others(&client, asked.len())?;
    let is_long = asked.len() > FEW;
    let decided: Vec<_> = asked
        .into_iter()
        .map(|asked| {
            let asked = over(certificate.as_deref(), asked?);
            let granted = inner.decide(&in_force, &client, &asked)?;
            Ok((granted, asked))
        })
        .collect();
    let is_long = is_long || decided.iter().any(|one| one.as_ref().is_ok_and(|(granted, _)| is_slow(granted)));
    let shared = Arc::clone(inner);
    let sign = move || -> Vec<Result<Answer, Problem>> {
        let sign = |one: Result<_, Problem>| one.and_then(|(granted, asked)| shared.sign(&client, &granted, &asked));
        decided.into_iter().map(sign).collect()
    };
    let results = if is_long { inner.elsewhere(sign).await? } else { sign() };
    let items = results.iter().map(|result| match result {
        Ok(answer) => Item::Token(answer),
        Err(problem) => Item::Problem(problem.body()),
    });
    let answers = Answers { results: items.collect() };
    let body = Bytes::from(serde_json::to_vec(&answers).map_err(|_| unwritable())?);
    let is_final = !results.iter().any(|result| result.as_ref().is_err_and(Problem::is_temporary));
    let first_end = results.iter().flatten().map(Answer::expires_at).min();
    if is_final {
        keep(ticket, &body, first_end.unwrap_or(i64::MAX), inner.clock.now());
    }
    Ok(no_store(StatusCode::OK, body))
}

pub(crate) enum Begin {
    Answered(Bytes),
    New(Admitted),
}

/// A request of a client that was recognised.
pub(crate) struct Admitted {
    pub(crate) client: Box<str>,
    /// `x5t#S256` of what the connection has shown.
    certificate: Option<Box<str>>,
    pub(crate) body: Bytes,
    /// If its answer is to be kept.
    pub(crate) ticket: Option<Ticket>,
}

impl Inner {
    /// Who asks, before any of the body is read.
    async fn take_in(&self, in_force: &InForce, request: Request) -> Result<Begin, Problem> {
        let (parts, body) = request.into_parts();
        let caller = self.admit(in_force, &parts).await?;
        self.read(in_force, &caller, &parts, body).await
    }

    /// The body of a client's request, which is asked for again with it if it is signed; and what was answered under the same key, or
    /// the right to answer.
    pub(crate) async fn read(
        &self,
        in_force: &InForce,
        caller: &Caller,
        parts: &Parts,
        body: Body,
    ) -> Result<Begin, Problem> {
        let body = body::read(&parts.headers, body).await?;
        self.admit_signed(in_force, caller, &body)?;
        let client = caller.client.clone();
        let peer: Option<&Peer> = parts.extensions.get();
        let certificate: Option<Box<str>> = peer.and_then(|peer| Some(peer.certificate.as_ref()?.x5t_s256().into()));
        let Some(key) = idempotency_key(&parts.headers)? else {
            return Ok(Begin::New(Admitted { client, certificate, body, ticket: None }));
        };
        let path = parts.uri.path().as_bytes();
        let conflict = |status, error, detail| Err(Problem::new(status, error, detail));
        // What is bound to one certificate is no answer over another.
        let over = certificate.as_deref().unwrap_or_default().as_bytes();
        match self.idempotency.begin(&client, key, &[path, over, &body], self.clock.now()) {
            Begun::New(ticket) => Ok(Begin::New(Admitted { client, certificate, body, ticket: Some(ticket) })),
            Begun::Answered(answer) => Ok(Begin::Answered(answer)),
            Begun::InProgress => {
                let detail = "a request with this `Idempotency-Key` is being answered";
                conflict(StatusCode::CONFLICT, "idempotency_key_in_use", detail)
            }
            Begun::AnotherRequest => {
                let detail = "another request had this `Idempotency-Key`";
                conflict(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
            }
            Begun::Full => Err(Problem::unavailable("temporarily_unavailable", "too many answers are kept")),
        }
    }

    fn decide(&self, in_force: &InForce, client: &str, asked: &policy::Request) -> Result<Granted, Problem> {
        let granted = policy::decide(&in_force.policy, client, asked, self.clock.now()).map_err(|denied| {
            tracing::info!(target: "countersign::service", client, reason = denied.code(), grant = denied.grant.as_deref(), "token denied");
            Problem::from(denied)
        })?;
        in_force.count_grant(client, granted.grant())?;
        Ok(granted)
    }

    fn sign(&self, client: &str, granted: &Granted, asked: &policy::Request) -> Result<Answer, Problem> {
        match self.minter.mint(granted.slot(), &granted.mint(client, asked)) {
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

    /// On a thread for work that takes long, of which as many run at once as there are cores.
    async fn elsewhere<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let busy = |_| Problem::unavailable("temporarily_unavailable", "too much is being signed");
        let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(&self.signing).acquire_owned()).await.map_err(busy)?;
        let turn = turn.map_err(|_| unwritable())?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(|_| unwritable())
    }
}

/// What is asked for, and over which certificate.
fn over(certificate: Option<&str>, asked: policy::Request) -> policy::Request {
    match certificate {
        Some(certificate) => asked.shown_certificate(certificate),
        None => asked,
    }
}

/// RSA: a fifth of a millisecond with 2048 bits, and more than one with 4096.
fn is_slow(granted: &Granted) -> bool {
    granted.rsa_bits().is_some()
}

pub(crate) fn keep(ticket: Option<Ticket>, answer: &Bytes, first_end: i64, now: UnixTime) {
    if let Some(ticket) = ticket {
        ticket.answered(answer, now.saturating_add(KEPT_FOR).min(UnixTime::from_secs(first_end)));
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_fit = |key: &&str| (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = value.to_str().ok().filter(is_fit).filter(|_| values.next().is_none());
    key.map(Some).ok_or_else(|| Problem::invalid("one `Idempotency-Key` of 1 to 255 visible characters"))
}

/// What does not happen, and must be no panic if it does.
pub(crate) fn unwritable() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the answer could not be made")
}
