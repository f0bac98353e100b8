//! REST, gRPC and gRPC-Web on one port behind one layer: `cargo run -p countersign-examples-grpc --example one_port`.
//!
//! ```text
//! TOKEN=…                                                                              # the token that it prints
//! URL=http://127.0.0.1:3000
//! curl -i $URL/orders/1                                                                # 401
//! curl -i $URL/orders/1 -H "Authorization: Bearer $TOKEN"                              # 200
//! curl -i $URL/orders.v1.Orders/Get -X POST -H "Content-Type: application/grpc-web"    # 200, grpc-status 16
//! ```
//!
//! The `tonic_client` beside it works here too; `Get` is all there is.
//!
//! ```text
//! cargo run -p countersign-examples-grpc --example tonic_client -- --token "$TOKEN"
//! ```

#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser as _;
use countersign::{JwtAuth, Permit, permission, scope};
use countersign_examples::Options;
use countersign_examples_grpc::orders::orders_server::{Orders, OrdersServer};
use countersign_examples_grpc::orders::{CancelReply, CancelRequest, GetRequest, Order, WatchRequest};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_web::GrpcWebLayer;

permission! {
    /// May see orders.
    ReadOrders = scope("orders:read");
}

/// One rule for all comers, who prove that they satisfy it: axum answers 403 where the permit cannot be had, tonic its status 7.
fn find(id: String, permit: &Permit<ReadOrders>) -> Order {
    Order { id, owner: permit.subject().unwrap_or_default().to_owned() }
}

async fn order(Path(id): Path<String>, permit: Permit<ReadOrders>) -> Json<Value> {
    let order = find(id, &permit);
    Json(json!({ "id": order.id, "owner": order.owner }))
}

struct Service;

#[tonic::async_trait]
impl Orders for Service {
    type WatchStream = tokio_stream::Empty<Result<Order, Status>>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Order>, Status> {
        let permit = Permit::from_extensions(request.extensions())?;
        Ok(Response::new(find(request.into_inner().id, &permit)))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("tonic_server has it"))
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        Err(Status::unimplemented("tonic_server has it"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let trusted = options.trusted();

    let auth = JwtAuth::new(&*trusted.jwks_url).issuer(&*trusted.issuer).audience(&*options.audience);
    let rest = Router::new().route("/orders/{id}", get(order));
    let grpc = Routes::new(OrdersServer::new(Service))
        .into_axum_router()
        // Around gRPC only: it answers 400 to everything else that comes over HTTP/1.1.
        .layer(GrpcWebLayer::new())
        // Or else tonic would answer for every path of the other side that is not there.
        .reset_fallback();
    // Outermost, so that it covers both, and nothing is translated for callers whom it refuses. It sees requests as they
    // came, and refuses gRPC-Web as gRPC-Web.
    let app = rest.merge(grpc).layer(auth);

    let listener = TcpListener::bind(options.address()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
