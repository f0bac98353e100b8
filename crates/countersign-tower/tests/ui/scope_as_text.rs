//! A scope given as text.

use countersign_token::KeySet;
use countersign_tower::RequireJwtLayer;
use countersign_tower::handler::{Authenticated, Forbidden};

fn layer(layer: RequireJwtLayer<KeySet>) -> RequireJwtLayer<KeySet> {
    layer.require("orders:read")
}

fn handler(caller: Authenticated) -> Result<(), Forbidden> {
    caller.require("orders:read")
}

fn main() {}
