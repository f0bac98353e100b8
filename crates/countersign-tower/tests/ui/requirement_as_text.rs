//! Requirements put together with texts.

use countersign_claims::scope;
use countersign_tower::require;

fn main() {
    let _ = scope("orders:read").and("orders:write");
    let _ = require("orders:write");
}
