//! What the fuzz targets do: each takes any octets, and panics if countersign does something that it must not.
#![forbid(unsafe_code)]

pub mod authorization;
pub mod harness;
pub mod header;
pub mod jwk_set;
pub mod oracle;
pub mod token;
