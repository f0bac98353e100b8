//! A gRPC client that shows its token with every call, to try `tonic_server` with:
//!
//! ```text
//! cargo run -p countersign-examples-grpc --example tonic_client -- --token "$TOKEN"
//! ```
//!
//! A refusal is an answer: it is printed as `Code: message`, and the exit status is 0. It is 1 if there was no answer, or if
//! the token cannot be put into a header.

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::error::Error;

use clap::Parser;
use countersign_examples_grpc::orders::orders_client::OrdersClient;
use countersign_examples_grpc::orders::{CancelRequest, GetRequest, WatchRequest};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

#[derive(Parser)]
struct Options {
    /// Where the server is.
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    url: String,
    /// The token to show. Without it, the calls are made without credentials.
    #[arg(long)]
    token: Option<String>,
}

/// The value of the metadata `authorization`. Marked as sensitive, it is left out of debug output, and HTTP/2 does not keep
/// it in its compression table.
fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Box<dyn Error>> {
    let mut value: MetadataValue<_> = format!("Bearer {token}").parse()?;
    value.set_sensitive(true);
    Ok(value)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();

    let bearer = options.token.as_deref().map(bearer).transpose()?;
    let with_token = move |mut request: Request<()>| {
        if let Some(bearer) = &bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    };
    let channel = Endpoint::from_shared(options.url)?.connect().await?;
    let mut orders = OrdersClient::with_interceptor(channel, with_token);

    let order = orders.get(GetRequest { id: "1".to_owned() }).await;
    show("Get", order.map(|order| format!("{:?}", order.into_inner())))?;

    match orders.watch(WatchRequest {}).await {
        Ok(watched) => {
            let mut watched = watched.into_inner();
            while let Some(order) = watched.message().await.transpose() {
                show("Watch", order.map(|order| format!("{order:?}")))?;
            }
        }
        Err(status) => show("Watch", Err(status))?,
    }

    let cancelled = orders.cancel(CancelRequest { id: "1".to_owned() }).await;
    show("Cancel", cancelled.map(|_| "cancelled".to_owned()))?;
    Ok(())
}

/// Prints what the server said. A status with a source is tonic's own: the server said nothing.
fn show(method: &str, answer: Result<String, Status>) -> Result<(), Status> {
    match answer {
        Ok(answer) => println!("{method}: {answer}"),
        Err(status) if status.source().is_some() => return Err(status),
        Err(status) => println!("{method}: {:?}: {}", status.code(), status.message()),
    }
    Ok(())
}
