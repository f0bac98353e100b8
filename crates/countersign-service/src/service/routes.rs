//! What is answered where; the routes of [`admin`] are listed there.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, get, get_service, post};
use countersign_issuer::Ring;
use http::StatusCode;
use serde_json::json;

use super::{Inner, TokenService};
use crate::metadata::{self, Metadata};
use crate::problem::Problem;
use crate::wire::no_store;
use crate::{admin, room, tokens};

impl TokenService {
    /// All [routes](Self::routes).
    pub fn router(&self) -> Router {
        let router = table(&self.0.metadata, &self.0.ring)
            .into_iter()
            .fold(Router::new(), |router, (_, path, route)| router.route(&path, route));
        router
            .merge(admin::router(self))
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here"))
            .method_not_allowed_fallback(async || {
                let detail = "not with this method";
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            })
            .layer(middleware::from_fn_with_state(self.clone(), room::within))
            .layer(middleware::from_fn_with_state(self.clone(), count))
            .with_state(self.clone())
    }

    /// Method and path of each route, as they are listed on the [crate's page](crate) and in [`OPENAPI`](crate::OPENAPI).
    #[must_use]
    pub fn routes(&self) -> Vec<(&'static str, String)> {
        routes(&self.0.metadata, &self.0.ring)
    }
}

/// Method, path and what answers.
type Table = Vec<(&'static str, String, MethodRouter<TokenService>)>;

/// All but those of [`admin`].
fn table(metadata: &Metadata, ring: &Ring) -> Table {
    let Metadata { oauth, oauth_bound, openid, path } = metadata.clone();
    let alive = async || no_store(StatusCode::OK, json!({ "status": "ok" }).to_string());
    vec![
        ("post", "/v1/tokens".to_owned(), post(tokens::one)),
        ("post", "/v1/tokens:batch".to_owned(), post(tokens::batch)),
        ("get", "/.well-known/jwks.json".to_owned(), get_service(ring.jwks())),
        (
            "get",
            format!("/.well-known/oauth-authorization-server{path}"),
            get(async move |State(service): State<TokenService>| {
                let is_bound = service.0.in_force.load().policy.binds_to_certificates();
                metadata::answer(if is_bound { oauth_bound } else { oauth })
            }),
        ),
        ("get", format!("{path}/.well-known/openid-configuration"), get(async move || metadata::answer(openid))),
        ("get", "/openapi.json".to_owned(), get(async || metadata::answer(crate::OPENAPI.into()))),
        ("get", "/livez".to_owned(), get(alive)),
        ("get", "/readyz".to_owned(), get(ready)),
    ]
}

/// Method and path of each, those of [`admin`] too.
pub(super) fn routes(metadata: &Metadata, ring: &Ring) -> Vec<(&'static str, String)> {
    let admin = admin::ROUTES.into_iter().map(|(method, path)| (method, path.to_owned()));
    table(metadata, ring).into_iter().map(|(method, path, _)| (method, path)).chain(admin).collect()
}

/// Around every route.
async fn count(State(service): State<TokenService>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    service.0.numbers.answered(path.as_ref().map(MatchedPath::as_str), response.status());
    response
}

/// Whether every slot signs, which do not, and what the ring's operator has to know, which says what will not sign for ever.
async fn ready(State(service): State<TokenService>) -> Response {
    let Inner { ring, clock, born, .. } = &*service.0;
    // Until then, what is made now cannot be told from what a process before this one has taken.
    let has_begun = clock.now() >= *born;
    let slots: serde_json::Map<_, _> = match ring.ready_within(Duration::ZERO).await {
        Ok(()) => serde_json::Map::new(),
        Err(missing) => missing.0.into_iter().map(|(slot, reason)| (slot, reason.to_string().into())).collect(),
    };
    let (status, text) = match has_begun && slots.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let mut body = json!({ "status": text });
    if text != "ready" {
        body["slots"] = slots.into();
    }
    if !has_begun {
        body["assertions_from"] = json!(born.as_secs());
    }
    let told = ring.status();
    let failing: Vec<_> = told.failing.keys().map(|work| work.code()).collect();
    let alarms: BTreeSet<_> = told.alarms.iter().map(countersign_issuer::step::Alarm::code).collect();
    if !failing.is_empty() {
        body["failing"] = json!(failing);
    }
    if !alarms.is_empty() {
        body["alarms"] = json!(alarms);
    }
    no_store(status, body.to_string())
}
