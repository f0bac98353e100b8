//! Each example that speaks gRPC as a process, and real clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, where a panic is the message")]

mod one_port;
mod tonic_client;
mod tonic_deadline;
mod tonic_server;

use countersign_examples::Running;
use countersign_examples_grpc::orders::GetRequest;
use countersign_examples_grpc::orders::orders_client::OrdersClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

async fn connect(example: &Running) -> OrdersClient<Channel> {
    OrdersClient::new(Endpoint::from_shared(example.url("")).unwrap().connect().await.unwrap())
}

/// A message with that token for metadata.
fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn get() -> GetRequest {
    GetRequest { id: "1".to_owned() }
}

/// What a client sees of a refusal.
fn told(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}
