//! Tokens, one at a time and in batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use countersign::UnixTime;
use countersign_issuer::MintError;
use countersign_issuer::state::KeyState;
use countersign_issuer::step::NotSigning;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use crate::audit::{self, Audit, Decision, Record, RepeatRecord, Time, TokenRecord};
use crate::authenticate::Caller;
use crate::body;
use crate::idempotency::{Begun, Given, KEPT_FOR, MAX_KEY, Ticket};
use crate::policy::{self, Denied, Granted};
use crate::problem::Problem;
use crate::room;
use crate::serve::Peer;
use crate::service::{InForce, Inner, TokenService, no_store};
use crate::wire::{self, Answer, Answers, Item};

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
    let (wish, made) = if in_force.is_long(&caller.client, &body) {
        elsewhere(&inner.signing, move || weigh().map(sign)).await??
    } else {
        match weigh()? {
            wish if wish.is_slow() => elsewhere(&inner.signing, move || sign(wish)).await?,
            wish => sign(wish),
        }
    };
    inner.write_down(&in_force, &caller, begun, [(&wish, &made)].into_iter()).await?;
    let answer = made?;
    let body = Bytes::from(serde_json::to_vec(&answer).map_err(|_| unwritable())?);
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
    let results = if in_force.is_long(&caller.client, &body) {
        elsewhere(&inner.signing, move || weigh().map(sign)).await??
    } else {
        match weigh()? {
            wishes if wishes.len() > FEW || wishes.iter().flatten().any(Wish::is_slow) => {
                elsewhere(&inner.signing, move || sign(wishes)).await?
            }
            wishes => sign(wishes),
        }
    };
    let decided = results.iter().filter_map(|(wish, made)| Some((wish.as_ref()?, made)));
    inner.write_down(&in_force, &caller, begun, decided).await?;
    let items = results.iter().map(|(_, made)| match made {
        Ok(answer) => Item::Token(answer),
        Err(problem) => Item::Problem(problem.body()),
    });
    let answers = Answers { results: items.collect() };
    let body = Bytes::from(serde_json::to_vec(&answers).map_err(|_| unwritable())?);
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

    fn record(&self, audit: &Audit, case: &Case<'_>, made: &Result<Answer, Problem>) -> Record {
        let Self { asked, decided, counted, .. } = self;
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

impl InForce {
    fn is_long(&self, client: &str, body: &[u8]) -> bool {
        body.len().saturating_mul(self.policy.grants_of(client).max(1)) > SHORT
    }
}

impl Inner {
    /// Who asks, before any of the body is read, and again with it if the request is signed.
    async fn take_in(&self, in_force: &InForce, request: Request) -> Result<Begin, Problem> {
        let (parts, body) = request.into_parts();
        let caller = self.admit(in_force, &parts).await?;
        room::belongs_to(&caller.client, &parts);
        let body = body::read(&parts.headers, body).await?;
        self.admit_signed(in_force, &caller, &parts, &body)?;
        self.begin(in_force, caller, &parts, body).await
    }

    /// The body of a client's request; and what was answered under the same key, or the right to answer.
    pub(crate) async fn read(
        &self,
        in_force: &InForce,
        caller: Caller,
        parts: &Parts,
        body: Body,
    ) -> Result<Begin, Problem> {
        let body = body::read(&parts.headers, body).await?;
        self.begin(in_force, caller, parts, body).await
    }

    async fn begin(&self, in_force: &InForce, caller: Caller, parts: &Parts, body: Bytes) -> Result<Begin, Problem> {
        let certificate = parts.extensions.get::<Peer>().and_then(|peer| peer.certificate.as_ref());
        let certificate: Option<Box<str>> = certificate.map(|certificate| certificate.x5t_s256().into());
        let Some(key) = idempotency_key(&parts.headers)? else {
            return Ok(Begin::New(Admitted { caller, certificate, body, ticket: None }));
        };
        let path = parts.uri.path().as_bytes();
        let conflict = |status, error, detail| Err(Problem::new(status, error, detail));
        // What is bound to one certificate is no answer over another.
        let over = certificate.as_deref().unwrap_or_default().as_bytes();
        // Of one that is revoked, or that nobody has to know any more, no token is handed out again.
        let is_published = |kid: &str| self.ring.fate(kid).is_some_and(KeyState::is_published);
        match self.idempotency.begin(&caller.client, key, &[path, over, &body], self.clock.now(), is_published) {
            Begun::New(ticket) => Ok(Begin::New(Admitted { caller, certificate, body, ticket: Some(ticket) })),
            Begun::Answered(given) => {
                self.write_down_again(in_force, &caller, parts.uri.path(), &given).await?;
                Ok(Begin::Answered(given.body))
            }
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

    /// That an answer is given once more, before it is.
    async fn write_down_again(
        &self,
        in_force: &InForce,
        caller: &Caller,
        path: &str,
        given: &Given,
    ) -> Result<(), Problem> {
        let (client, tokens) = (&*caller.client, given.jtis.len());
        tracing::info!(target: "countersign::service", client, tokens, "answered again");
        let Some(audit) = &self.audit else { return Ok(()) };
        let record = RepeatRecord {
            time: Time(self.clock.now()),
            client: caller.client.clone(),
            method: caller.method,
            policy: in_force.policy.revision().into(),
            path: audit::cut(path),
            kid: given.kids.clone(),
            jti: given.jtis.clone(),
        };
        audit.record(vec![Record::Repeat(Box::new(record))]).await
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

fn given<'a>(body: &Bytes, tokens: impl IntoIterator<Item = &'a Answer>) -> Given {
    tokens.into_iter().fold(Given::new(body.clone()), |given, token| given.with_token(token.kid(), token.jti()))
}

pub(crate) fn keep(ticket: Option<Ticket>, answer: impl FnOnce() -> Given, first_end: i64, now: UnixTime) {
    if let Some(ticket) = ticket {
        ticket.answered(answer(), now.saturating_add(KEPT_FOR).min(UnixTime::from_secs(first_end)));
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
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use std::sync::atomic::{AtomicI64, Ordering};

    use axum::body::to_bytes;
    use countersign::{Algorithm, SigningKey};
    use countersign_issuer::{Kek, KekRing, MemoryStore, Ring, RingConfig, Slot};
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_long_is_read_and_weighed_where_there_is_a_turn_for_it_and_what_is_short_needs_none() {
        const ISSUER: &str = "https://issuer.example";
        const NOW: i64 = 1_800_000_000;
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let config = RingConfig::new([Slot::new("es256", Algorithm::Es256)]);
        let keks = KekRing::new([Kek::random().unwrap()]).unwrap();
        let ring = Ring::builder(ISSUER, config, Arc::new(MemoryStore::new()), keks).start().await.unwrap();
        ring.ready_within(Duration::from_secs(60)).await.unwrap();
        let jwks = json!({ "keys": [key.public_jwk().unwrap()] });
        let grant = |name: &str| {
            format!(
                "[clients.web.grants.{name}]\nprofiles = [\"access\"]\nsubjects = {{ self = true }}\n\
                 audiences = {{ exact = [\"orders\"] }}\n"
            )
        };
        let policy = format!(
            "version = 1\n[profiles.access]\nslots = [\"es256\"]\nlifetime = 300\n[clients.web]\njwks = '{jwks}'\n{}{}",
            grant("a"),
            grant("b")
        );
        let policy = policy::Policy::parse(&policy, ring.config()).unwrap();
        // Of a service that has been there for longer than the leeway.
        let clock = Arc::new(AtomicI64::new(NOW - 7));
        let now = Arc::clone(&clock);
        let builder = TokenService::builder(ring, policy);
        let service = builder.clock(move || UnixTime::from_secs(now.load(Ordering::SeqCst))).build().unwrap();
        clock.store(NOW, Ordering::SeqCst);
        let serial = AtomicI64::new(0);
        let ask = async |path: &str, length: usize| {
            let jti = serial.fetch_add(1, Ordering::SeqCst).to_string();
            let claims = json!({ "iss": "web", "sub": "web", "aud": ISSUER, "iat": NOW, "exp": NOW + 60, "jti": jti });
            let token = key.sign_as("client-authentication+jwt", &claims).unwrap();
            let asked = json!({ "profile": "access", "aud": "orders" });
            let body = if path.ends_with("batch") { json!({ "requests": [asked] }) } else { asked };
            let body = format!("{body:length$}", body = body.to_string());
            let request = Request::post(path)
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json");
            let response = service.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
            let status = response.status().as_u16();
            let told: Value = serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await.unwrap()).unwrap();
            (status, told["error"].as_str().map(str::to_owned))
        };
        let cores = u32::try_from(service.0.signing.available_permits()).unwrap();
        let turns = Arc::clone(&service.0.signing).acquire_many_owned(cores).await.unwrap();
        tokio::time::pause();
        let busy = (503, Some("temporarily_unavailable".to_owned()));
        // Two grants: twice the work.
        for path in ["/v1/tokens", "/v1/tokens:batch"] {
            assert_eq!(ask(path, SHORT / 2).await, (200, None), "{path}");
            assert_eq!(ask(path, SHORT / 2 + 1).await, busy, "{path}");
        }
        drop(turns);
        for path in ["/v1/tokens", "/v1/tokens:batch"] {
            assert_eq!(ask(path, SHORT / 2 + 1).await, (200, None), "{path}");
        }
    }

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
