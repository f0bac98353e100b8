//! The ring in a directory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::process::{ISSUER, Service, refused, scratch};

/// Every file below, what is in it, and when it was written; the lock is written by whoever looks.
fn snapshot(directory: &Path) -> Vec<(String, Vec<u8>, i64, i64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(snapshot(&entry.path()));
        } else {
            let stat = entry.metadata().unwrap();
            let name = entry.path().to_str().unwrap().to_owned();
            files.push((name, fs::read(entry.path()).unwrap(), stat.mtime(), stat.mtime_nsec()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_ring_of_another_issuer_or_under_another_key_is_refused_and_left_as_it_is() {
    let place = scratch("stores-directory-foreign");
    let (directory, other) = (place.join("data"), place.join("other"));
    let text = directory.to_str().unwrap();
    let usual = [("COUNTERSIGN_DIRECTORY", text), ("COUNTERSIGN_ISSUER", ISSUER)];
    let service = Service::start(&usual).until_ready();
    let kids = service.kids();
    service.end();
    let before = snapshot(&directory);
    assert!(before.iter().any(|(name, ..)| name.ends_with("state.json")) && before.len() > 5, "{before:#?}");

    // Another's key-encryption key, as a mistake in a template makes it.
    let theirs = [("COUNTERSIGN_DIRECTORY", other.to_str().unwrap()), ("COUNTERSIGN_ISSUER", ISSUER)];
    Service::start(&theirs).until_ready().end();
    let kek = format!("file:{}", other.join("kek").display());
    let (code, said) = refused(&[usual[0], usual[1], ("COUNTERSIGN_KEK", &kek)]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("data/ring cannot be opened") && said.contains("not in the ring"), "{said}");
    assert_eq!(snapshot(&directory), before);

    let (code, said) = refused(&[usual[0], ("COUNTERSIGN_ISSUER", "https://staging.example")]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("for https://staging.example") && said.contains("another issuer's"), "{said}");
    assert_eq!(snapshot(&directory), before);

    // One that is lost is not made again, and one that was never there is not made where it is named.
    let kek = directory.join("kek");
    fs::rename(&kek, place.join("kek")).unwrap();
    let (code, said) = refused(&usual);
    assert_eq!((code, kek.exists()), (3, false), "{said}");
    let named = format!("file:{}", kek.display());
    let (code, said) = refused(&[usual[0], usual[1], ("COUNTERSIGN_KEK", &named)]);
    assert_eq!((code, kek.exists()), (3, false), "{said}");

    // Where it is now is no matter, and another in front of it seals from now on.
    let both = format!("file:{}, file:{}", other.join("kek").display(), place.join("kek").display());
    let service = Service::start(&[usual[0], usual[1], ("COUNTERSIGN_KEK", &both)]).until_ready();
    assert_eq!(service.kids(), kids);
    service.end();
}
