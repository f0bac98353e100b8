//! What the gRPC examples share: the messages, the server trait and the client of `orders.proto`.

/// Generated from `orders.proto`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod orders {
    tonic::include_proto!("orders.v1");
}
