//! Log out, everywhere or here, before a token's time is over: `cargo run --example revocation`.
//!
//! ```text
//! TOKEN=…                                                                                       # the token that it prints
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                        # 200
//! curl -i -X POST http://127.0.0.1:3000/logout -H "Authorization: Bearer $TOKEN"                # 200
//! curl -i http://127.0.0.1:3000/orders -H "Authorization: Bearer $TOKEN"                        # 401
//! ```
//!
//! `/logout` revokes the token that it is called with, `/logout-everywhere` all that its user has by now; streams that they have opened end in that moment. What is
//! revoked is in this process's memory: REVOCATION.md has how many processes share it.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser as _;
use countersign::revocation::SinkError;
use countersign::{Authenticated, JwtAuth, RevocationCheck, RevocationList, Revoker, require_fresh};
use countersign_examples::Options;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::interval;
use tokio_stream::wrappers::IntervalStream;
use tokio_stream::{Stream, StreamExt as _};

async fn orders(caller: Authenticated) -> String {
    format!("the orders of {}", caller.subject().unwrap_or("nobody"))
}

/// One order after the other, until the token is over in whatever way.
async fn events(caller: Authenticated) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let orders = IntervalStream::new(interval(Duration::from_millis(200))).map(|_| Ok(Event::default().data("order")));
    Sse::new(caller.deadline().end_with(orders, |ended| Ok(Event::default().event("ended").data(ended.reason()))))
}

async fn logout(State(revoker): State<Revoker>, caller: Authenticated) -> Result<Json<Value>, Failed> {
    let answer = revoker.token(&caller).await?;
    Ok(Json(json!({ "within_seconds": answer.within.as_secs() })))
}

/// Whoever logs in again has to wait for the next second, or the new token would be refused like the old ones.
async fn logout_everywhere(State(revoker): State<Revoker>, caller: Authenticated) -> Result<Json<Value>, Failed> {
    let answer = revoker.subject(caller.subject().unwrap_or_default()).await?;
    Ok(Json(json!({
        "within_seconds": answer.within.as_secs(),
        "log_in_again_from": answer.reissue_from.map(countersign::UnixTime::as_secs),
    })))
}

/// Nothing was revoked: the user must not believe that it was.
struct Failed(SinkError);

impl From<SinkError> for Failed {
    fn from(error: SinkError) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        let status = match self.0 {
            SinkError::Unfit(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.0.to_string()).into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let revocations = RevocationList::new();
    let revoker = revocations.revoker(&*trusted.issuer);
    let auth = JwtAuth::new(&*trusted.jwks_url)
        .issuer(&*trusted.issuer)
        .audience(&*options.audience)
        .revocation(RevocationCheck::by(revocations).require_jwt_id());
    let app = Router::new()
        // Only as long as it is known what was revoked up to ten seconds ago: here always, with a feed not.
        .route("/orders", get(orders).layer(require_fresh(Duration::from_secs(10))))
        .route("/events", get(events))
        .route("/logout", post(logout))
        .route("/logout-everywhere", post(logout_everywhere))
        .with_state(revoker)
        .layer(auth);

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
