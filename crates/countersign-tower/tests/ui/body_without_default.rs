//! The layer over a service whose responses cannot be empty.

use std::convert::Infallible;

use countersign_tower::RequireJwtLayer;
use countersign_token::KeySet;
use http::{Request, Response};
use tower::util::BoxCloneService;
use tower::{Layer, service_fn};

struct FromUpstream(std::fs::File);

async fn forward(_: Request<()>) -> Result<Response<FromUpstream>, Infallible> {
    unimplemented!()
}

fn protected(layer: RequireJwtLayer<KeySet>) -> BoxCloneService<Request<()>, Response<FromUpstream>, Infallible> {
    BoxCloneService::new(layer.layer(service_fn(forward)))
}

fn main() {}
