//! The ring in S3.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use countersign_tests_stores::{SIGNED, Server, free_port, s3};
use serde_json::Value;

use crate::process::{ISSUER, Service, countersign, kids, ran, refused, scratch, until};

const BUCKET: &str = "rings";
const PLACE: &str = "s3://rings/prod";
const SECRET: &str = "hunter2-is-the-secret-access-key";

/// A bucket of moto, and a place for what nodes have of their own.
struct Bucket {
    moto: Server,
    port: u16,
    place: PathBuf,
}

impl Bucket {
    fn new(name: &str) -> Self {
        let port = free_port();
        let bucket = Self { moto: s3(port), port, place: scratch(name) };
        bucket.kek("kek", 1);
        let made = bucket.request("PUT", &format!("/{BUCKET}"));
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        bucket
    }

    fn request(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {SIGNED}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// All objects, with their ETags and when they were written.
    fn objects(&self) -> Vec<String> {
        let list = self.request("GET", &format!("/{BUCKET}?list-type=2"));
        list.split("<Contents>").skip(1).map(|object| object.split("</Contents>").next().unwrap().to_owned()).collect()
    }

    fn kek(&self, name: &str, seed: u8) -> String {
        let path = self.place.join(name);
        fs::write(&path, (seed..seed + 32).map(|octet| format!("{octet:02x}")).collect::<String>()).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        format!("file:{}", path.display())
    }

    /// Everything that a node is told.
    fn settings(&self, node: &str, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut settings = vec![
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("COUNTERSIGN_STORE", PLACE.to_owned()),
            ("COUNTERSIGN_KEK", format!("file:{}", text(&self.place.join("kek")))),
            ("COUNTERSIGN_ISSUER", ISSUER.to_owned()),
            ("COUNTERSIGN_DIRECTORY", text(&self.place.join(node))),
        ];
        for (name, value) in more {
            settings.retain(|(known, _)| known != name);
            settings.push((name, (*value).to_owned()));
        }
        settings
    }

    fn start(&self, node: &str, more: &[(&'static str, &str)]) -> Service {
        let settings = self.settings(node, more);
        Service::start(&borrowed(&settings)).until_ready()
    }

    fn refuses(&self, more: &[(&'static str, &str)]) -> (i32, String) {
        let settings = self.settings("refused", more);
        let (code, said) = refused(&borrowed(&settings));
        assert!(!said.contains(SECRET), "{said}");
        (code, said)
    }
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
#[ignore = "wants moto: tests/stores/run"]
fn two_nodes_on_one_bucket_are_one_ring() {
    let bucket = Bucket::new("stores-s3-two-nodes");
    let mut one = bucket.start("one", &[]);
    let (key, policy) = (bucket.place.join("one/client.pem"), bucket.place.join("one/policy.toml"));
    let (key, policy) = (key.to_str().unwrap(), policy.to_str().unwrap());
    assert!(!bucket.place.join("one/kek").exists() && !bucket.place.join("one/ring").exists());
    // With everything elsewhere, it needs no directory.
    let mut two = bucket.start("two", &[("COUNTERSIGN_POLICY_FILE", policy)]);
    assert!(!bucket.place.join("two").exists());

    let (of_one, kid) = one.token(key);
    let (of_two, kid_of_two) = two.token(key);
    assert_eq!(kid, kid_of_two);
    assert!(one.accepts(&of_two) && two.accepts(&of_one));
    let published = bucket.request("GET", &format!("/{BUCKET}/prod/jwks/jwks.json"));
    let (head, jwks) = published.split_once("\r\n\r\n").unwrap();
    assert!(
        kids(jwks).contains(&kid) && head.to_ascii_lowercase().contains("cache-control: public, max-age="),
        "{head}"
    );

    // The command line works on the same ring, while they do.
    let settings = bucket.settings("one", &[]);
    let tool: Vec<_> = settings.iter().filter(|(name, _)| name.starts_with("AWS_")).cloned().collect();
    let kek = bucket.kek("kek", 1);
    let list = ["keys", "list", "--ring", PLACE, "--issuer", ISSUER, "--kek", &kek, "--json"];
    let (code, listed, error) = ran(countersign(&list, &borrowed(&tool)));
    assert_eq!(code, 0, "{error}");
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["slots"]["es256"]["signs"], kid.as_str());

    // One dies, and nothing is lost; it comes again, and nothing is made again.
    one.kill();
    assert_eq!(two.token(key).1, kid);
    let mut one = bucket.start("one", &[]);
    assert_eq!(one.token(key).1, kid);
    one.end();
    two.end();
}

#[test]
#[ignore = "wants moto: tests/stores/run"]
fn environments_in_one_bucket_never_read_each_other() {
    let bucket = Bucket::new("stores-s3-environments");
    let other = bucket.kek("other", 2);
    let production = bucket.start("prod", &[]);
    // Also if the one place is inside the other.
    let staging = [("COUNTERSIGN_STORE", "s3://rings/prod/eu"), ("COUNTERSIGN_ISSUER", "https://staging.example")];
    let staging = bucket.start("staging", &[staging[0], staging[1], ("COUNTERSIGN_KEK", &other)]);
    let (of_production, of_staging) = (production.kids(), staging.kids());
    assert!(!of_production.is_empty() && !of_staging.is_empty());
    assert!(of_production.iter().all(|kid| !of_staging.contains(kid)));
    staging.end();
    production.end();

    let before = bucket.objects();
    assert!(before.iter().any(|object| object.contains("<Key>prod/state/state.json</Key>")), "{before:#?}");
    for (setting, value, why) in [
        (
            "COUNTERSIGN_ISSUER",
            "https://staging.example",
            "for https://staging.example with `kek`: the state document was changed",
        ),
        ("COUNTERSIGN_KEK", &*other, "which is not in the ring"),
    ] {
        let (code, said) = bucket.refuses(&[(setting, value)]);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("the ring in s3://rings/prod cannot be opened") && said.contains(why), "{said}");
        assert_eq!(bucket.objects(), before, "nothing was written, not even a probe");
    }

    // Nor is anything begun without a key that others can have, too, or where the bucket is not.
    let settings = bucket.settings("refused", &[]);
    let without: Vec<_> = settings.into_iter().filter(|(name, _)| *name != "COUNTERSIGN_KEK").collect();
    let (code, said) = refused(&borrowed(&without));
    assert!(code == 2 && said.contains("`store` needs `kek`"), "{said}");
    let (code, said) = bucket.refuses(&[("COUNTERSIGN_STORE", "s3://elsewhere/prod")]);
    assert_eq!(code, 3, "{said}");
    let (code, said) = bucket.refuses(&[("AWS_ENDPOINT", "http://s3.example:9000")]);
    assert!(code == 3 && said.contains("plain http"), "{said}");
    assert_eq!(bucket.objects(), before);

    let again = bucket.start("prod", &[]);
    assert_eq!(again.kids(), of_production);
    again.end();
}

#[test]
#[ignore = "wants moto: tests/stores/run"]
fn without_its_bucket_it_signs_for_half_a_minute_and_goes_on_when_it_is_back() {
    let bucket = Bucket::new("stores-s3-lost");
    let mut service = bucket.start("one", &[]);
    let key = bucket.place.join("one/client.pem");
    let key = key.to_str().unwrap();
    let (token, kid) = service.token(key);
    let is_out = |service: &mut Service| {
        until("it signs no more", || service.get("/readyz").0 == 503);
        let (status, body) = service.asked_by(key);
        assert_eq!((status, &body["error"]), (503, &"key_unavailable".into()), "{body}");
        assert!(service.get("/readyz").1.contains("load_state"));
        assert!(service.accepts(&token), "the key set is served");
    };

    bucket.moto.pause();
    assert_eq!(service.token(key).1, kid, "by what it has read");
    is_out(&mut service);
    bucket.moto.resume();
    until("it is ready again", || service.get("/readyz").0 == 200);
    assert_eq!(service.token(key).1, kid);

    // What comes in its place has nothing: that is no reason to begin anew, nor to end.
    let Bucket { moto, port, .. } = bucket;
    drop(moto);
    let _empty = s3(port);
    is_out(&mut service);
    service.end();
}
