//! A permit of something that is no permission: a type of claims, and the name of a scope.

use countersign_tower::handler::Permit;

struct Orders;

fn cancel(_: &Permit<Orders>) {}

fn list(_: &Permit<"orders:read">) {}

fn main() {}
