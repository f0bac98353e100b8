//! The ring over HTTP, for those whom the policy gives rights over it.
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
use countersign_issuer::OrderError;
use countersign_issuer::step::{Compromised, Refusal};
use http::StatusCode;
use http::request::Parts;

use self::listed::Listed;
use self::order::{Order, What};
use self::outcome::Outcome;
use crate::authenticate::Caller;
use crate::idempotency::Ticket;
use crate::policy::{AdminRight, decide_admin};
use crate::problem::Problem;
use crate::service::{InForce, Inner, TokenService, no_store};
use crate::tokens::{Admitted, Begin, keep, unwritable};

/// Method and path of each, as they are documented.
pub(crate) const ROUTES: [(&str, &str); 3] =
    [("get", "/v1/keys"), ("post", "/v1/keys:rotate"), ("post", "/v1/keys/{kid}:revoke")];

/// How clients may have shown who they are: by what they sign, or what is signed for them, and by no secret that both
/// sides keep.
const METHODS: [&str; 2] = ["private_key_jwt", "workload"];

/// How long the answer to an order is waited for: the ring takes as long as it is in doubt what its store has done.
const ORDER_TIME: Duration = Duration::from_secs(30);

/// Orders on their way at once, at most: people give them.
pub(crate) const MAX_ORDERS: usize = 16;

/// All routes, each of which asks [`Inner::operator`] first.
pub(crate) fn router() -> Router<TokenService> {
    Router::new()
        .route("/v1/keys", get(list))
        .route("/v1/keys:rotate", post(rotate))
        // The router knows no `{kid}:revoke`.
        .route("/v1/keys/{kid}", post(revoke))
}

/// `GET /v1/keys`.
async fn list(State(service): State<TokenService>, request: Request) -> Result<Response, Problem> {
    let inner = &service.0;
    let (parts, _) = request.into_parts();
    inner.operator(&inner.in_force(), &parts, AdminRight::ReadKeys).await?;
    let listed = Listed::of(&inner.ring);
    Ok(no_store(StatusCode::OK, serde_json::to_vec(&listed).map_err(|_| unwritable())?))
}

/// `POST /v1/keys:rotate`.
async fn rotate(State(service): State<TokenService>, request: Request) -> Result<Response, Problem> {
    let inner = &service.0;
    let in_force = inner.in_force();
    let (parts, body) = request.into_parts();
    let operator = inner.operator(&in_force, &parts, AdminRight::RotateKeys).await?;
    let Admitted { body, ticket, .. } = match inner.read(&in_force, &operator, &parts, body).await? {
        Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
        Begin::New(admitted) => admitted,
    };
    let order = order::rotation(&body)?;
    // Whoever may replace keys may not therefore make worthless what they have signed.
    if let What::Emergency { .. } = order.what {
        inner.permit(&in_force, &operator, AdminRight::RevokeKeys)?;
    }
    inner.carry_out(&operator, order, ticket).await
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
    let Admitted { body, ticket, .. } = match inner.read(&in_force, &operator, &parts, body).await? {
        Begin::Answered(answer) => return Ok(no_store(StatusCode::OK, answer)),
        Begin::New(admitted) => admitted,
    };
    let order = order::revocation(&body, kid)?;
    inner.carry_out(&operator, order, ticket).await
}

impl Inner {
    /// Who asks, if that client has this right. The only way in.
    async fn operator(&self, in_force: &InForce, parts: &Parts, right: AdminRight) -> Result<Caller, Problem> {
        let caller = self.admit(in_force, parts).await?;
        if !METHODS.contains(&caller.method) {
            return Err(Problem::unknown_client("a client secret is not enough here", "Bearer"));
        }
        self.permit(in_force, &caller, right)?;
        Ok(caller)
    }

    fn permit(&self, in_force: &InForce, caller: &Caller, right: AdminRight) -> Result<(), Problem> {
        let Caller { client, .. } = caller;
        decide_admin(&in_force.policy, client, right, self.clock.now()).map_err(|denied| {
            tracing::warn!(target: "countersign::service", client = &**client, reason = denied.code(), right = right.name(), "order denied");
            Problem::from(denied)
        })
    }

    async fn carry_out(
        self: &Arc<Self>,
        operator: &Caller,
        order: Order,
        ticket: Option<Ticket>,
    ) -> Result<Response, Problem> {
        if order.is_dry_run {
            let outcome = Outcome::foreseen(&order.what, &self.ring)?;
            return Ok(no_store(StatusCode::OK, written(&outcome)?));
        }
        let busy = || Problem::unavailable("temporarily_unavailable", "too many orders are on their way");
        let turn = Arc::clone(&self.orders).try_acquire_owned().map_err(|_| busy())?;
        let inner = Arc::clone(self);
        let client = operator.client.clone();
        // It goes on when whoever has asked has gone: what has come of it is kept, and is said in the log.
        let done = tokio::spawn(async move {
            let _turn = turn;
            let Order { what, reason, .. } = &order;
            let (kind, client) = (what.name(), &*client);
            tracing::warn!(target: "countersign::service", client, order = kind, reason = &**reason, "order taken");
            let outcome = inner.order(what).await;
            match &outcome {
                Ok(outcome) => {
                    tracing::warn!(target: "countersign::service", client, order = kind, ?outcome, "order carried out");
                }
                Err(problem) => {
                    tracing::warn!(target: "countersign::service", client, order = kind, reason = problem.code(), "order not carried out");
                }
            }
            let answer = written(&outcome?)?;
            keep(ticket, &answer, i64::MAX, inner.clock.now());
            Ok(answer)
        });
        match tokio::time::timeout(ORDER_TIME, done).await {
            Ok(Ok(answer)) => answer.map(|answer| no_store(StatusCode::OK, answer)),
            Ok(Err(_)) => Err(unwritable()),
            Err(_) => {
                let detail = "it is not known yet whether the order is carried out; it goes on";
                Err(Problem::unavailable("order_pending", detail))
            }
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
        .map(|outcome| outcome.as_it_is(&self.ring.status()))
        .map_err(|error| not_done(&error))
    }
}

fn written(outcome: &Outcome) -> Result<Bytes, Problem> {
    serde_json::to_vec(outcome).map(Bytes::from).map_err(|_| unwritable())
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
        OrderError::Refused(Refusal::StoreFailed { .. } | Refusal::ClockUnsound)
        | OrderError::Stopped
        | OrderError::NotRotator => Problem::unavailable("order_failed", error.to_string()),
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
