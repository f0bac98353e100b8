//! A request on its way in: who asks, what it says, and whether that was answered before.

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use countersign::UnixTime;
use countersign_issuer::state::KeyState;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::audit::{self, Record, RepeatRecord, Time};
use crate::authenticate::Caller;
use crate::body;
use crate::idempotency::{Begun, Given, KEPT_FOR, MAX_KEY, Ticket};
use crate::problem::Problem;
use crate::room;
use crate::serve::Peer;
use crate::service::{InForce, Inner};

/// How a request begins.
pub(crate) enum Begin {
    /// It was answered before, so.
    Answered(Bytes),
    New(Admitted),
}

/// A request of a client that was recognised.
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    /// `x5t#S256` of what the connection has shown.
    pub(crate) certificate: Option<Box<str>>,
    pub(crate) body: Bytes,
    /// If its answer is to be kept.
    pub(crate) ticket: Option<Ticket>,
}

impl Inner {
    /// Who asks, before any of the body is read, and again with it if the request is signed.
    pub(crate) async fn take_in(&self, in_force: &InForce, request: Request) -> Result<Begin, Problem> {
        let (parts, body) = request.into_parts();
        let caller = self.admit(in_force, &parts).await?;
        room::belongs_to(&caller.client, &parts);
        let body = body::read(&parts.headers, body).await?;
        self.admit_signed(in_force, &caller, &parts, &body)?;
        self.begin(in_force, caller, &parts, body).await
    }

    /// The same of a request whose client the layer has recognised.
    pub(crate) async fn take_in_recognised(
        &self,
        in_force: &InForce,
        caller: Caller,
        parts: &Parts,
        body: Body,
    ) -> Result<Begin, Problem> {
        let body = body::read(&parts.headers, body).await?;
        self.begin(in_force, caller, parts, body).await
    }

    /// What was answered under the same key, or the right to answer.
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

/// Has the answer given again to whoever asks again, if that was wished for, until `first_end` at the latest.
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
