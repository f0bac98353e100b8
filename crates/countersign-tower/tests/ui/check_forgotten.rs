//! What is checked, and what comes of it is dropped; what is set, and goes nowhere.
#![deny(unused_must_use)]

use countersign_claims::{Verified, scope};
use countersign_token::KeySet;
use countersign_tower::RequireJwtLayer;
use countersign_tower::handler::Authenticated;

fn handler(caller: Authenticated, verified: &Verified) {
    caller.require(&scope("orders:write"));
    scope("orders:write").check(verified);
}

fn layer(layer: RequireJwtLayer<KeySet>) {
    layer.require(scope("orders:write"));
}

fn main() {}
