//! A disk of the test's own, and how to fill it.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// A command on a disk of that size, which is mounted at `place`: nobody but it and what it starts sees it there.
///
/// # Panics
/// Where there are no namespaces, rather than that nobody hears that this was not tried.
pub(crate) fn on_disk(place: &Path, size: &str, arguments: &[&str]) -> Command {
    static SCRIPT: &str = r#"mount -t tmpfs -o "size=$1,mode=700" tmpfs "$2" && shift 2 && exec "$@""#;
    let can = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    assert!(
        can.is_ok_and(|status| status.success()),
        "NOT TESTED: `unshare -rm true` fails, so there is no disk to fill here. Allow unprivileged user namespaces, or run it as root."
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", SCRIPT, "sh", size]).arg(place).args(arguments).stdin(Stdio::null());
    command
}

/// Not an octet more.
pub(crate) fn fill(ballast: &Path) {
    let mut file = File::create(ballast).unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&[0; 4096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}
