#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

use countersign::UnixTime;
use serde_json::Value;

use super::record::Time;
use super::writer::MAX_TOGETHER;
use super::*;

/// Gone with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("countersign-audit-{}-{serial}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record(policy: &str) -> Record {
    Record::Policy { time: Time(UnixTime::from_secs(0)), policy: policy.into() }
}

fn checked(text: &str) -> AuditReport {
    check(text.as_bytes(), None, None).unwrap()
}

async fn write(audit: &Audit, count: usize) {
    for index in 0..count {
        audit.record(vec![record(&index.to_string())]).await.unwrap();
    }
}

/// Whoever had it has let it go once the thread has ended.
async fn reopened(place: &Place) -> Audit {
    for _ in 0..500 {
        match Audit::open(place.file(), AuditOptions::new()) {
            Err(error) if error.to_string().contains("another process") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            audit => return audit.unwrap(),
        }
    }
    panic!("it is still locked")
}

#[tokio::test]
async fn lines_follow_from_each_other_also_over_restarts() {
    let place = Place::new();
    for _ in 0..3 {
        let audit = reopened(&place).await;
        write(&audit, 2).await;
        assert!(audit.flush().await);
    }
    assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
    let text = place.text();
    let report = checked(&text);
    assert_eq!((report.lines, report.first, report.faults.len()), (6, Some(1), 0));
    let head = report.head.unwrap();
    assert_eq!((head.seq, report.torn, report.dropped), (6, 0, 0));
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&line["prev"], &line["kind"]), (&Value::from("0".repeat(64)), &Value::from("policy")));
}

#[tokio::test]
async fn whatever_is_taken_out_moved_or_changed_is_found() {
    let place = Place::new();
    let audit = Audit::open(place.file(), AuditOptions::new()).unwrap();
    write(&audit, 5).await;
    let text = place.text();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let without =
        |gone: usize| lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| *line).collect::<String>();
    for index in 1..4 {
        let faults = checked(&without(index)).faults;
        assert_eq!(faults, [AuditFault { line: index as u64 + 1, what: "it does not follow from the line before" }]);
    }
    // Whatever makes one line of the last two looks as if the last one had been torn.
    for at in 0..text.len() - lines[4].len() - 1 {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let report = check(&*bytes, None, None).unwrap();
        assert!(!report.faults.is_empty(), "{at}: {}", String::from_utf8_lossy(&bytes));
    }
    let swapped = [lines[0], lines[2], lines[1], lines[3], lines[4]].concat();
    assert!(!checked(&swapped).faults.is_empty());
    assert!(!checked(&[lines[0], lines[1], lines[1], lines[2]].concat()).faults.is_empty());
    assert!(!checked(&[&text, "{}\n", lines[4]].concat()).faults.is_empty());
    // What is missing at either end only whoever has kept a head knows.
    let head = checked(&text).head.unwrap();
    let cut = lines[..4].concat();
    assert!(checked(&cut).faults.is_empty());
    assert!(check(text.as_bytes(), None, Some(head.hash)).unwrap().has_known);
    assert!(!check(cut.as_bytes(), None, Some(head.hash)).unwrap().has_known);
    let before = checked(lines[0]).head;
    assert!(check(lines[1..].concat().as_bytes(), before, None).unwrap().faults.is_empty());
    assert!(!check(lines[2..].concat().as_bytes(), before, None).unwrap().faults.is_empty());
    assert_eq!((checked("").faults.len(), checked("").lines), (0, 0));
    assert!(!checked("not json\n").faults.is_empty());
    assert!(!checked(&"x".repeat(MAX_AUDIT_LINE_BYTES + 1)).faults.is_empty());
}

#[tokio::test]
async fn a_renamed_file_is_left_as_it_is_and_the_chain_goes_on_in_a_new_one() {
    let place = Place::new();
    let audit = Audit::open(place.file(), AuditOptions::new()).unwrap();
    write(&audit, 2).await;
    let old = place.0.join("audit.1");
    fs::rename(place.file(), &old).unwrap();
    write(&audit, 2).await;
    let first = checked(&fs::read_to_string(&old).unwrap());
    assert_eq!((first.lines, first.faults.len()), (2, 0));
    let second = check(place.text().as_bytes(), first.head, None).unwrap();
    assert_eq!((second.lines, second.first, second.faults.len()), (2, Some(3), 0));
    // What has lines already is somebody else's.
    fs::rename(place.file(), place.0.join("audit.2")).unwrap();
    fs::copy(&old, place.file()).unwrap();
    fs::set_permissions(place.file(), Permissions::from_mode(0o600)).unwrap();
    assert!(audit.record(vec![record("x")]).await.is_err());
    // As log rotation makes it.
    fs::remove_file(place.file()).unwrap();
    File::create(place.file()).unwrap().set_permissions(Permissions::from_mode(0o600)).unwrap();
    write(&audit, 1).await;
    assert_eq!(check(place.text().as_bytes(), second.head, None).unwrap().faults, []);
}

#[tokio::test]
async fn what_is_no_file_of_ones_own_is_not_opened() {
    let place = Place::new();
    let refused = |path: &Path| Audit::open(path, AuditOptions::new()).unwrap_err().to_string();
    let link = place.0.join("link");
    symlink("/dev/full", &link).unwrap();
    assert!(!refused(&link).is_empty());
    assert!(refused(Path::new("/dev/full")).contains("no regular file"));
    assert!(!refused(&place.0).is_empty());
    fs::write(place.file(), "").unwrap();
    fs::set_permissions(place.file(), Permissions::from_mode(0o640)).unwrap();
    assert!(refused(&place.file()).contains("chmod"));
    fs::set_permissions(place.file(), Permissions::from_mode(0o600)).unwrap();
    let audit = Audit::open(place.file(), AuditOptions::new()).unwrap();
    assert!(refused(&place.file()).contains("another process"));
    drop(audit);
    let other = place.0.join("policy.toml");
    fs::write(&other, "version = 1\n").unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
    assert!(refused(&other).contains("no line of an audit log"));
    assert_eq!(fs::read_to_string(&other).unwrap(), "version = 1\n");
}

#[tokio::test]
async fn a_line_that_was_cut_short_by_a_crash_stays_and_the_chain_goes_on_behind_it() {
    let place = Place::new();
    let audit = Audit::open(place.file(), AuditOptions::new()).unwrap();
    write(&audit, 3).await;
    assert!(audit.flush().await);
    drop(audit);
    let whole = place.text();
    let last = whole.trim_end().rsplit_once('\n').unwrap().1.len();
    for cut in [1, 2, last / 2, last - 9] {
        fs::write(place.file(), &whole[..whole.len() - cut]).unwrap();
        let audit = reopened(&place).await;
        write(&audit, 2).await;
        let text = place.text();
        let report = checked(&text);
        assert_eq!(report.faults, [], "{cut}: {text}");
        assert_eq!(report.torn, u64::from(cut > 1));
        // It is part of the chain like any other.
        let torn = text.split('\n').nth(2).unwrap();
        assert!(!checked(&text.replace(torn, &torn[..torn.len() - 1])).faults.is_empty());
        assert!(!checked(&text.replace(&format!("{torn}\n"), "")).faults.is_empty());
    }
}

/// A disk with room for so many bytes.
struct Disk {
    text: Vec<u8>,
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.len().min(self.room) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            some => {
                self.text.extend(&bytes[..some]);
                self.room -= some;
                Ok(some)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn wherever_the_disk_is_full_the_chain_holds_when_there_is_room_again() {
    for room in 0..700 {
        let mut file = ChainFile::with(Disk { text: Vec::new(), room });
        let two = [record("a"), record("b")];
        let mut failed = 0;
        for again in [0, 7, 20, 150, 1_000, 1_000] {
            failed += u32::from(file.append(two.iter(), 0).is_err());
            file.file_mut().room += again;
        }
        assert!(failed > 0 && file.append(two.iter(), 3).is_ok());
        let report = check(&*file.file_mut().text, None, None).unwrap();
        assert_eq!(report.faults, [], "{room}: {}", String::from_utf8_lossy(&file.file_mut().text));
        assert_eq!(report.dropped, 3);
    }
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_done_or_the_next_line_says_how_many_are_missing() {
    let full = || ChainFile::with(File::options().write(true).open("/dev/full").unwrap());
    let audit = Audit::of(full(), AuditOptions::new()).unwrap();
    assert_eq!(audit.record(vec![record("a")]).await.unwrap_err().code(), "audit_unavailable");
    assert!(!audit.flush().await);
    let audit = Audit::of(full(), AuditOptions::new().when_full(WhenFull::Drop)).unwrap();
    assert!(audit.record(vec![record("a"), record("b")]).await.is_ok());
    assert_eq!(audit.insist(record("c")).await.unwrap_err().code(), "audit_unavailable");
    assert_eq!(audit.dropped.load(Ordering::Relaxed), 2);

    // The same with a file that can be written again.
    let place = Place::new();
    let audit = Audit::open(place.file(), AuditOptions::new().when_full(WhenFull::Drop)).unwrap();
    fs::remove_file(place.file()).unwrap();
    fs::create_dir(place.file()).unwrap();
    for _ in 0..5 {
        audit.record(vec![record("lost")]).await.unwrap();
    }
    assert!(audit.insist(record("lost")).await.is_err(), "and nobody went on for it");
    fs::remove_dir(place.file()).unwrap();
    audit.insist(record("there")).await.unwrap();
    let text = place.text();
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["dropped"], &line["policy"]), (&Value::from(5), &Value::from("there")));
    assert_eq!(checked(&text).dropped, 5);
}

#[tokio::test]
async fn subjects_are_hashed_under_a_key_if_that_is_said() {
    let place = Place::new();
    let plain = Audit::open(place.file(), AuditOptions::new()).unwrap();
    assert_eq!(&*plain.subject("ada"), "ada");
    let with = |key: u8| {
        let place = Place::new();
        let audit = Audit::open(place.file(), AuditOptions::new().hash_subjects(&[key; 32])).unwrap();
        (audit.subject("ada"), audit.subject("bob"))
    };
    let (ada, bob) = with(1);
    assert!(ada.starts_with("hmac:") && ada.len() == 48 && !ada.contains("ada"));
    assert!(ada != bob && with(1).0 == ada && with(2).0 != ada);
}

#[tokio::test(start_paused = true)]
async fn so_many_decisions_wait_to_be_written_and_what_does_not_fit_is_counted_or_not_done() {
    let (drops, mut waiting) = Audit::queued(AuditOptions::new().when_full(WhenFull::Drop));
    for _ in 0..MAX_QUEUED {
        drops.record(vec![record("a")]).await.unwrap();
    }
    assert_eq!(drops.dropped.load(Ordering::Relaxed), 0);
    drops.record(vec![record("a"), record("b")]).await.unwrap();
    drops.note(record("c"));
    assert_eq!(drops.dropped.load(Ordering::Relaxed), 3);
    // One write takes some of them, and the next the others.
    let first = waiting.recv().await.unwrap();
    assert_eq!(writer::gathered(first, &mut waiting).len(), MAX_TOGETHER);
    assert_eq!(waiting.len(), MAX_QUEUED - MAX_TOGETHER);

    // Nobody writes: whoever needs it written hears so in time, whether it waits for its place or behind others.
    let (blocks, _waiting) = Audit::queued(AuditOptions::new());
    for fill in [false, true] {
        if fill {
            while blocks.sender.try_send(Message { records: Vec::new(), is_synced: false, written: None }).is_ok() {}
        }
        let begun = tokio::time::Instant::now();
        assert_eq!(blocks.record(vec![record("a")]).await.unwrap_err().code(), "audit_unavailable");
        assert_eq!(begun.elapsed().as_secs(), WRITING_TIME.as_secs());
    }
}

#[test]
fn a_line_is_so_long_and_so_many_faults_are_told() {
    let told = |length: usize| {
        let line = r#"{"seq":1,"prev":"0","#.replace("\"0\"", &format!("\"{}\"", "0".repeat(64)));
        let line = format!("{line}\"x\":\"{}\"}}\n", "x".repeat(length - line.len() - r#""x":""}"#.len()));
        assert_eq!(line.len(), length + 1);
        checked(&line).faults
    };
    assert_eq!(told(MAX_AUDIT_LINE_BYTES), []);
    assert_eq!(told(MAX_AUDIT_LINE_BYTES + 1), [AuditFault { line: 1, what: "it is too long" }]);
    // None of them follows from the one before.
    let line = |seq: usize| format!("{{\"seq\":{seq},\"prev\":\"{}\"}}\n", "0".repeat(64));
    let faults = |count: usize| checked(&(1..=count + 1).map(line).collect::<String>()).faults.len();
    assert_eq!([faults(MAX_FAULTS - 1), faults(MAX_FAULTS), faults(MAX_FAULTS + 1)], [99, 100, 100]);
}
