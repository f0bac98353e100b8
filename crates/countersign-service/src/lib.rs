//! The token service of countersign: who may have which tokens signed.

pub mod policy;
