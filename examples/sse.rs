//! Server-sent events that end with their token: `cargo run --example sse`.
//!
//! When the token would be refused, the last event is `expired`, and the stream ends. The client connects again with a fresh token and the
//! `Last-Event-ID` that it has seen, and goes on where it was. A browser's `EventSource` cannot send a header, so there the client is
//! `fetch`, or a library around it.
//!
//! ```text
//! TOKEN=…                                                                                     # the token that it prints
//! curl -i http://127.0.0.1:3000/events                                                        # 401
//! curl -N -m 2 http://127.0.0.1:3000/events -H "Authorization: Bearer $TOKEN"                 # 200, order 1, 2, …
//! curl -N -m 2 http://127.0.0.1:3000/events -H "Authorization: Bearer $TOKEN" -H "Last-Event-ID: 7"    # 200, order 8, …
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use clap::Parser as _;
use countersign::{Authenticated, JwtAuth};
use countersign_examples::Options;
use tokio::net::TcpListener;
use tokio::time::interval;
use tokio_stream::wrappers::IntervalStream;
use tokio_stream::{Stream, StreamExt as _};

/// How often there is a new order.
const PACE: Duration = Duration::from_millis(200);

async fn events(
    caller: Authenticated,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let orders = orders(seen.unwrap_or(0)).map(|id| {
        let order = Event::default().id(id.to_string()).event("order").data(format!("order {id}"));
        Ok(order)
    });
    // Without an `id`, so that the last order stays the client's `Last-Event-ID`.
    let until_expiry =
        caller.deadline().end_with(orders, |ended| Ok(Event::default().event("expired").data(ended.reason())));
    // Outside of it, so that nobody is kept alive whose stream has ended.
    Sse::new(until_expiry).keep_alive(KeepAlive::default())
}

/// The numbers of the orders after this one, as they come in.
fn orders(seen: u64) -> impl Stream<Item = u64> {
    let mut last = seen;
    IntervalStream::new(interval(PACE)).map(move |_| {
        last = last.saturating_add(1);
        last
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.audience);
    let app = Router::new().route("/events", get(events)).layer(auth);

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
