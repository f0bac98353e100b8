use std::fs;
use std::io::{Cursor, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use countersign_claims::revocation::{Entry, Level, Published, RevocationSink as _, Revokes, SinkError};
use countersign_claims::{MAX_NUMERIC_DATE, UnixTime};
use countersign_token::Thumbprint;
use proptest::prelude::*;
use siphasher::sip128::SipHasher13;

use super::feed::{Follower, Found};
use super::file::ReplaceFault;
use super::{DEFAULT_INTERVAL, FileSink, FileSinkOptions, MAX_LINE_BYTES, MAX_NAME_BYTES, SnapshotError, read};
use crate::shared::MAX_KEYS;

const NOW: i64 = 1_800_000_000;
const JKT: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

fn secs(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}

/// Its own for each test, gone behind it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("countersign-snapshot-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("revocations")
    }

    fn names(&self) -> Vec<String> {
        fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All entries, or none.
fn read_all(file: &[u8]) -> Result<(i64, Vec<Entry>), SnapshotError> {
    let mut entries = Vec::new();
    let content = read::read(file, None, SipHasher13::new(), |entry| {
        entries.push(entry.clone());
        Ok(())
    })?;
    let skimmed = read::skim(file, None, SipHasher13::new());
    assert_eq!(skimmed, Ok(content), "both ways of reading a good file lead to the same");
    Ok((content.as_of.as_secs(), entries))
}

fn malformed(file: impl AsRef<[u8]>) -> (u64, &'static str) {
    match read_all(file.as_ref()) {
        Err(SnapshotError::Malformed { line, what }) => (line, what),
        other => panic!("{other:?} from {}", String::from_utf8_lossy(file.as_ref())),
    }
}

/// A file with these lines between the first and the last.
fn around(lines: &[&str]) -> String {
    let (count, lines) = (lines.len(), lines.concat());
    format!("{{\"countersign_revocations\":1,\"as_of\":{NOW},\"entries\":{count}}}\n{lines}{{\"end\":{count}}}\n")
}

fn entry(issuer: &str, revokes: Revokes, until: Option<i64>) -> Entry {
    Entry { issuer: issuer.into(), revokes, until: until.map(secs) }
}

fn token(jti: &str, until: i64) -> Entry {
    entry("https://issuer.example", Revokes::Token { jwt_id: jti.into() }, Some(until))
}

fn cut_off(level: Level, name: &str, issued_until: i64, until: i64) -> Entry {
    let revokes = Revokes::CutOff { level, name: name.into(), issued_until: secs(issued_until) };
    entry("https://issuer.example", revokes, Some(until))
}

/// At [`NOW`], without a thread.
fn by_hand() -> FileSinkOptions {
    FileSinkOptions::new().beat_by_hand().clock(|| secs(NOW))
}

fn open(path: &Path) -> FileSink {
    FileSink::with(path, by_hand()).unwrap()
}

/// Outside of a runtime, where all is done at once.
fn publish(sink: &FileSink, entries: &[Entry]) -> Result<Published, SinkError> {
    let mut publishing = sink.publish(entries.into());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match publishing.as_mut().poll(&mut context) {
        std::task::Poll::Ready(outcome) => outcome,
        std::task::Poll::Pending => panic!("it waits for something"),
    }
}

fn content(path: &Path) -> Vec<Entry> {
    read_all(&fs::read(path).unwrap()).unwrap().1
}

// --- the format ---

#[test]
fn the_example_of_the_documentation_is_read_and_says_what_it_says() {
    let documentation = include_str!("../../SNAPSHOT.md");
    let example = documentation.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let issuer = "https://issuer.example";
    let expected = vec![
        entry(issuer, Revokes::Token { jwt_id: "7f3a".into() }, Some(NOW + 900)),
        cut_off(Level::Subject, "ada", NOW - 10, 1_800_086_391),
        entry(issuer, Revokes::Key { kid: "2026-11".into() }, None),
        entry("", Revokes::KeyMaterial { thumbprint: Thumbprint::parse(JKT).unwrap() }, None),
    ];
    assert_eq!(read_all(example.as_bytes()), Ok((NOW, expected)));
    for number in ["131,072", "8,192", "253402300799"] {
        assert!(documentation.contains(number));
    }
    assert_eq!((MAX_LINE_BYTES, MAX_NAME_BYTES, MAX_NUMERIC_DATE), (131_072, 8192, 253_402_300_799));
}

#[test]
fn every_level_has_its_member() {
    for (member, level) in [
        ("sub", Level::Subject),
        ("client_id", Level::Client),
        ("sid", Level::Session),
        ("tid", Level::Tenant),
        ("family", Level::Family),
    ] {
        let line = format!("{{\"{member}\":\"x\",\"iat_until\":5,\"iss\":\"https://issuer.example\",\"exp\":7}}\n");
        assert_eq!(read_all(around(&[&line]).as_bytes()), Ok((NOW, vec![cut_off(level, "x", 5, 7)])));
    }
    let line = "{\"iss\":\"https://issuer.example\",\"iat_until\":5,\"exp\":7}\n";
    assert_eq!(read_all(around(&[line]).as_bytes()), Ok((NOW, vec![cut_off(Level::Issuer, "", 5, 7)])));
}

#[test]
fn a_line_that_is_not_as_it_must_be_refuses_the_whole_file_and_is_named() {
    let good = "{\"iss\":\"a\",\"jti\":\"b\",\"exp\":5}\n";
    assert!(read_all(around(&[good, good]).as_bytes()).is_ok());
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    for (bad, expected) in [
        ("\n", "empty"),
        ("\r\n", "object"),
        ("nonsense\n", "object"),
        ("[]\n", "object"),
        ("{}\n", "sets of members"),
        ("\u{feff}{\"iss\":\"a\",\"jti\":\"b\"}\n", "object"),
        ("{\"iss\":\"a\",\"jti\":\"b\"}{}\n", "object"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"jti\":\"b\"}\n", "twice"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"\\u006ati\":\"c\"}\n", "twice"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"nbf\":1}\n", "not known"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"JTI\":\"b\"}\n", "not known"),
        ("{\"jti\":\"b\"}\n", "sets of members"),
        ("{\"iss\":\"a\"}\n", "sets of members"),
        ("{\"iss\":\"a\",\"exp\":5}\n", "sets of members"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"kid\":\"c\"}\n", "sets of members"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"sub\":\"c\"}\n", "sets of members"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"iat_until\":1}\n", "sets of members"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"end\":1}\n", "sets of members"),
        ("{\"iss\":\"a\",\"sub\":\"b\"}\n", "sets of members"),
        ("{\"iss\":\"a\",\"sub\":\"b\",\"sid\":\"c\",\"iat_until\":1}\n", "sets of members"),
        ("{\"sub\":\"b\",\"iat_until\":1}\n", "sets of members"),
        ("{\"iss\":\"a\",\"jkt\":\"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs\"}\n", "sets of members"),
        ("{\"jkt\":\"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9X\"}\n", "thumbprint"),
        ("{\"jkt\":\"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xt\"}\n", "thumbprint"),
        ("{\"iss\":\"a\",\"jti\":\"\"}\n", "name is empty"),
        ("{\"iss\":\"a\",\"jti\":7}\n", "string"),
        ("{\"iss\":null,\"jti\":\"b\"}\n", "string"),
        ("{\"iss\":[\"a\"],\"jti\":\"b\"}\n", "string"),
        ("{\"iss\":\"a\",\"jti\":\"\\ud800\"}\n", "string"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":\"5\"}\n", "whole number"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":null}\n", "whole number"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":5.0}\n", "whole number"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":5e0}\n", "whole number"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":1e999}\n", "whole number"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":-0}\n", "whole number"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":05}\n", "object"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":253402300800}\n", "too late"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":18446744073709551615}\n", "too late"),
        ("{\"iss\":\"a\",\"jti\":\"b\",\"exp\":18446744073709551616}\n", "too large"),
        (&format!("{{\"iss\":\"{long}\",\"jti\":\"b\"}}\n"), "too long"),
        (&format!("{{\"iss\":\"a\",\"jti\":\"{long}\"}}\n"), "too long"),
        (&format!("{{\"iss\":{}\n", "[".repeat(MAX_LINE_BYTES / 2)), "object"),
        (&format!("{}\n", " ".repeat(MAX_LINE_BYTES)), "line is too long"),
    ] {
        let (line, what) = malformed(around(&[good, bad]));
        assert!(line == 3 && what.contains(expected), "{line}: {what}, not {expected}, for {bad:.80}");
    }
    let mut octets = around(&[good, good]).into_bytes();
    let at = octets.windows(3).rposition(|part| part == b"\"b\"").unwrap();
    octets[at + 1] = 0xff;
    assert_eq!(malformed(octets), (3, "not one JSON object"), "not UTF-8");
}

#[test]
fn what_is_around_the_entries_must_fit_them() {
    let good = "{\"iss\":\"a\",\"jti\":\"b\"}\n";
    let head = |count: &str| format!("{{\"countersign_revocations\":1,\"as_of\":5,\"entries\":{count}}}\n");
    assert!(read_all(format!("{}{{\"end\":0}}\n", head("0")).as_bytes()).is_ok());
    for (file, line, expected) in [
        (String::new(), 1, "header"),
        ("\n".into(), 1, "empty"),
        (good.into(), 1, "header"),
        ("{\"countersign_revocations\":2,\"as_of\":5,\"entries\":0}\n{\"end\":0}\n".into(), 1, "header"),
        ("{\"countersign_revocations\":1,\"entries\":0}\n{\"end\":0}\n".into(), 1, "header"),
        ("{\"countersign_revocations\":1,\"as_of\":5,\"entries\":0,\"x\":1}\n{\"end\":0}\n".into(), 1, "header"),
        ("{\"countersign_revocations\":1,\"as_of\":5.5,\"entries\":0}\n{\"end\":0}\n".into(), 1, "whole number"),
        (head("1"), 2, "ends before"),
        (format!("{}{good}", head("1")), 3, "ends before"),
        (format!("{}{{\"end\":0}}\n", head("1")), 2, "as many"),
        (format!("{}{good}{{\"end\":1}}\n", head("0")), 2, "as many"),
        (format!("{}{good}{{\"end\":1}}\n", head("2")), 3, "as many"),
        (format!("{}{good}{{\"end\":2}}\n", head("1")), 3, "as many"),
        (format!("{}{good}{{\"end\":1,\"exp\":1}}\n", head("1")), 3, "sets of members"),
        (format!("{}{good}{{\"end\":1}}", head("1")), 3, "within the line"),
        (format!("{}{good}{{\"end\":1}}\n\n", head("1")), 4, "line is empty"),
        (format!("{}{good}{{\"end\":1}}\n{{\"end\":1}}\n", head("1")), 4, "behind the last"),
        (head("18446744073709551616"), 1, "too large"),
    ] {
        let found = malformed(&file);
        assert!(found.0 == line && found.1.contains(expected), "{found:?}, not {line}: {expected}, for {file}");
    }
    // What it announces is not made room for.
    assert_eq!(malformed(format!("{}{{\"end\":0}}\n", head("18446744073709551615"))).0, 2);
}

#[test]
fn a_line_without_an_end_takes_no_more_memory_than_a_line_may_have() {
    struct Counted<R>(R, usize);
    impl<R: Read> Read for Counted<R> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = self.0.read(buffer)?;
            self.1 += read;
            Ok(read)
        }
    }
    let mut endless = Counted(Cursor::new(b"{").chain(std::io::repeat(b' ')), 0);
    let outcome = read::read(std::io::BufReader::new(&mut endless), None, SipHasher13::new(), |_| Ok(()));
    assert_eq!(outcome.unwrap_err(), SnapshotError::Malformed { line: 1, what: "the line is too long" });
    assert!(endless.1 <= 2 * MAX_LINE_BYTES);
}

#[test]
fn a_file_that_is_cut_off_anywhere_or_has_lost_anything_is_refused() {
    let directory = Directory::new();
    let entries = [
        token("one", NOW + 5),
        entry("", Revokes::Key { kid: "k\"\\\u{1}ü".into() }, None),
        cut_off(Level::Issuer, "", NOW, NOW + 9),
    ];
    publish(&open(&directory.file()), &entries).unwrap();
    let whole = fs::read(directory.file()).unwrap();
    assert_eq!(read_all(&whole).unwrap().1.len(), 3);
    for at in 0..whole.len() {
        let (line, _) = malformed(&whole[..at]);
        assert!(line <= 6);
    }
    // Each line cut short, with all that is behind it still there; and each line missing.
    let lines: Vec<_> = whole.split_inclusive(|octet| *octet == b'\n').collect();
    for (number, line) in lines.iter().enumerate() {
        for cut in 0..line.len() - 1 {
            let mut damaged = lines.clone();
            let short = [&line[..cut], b"\n"].concat();
            damaged[number] = &short;
            malformed(damaged.concat());
        }
        let mut damaged = lines.clone();
        damaged.remove(number);
        malformed(damaged.concat());
    }
}

#[test]
fn a_bit_that_is_flipped_does_no_more_than_change_a_value() {
    let directory = Directory::new();
    publish(&open(&directory.file()), &[token("one", NOW + 5), cut_off(Level::Family, "f", 7, NOW + 9)]).unwrap();
    let whole = fs::read(directory.file()).unwrap();
    for at in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        if let Ok((_, entries)) = read_all(&damaged) {
            assert_eq!(entries.len(), 2, "all or nothing");
        }
    }
}

// --- round trip ---

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        proptest::collection::vec(
            proptest::sample::select(vec![
                '"', '\\', '\0', '\n', '\r', '\u{1f}', '\u{7f}', '\u{2028}', '\u{feff}', '{', '}', ',', 'u', 'd', '8',
                'ü', '𐀀'
            ]),
            1..20
        )
        .prop_map(|characters| characters.into_iter().collect()),
    ]
    .prop_filter("not empty", |name| !name.is_empty())
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let time = 0..=MAX_NUMERIC_DATE;
    let revokes = prop_oneof![
        name().prop_map(|jwt_id| Revokes::Token { jwt_id: jwt_id.into() }),
        name().prop_map(|kid| Revokes::Key { kid: kid.into() }),
        (proptest::sample::select(Level::ALL.to_vec()), name(), time).prop_map(|(level, name, time)| Revokes::CutOff {
            level,
            name: if level == Level::Issuer { "".into() } else { name.into() },
            issued_until: secs(time),
        }),
    ];
    (any::<String>(), revokes, proptest::option::of(NOW..=MAX_NUMERIC_DATE)).prop_map(|(issuer, revokes, until)| {
        let issuer = issuer.into();
        Entry { issuer, revokes, until: until.map(secs) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_published_is_what_is_read(entries in proptest::collection::hash_set(any_entry(), 0..20)) {
        let directory = Directory::new();
        let mut expected: Vec<_> = entries.into_iter().collect();
        // Two about the same become one; that is another test's business.
        expected.sort_by_key(|entry| super::line::head(entry).unwrap());
        expected.dedup_by_key(|entry| super::line::head(entry).unwrap());
        publish(&open(&directory.file()), &expected).unwrap();
        prop_assert_eq!(read_all(&fs::read(directory.file()).unwrap()), Ok((NOW, expected.clone())));
        // And a restart writes the same.
        let before = fs::read(directory.file()).unwrap();
        open(&directory.file());
        prop_assert_eq!(before, fs::read(directory.file()).unwrap());
    }
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_all(&octets);
        let _ = read_all(&[around(&[]).into_bytes(), octets].concat());
    }

    #[test]
    fn no_line_makes_it_panic_or_be_half_read(line in "[{}\"\\[\\]:,a-z_0-9 .eE+-]{0,60}") {
        if let Ok((_, entries)) = read_all(around(&[&format!("{line}\n")]).as_bytes()) {
            prop_assert_eq!(entries.len(), 1);
        }
    }
}

// --- following ---

/// Looks, and puts in force what has been found: the time, and how many entries if there is something else than before.
fn look(follower: &mut Follower, now: i64) -> Result<Option<(i64, Option<usize>)>, SnapshotError> {
    let mut count = 0;
    let found = follower.look(secs(now), |_| {
        count += 1;
        Ok(())
    })?;
    let (content, count) = match found {
        Found::Nothing => return Ok(None),
        Found::Same(content) => (content, None),
        Found::New(content) => (content, Some(count)),
    };
    follower.put_in_force(content);
    Ok(Some((content.as_of.as_secs(), count)))
}

fn write(path: &Path, as_of: i64, lines: &[&str]) {
    let file = around(lines).replacen(&NOW.to_string(), &as_of.to_string(), 1);
    // Another file each time, as a publisher makes it.
    fs::write(path.with_extension("new"), file).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

const LINE: &str = "{\"iss\":\"a\",\"jti\":\"b\"}\n";

#[test]
fn a_file_is_read_when_it_has_changed_and_only_then() {
    let directory = Directory::new();
    let mut follower = Follower::new(&directory.file());
    assert_eq!(look(&mut follower, NOW), Err(SnapshotError::Missing));
    write(&directory.file(), NOW, &[LINE]);
    assert_eq!(look(&mut follower, NOW), Ok(Some((NOW, Some(1)))));
    assert_eq!(look(&mut follower, NOW + 1), Ok(None));
    write(&directory.file(), NOW + 2, &[LINE]);
    assert_eq!(look(&mut follower, NOW + 2), Ok(Some((NOW + 2, None))), "only the time is new");
    write(&directory.file(), NOW + 2, &[LINE, LINE]);
    assert_eq!(look(&mut follower, NOW + 2), Ok(Some((NOW + 2, Some(2)))), "twice in a second");
    // The same length, and the same time: told by what it says.
    write(&directory.file(), NOW + 2, &[LINE, &LINE.replace('b', "c")]);
    assert_eq!(look(&mut follower, NOW + 2), Ok(Some((NOW + 2, Some(2)))));
    fs::remove_file(directory.file()).unwrap();
    assert_eq!(look(&mut follower, NOW + 3), Err(SnapshotError::Missing));
}

#[test]
fn an_older_file_and_a_bad_one_are_refused_once_and_the_next_good_one_is_taken() {
    let directory = Directory::new();
    let mut follower = Follower::new(&directory.file());
    write(&directory.file(), NOW, &[LINE]);
    look(&mut follower, NOW).unwrap();
    write(&directory.file(), NOW - 1, &[]);
    let older = SnapshotError::Older { as_of: secs(NOW - 1), in_force: secs(NOW) };
    assert_eq!(look(&mut follower, NOW), Err(older));
    assert_eq!(look(&mut follower, NOW), Ok(None), "it does not get better");
    write(&directory.file(), NOW + 9, &["\n"]);
    assert!(matches!(look(&mut follower, NOW + 9), Err(SnapshotError::Malformed { line: 2, .. })));
    assert_eq!(look(&mut follower, NOW + 9), Ok(None));
    write(&directory.file(), NOW + 1, &[]);
    assert_eq!(look(&mut follower, NOW + 9), Ok(Some((NOW + 1, Some(0)))), "the bad one's time does not count");
}

#[test]
fn a_file_that_there_is_no_room_for_is_refused_with_the_line() {
    let directory = Directory::new();
    write(&directory.file(), NOW, &[LINE, LINE, LINE]);
    let mut room = 2;
    let outcome = Follower::new(&directory.file()).look(secs(NOW), |_| {
        room -= 1;
        if room < 0 { Err(SinkError::Full { capacity: 2 }) } else { Ok(()) }
    });
    assert_eq!(outcome, Err(SnapshotError::Refused { line: 4, why: SinkError::Full { capacity: 2 } }));
}

#[test]
fn a_time_from_the_future_counts_as_now_and_keeps_nothing_out_that_comes_later() {
    let directory = Directory::new();
    let mut follower = Follower::new(&directory.file());
    write(&directory.file(), MAX_NUMERIC_DATE, &[LINE]);
    assert_eq!(look(&mut follower, NOW), Ok(Some((NOW, Some(1)))));
    write(&directory.file(), NOW + 1, &[]);
    assert_eq!(look(&mut follower, NOW + 1), Ok(Some((NOW + 1, Some(0)))));
    // A clock that is set back does not make the time go back.
    write(&directory.file(), NOW + 2, &[]);
    assert_eq!(look(&mut follower, NOW - 50), Ok(Some((NOW + 1, None))));
}

#[test]
fn a_clock_that_was_far_ahead_for_a_while_at_both_ends_keeps_nothing_out() {
    const YEAR: i64 = 365 * 86_400;
    let directory = Directory::new();
    let mut follower = Follower::new(&directory.file());
    write(&directory.file(), NOW + YEAR, &[LINE]);
    assert_eq!(look(&mut follower, NOW + YEAR), Ok(Some((NOW + YEAR, Some(1)))));
    // Clocks are right again.
    write(&directory.file(), NOW + 10, &[LINE]);
    assert_eq!(look(&mut follower, NOW + 10), Ok(Some((NOW + 10, None))));
    write(&directory.file(), NOW + 20, &[LINE, LINE]);
    assert_eq!(look(&mut follower, NOW + 20), Ok(Some((NOW + 20, Some(2)))));
    // And where a reader's alone is put back, what is new comes in all the same.
    write(&directory.file(), NOW + 30, &[LINE]);
    assert_eq!(look(&mut follower, NOW - 3600), Ok(Some((NOW - 3600, Some(1)))));
}

#[cfg(unix)]
#[test]
fn nothing_but_a_regular_file_is_read_and_nobody_waits_for_a_fifo() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = Directory::new();
    let path = directory.file();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (done, outcome) = mpsc::channel();
    let fifo = path.clone();
    thread::spawn(move || {
        let reader = look(&mut Follower::new(&fifo), NOW).unwrap_err();
        let opened = super::file::open(&fifo).map(|_| ()).unwrap_err();
        let publisher = FileSink::with(&fifo, by_hand()).map(|_| ()).unwrap_err();
        done.send([reader, opened, publisher]).unwrap();
    });
    let irregular = SnapshotError::Io("not a regular file".into());
    let outcome = outcome.recv_timeout(Duration::from_secs(10)).expect("it hangs");
    assert_eq!(outcome, [irregular.clone(), irregular.clone(), irregular.clone()]);
    for other in [Path::new("/dev/zero"), &directory.0] {
        assert_eq!(look(&mut Follower::new(other), NOW), Err(irregular.clone()));
    }
    // What is mounted as configuration is a link to a file, which is fine.
    let target = directory.0.join("target");
    write(&target, NOW, &[LINE]);
    fs::remove_file(&path).unwrap();
    symlink(&target, &path).unwrap();
    assert!(look(&mut Follower::new(&path), NOW).is_ok());
    fs::set_permissions(&target, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(look(&mut Follower::new(&path), NOW).unwrap_err().to_string().contains("others"));
}

#[test]
fn no_more_is_read_than_there_was_when_it_was_opened_and_it_is_noticed_that_there_is_more() {
    let directory = Directory::new();
    fs::write(directory.file(), "before").unwrap();
    let (mut file, stat) = super::file::open(&directory.file()).unwrap();
    assert!(stat.is_still(&file));
    fs::OpenOptions::new().append(true).open(directory.file()).unwrap().write_all(b" and behind").unwrap();
    let mut read = String::new();
    file.read_to_string(&mut read).unwrap();
    assert_eq!(read, "before");
    assert!(!stat.is_still(&file));
}

// --- publishing ---

#[test]
fn of_two_about_the_same_the_later_cut_off_and_the_later_end_count() {
    let directory = Directory::new();
    let sink = open(&directory.file());
    publish(&sink, &[token("a", NOW + 5), token("a", NOW + 3), cut_off(Level::Subject, "s", 9, NOW + 1)]).unwrap();
    publish(&sink, &[token("a", NOW + 4), cut_off(Level::Subject, "s", 7, NOW + 8)]).unwrap();
    assert_eq!(content(&directory.file()), [token("a", NOW + 5), cut_off(Level::Subject, "s", 9, NOW + 8)]);
    publish(&sink, &[entry("https://issuer.example", Revokes::Token { jwt_id: "a".into() }, None)]).unwrap();
    publish(&sink, &[token("a", NOW + 6)]).unwrap();
    assert_eq!(content(&directory.file())[0].until, None, "for good is later than all else");
}

#[test]
fn a_fraction_makes_a_cut_off_no_earlier_and_an_end_no_sooner() {
    let directory = Directory::new();
    let half = |time: i64| secs(time).saturating_add(Duration::from_millis(500));
    let revokes = Revokes::CutOff { level: Level::Subject, name: "s".into(), issued_until: half(NOW) };
    let issuer: Box<str> = "https://issuer.example".into();
    let forever = Entry {
        issuer: issuer.clone(),
        revokes: Revokes::Key { kid: "k".into() },
        until: Some(half(MAX_NUMERIC_DATE)),
    };
    let sink = open(&directory.file());
    publish(&sink, &[Entry { issuer, revokes, until: Some(half(NOW + 9)) }, forever]).unwrap();
    let content = content(&directory.file());
    assert_eq!(content[0].until, None, "no file can say that");
    assert_eq!(content[1], cut_off(Level::Subject, "s", NOW, NOW + 10));
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_nothing_and_what_is_over_is_left_out_some_time_later() {
    let directory = Directory::new();
    let kept = crate::until::SLACK.as_secs() as i64;
    FileSink::with(directory.file(), by_hand())
        .unwrap()
        .publish([token("a", NOW + 5), token("b", NOW + 90)].into())
        .await
        .unwrap();
    let sink = open(&directory.file());
    sink.publish([token("c", NOW + 70)].into()).await.unwrap();
    assert_eq!(content(&directory.file()).len(), 3);
    tokio::time::advance(Duration::from_secs(kept as u64 + 5)).await;
    sink.beat(secs(NOW + 5 + kept)).unwrap();
    assert_eq!(content(&directory.file()).len(), 3);
    tokio::time::advance(Duration::from_secs(1)).await;
    sink.beat(secs(NOW + 6 + kept)).unwrap();
    assert_eq!(content(&directory.file()), [token("b", NOW + 90), token("c", NOW + 70)]);
    // What is over already when it comes is not even written.
    sink.publish([token("d", NOW - kept - 1)].into()).await.unwrap();
    assert_eq!(content(&directory.file()).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_far_ahead_for_a_while_forgets_nothing_and_leaves_no_time_behind() {
    let directory = Directory::new();
    let a_year_ahead = |now: i64| now + 365 * 86_400;
    let sink = open(&directory.file());
    sink.publish([token("a", NOW + 3600)].into()).await.unwrap();
    for minutes in 0..3 {
        tokio::time::advance(Duration::from_secs(60)).await;
        sink.beat(secs(a_year_ahead(NOW + 60 * minutes))).unwrap();
    }
    sink.beat(secs(NOW + 180)).unwrap();
    let expected = Ok((NOW + 180, vec![token("a", NOW + 3600)]));
    assert_eq!(read_all(&fs::read(directory.file()).unwrap()), expected);
    // Nor if it starts while the clock is wrong.
    let options = FileSinkOptions::new().beat_by_hand().clock(move || secs(a_year_ahead(NOW + 180)));
    let sink = FileSink::with(directory.file(), options).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    sink.publish([].into()).await.unwrap();
    sink.beat(secs(NOW + 180)).unwrap();
    assert_eq!(read_all(&fs::read(directory.file()).unwrap()), expected);
}

#[test]
fn a_file_that_cannot_be_understood_is_not_written_over() {
    let directory = Directory::new();
    let bad = around(&["{\"iss\":\"a\",\"jti\":\"b\",\"new\":1}\n"]);
    fs::write(directory.file(), &bad).unwrap();
    let outcome = FileSink::with(directory.file(), by_hand()).map(|_| ());
    assert!(matches!(outcome, Err(SnapshotError::Malformed { line: 2, .. })));
    assert_eq!(fs::read_to_string(directory.file()).unwrap(), bad);
    // Nor while it runs.
    fs::remove_file(directory.file()).unwrap();
    let sink = open(&directory.file());
    fs::write(directory.file(), &bad).unwrap();
    assert!(matches!(publish(&sink, &[token("a", NOW)]), Err(SinkError::Unavailable(_))));
    assert_eq!(fs::read_to_string(directory.file()).unwrap(), bad);
}

#[test]
fn a_time_never_goes_back_and_a_heartbeat_changes_nothing_else() {
    let directory = Directory::new();
    let sink = open(&directory.file());
    publish(&sink, &[token("a", NOW + 5)]).unwrap();
    let as_of = || read_all(&fs::read(directory.file()).unwrap()).unwrap().0;
    for (now, expected) in [(NOW + 7, NOW + 7), (NOW + 3, NOW + 7), (NOW + 8, NOW + 8)] {
        sink.beat(secs(now)).unwrap();
        assert_eq!((as_of(), content(&directory.file())), (expected, vec![token("a", NOW + 5)]));
    }
    open(&directory.file());
    assert_eq!(as_of(), NOW + 8, "nor by a restart");
}

#[test]
fn all_or_none_are_published() {
    let directory = Directory::new();
    let sink = FileSink::with(directory.file(), by_hand().capacity(3)).unwrap();
    publish(&sink, &[token("a", NOW), token("b", NOW)]).unwrap();
    let full = Err(SinkError::Full { capacity: 3 });
    assert_eq!(publish(&sink, &[token("a", NOW + 9), token("c", NOW), token("a", NOW + 99), token("d", NOW)]), full);
    let named = publish(&sink, &[token("e", NOW), cut_off(Level::Issuer, "x", NOW, NOW)]);
    assert!(matches!(named, Err(SinkError::Unfit(_))), "it would cut off everybody");
    let unfit = publish(&sink, &[token("e", NOW), token("", NOW)]);
    assert_eq!(unfit, Err(SinkError::Unfit("the `jti`")));
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    assert_eq!(publish(&sink, &[token("e", NOW), token(&long, NOW)]), Err(SinkError::Unfit("the `jti`")));
    sink.beat(secs(NOW)).unwrap();
    assert_eq!(content(&directory.file()), [token("a", NOW), token("b", NOW)]);
    // The longest that is allowed, and the worst to write, fit a line.
    let worst = "\u{1}".repeat(MAX_NAME_BYTES);
    publish(&sink, &[entry(&worst, Revokes::Token { jwt_id: worst.as_str().into() }, Some(NOW))]).unwrap();
    assert_eq!(content(&directory.file()).len(), 3);
}

#[test]
fn keys_have_room_of_their_own_and_no_more_than_readers_have() {
    let key = |kid: usize| entry("https://issuer.example", Revokes::Key { kid: kid.to_string().into() }, None);
    let directory = Directory::new();
    let sink = FileSink::with(directory.file(), by_hand().capacity(2)).unwrap();
    publish(&sink, &[token("a", NOW), token("b", NOW)]).unwrap();
    assert_eq!(publish(&sink, &[token("c", NOW)]), Err(SinkError::Full { capacity: 2 }));
    let keys: Vec<_> = (0..MAX_KEYS).map(key).collect();
    publish(&sink, &keys).unwrap();
    assert_eq!(publish(&sink, &[key(MAX_KEYS)]), Err(SinkError::Full { capacity: MAX_KEYS }));
    assert_eq!(content(&directory.file()).len(), 2 + MAX_KEYS);
    FileSink::with(directory.file(), by_hand().capacity(2)).unwrap();
}

#[test]
fn what_could_not_be_written_is_not_published_later_and_can_be_published_again() {
    let directory = Directory::new();
    let beneath = directory.0.join("beneath");
    fs::create_dir(&beneath).unwrap();
    let path = beneath.join("revocations");
    let sink = open(&path);
    publish(&sink, &[token("a", NOW)]).unwrap();
    fs::remove_dir_all(&beneath).unwrap();
    assert!(matches!(publish(&sink, &[token("b", NOW)]), Err(SinkError::Unavailable(_))));
    fs::create_dir(&beneath).unwrap();
    sink.beat(secs(NOW)).unwrap();
    assert_eq!(content(&path), [token("a", NOW)], "a file that was deleted comes back from memory");
    publish(&sink, &[token("b", NOW)]).unwrap();
    assert_eq!(content(&path), [token("a", NOW), token("b", NOW)]);
    assert!(FileSink::with(directory.0.join("not-there/revocations"), by_hand()).is_err(), "it is known at once");
    assert!(FileSink::with("/", by_hand()).is_err());
}

#[test]
fn two_publishers_take_in_what_the_other_has_written() {
    let directory = Directory::new();
    let [one, two] = [open(&directory.file()), open(&directory.file())];
    publish(&one, &[token("a", NOW)]).unwrap();
    publish(&two, &[token("b", NOW)]).unwrap();
    publish(&one, &[token("c", NOW)]).unwrap();
    assert_eq!(content(&directory.file()), [token("a", NOW), token("b", NOW), token("c", NOW)]);
}

#[test]
fn what_a_crash_leaves_behind_is_harmless_and_nothing_else_is_left() {
    let directory = Directory::new();
    publish(&open(&directory.file()), &[token("a", NOW)]).unwrap();
    assert_eq!(directory.names(), ["revocations"]);
    // As if it had died before it could rename.
    let left = directory.0.join(".revocations.0123456789abcdef.tmp");
    fs::write(&left, "{\"countersign_revoc").unwrap();
    let sink = open(&directory.file());
    publish(&sink, &[token("b", NOW)]).unwrap();
    assert_eq!(content(&directory.file()).len(), 2);
    assert_eq!(directory.names().len(), 2);
}

#[test]
fn a_file_that_could_not_be_written_leaves_nothing_behind() {
    let directory = Directory::new();
    let failing = super::file::replace(&directory.file(), |file| {
        file.write_all(b"half")?;
        Err(std::io::Error::other("no space"))
    });
    assert!(matches!(failing, Err(ReplaceFault::Before(_))));
    // Nor one that could not be renamed.
    fs::create_dir(directory.file()).unwrap();
    let failing = super::file::replace(&directory.file(), |file| file.write_all(b"whole"));
    assert!(matches!(failing, Err(ReplaceFault::Before(_))));
    assert_eq!(directory.names(), ["revocations"]);
}

#[cfg(unix)]
#[test]
fn others_may_read_the_file_and_not_write_to_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new();
    open(&directory.file());
    let mode = fs::metadata(directory.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7733, 0o600, "{mode:o}");
}

#[test]
fn a_reader_beside_a_publisher_finds_the_old_file_or_the_new_one() {
    const ROUNDS: i64 = 60;
    let directory = Directory::new();
    let path = directory.file();
    let clock = Arc::new(AtomicI64::new(NOW));
    let time = Arc::clone(&clock);
    let options = FileSinkOptions::new().beat_by_hand().clock(move || secs(time.load(Ordering::SeqCst)));
    let sink = FileSink::with(&path, options).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (is_over, path) = (&is_over, &path);
        let reader = scope.spawn(move || {
            let mut follower = Follower::new(path);
            let mut last = 0;
            loop {
                let is_last = is_over.load(Ordering::SeqCst);
                if let Some((as_of, count)) = look(&mut follower, NOW + ROUNDS).unwrap() {
                    // Each second has brought ten. A file may be read again while it loses its name, which touches it.
                    last = count.unwrap_or(last);
                    assert_eq!(last as i64, 10 * (as_of - NOW));
                }
                if is_last {
                    return last;
                }
            }
        });
        for round in 1..=ROUNDS {
            clock.store(NOW + round, Ordering::SeqCst);
            let ten: Vec<_> = (0..10).map(|number| token(&format!("{round}-{number}"), NOW)).collect();
            publish(&sink, &ten).unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
        assert_eq!(reader.join().unwrap() as i64, 10 * ROUNDS);
    });
}

#[tokio::test]
async fn the_bound_is_the_readers_interval_and_what_reading_may_take() {
    let directory = Directory::new();
    let sink = FileSink::with(directory.file(), by_hand().reader_interval(Duration::from_secs(5))).unwrap();
    let published = sink.publish([token("a", NOW)].into()).await.unwrap();
    assert_eq!(published.within, Duration::from_secs(5) + super::READ_ALLOWANCE);
    let large = FileSink::with(directory.file(), by_hand().capacity(2_000_001)).unwrap();
    assert_eq!(large.publish([].into()).await.unwrap().within, DEFAULT_INTERVAL + 3 * super::READ_ALLOWANCE);
    assert_eq!(content(&directory.file()), [token("a", NOW)], "in a runtime too");
}

#[test]
fn the_heart_beats_by_itself_and_stops_with_the_last_clone() {
    let directory = Directory::new();
    let clock = Arc::new(AtomicI64::new(NOW));
    let time = Arc::clone(&clock);
    let options = FileSinkOptions::new().heartbeat(Duration::ZERO).clock(move || secs(time.load(Ordering::SeqCst)));
    let sink = FileSink::with(directory.file(), options).unwrap();
    clock.store(NOW + 1, Ordering::SeqCst);
    let as_of = || read_all(&fs::read(directory.file()).unwrap()).unwrap().0;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while as_of() == NOW {
        assert!(std::time::Instant::now() < deadline, "it does not beat");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(as_of(), NOW + 1);
    drop(sink);
    // The thread holds a clone of the clock no longer than it lives.
    while Arc::strong_count(&clock) > 1 {
        assert!(std::time::Instant::now() < deadline, "it does not stop");
        thread::sleep(Duration::from_millis(20));
    }
}
