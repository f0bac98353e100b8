//! A gRPC stream that ends with its token: `cargo run -p countersign-examples-grpc --example tonic_deadline`.
//!
//! `Watch` goes on for as long as the token is good, and then ends with `UNAUTHENTICATED`, as a new call with the same token would. The client
//! calls again with a fresh one. The other methods are in `tonic_server`.
//!
//! ```text
//! TOKEN=…                                                                              # the token that it prints
//! URL=http://127.0.0.1:3000/orders.v1.Orders/Watch
//! curl -i --http2-prior-knowledge $URL -X POST -H "Content-Type: application/grpc"     # 200, grpc-status 16
//! curl -i --http2-prior-knowledge $URL                                                 # 401
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use std::pin::Pin;
use std::time::Duration;

use clap::Parser as _;
use countersign::{Authenticated, JwtAuth, scope};
use countersign_examples::Options;
use countersign_examples_grpc::orders::orders_server::{Orders, OrdersServer};
use countersign_examples_grpc::orders::{CancelReply, CancelRequest, GetRequest, Order, WatchRequest};
use tokio::net::TcpListener;
use tokio::time::interval;
use tokio_stream::wrappers::IntervalStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// How often there is a new order.
const PACE: Duration = Duration::from_millis(200);

struct Service;

#[tonic::async_trait]
impl Orders for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<Order, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Authenticated::from_extensions(request.extensions())?;
        caller.require(&scope("orders:read"))?;
        let owner = caller.subject().unwrap_or_default().to_owned();
        let mut last: u64 = 0;
        let orders = IntervalStream::new(interval(PACE)).map(move |_| {
            last += 1;
            Ok(Order { id: last.to_string(), owner: owner.clone() })
        });
        let until_expiry = caller.deadline().end_with(orders, |ended| Err(ended.into()));
        Ok(Response::new(Box::pin(until_expiry)))
    }

    async fn get(&self, _: Request<GetRequest>) -> Result<Response<Order>, Status> {
        Err(Status::unimplemented("this example has nothing but Watch"))
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        Err(Status::unimplemented("this example has nothing but Watch"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.audience);
    let server = Server::builder().layer(auth).add_service(OrdersServer::new(Service));

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    server.serve_with_incoming(TcpIncoming::from(listener)).await?;
    Ok(())
}
