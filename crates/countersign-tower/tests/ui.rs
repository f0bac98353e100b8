//! What the compiler says to the mistakes that a newcomer makes: it must say what to do.
//!
//! In the configuration in which the first of them can be made; `.ci/run` runs it so. It builds the dependencies anew, into
//! `tests/trybuild` of the target directory.
#![cfg(not(any(feature = "axum", feature = "tonic-0.14")))]

use std::process::Command;

/// The compiler whose words the `.stderr` files hold; CI has this one. Others say the same otherwise, so they are not asked.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn the_compiler_says_what_to_do() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    if !version.starts_with(COMPILER.as_bytes()) {
        eprintln!("left out: this is {}, not {COMPILER}x", String::from_utf8_lossy(&version).trim());
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
