//! A permission whose requirement is a text.

use countersign_claims::permission;

permission! {
    pub WriteOrders = "orders:write";
}

fn main() {}
