//! A permit without a check: made up, or out of another.

use countersign_claims::{permission, scope};
use countersign_tower::handler::Permit;

permission! {
    pub ReadOrders = scope("orders:read");
    pub WriteOrders = scope("orders:write");
}

fn made_up() -> Permit<WriteOrders> {
    Permit::default()
}

fn converted(permit: Permit<ReadOrders>) -> Permit<WriteOrders> {
    permit.into()
}

fn main() {}
