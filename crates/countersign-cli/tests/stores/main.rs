//! Where a service keeps things, and how it fails: `countersign serve` as a process, over directories, full disks, and S3 as moto has
//! it. Those against moto are run by `tests/stores/run`, which installs it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod directory;
mod disk;
#[path = "../../../countersign-issuer/tests/full_disk/on_disk.rs"]
mod on_disk;
mod process;
mod s3;
