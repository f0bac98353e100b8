//! Runs all seeds, and whatever was found and repaired, without a fuzzer: on any toolchain, in a second.

use std::fs;
use std::path::Path;

use countersign_fuzz::{authorization, header, jwk_set, token};

fn replay(target: &str, run: fn(&[u8])) {
    let mut count = 0;
    for directory in ["seeds", "regressions"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory).join(target);
        let Ok(files) = fs::read_dir(&directory) else { continue };
        for file in files {
            let path = file.expect("a readable directory").path();
            // Shown only if what follows fails.
            println!("{}", path.display());
            run(&fs::read(path).expect("a readable file"));
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} seeds");
}

#[test]
fn header_seeds() {
    replay("header", header::run);
}

#[test]
fn token_seeds() {
    replay("token", token::run);
}

#[test]
fn jwk_set_seeds() {
    replay("jwk_set", jwk_set::run);
    jwk_set::run(countersign_fuzz::harness::PUBLIC_KEYS.as_bytes());
}

#[test]
fn authorization_seeds() {
    replay("authorization", authorization::run);
}
