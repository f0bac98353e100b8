//! The layer over a service that takes something else than `http::Request`.

use std::convert::Infallible;

use countersign_tower::RequireJwtLayer;
use countersign_token::KeySet;
use http::Response;
use tower::util::BoxCloneService;
use tower::{Layer, service_fn};

async fn shout(line: String) -> Result<Response<String>, Infallible> {
    Ok(Response::new(line.to_uppercase()))
}

fn protected(layer: RequireJwtLayer<KeySet>) -> BoxCloneService<String, Response<String>, Infallible> {
    BoxCloneService::new(layer.layer(service_fn(shout)))
}

fn main() {}
