//! Servers for the tests of this package: Redis, and moto and s3rver, which speak S3; and a double of S3. Each test starts its
//! own, on a free port of loopback; they end with it.
#![expect(clippy::panic, reason = "it is how a test says that it cannot be run")]

pub mod double;
mod keys;
mod server;

use std::time::Duration;

pub use keys::{finds, has, jwks, until};
pub use server::{
    SIGNED, Server, free_port, make_bucket, redis, redis_over_tls, redis_says, s3, s3_without_conditions,
};

/// How long anything may take that takes no time on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
