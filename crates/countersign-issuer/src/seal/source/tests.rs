use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A directory that ends with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!(
            "countersign-kek-{}-{:016x}",
            std::process::id(),
            u64::from_ne_bytes(random().unwrap())
        ));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, contents: &str, mode: u32) -> PathBuf {
        let path = self.0.join("kek");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn expected() -> super::super::KekId {
    Kek::parse(HEX.as_bytes()).unwrap().id()
}

fn shell(script: &str) -> KekSource {
    KekSource::command("sh", ["-c", script])
}

/// Why there is no key, without the key in the text.
fn error(source: &KekSource) -> KekError {
    let error = source.load().map(drop).unwrap_err();
    assert!(!error.to_string().contains("0a0b0c"), "{error}");
    error
}

#[test]
fn a_file_that_only_its_owner_may_read_is_read() {
    let place = Place::new();
    for mode in [0o600, 0o400] {
        assert_eq!(KekSource::file(place.file(HEX, mode)).load().unwrap().id(), expected());
        fs::remove_file(place.0.join("kek")).unwrap();
    }
    let (link, path) = (place.0.join("link"), place.file(&format!("{HEX}\n"), 0o600));
    symlink(path, &link).unwrap();
    assert_eq!(KekSource::file(link).load().unwrap().id(), expected());
}

#[test]
fn a_file_that_others_may_use_is_refused_with_what_to_do() {
    let place = Place::new();
    for (mode, group) in [(0o640, false), (0o604, false), (0o660, true), (0o644, true), (0o620, false)] {
        let source = KekSource::file(place.file(HEX, mode));
        let source = if group { source.group_may_read() } else { source };
        let KekError::Unfit(text) = error(&source) else { panic!("{mode:o}") };
        assert!(text.contains("chmod 600") && text.contains(&format!("{mode:04o}")), "{text}");
    }
    assert_eq!(KekSource::file(place.file(HEX, 0o640)).group_may_read().load().unwrap().id(), expected());
}

#[test]
fn what_is_no_file_of_a_key_is_refused_and_not_waited_for() {
    let place = Place::new();
    assert!(matches!(error(&KekSource::file(place.0.join("none"))), KekError::Unavailable(_)));
    assert!(matches!(error(&KekSource::file(&place.0)), KekError::Unfit(_)));
    assert!(matches!(error(&KekSource::file("/dev/zero")), KekError::Unfit(_)));
    let large = place.file(&HEX.repeat(17), 0o600);
    assert!(matches!(error(&KekSource::file(large)), KekError::Unfit(_)));
    let half = place.file(&HEX[..32], 0o600);
    assert!(matches!(error(&KekSource::file(half)), KekError::Malformed(_)));
    #[cfg(target_os = "linux")]
    {
        let fifo = place.0.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert!(matches!(error(&KekSource::file(fifo)), KekError::Unfit(_)));
    }
}

#[test]
fn a_file_that_is_made_is_read_and_never_made_twice() {
    let place = Place::new();
    let path = place.0.join("new");
    let made = Kek::create_file(&path).unwrap().id();
    assert_eq!(KekSource::file(&path).load().unwrap().id(), made);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Kek::create_file(&path).map(drop), Err(KekError::Unavailable(_))));
    assert_eq!(KekSource::file(&path).load().unwrap().id(), made);
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 1, "what could not be put in its place is not left beside it");
}

#[test]
fn a_variable_is_read() {
    // Cargo sets some; none of them is a key.
    assert!(matches!(error(&KekSource::environment("CARGO_PKG_NAME")), KekError::Malformed(_)));
    let KekError::Unavailable(text) = error(&KekSource::environment("COUNTERSIGN_NO_SUCH_VARIABLE")) else { panic!() };
    assert!(text.contains("COUNTERSIGN_NO_SUCH_VARIABLE"));
    // Only another process can be given one, in a program without `unsafe`.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["seal::source::tests::child_with_a_variable", "--exact", "--nocapture"])
        .env("COUNTERSIGN_TEST_KEK", HEX)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains(&format!("its name is {}", expected())), "{said}");
}

/// Not a test but a process, if it was started as such.
#[test]
fn child_with_a_variable() {
    if std::env::var_os("COUNTERSIGN_TEST_KEK").is_some() {
        println!("its name is {}", KekSource::environment("COUNTERSIGN_TEST_KEK").load().unwrap().id());
    }
}

#[test]
fn what_a_command_says_is_read() {
    assert_eq!(KekSource::command("echo", [HEX]).load().unwrap().id(), expected());
    // No shell has a look at the arguments.
    assert!(matches!(error(&KekSource::command("echo", ["$HOME; echo"])), KekError::Malformed(_)));
}

#[test]
fn a_command_that_fails_says_nothing_even_if_it_has_said_a_key() {
    for (script, part) in
        [(format!("echo {HEX}; exit 3"), "exit status: 3"), (format!("echo {HEX}; kill -9 $$"), "signal: 9")]
    {
        let KekError::Unavailable(text) = error(&shell(&script)) else { panic!("{script}") };
        assert!(text.contains(part), "{text}");
    }
    let KekError::Unavailable(text) = error(&KekSource::command("countersign-no-such-program", [HEX])) else {
        panic!()
    };
    assert!(text.contains("does not start"), "{text}");
    assert!(matches!(error(&shell("true")), KekError::Malformed(_)));
}

#[test]
fn a_command_ends_in_time_with_all_that_it_started() {
    let limit = Duration::from_millis(300);
    let place = Place::new();
    for script in [
        "sleep 60".to_owned(),
        // It closes its output and goes on.
        format!("echo {HEX}; exec >&-; sleep 60"),
        // It ends, and somebody else has its output.
        format!("echo {HEX}; sleep 60 & echo $! > {}/pid", place.0.display()),
    ] {
        let begun = Instant::now();
        let KekError::Unavailable(text) = error(&shell(&script).within(limit)) else { panic!("{script}") };
        assert!(text.contains("took longer"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{script}: {:?}", begun.elapsed());
    }
    let pid: i32 = fs::read_to_string(place.0.join("pid")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while is_running(pid) {
        assert!(Instant::now() < until, "it is still there");
        thread::sleep(EXIT_POLL);
    }
}

/// Whether it is, and not a zombie that nobody has waited for.
fn is_running(pid: rustix::process::Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    rustix::process::test_kill_process(pid).is_ok() && !status.is_ok_and(|status| status.contains(") Z "))
}

#[test]
fn a_command_without_an_end_is_not_listened_to_for_ever() {
    let begun = Instant::now();
    assert!(matches!(error(&KekSource::command("yes", [HEX])), KekError::Unfit(_)));
    assert!(begun.elapsed() < DEFAULT_COMMAND_TIME);
}

#[test]
fn a_command_may_be_given_all_the_time_there_is() {
    assert_eq!(KekSource::command("echo", [HEX]).within(Duration::MAX).load().unwrap().id(), expected());
}

#[test]
fn debug_shows_no_arguments() {
    let shown = format!("{:?}", KekSource::command("vault", ["-token=hunter2"]));
    assert!(shown.contains("vault") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn sources_are_told_by_their_kind() {
    for (text, source) in [
        ("file:/a b", KekSource::file("/a b")),
        ("env:KEK", KekSource::environment("KEK")),
        ("command:vault  kv get", KekSource::command("vault", ["kv", "get"])),
    ] {
        assert_eq!(text.parse(), Ok(source), "{text}");
    }
    for text in ["", "file:", "env:", "command:", "command: ", "/run/secrets/kek", "c2VjcmV0", "File:a"] {
        assert!(text.parse::<KekSource>().is_err(), "{text}");
    }
    assert_ne!(KekSource::file("a").group_may_read(), KekSource::file("a"));
}
