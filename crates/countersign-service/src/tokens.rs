//! Tokens, one at a time and in batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use countersign::UnixTime;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use crate::audit::{self, Audit, Decision, Record, Time, TokenRecord};
use crate::authenticate::Caller;
use crate::body;
use crate::idempotency::{Begun, KEPT_FOR, MAX_KEY, Ticket};
use crate::policy::{self, Denied, Granted};
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
    let begun = Instant::now();
    let inner = &service.0;
    let in_force = inner.in_force();
    let Admitted { caller, certificate, body, ticket } = match inner.take_in(&in_force, request).await? {
        Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
        Begin::New(admitted) => admitted,
    };
    let asked = over(certificate.as_deref(), wire::request(&body)?);
    let wish = inner.weigh(&in_force, &caller.client, asked);
    let (wish, made) = if wish.is_slow() {
        let (shared, client) = (Arc::clone(inner), caller.client.clone());
        let sign = move || {
            let made = shared.make(&client, &wish);
            (wish, made)
        };
        elsewhere(&inner.signing, sign).await?
    } else {
        let made = inner.make(&caller.client, &wish);
        (wish, made)
    };
    inner.write_down(&in_force, &caller, begun, [(&wish, &made)].into_iter()).await?;
    let answer = made?;
    let body = Bytes::from(serde_json::to_vec(&answer).map_err(|_| unwritable())?);
    keep(ticket, &body, answer.expires_at(), inner.clock.now());
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
    let asked = wire::batch(&body)?;
    // The first was counted already.
    in_force.count_others(&caller.client, asked.len())?;
    let weigh = |asked: policy::Request| inner.weigh(&in_force, &caller.client, over(certificate.as_deref(), asked));
    let wishes: Vec<_> = asked.into_iter().map(|asked| asked.map(weigh)).collect();
    let is_long = wishes.len() > FEW || wishes.iter().flatten().any(Wish::is_slow);
    let (shared, client) = (Arc::clone(inner), caller.client.clone());
    let sign = move || -> Vec<(Option<Wish>, Result<Answer, Problem>)> {
        let sign = |wish: Result<Wish, Problem>| match wish {
            Ok(wish) => {
                let made = shared.make(&client, &wish);
                (Some(wish), made)
            }
            Err(problem) => (None, Err(problem)),
        };
        wishes.into_iter().map(sign).collect()
    };
    let results = if is_long { elsewhere(&inner.signing, sign).await? } else { sign() };
    let decided = results.iter().filter_map(|(wish, made)| Some((wish.as_ref()?, made)));
    inner.write_down(&in_force, &caller, begun, decided).await?;
    let items = results.iter().map(|(_, made)| match made {
        Ok(answer) => Item::Token(answer),
        Err(problem) => Item::Problem(problem.body()),
    });
    let answers = Answers { results: items.collect() };
    let body = Bytes::from(serde_json::to_vec(&answers).map_err(|_| unwritable())?);
    let is_final = !results.iter().any(|(_, made)| made.as_ref().is_err_and(Problem::is_temporary));
    let first_end = results.iter().flat_map(|(_, made)| made).map(Answer::expires_at).min();
    if is_final {
        keep(ticket, &body, first_end.unwrap_or(i64::MAX), inner.clock.now());
    }
    Ok(no_store(StatusCode::OK, body))
}

/// What is asked for, and whether it may be had.
struct Wish {
    asked: policy::Request,
    decided: Result<Granted, Denied>,
    /// By the rate of the grant.
    counted: Result<(), Problem>,
}

impl Wish {
    /// RSA: a fifth of a millisecond with 2048 bits, and more than one with 4096.
    fn is_slow(&self) -> bool {
        self.decided.as_ref().is_ok_and(|granted| granted.rsa_bits().is_some())
    }

    fn record(&self, audit: &Audit, case: &Case<'_>, made: &Result<Answer, Problem>) -> Record {
        let Self { asked, decided, counted } = self;
        let (decision, reason) = match (decided, made) {
            (Err(denied), _) => (Decision::Denied, Some(denied.code())),
            (Ok(_), Err(problem)) if counted.is_err() => (Decision::Denied, Some(problem.code())),
            (Ok(_), Err(problem)) => (Decision::Failed, Some(problem.code())),
            (Ok(_), Ok(_)) => (Decision::Signed, None),
        };
        let grant = match decided {
            Ok(granted) => Some(granted.grant().into()),
            Err(denied) => denied.grant.clone(),
        };
        let (aud, aud_more) = audit::audiences(asked.named_audiences());
        let made = made.as_ref().ok();
        Record::Token(Box::new(TokenRecord {
            time: Time(case.now),
            client: case.caller.client.clone(),
            method: case.caller.method,
            policy: case.revision.into(),
            decision,
            reason,
            grant,
            profile: audit::cut(asked.named_profile()),
            sub: audit.subject(asked.named_subject().unwrap_or(&case.caller.client)),
            aud,
            aud_more,
            ttl_asked: asked.asked_lifetime().map(|time| time.as_secs()),
            ttl: made.map(Answer::lifetime),
            kid: made.map(|made| made.kid().into()),
            jti: made.map(|made| made.jti().into()),
            latency_us: u64::try_from(case.took.as_micros()).unwrap_or(u64::MAX),
        }))
    }
}

/// What is the same of all that one request asks for.
struct Case<'a> {
    now: UnixTime,
    caller: &'a Caller,
    revision: &'a str,
    took: Duration,
}

pub(crate) enum Begin {
    Answered(Bytes),
    New(Admitted),
}

/// A request of a client that was recognised.
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    /// `x5t#S256` of what the connection has shown.
    certificate: Option<Box<str>>,
    pub(crate) body: Bytes,
    /// If its answer is to be kept.
    pub(crate) ticket: Option<Ticket>,
}

impl Inner {
    /// Who asks, before any of the body is read, and again with it if the request is signed.
    async fn take_in(&self, in_force: &InForce, request: Request) -> Result<Begin, Problem> {
        let (parts, body) = request.into_parts();
        let caller = self.admit(in_force, &parts).await?;
        let body = body::read(&parts.headers, body).await?;
        self.admit_signed(in_force, &caller, &body)?;
        self.begin(caller, &parts, body)
    }

    /// The body of a client's request; and what was answered under the same key, or the right to answer.
    pub(crate) async fn read(&self, caller: Caller, parts: &Parts, body: Body) -> Result<Begin, Problem> {
        let body = body::read(&parts.headers, body).await?;
        self.begin(caller, parts, body)
    }

    fn begin(&self, caller: Caller, parts: &Parts, body: Bytes) -> Result<Begin, Problem> {
        let certificate = parts.extensions.get::<Peer>().and_then(|peer| peer.certificate.as_ref());
        let certificate: Option<Box<str>> = certificate.map(|certificate| certificate.x5t_s256().into());
        let Some(key) = idempotency_key(&parts.headers)? else {
            return Ok(Begin::New(Admitted { caller, certificate, body, ticket: None }));
        };
        let path = parts.uri.path().as_bytes();
        let conflict = |status, error, detail| Err(Problem::new(status, error, detail));
        // What is bound to one certificate is no answer over another.
        let over = certificate.as_deref().unwrap_or_default().as_bytes();
        match self.idempotency.begin(&caller.client, key, &[path, over, &body], self.clock.now()) {
            Begun::New(ticket) => Ok(Begin::New(Admitted { caller, certificate, body, ticket: Some(ticket) })),
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

    fn weigh(&self, in_force: &InForce, client: &str, asked: policy::Request) -> Wish {
        let decided = policy::decide(&in_force.policy, client, &asked, self.clock.now());
        let counted = match &decided {
            Ok(granted) => in_force.count_grant(client, granted.grant()),
            Err(denied) => {
                self.numbers.denied(denied.code());
                tracing::info!(target: "countersign::service", client, reason = denied.code(), grant = denied.grant.as_deref(), "token denied");
                Ok(())
            }
        };
        Wish { asked, decided, counted }
    }

    fn make(&self, client: &str, wish: &Wish) -> Result<Answer, Problem> {
        let Wish { asked, decided, counted } = wish;
        let granted = decided.as_ref().map_err(|denied| Problem::from(denied.clone()))?;
        counted.clone()?;
        let begun = Instant::now();
        let minted = self.minter.mint(granted.slot(), &granted.mint(client, asked));
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

    /// Before anything of it is told.
    async fn write_down<'a>(
        &self,
        in_force: &InForce,
        caller: &Caller,
        begun: Instant,
        decided: impl Iterator<Item = (&'a Wish, &'a Result<Answer, Problem>)>,
    ) -> Result<(), Problem> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let (revision, took) = (in_force.policy.revision(), begun.elapsed());
        let case = Case { now: self.clock.now(), caller, revision, took };
        let records: Vec<_> = decided.map(|(wish, made)| wish.record(audit, &case, made)).collect();
        if records.is_empty() { Ok(()) } else { audit.record(records).await }
    }
}

/// On a thread for work that takes long, of which as many run at once as there are `turns`.
async fn elsewhere<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let busy = |_| Problem::unavailable("temporarily_unavailable", "too much is being signed");
    let turn = tokio::time::timeout(MAX_WAIT, Arc::clone(turns).acquire_owned()).await.map_err(busy)?;
    let turn = turn.map_err(|_| unwritable())?;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.map_err(|_| unwritable())
}

/// What is asked for, and over which certificate.
fn over(certificate: Option<&str>, asked: policy::Request) -> policy::Request {
    match certificate {
        Some(certificate) => asked.shown_certificate(certificate),
        None => asked,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_long_to_have_something_signed_is_told_to_come_again() {
        let turns = Arc::new(Semaphore::new(1));
        let wait = async |for_turn: Duration| {
            let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(for_turn).await;
                drop(turn);
            });
            elsewhere(&turns, || 7).await
        };
        let moment = Duration::from_millis(1);
        assert_eq!(wait(MAX_WAIT - moment).await.unwrap(), 7);
        let problem = wait(MAX_WAIT + moment).await.unwrap_err();
        assert_eq!((problem.status().as_u16(), problem.code()), (503, "temporarily_unavailable"));
    }
}
