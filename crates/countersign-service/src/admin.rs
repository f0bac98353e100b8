//! The ring over HTTP, for those whom the policy gives rights over it, in requests that they have signed one by one: whoever
//! sees one of them can order nothing else.
//!
//! - `admin/order.rs`: what is ordered. `admin/outcome.rs`: what has come of it, or would.

mod listed;
mod order;
mod outcome;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use countersign::Verified;
use countersign_issuer::OrderError;
use countersign_issuer::step::{Compromised, Refusal};
use http::StatusCode;
use http::request::Parts;

use self::listed::Listed;
use self::order::{Order, What};
use self::outcome::Outcome;
use crate::audit::{Decision, OrderRecord, Record, Time};
use crate::authenticate::{Caller, NO_CREDENTIALS, REFUSED, challenged};
use crate::idempotency::{Given, Ticket};
use crate::intake::{Admitted, Begin, keep};
use crate::numbers;
use crate::policy::{AdminRight, decide_admin};
use crate::problem::Problem;
use crate::serve::Peer;
use crate::service::{InForce, Inner, TokenService};
use crate::signed;
use crate::wire::no_store;

/// Method and path of each, as they are documented.
pub(crate) const ROUTES: [(&str, &str); 3] =
    [("get", "/v1/keys"), ("post", "/v1/keys:rotate"), ("post", "/v1/keys/{kid}:revoke")];

/// The path of a route as the router has it, which knows no `{kid}:revoke`.
pub(crate) fn routed(path: &str) -> String {
    path.replace("{kid}:revoke", "{kid}")
}

/// How long the answer to an order is waited for: the ring takes as long as it is in doubt what its store has done.
const ORDER_TIME: Duration = Duration::from_secs(30);

/// Orders on their way at once, at most: people give them.
pub(crate) const MAX_ORDERS: usize = 16;

/// All routes, each behind the layer that takes nothing but signed requests, and asking [`Inner::operator`] first.
pub(crate) fn router(service: &TokenService) -> Router<TokenService> {
    let signed = signed::layer(service);
    Router::new()
        .route("/v1/keys", get(list).route_layer(signed.clone()))
        .route("/v1/keys:rotate", post(rotate).route_layer(signed.clone()))
        .route(&routed("/v1/keys/{kid}:revoke"), post(revoke).route_layer(signed))
        .route_layer(axum::middleware::from_fn_with_state(service.clone(), signed::refused))
}

/// `GET /v1/keys`.
async fn list(State(service): State<TokenService>, request: Request) -> Result<Response, Problem> {
    let inner = &service.0;
    let (parts, _) = request.into_parts();
    inner.operator(&inner.in_force(), &parts, AdminRight::ReadKeys).await?;
    let listed = Listed::of(&inner.ring);
    Ok(no_store(StatusCode::OK, serde_json::to_vec(&listed).map_err(|_| Problem::unwritable())?))
}

/// `POST /v1/keys:rotate`.
async fn rotate(State(service): State<TokenService>, request: Request) -> Result<Response, Problem> {
    let inner = &service.0;
    let in_force = inner.in_force();
    let (parts, body) = request.into_parts();
    let operator = inner.operator(&in_force, &parts, AdminRight::RotateKeys).await?;
    let Admitted { caller: operator, body, ticket, .. } =
        match inner.take_in_recognised(&in_force, operator, &parts, body).await? {
            Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
            Begin::New(admitted) => admitted,
        };
    let order = order::rotation(&body)?;
    // Whoever may replace keys may not therefore make worthless what they have signed.
    if let What::Emergency { .. } = order.what {
        inner.permit(&in_force, &operator, AdminRight::RevokeKeys).await?;
    }
    inner.carry_out(&in_force, operator, order, ticket).await
}

/// `POST /v1/keys/{kid}:revoke`.
async fn revoke(
    State(service): State<TokenService>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let inner = &service.0;
    let in_force = inner.in_force();
    let (parts, body) = request.into_parts();
    let name = name.map_err(|_| Problem::invalid("the name of the key is no text"))?.0;
    let Some(kid) = name.strip_suffix(":revoke") else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here"));
    };
    let operator = inner.operator(&in_force, &parts, AdminRight::RevokeKeys).await?;
    let Admitted { caller: operator, body, ticket, .. } =
        match inner.take_in_recognised(&in_force, operator, &parts, body).await? {
            Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
            Begin::New(admitted) => admitted,
        };
    let order = order::revocation(&body, kid)?;
    inner.carry_out(&in_force, operator, order, ticket).await
}

impl Inner {
    /// Who has signed the request, if that client has this right. The only way in.
    async fn operator(&self, in_force: &InForce, parts: &Parts, right: AdminRight) -> Result<Caller, Problem> {
        let verified = parts.extensions.get::<Verified>();
        let known = verified.and_then(|verified| Some((verified.subject()?, verified.key())));
        let (client, key) = known.ok_or(NO_CREDENTIALS).map_err(challenged)?;
        let caller = Caller { client: client.into(), method: signed::METHOD, once: None, signed: None };
        // The layer has asked the policy that was in force when the head was there. The body may have taken its time.
        let still = in_force.client_keys().has(client, key).then_some(()).ok_or_else(|| challenged(REFUSED));
        let counted = still.and_then(|()| self.agree(in_force, &caller, parts)).and_then(|()| in_force.count(client));
        let counted = counted.map_err(|problem| self.failed(parts.extensions.get::<Peer>(), problem));
        self.numbers.authenticated(counted.as_ref().map(|()| signed::METHOD).map_err(Problem::status));
        counted?;
        self.permit(in_force, &caller, right).await?;
        Ok(caller)
    }

    async fn permit(&self, in_force: &InForce, caller: &Caller, right: AdminRight) -> Result<(), Problem> {
        let Err(denied) = decide_admin(&in_force.policy, &caller.client, right, self.clock.now()) else {
            return Ok(());
        };
        self.numbers.denied(denied.code());
        tracing::warn!(target: "countersign::service", client = &*caller.client, reason = denied.code(), right = right.name(), "order denied");
        if let Some(audit) = &self.audit {
            let record = OrderRecord {
                reason: Some(denied.code()),
                right: Some(right.name()),
                ..self.said(in_force, caller, Decision::Denied)
            };
            audit.record(vec![Record::Order(Box::new(record))]).await?;
        }
        Err(denied.into())
    }

    async fn carry_out(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        operator: Caller,
        order: Order,
        ticket: Option<Ticket>,
    ) -> Result<Response, Problem> {
        if order.is_dry_run {
            let outcome = Outcome::foreseen(&order.what, &self.ring)?;
            return Ok(no_store(StatusCode::OK, written(&outcome)?));
        }
        let busy = || Problem::unavailable("temporarily_unavailable", "too many orders are on their way");
        let turn = Arc::clone(&self.orders).try_acquire_owned().map_err(|_| busy())?;
        let (inner, in_force) = (Arc::clone(self), Arc::clone(in_force));
        // It goes on when whoever has asked has gone: what has come of it is kept, and is said in the log.
        let done = tokio::spawn(async move {
            let _turn = turn;
            let answer = inner.obey(&in_force, &operator, &order).await?;
            keep(ticket, || Given::new(answer.clone()), i64::MAX, inner.clock.now());
            Ok(answer)
        });
        match tokio::time::timeout(ORDER_TIME, done).await {
            Ok(Ok(answer)) => answer.map(|answer| no_store(StatusCode::OK, answer)),
            Ok(Err(_)) => Err(Problem::unwritable()),
            Err(_) => {
                let detail = "it is not known yet whether the order is carried out; it goes on";
                Err(Problem::unavailable("order_pending", detail))
            }
        }
    }

    /// Written down before and after; what cannot be written down before is not done.
    async fn obey(&self, in_force: &InForce, operator: &Caller, order: &Order) -> Result<Bytes, Problem> {
        let (kind, client, why) = (order.what.name(), &*operator.client, &*order.reason);
        let said = |decision| OrderRecord { order: Some(order.for_audit()), ..self.said(in_force, operator, decision) };
        if let Some(audit) = &self.audit {
            audit.insist(Record::Order(Box::new(said(Decision::Taken)))).await?;
        }
        tracing::warn!(target: "countersign::service", client, order = kind, reason = why, "order taken");
        let outcome = self.order(&order.what).await;
        numbers::ordered(kind, outcome.is_ok());
        let mut record = said(if outcome.is_ok() { Decision::Done } else { Decision::Failed });
        match &outcome {
            Ok(outcome) => {
                record.outcome = serde_json::to_value(outcome).ok();
                tracing::warn!(target: "countersign::service", client, order = kind, ?outcome, "order carried out");
            }
            Err(problem) => {
                record.reason = Some(problem.code());
                tracing::warn!(target: "countersign::service", client, order = kind, reason = problem.code(), "order not carried out");
            }
        }
        if let Some(audit) = &self.audit
            && audit.insist(Record::Order(Box::new(record))).await.is_err()
        {
            // That it was taken is there, and it is done: to deny that would be the greater fault.
            tracing::error!(target: "countersign::service", client, order = kind, "what has come of an order is not in the audit log");
        }
        written(&outcome?)
    }

    fn said(&self, in_force: &InForce, caller: &Caller, decision: Decision) -> OrderRecord {
        OrderRecord {
            time: Time(self.clock.now()),
            client: caller.client.clone(),
            method: caller.method,
            policy: in_force.policy.revision().into(),
            decision,
            reason: None,
            right: None,
            order: None,
            outcome: None,
        }
    }

    async fn order(&self, what: &What) -> Result<Outcome, Problem> {
        match what {
            What::Rotate { slots } => self.ring.rotate(slots.iter().cloned()).await.map(Outcome::rotated),
            What::Emergency { slots, sign_at_once } => {
                let which = Compromised::Signing(slots.clone());
                self.ring.compromise(which, *sign_at_once).await.map(Outcome::revoked)
            }
            What::Revoke { kid, sign_at_once } => {
                let which = Compromised::Key(kid.clone());
                self.ring.compromise(which, *sign_at_once).await.map(Outcome::revoked)
            }
        }
        .map(|outcome| outcome.told_of(&self.ring.status()))
        .map_err(|error| not_done(&error))
    }
}

fn written(outcome: &Outcome) -> Result<Bytes, Problem> {
    serde_json::to_vec(outcome).map(Bytes::from).map_err(|_| Problem::unwritable())
}

pub(crate) fn unknown_key() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_key", "there is no such key")
}

pub(crate) fn unknown_slot() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_slot", "there is no such slot")
}

/// Without the names that were asked for: they are strangers' text.
fn not_done(error: &OrderError) -> Problem {
    match error {
        OrderError::Refused(Refusal::NoSuchKey(_)) => unknown_key(),
        OrderError::Refused(Refusal::NoSuchSlot(_)) => unknown_slot(),
        error if error.is_temporary() => Problem::unavailable("order_failed", error.to_string()),
        _ => Problem::new(StatusCode::CONFLICT, "order_refused", "the ring does not do that in the state it is in"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_is_refused_by_what_it_is_and_names_nothing_of_the_order() {
        let evil = || "evil".to_owned();
        for (refusal, status, code) in [
            (Refusal::NoSuchKey(evil()), 404, "unknown_key"),
            (Refusal::NoSuchSlot(evil()), 404, "unknown_slot"),
            (Refusal::WrongState(evil()), 409, "order_refused"),
            (Refusal::TooManyKeys, 409, "order_refused"),
            (Refusal::ClockUnsound, 503, "order_failed"),
            (Refusal::StoreFailed { is_doubtful: true }, 503, "order_failed"),
        ] {
            let problem = not_done(&OrderError::Refused(refusal));
            assert_eq!((problem.status().as_u16(), problem.code()), (status, code));
            assert!(!problem.detail().contains("evil"));
        }
        assert_eq!(not_done(&OrderError::Stopped).code(), "order_failed");
        assert_eq!(not_done(&OrderError::NotRotator).code(), "order_failed");
    }
}
