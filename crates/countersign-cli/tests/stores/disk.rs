//! Disks that are full, read-only, or gone. They are real: a file system of its own, with so much room and no more, in a mount namespace
//! of the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::on_disk::{fill, on_disk};
use crate::process::{ISSUER, Service, countersign, ran, scratch, until};

/// A service with its directory on a disk.
struct OnDisk {
    service: Service,
    place: PathBuf,
}

impl OnDisk {
    fn start(name: &str, size: &str) -> Self {
        let place = scratch(name);
        let mut command = on_disk(&place, size, &[env!("CARGO_BIN_EXE_countersign"), "serve"]);
        command.env("COUNTERSIGN_DIRECTORY", place.join("data")).env("COUNTERSIGN_ISSUER", ISSUER);
        command.env("COUNTERSIGN_LISTEN", "127.0.0.1:0");
        Self { service: Service::spawn(command), place }
    }

    /// The directory as it is seen from here.
    fn data(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}/data", self.service.pid(), self.place.display()))
    }

    fn ballast(&self) -> PathBuf {
        self.data().join("ballast")
    }

    fn fill(&self) {
        fill(&self.ballast());
    }

    fn remount(&self, options: &str) {
        let pid = self.service.pid().to_string();
        until("it is remounted", || {
            let mut enter = Command::new("nsenter");
            enter.args(["--target", &pid, "--user", "--mount", "--preserve-credentials", "mount", "-o"]);
            enter.arg(format!("remount,{options}")).arg(&self.place).status().unwrap().success()
        });
    }

    fn key(&self) -> String {
        self.data().join("client.pem").to_str().unwrap().to_owned()
    }

    /// What `countersign keys` says on its ring.
    fn keys(&self, what: &str) -> (i32, String, String) {
        let (ring, kek) = (self.data().join("ring"), format!("file:{}", self.data().join("kek").display()));
        let options = ["keys", what, "--json", "--issuer", ISSUER, "--kek", &kek, "--ring", ring.to_str().unwrap()];
        ran(countersign(&options, &[]))
    }

    /// Another process on the same disk, as after a restart.
    fn again(&self) -> Command {
        let data = self.data();
        let settings = [
            ("COUNTERSIGN_DIRECTORY", data.to_str().unwrap()),
            ("COUNTERSIGN_ISSUER", ISSUER),
            ("COUNTERSIGN_LISTEN", "127.0.0.1:0"),
        ];
        countersign(&["serve"], &settings)
    }

    fn seq(&self) -> u64 {
        let (code, listed, error) = self.keys("list");
        assert_eq!(code, 0, "{error}");
        serde_json::from_str::<Value>(&listed).unwrap()["seq"].as_u64().unwrap()
    }
}

/// The ring's files, all of them.
fn ring(data: &Path) -> Vec<(String, Vec<u8>)> {
    let of = |directory: PathBuf| {
        fs::read_dir(directory).unwrap().map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file())
    };
    let mut files: Vec<_> = of(data.join("ring"))
        .chain(of(data.join("ring/keys")))
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn on_a_full_disk_it_signs_on_loses_nothing_and_rotates_when_there_is_room() {
    let mut disk = OnDisk::start("stores-disk-full", "1m");
    until("it is ready", || disk.service.get("/readyz").0 == 200);
    // Nothing is under way any more.
    until("there is a standby on its way", || disk.service.kids().len() == 2);
    let key = disk.key();
    let (token, kid) = disk.service.token(&key);
    let jwks = disk.service.get("/.well-known/jwks.json");
    until("all that is due is written", || disk.keys("list").1.contains("\"alarms\": []"));
    let (before, seq) = (ring(&disk.data()), disk.seq());

    disk.fill();
    assert_eq!(disk.service.token(&key).1, kid);
    let (code, _, said) = disk.keys("rotate");
    assert_eq!(code, 3, "{said}");
    assert_eq!(disk.service.token(&key).1, kid);
    assert_eq!(disk.service.get("/.well-known/jwks.json"), jwks);
    assert_eq!(disk.service.get("/readyz").0, 200);
    let (code, _, said) = ran(disk.again());
    assert!(code == 3 && said.contains("data/ring"), "{said}");
    assert_eq!((ring(&disk.data()), disk.seq()), (before, seq), "nothing is lost, cut off or half written");

    fs::remove_file(disk.ballast()).unwrap();
    let (code, _, said) = disk.keys("rotate");
    assert_eq!(code, 0, "{said}");
    assert!(disk.seq() > seq);
    assert!(disk.service.accepts(&token));
    assert_eq!(disk.service.token(&key).1, kid, "until its successor may sign");
    disk.service.end();
}

#[test]
fn a_disk_that_is_full_before_there_is_a_key_is_503_until_there_is_room() {
    // Pages for the directory's own three files, and for a file of the ring that is being written.
    let mut disk = OnDisk::start("stores-disk-small", "16k");
    let mut told = Value::Null;
    until("it tells", || {
        let (status, body) = disk.service.get("/readyz");
        told = serde_json::from_str(&body).unwrap();
        // Before it takes assertions, 401 is what they get.
        status == 503 && told["failing"].is_array() && told["assertions_from"].is_null()
    });
    assert_eq!(told["status"], "not ready");
    assert!(told["slots"]["es256"].is_string(), "{told}");
    let key = disk.key();
    let (status, body) = disk.service.asked_by(&key);
    assert_eq!((status, &body["error"]), (503, &"key_unavailable".into()), "{body}");
    assert_eq!(disk.service.get("/livez").0, 200);

    disk.remount("size=1m");
    until("it is ready", || disk.service.get("/readyz").0 == 200);
    disk.service.token(&key);
    disk.service.end();
}

#[test]
fn on_a_read_only_disk_it_signs_on_and_does_not_start_again_before_it_may_write() {
    let mut disk = OnDisk::start("stores-disk-read-only", "1m");
    until("it is ready", || disk.service.get("/readyz").0 == 200);
    let key = disk.key();
    let (token, kid) = disk.service.token(&key);
    disk.remount("ro");
    assert_eq!(disk.service.token(&key).1, kid);
    assert_eq!(disk.service.get("/.well-known/jwks.json").0, 200);
    let (code, _, said) = disk.keys("rotate");
    assert_eq!(code, 3, "{said}");

    let (code, _, said) = ran(disk.again());
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("data/ring") && said.to_lowercase().contains("read-only"), "{said}");
    disk.remount("rw");
    let second = Service::spawn(disk.again()).until_ready();
    assert!(second.accepts(&token));
    second.end();
    disk.service.end();
}

#[test]
fn without_its_directory_it_signs_for_half_a_minute_and_serves_keys_and_goes_on_when_it_is_back() {
    let place = scratch("stores-directory-lost");
    let (data, away) = (place.join("data"), place.join("away"));
    let settings = [("COUNTERSIGN_DIRECTORY", data.to_str().unwrap()), ("COUNTERSIGN_ISSUER", ISSUER)];
    let mut service = Service::start(&settings).until_ready();
    let key = place.join("client.pem").to_str().unwrap().to_owned();
    fs::copy(data.join("client.pem"), &key).unwrap();
    let (token, kid) = service.token(&key);

    fs::rename(&data, &away).unwrap();
    assert_eq!(service.token(&key).1, kid, "by what it has read");
    until("it signs no more", || service.get("/readyz").0 == 503);
    let (status, body) = service.asked_by(&key);
    assert_eq!((status, &body["error"]), (503, &"key_unavailable".into()), "{body}");
    let ready = service.get("/readyz").1;
    assert!(ready.contains("\"load_state\""), "{ready}");
    assert!(service.accepts(&token), "the key set is served");
    assert!(!data.exists(), "nothing is made in its place");

    fs::rename(&away, &data).unwrap();
    until("it is ready again", || service.get("/readyz").0 == 200);
    assert_eq!(service.token(&key).1, kid);
    service.end();
}
