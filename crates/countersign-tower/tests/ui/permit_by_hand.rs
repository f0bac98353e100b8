//! A permit put together by hand.

use countersign_claims::{Verified, permission, scope};
use countersign_tower::handler::Permit;

permission! {
    pub WriteOrders = scope("orders:write");
}

fn forge(verified: Verified) -> Permit<WriteOrders> {
    Permit { verified, of: std::marker::PhantomData }
}

fn main() {}
