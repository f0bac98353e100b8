//! A test that starts processes, as tests of programs do. Alone in its process, because they inherit the sockets of every test.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic is the message")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_testkit::IdentityProvider;

/// Ends the threads however the test ends.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_provider_goes_down_and_up_while_processes_are_being_started() {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Flag(&over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert!(Command::new("true").status().unwrap().success());
                }
            });
        }
        for _ in 0..200 {
            let idp = IdentityProvider::start();
            idp.stop();
            assert!(std::net::TcpStream::connect(idp.address()).is_err());
            idp.resume();
            assert!(std::net::TcpStream::connect(idp.address()).is_ok());
        }
    });
}
