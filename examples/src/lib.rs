//! What the tests of the examples share.

use std::path::PathBuf;

/// Where cargo has put the example of that name: next to the directory of the running test.
///
/// # Panics
/// If it has not been built, which `cargo test` does on its own.
#[must_use]
pub fn example_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile_dir = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let binary = profile_dir.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(binary.exists(), "{} has not been built", binary.display());
    binary
}
