//! A permit of something else than what is done.

use countersign_claims::{permission, scope};
use countersign_tower::handler::Permit;

permission! {
    pub ReadOrders = scope("orders:read");
    pub WriteOrders = scope("orders:write");
}

fn write(_: &Permit<WriteOrders>) {}

fn handler(permit: Permit<ReadOrders>) {
    write(&permit);
}

fn main() {}
