//! A permit that may not have been granted, as if it had been.

use countersign_claims::{Verified, permission, scope};
use countersign_tower::handler::Permit;

permission! {
    pub WriteOrders = scope("orders:write");
}

fn write(_: &Permit<WriteOrders>) {}

fn handler(verified: &Verified) {
    write(&Permit::of(verified));
}

fn main() {}
