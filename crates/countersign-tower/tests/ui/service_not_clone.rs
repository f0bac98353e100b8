//! The layer over a service that cannot be cloned: a request that waits for a key waits with a clone.

use std::convert::Infallible;

use countersign_tower::RequireJwtLayer;
use countersign_token::KeySet;
use http::{Request, Response};
use tower::util::BoxService;
use tower::Layer;

type Inner = BoxService<Request<()>, Response<String>, Infallible>;

fn protected(layer: RequireJwtLayer<KeySet>, inner: Inner) -> Inner {
    BoxService::new(layer.layer(inner))
}

fn main() {}
