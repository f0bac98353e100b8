//! From a revoker through a file to a list, with real time, threads and files.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]
#![allow(clippy::print_stdout, reason = "how a child tells its parent")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, thread};

use countersign_claims::UnixTime;
use countersign_claims::revocation::{Entry, Judged, Level, Revocations as _, Revoked, Revokes, Verdict};
use countersign_revocation::snapshot_file::MIN_INTERVAL;
use countersign_revocation::{FileSink, FileSinkOptions, ListOptions, RevocationList, Revoker, SnapshotFile};

const ISSUER: &str = "https://issuer.example";
/// A machine that is busy with other things is given that long.
const PATIENCE: Duration = Duration::from_secs(20);

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-snapshots-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("revocations")
    }

    fn sink(&self) -> FileSink {
        FileSink::with(self.file(), FileSinkOptions::new().reader_interval(MIN_INTERVAL).beat_by_hand()).unwrap()
    }

    fn feed(&self) -> SnapshotFile {
        SnapshotFile::new(self.file()).interval(Duration::ZERO)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now() -> UnixTime {
    SystemTime::now().into()
}

/// Ada's token of that time.
fn check(list: &RevocationList, issued_at: UnixTime) -> Verdict {
    let mut token = Judged::at(now());
    token.issuer = Some(ISSUER);
    token.subject = Some("ada");
    token.issued_at = Some(issued_at);
    list.check(&token)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn what_a_revoker_writes_to_a_file_is_refused_by_the_lists_that_follow_it() {
    let directory = Directory::new("end-to-end");
    // Two processes that verify, one of which was there before the file.
    let early = RevocationList::new().follow(directory.feed());
    let error = |list: &RevocationList| {
        list.status().feeds.iter().find(|feed| feed.name.starts_with("file ")).unwrap().last_error.clone()
    };
    wait_until("it is told that there is no file", || error(&early).is_some_and(|why| why.contains("no file")));
    assert_eq!((early.age(now()), check(&early, now())), (None, Verdict::Stale { age: None }));

    let sink = directory.sink();
    let late = RevocationList::new().follow(directory.feed());
    for list in [&early, &late] {
        list.ready().await;
        assert_eq!(check(list, now()), Verdict::Fresh);
        assert!(list.age(now()).unwrap() < PATIENCE);
    }
    assert_eq!(error(&early), None);

    let revoker = Revoker::new(sink, ISSUER);
    let assurance = revoker.subject("ada").await.unwrap();
    let (last, first) = (assurance.issued_until.unwrap(), assurance.reissue_from.unwrap());
    let revoked = Verdict::Revoked(Revoked::CutOff { level: Level::Subject, issued_until: last });
    for list in [&early, &late] {
        wait_until("the old token is refused", || check(list, last) == revoked);
        assert_eq!(check(list, first), Verdict::Fresh, "and a new one is not");
    }

    // A file that somebody has spoilt changes nothing, and is reported.
    let good = fs::read(directory.file()).unwrap();
    fs::write(directory.file(), &good[..good.len() - 1]).unwrap();
    for list in [&early, &late] {
        wait_until("it is reported", || error(list).is_some_and(|why| why.starts_with("line 3: ")));
        assert_eq!(check(list, last), revoked);
    }
    assert!(revoker.subject("ada").await.is_err(), "nor is it written over");
    fs::write(directory.file(), &good).unwrap();
    for list in [&early, &late] {
        wait_until("it is well again", || error(list).is_none());
        assert_eq!(check(list, last), revoked);
    }
    revoker.key("k").await.unwrap();
    wait_until("and goes on", || early.status().keys == 1 && late.status().keys == 1);
}

#[tokio::test]
async fn a_heartbeat_makes_a_list_younger_and_wakes_up_nobody_and_a_revocation_does() {
    let directory = Directory::new("heartbeat");
    let sink = directory.sink();
    let list = RevocationList::new().follow(directory.feed());
    list.ready().await;
    let later = now().saturating_add(Duration::from_secs(2));
    wait_until("time goes by", || now() >= later);
    assert!(list.age(now()).unwrap() >= Duration::from_secs(2), "it gets older by itself");
    let changed = list.changed();
    tokio::pin!(changed);
    sink.beat(now()).unwrap();
    wait_until("it is younger", || list.age(now()).unwrap() < Duration::from_secs(2));
    assert!(tokio::time::timeout(Duration::ZERO, &mut changed).await.is_err(), "nobody wakes up");
    Revoker::new(sink, ISSUER).subject("ada").await.unwrap();
    tokio::time::timeout(PATIENCE, changed).await.unwrap();
}

#[tokio::test]
async fn a_file_that_a_list_has_no_room_for_changes_nothing_and_is_an_alarm() {
    let directory = Directory::new("full");
    let revoker = Revoker::new(directory.sink(), ISSUER);
    let assurance = revoker.subject("ada").await.unwrap();
    let list = RevocationList::with(ListOptions::new().capacity(100)).follow(directory.feed());
    list.ready().await;
    let entries: Vec<_> = (0..1000)
        .map(|number| Entry {
            issuer: ISSUER.into(),
            revokes: Revokes::Token { jwt_id: format!("{number}").into() },
            until: assurance.until,
        })
        .collect();
    revoker.publish(entries).await.unwrap();
    wait_until("it is an alarm", || list.status().full);
    wait_until("it is reported", || list.status().feeds.iter().any(|feed| feed.last_error.is_some()));
    assert!(matches!(check(&list, assurance.issued_until.unwrap()), Verdict::Revoked(_)));
    assert_eq!((list.status().tokens, list.status().cut_offs), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_revoke_at_the_same_time_and_all_of_it_is_there() {
    let directory = Directory::new("many");
    let revoker = Revoker::new(directory.sink(), ISSUER);
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let revoker = revoker.clone();
            tokio::spawn(async move { revoker.session(&number.to_string()).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let list = RevocationList::new().follow(directory.feed());
    list.ready().await;
    assert_eq!(list.status().cut_offs, 50);
}

/// Where the child of the next test writes; the test starts itself as that child.
const CHILD: &str = "COUNTERSIGN_TEST_PUBLISHER";

#[test]
fn what_a_publisher_has_acknowledged_is_there_when_it_has_been_killed_at_any_time() {
    if let Some(path) = std::env::var_os(CHILD) {
        publish_without_end(path.into());
    }
    let directory = Directory::new("killed");
    let mut acknowledged = 0;
    for round in 0..8 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "what_a_publisher_has_acknowledged_is_there_when_it_has_been_killed_at_any_time"]);
        let command = command.arg("--nocapture").env(CHILD, directory.file()).stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // It has begun; how far it comes is left to chance.
        assert!(lines.any(|line| line.starts_with("done ")));
        thread::sleep(Duration::from_millis(7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged += 1 + lines.filter(|line| line.starts_with("done ")).count();

        let list = RevocationList::new().follow(directory.feed());
        wait_until("the file is whole", || list.age(now()).is_some());
        // One may have been written and not acknowledged, each time.
        let found = list.status().cut_offs;
        assert!((acknowledged..=acknowledged + 1 + round as usize).contains(&found), "{found}, not {acknowledged}");
    }
}

fn publish_without_end(path: PathBuf) -> ! {
    let revoker = Revoker::new(FileSink::open(path).unwrap(), ISSUER);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for number in 0.. {
        let name = format!("{}-{number}", std::process::id());
        runtime.block_on(revoker.session(&name)).unwrap();
        println!("\ndone {name}");
    }
    unreachable!("there are enough numbers");
}

#[test]
fn a_list_follows_a_file_without_a_runtime_and_its_thread_ends_with_it() {
    let directory = Directory::new("thread");
    let _sink = directory.sink();
    let held = Arc::new(());
    let clock = Arc::clone(&held);
    let feed = directory.feed().interval(Duration::from_secs(3600)).clock(move || {
        let _ = &clock;
        now()
    });
    let list = RevocationList::with(ListOptions::new()).follow(feed);
    wait_until("it is read", || list.age(now()).is_some());
    assert_eq!(Arc::strong_count(&held), 2);
    drop(list);
    wait_until("the thread ends, however long the interval is", || Arc::strong_count(&held) == 1);
}

#[tokio::test]
async fn a_lists_own_revoker_is_done_when_it_answers() {
    let list = RevocationList::new();
    let assurance = list.revoker(ISSUER).subject("ada").await.unwrap();
    assert_eq!(assurance.within, Duration::ZERO);
    assert!(matches!(check(&list, assurance.issued_until.unwrap()), Verdict::Revoked(_)));
    assert_eq!(check(&list, assurance.reissue_from.unwrap()), Verdict::Fresh);
}
