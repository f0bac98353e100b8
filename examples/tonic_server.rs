//! A gRPC service under tonic, with the same layer: `cargo run -p countersign-examples-grpc --example tonic_server`.
//!
//! The `tonic_client` beside it calls it with the token. How a refusal is sent shows without it: as status 200 and headers,
//! to those who speak gRPC.
//!
//! ```text
//! TOKEN=…                                                                              # the token that it prints
//! cargo run -p countersign-examples-grpc --example tonic_client -- --token "$TOKEN"
//! URL=http://127.0.0.1:3000/orders.v1.Orders/Get
//! curl -i --http2-prior-knowledge $URL -X POST -H "Content-Type: application/grpc"     # 200, grpc-status 16
//! curl -i --http2-prior-knowledge $URL                                                 # 401
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use clap::Parser as _;
use countersign::{Authenticated, Claims, JwtAuth, scope};
use countersign_examples::Options;
use countersign_examples_grpc::orders::orders_server::{Orders, OrdersServer};
use countersign_examples_grpc::orders::{CancelReply, CancelRequest, GetRequest, Order, WatchRequest};
use serde::Deserialize;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

#[derive(Deserialize)]
struct MyClaims {
    sub: String,
}

struct Service;

#[tonic::async_trait]
impl Orders for Service {
    type WatchStream = tokio_stream::Iter<std::vec::IntoIter<Result<Order, Status>>>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Order>, Status> {
        Authenticated::from_extensions(request.extensions())?.require(&scope("orders:read"))?;
        let claims = Claims::<MyClaims>::from_extensions(request.extensions())?;
        let owner = claims.sub.clone();
        Ok(Response::new(Order { id: request.into_inner().id, owner }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Authenticated::from_extensions(request.extensions())?;
        caller.require(&scope("orders:read"))?;
        let owner = caller.subject().unwrap_or_default();
        let orders: Vec<_> = (1..=3).map(|id| Ok(Order { id: id.to_string(), owner: owner.to_owned() })).collect();
        Ok(Response::new(tokio_stream::iter(orders)))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        Authenticated::from_extensions(request.extensions())?.require(&scope("orders:write"))?;
        Ok(Response::new(CancelReply {}))
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
