//! An observer that is none, and an answer to refusals that is none.

use std::convert::Infallible;

use countersign_token::KeySet;
use countersign_tower::{Judged, OnRefusalLayer, Refusal, RequireJwtLayer};
use http::{Request, Response};
use tower::{Layer, Service, service_fn};

fn observed(layer: RequireJwtLayer<KeySet>) {
    let _ = layer.observe(|judged: &Judged<'_>| drop(judged.reason()));
}

fn answered() -> impl Service<Request<()>> {
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    OnRefusalLayer::new(|refusal: &Refusal| refusal.to_string()).layer(inner)
}

fn main() {}
