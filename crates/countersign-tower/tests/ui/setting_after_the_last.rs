//! A setting after the one that comes last.

use countersign_claims::scope;
use countersign_token::KeySet;
use countersign_tower::RequireJwtLayer;

fn layer(layer: RequireJwtLayer<KeySet>) {
    let _ = layer.problem_details().require(scope("orders:write"));
}

fn main() {}
