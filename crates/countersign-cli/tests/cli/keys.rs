//! `countersign keys`, `countersign tick`, and tokens of a ring.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use countersign::Algorithm;
use countersign_testkit::TestKey;
use serde_json::{Value, json};

use crate::{ALARM, GOOD, REFUSED, Ran, UNAVAILABLE, USAGE, command, directory, file, run};

const ISSUER: &str = "https://issuer.example";

/// 32 octets in hexadecimal digits.
const KEK: &str = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210";

struct Ring {
    place: PathBuf,
    directory: String,
    kek: String,
}

impl Ring {
    /// A place for one.
    fn nowhere(name: &str) -> Self {
        let place = directory(name);
        let kek = format!("file:{}", file(&place, "kek", KEK));
        Self { directory: place.join("ring").to_str().unwrap().to_owned(), place, kek }
    }

    /// One that has begun.
    fn new(name: &str) -> Self {
        let ring = Self::nowhere(name);
        ring.run(&["tick"], &["--slot", "ES256"]).ends(GOOD);
        ring
    }

    fn options(&self) -> [&str; 6] {
        ["--ring", &self.directory, "--issuer", ISSUER, "--kek", &self.kek]
    }

    /// Whatever is said, the key-encryption key is not.
    fn run(&self, what: &[&str], more: &[&str]) -> Ran {
        run(&[what, &self.options(), more].concat()).keeps_to_itself(&[KEK])
    }

    fn list(&self) -> Value {
        self.run(&["keys", "list"], &["--json"]).ends(GOOD).json()
    }

    fn signing(&self, slot: &str) -> String {
        self.list()["slots"][slot]["signs"].as_str().unwrap().to_owned()
    }

    /// The public keys, in a file.
    fn exported(&self) -> String {
        file(&self.place, "exported.json", self.run(&["keys", "export"], &[]).ends(GOOD).out)
    }

    fn accepts(&self, token: &str) -> Ran {
        let jwks = self.exported();
        run(&["token", "verify", token, "--jwks", &jwks, "--issuer", ISSUER, "--audience", "orders", "--json"])
    }

    fn token(&self) -> String {
        let ran =
            self.run(&["token", "sign"], &["--slot", "es256", "--audience", "orders", "--subject", "ada"]).ends(GOOD);
        ran.out.trim_end().to_owned()
    }
}

#[test]
fn a_ring_begins_with_one_step_and_signs_what_its_export_verifies() {
    let ring = Ring::nowhere("begin");
    let ran = ring.run(&["tick"], &["--slot", "ES256", "--json"]).ends(GOOD);
    let document = ran.json();
    assert!(document["done"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().ends_with(": active")));
    assert!(document["next"].is_i64() && document["alarms"] == json!([]));

    let listed = ring.list();
    let kid = ring.signing("es256");
    assert_eq!((&listed["keys"][&kid]["state"], &listed["keys"][&kid]["slot"]), (&json!("active"), &json!("es256")));
    assert_eq!(listed["keys"][&kid]["private_part_at_hand"], true);
    let ran = ring.run(&["keys", "list"], &[]).ends(GOOD);
    assert!(ran.out.starts_with(&format!("slot es256: {kid} signs\n")), "{}", ran.out);

    let more = [
        "--slot",
        "es256",
        "--audience",
        "orders",
        "--subject",
        "ada",
        "--scope",
        "a b",
        "--client-id",
        "web",
        "--claim",
        "level=3",
        "--json",
    ];
    let minted = ring.run(&["token", "sign"], &more).ends(GOOD).json();
    assert_eq!((&minted["kid"], &minted["alg"]), (&json!(kid), &json!("ES256")));
    let claims = ring.accepts(minted["token"].as_str().unwrap()).ends(GOOD).json()["claims"].clone();
    assert_eq!((&claims["level"], &claims["client_id"], &claims["jti"]), (&json!(3), &json!("web"), &minted["jti"]));

    // Nothing is due at once again.
    let ran = ring.run(&["tick"], &[]).ends(GOOD);
    assert!(ran.out.starts_with("nothing was due\nnext: 20"), "{}", ran.out);
}

#[test]
fn what_is_exported_is_public_and_checked() {
    let ring = Ring::new("export");
    let text = ring.run(&["keys", "export"], &[]).ends(GOOD).out;
    let set: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 2, "the one that signs and the one that follows");
    for key in set["keys"].as_array().unwrap() {
        assert!(
            key.as_object()
                .unwrap()
                .keys()
                .all(|name| ["kty", "crv", "x", "y", "alg", "use", "kid"].contains(&name.as_str()))
        );
    }
    let path = file(&ring.place, "set.json", text);
    run(&["jwks", "check", &path]).ends(GOOD);
}

#[test]
fn a_key_that_follows_is_not_used_before_verifiers_have_it_and_a_revoked_one_is_gone_at_once() {
    let ring = Ring::new("revoke");
    let (token, kid) = (ring.token(), ring.signing("es256"));
    ring.accepts(&token).ends(GOOD);
    // The successor was announced a moment ago: it signs when everybody can have it.
    let rotated = ring.run(&["keys", "rotate"], &["--json"]).ends(GOOD).json();
    assert_eq!(rotated, json!({ "now": [], "later": ["es256"] }));
    assert_eq!(ring.list()["slots"]["es256"]["rotation_wanted"], true);
    assert_eq!(ring.signing("es256"), kid);

    let revoked = ring.run(&["keys", "revoke"], &["--sign-at-once", "--json", "--", &kid]).ends(GOOD).json();
    assert_eq!((&revoked["revoked"], &revoked["halted"]), (&json!([kid]), &json!(["es256"])));
    assert_eq!(revoked["exposure_seconds"]["without_feed"], 640);
    assert_eq!(ring.accepts(&token).ends(REFUSED).json()["reason"], "unknown_key");
    // Another signs by now, as it was asked to.
    assert_ne!(ring.signing("es256"), kid);
    ring.accepts(&ring.token()).ends(GOOD);

    let ran = ring.run(&["keys", "revoke"], &["--all"]).ends(GOOD);
    assert!(ran.out.contains("revoked: ") && ran.out.contains("640 s more"), "{}", ran.out);
}

#[test]
fn a_key_that_is_misspelt_leaves_no_other_in_force_and_it_is_said_which_are_revoked() {
    let ring = Ring::new("misspelt");
    let (token, kid) = (ring.token(), ring.signing("es256"));
    let ran = ring.run(&["keys", "revoke"], &["--", "no-such-key", &kid]).ends(REFUSED);
    assert!(ran.err.contains("no key no-such-key") && ran.err.contains(&format!("revoked: {kid}")), "{}", ran.err);
    assert_eq!(ring.accepts(&token).ends(REFUSED).json()["reason"], "unknown_key");
}

#[test]
fn a_key_that_has_not_signed_is_given_up_and_another_is_made_and_one_that_has_is_not() {
    let ring = Ring::new("abandon");
    let in_state = |listed: &Value, state: &str| {
        let keys = listed["keys"].as_object().unwrap().iter();
        keys.filter(|(_, key)| key["state"] == state).map(|(kid, _)| kid.clone()).collect::<Vec<_>>()
    };
    let before = ring.list();
    let (signs, follows) = (in_state(&before, "active"), in_state(&before, "announced"));
    let refused = ring.run(&["keys", "abandon"], &["--json", "--", &signs[0]]).ends(REFUSED).json();
    assert_eq!(refused["error"], "order_refused");

    let ran = ring.run(&["keys", "abandon"], &["--json", "--", &follows[0]]).ends(GOOD);
    assert_eq!(ran.json(), json!({ "abandoned": follows[0] }));
    let after = ring.list();
    assert_eq!(in_state(&after, "active"), signs);
    let next = in_state(&after, "announced");
    assert!(next.len() == 1 && next != follows, "{after}");
    ring.run(&["keys", "abandon"], &["--", &follows[0]]).ends(REFUSED);
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let ring = Ring::new("refused");
    for (what, word) in [
        (&["keys", "rotate", "rs256"][..], "no slot `rs256`"),
        (&["keys", "revoke", "no-such-key"], "no key no-such-key"),
    ] {
        let ran = ring.run(what, &[]).ends(REFUSED);
        assert!(ran.err.contains(word) && ran.out.is_empty(), "{}", ran.err);
        assert_eq!(ring.run(what, &["--json"]).ends(REFUSED).json()["error"], "order_refused");
    }
    for (more, code) in [
        (&["--slot", "rs256"][..], "unknown_slot"),
        (&["--slot", "es256", "--lifetime", "7200"], "ttl_exceeds_policy"),
        (&["--slot", "es256", "--claim", "jti=x"], "claim_not_permitted"),
    ] {
        let ran = ring.run(&["token", "sign"], &[more, &["--json"]].concat()).ends(REFUSED);
        assert_eq!(ran.json()["error"], code);
    }
    for more in [
        &["--slot", "es256", "--now", "1"][..],
        &["--slot", "es256", "--key", "k"],
        &["--slot", "es256", "--alg", "ES256"],
        &[],
    ] {
        ring.run(&["token", "sign"], more).ends(USAGE);
    }
    // One name in 64 begins like an option.
    for what in ["revoke", "abandon"] {
        let ran = ring.run(&["keys", what], &["--", "-q"]).ends(REFUSED);
        assert!(ran.err.contains("no key -q"), "{}", ran.err);
    }
    ring.run(&["keys", "revoke"], &[]).ends(USAGE);
    ring.run(&["keys", "revoke", "a"], &["--all"]).ends(USAGE);
    ring.run(&["tick"], &["--slot", "RS256:1024"]).ends(USAGE);
    ring.run(&["tick"], &["--rotation", "24"]).ends(USAGE);
    // The configuration itself: rotated faster than keys can be announced.
    ring.run(&["tick"], &["--rotation", "60s"]).ends(USAGE);
}

#[test]
fn a_ring_that_is_not_there_or_does_not_open_is_unavailable_and_none_is_begun_by_mistake() {
    let ring = Ring::nowhere("nowhere");
    for what in [&["keys", "list"][..], &["keys", "rotate"], &["keys", "revoke", "a"], &["keys", "export"], &["tick"]] {
        let ran = ring.run(what, &["--json"]).ends(UNAVAILABLE);
        assert_eq!(ran.json()["error"], "no_ring");
        assert!(!ring.place.join("ring").exists());
    }
    let ring = Ring::new("unopened");
    let other = format!("file:{}", file(&ring.place, "other", KEK.replace('0', "f")));
    let exposed = file(&ring.place, "exposed", KEK);
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = format!("file:{exposed}");
    for (kek, issuer, code) in [
        (&*other, ISSUER, "ring_unreadable"),
        (&*ring.kek, "https://other.example", "ring_unreadable"),
        (&exposed, ISSUER, "no_kek"),
        ("file:/nowhere/kek", ISSUER, "no_kek"),
        ("env:COUNTERSIGN_TEST_UNSET", ISSUER, "no_kek"),
        ("command:false", ISSUER, "no_kek"),
    ] {
        let ran = run(&["keys", "list", "--ring", &ring.directory, "--issuer", issuer, "--kek", kek, "--json"]);
        assert_eq!(ran.ends(UNAVAILABLE).keeps_to_itself(&[KEK]).json()["error"], code, "{kek}");
    }
    run(&["keys", "list", "--ring", &ring.directory, "--issuer", ISSUER, "--kek", KEK])
        .ends(USAGE)
        .keeps_to_itself(&[KEK]);
    // A state that somebody has changed.
    let state = ring.place.join("ring/state.json");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, text.replace("active", "retiring")).unwrap();
    assert_eq!(ring.run(&["keys", "list"], &["--json"]).ends(UNAVAILABLE).json()["error"], "ring_unreadable");
}

#[test]
fn the_key_encryption_key_comes_from_a_file_a_variable_or_a_command() {
    let ring = Ring::new("kek");
    let path = ring.kek.strip_prefix("file:").unwrap();
    let list = |kek: &str| {
        let arguments = ["keys", "list", "--ring", &ring.directory, "--issuer", ISSUER, "--kek", kek];
        let output = command(&arguments).env("COUNTERSIGN_TEST_KEK", KEK).output().unwrap();
        Ran::of(output).keeps_to_itself(&[KEK])
    };
    list("env:COUNTERSIGN_TEST_KEK").ends(GOOD);
    list(&format!("command:cat {path}")).ends(GOOD);
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    list(&ring.kek).ends(UNAVAILABLE);
    ring.run(&["keys", "list"], &["--kek-group-may-read"]).ends(GOOD);
}

#[test]
fn keys_of_another_service_are_taken_over() {
    let ring = Ring::nowhere("import");
    let (current, old) = (TestKey::nth(Algorithm::Es256, 0), TestKey::nth(Algorithm::Es256, 1));
    let pem = file(&ring.place, "current.pem", current.private_pem());
    let jwks = file(&ring.place, "old.json", json!({ "keys": [old.public_jwk()] }).to_string());
    let public = file(&ring.place, "older.pem", TestKey::nth(Algorithm::Es256, 2).public_pem());
    let secret = current.private_pem().lines().nth(1).unwrap().to_owned();
    let import = [
        "--signing",
        &pem,
        "--kid",
        "2026-11",
        "--retiring",
        &jwks,
        "--retiring",
        &public,
        "--into",
        "es256",
        "--tokens-for",
        "1h",
    ];
    assert_eq!(
        ring.run(&["keys", "import"], &[&import[..], &["--json"]].concat()).ends(UNAVAILABLE).json()["error"],
        "no_ring"
    );
    let ran = ring.run(&["keys", "import"], &[&import[..], &["--slot", "ES256"]].concat()).ends(GOOD);
    assert_eq!(ran.keeps_to_itself(&[&secret]).out, "3 keys are part of the ring\n");
    assert_eq!(ring.signing("es256"), "2026-11", "it goes on with the old key");
    let listed = ring.list();
    assert_eq!(listed["keys"][old.kid().unwrap()]["state"], "retiring");
    ring.accepts(&ring.token()).ends(GOOD);
    // What the old service has signed is accepted, too.
    let before = countersign_testkit::Token::new(&old).issuer(ISSUER).audience("orders").sign();
    ring.accepts(&before).ends(GOOD);

    let ran = ring.run(&["keys", "import"], &import).ends(REFUSED).keeps_to_itself(&[&secret]);
    assert!(ran.err.contains("there is, or was, a key"), "{}", ran.err);
    let garbage = file(&ring.place, "garbage", "-----BEGIN");
    for (file, word) in [(&*garbage, "key 0 cannot be adopted"), (&*pem, "algorithm")] {
        let into = if file == pem { "rs256" } else { "es256" };
        let ran = ring.run(&["keys", "import"], &["--signing", file, "--into", into, "--tokens-for", "1h"]);
        let ran = ran.ends(REFUSED).keeps_to_itself(&[&secret]);
        assert!(ran.err.contains("cannot be adopted"), "{word}: {}", ran.err);
    }
    ring.run(&["keys", "import"], &["--into", "es256", "--tokens-for", "1h"]).ends(USAGE);
}

#[test]
fn what_is_alarming_has_a_code_of_its_own() {
    let ring = Ring::new("alarm");
    fs::remove_file(ring.place.join("ring/state.json")).unwrap();
    // A set without a state: whose is it? Nobody shrinks it.
    let ran = ring.run(&["tick"], &["--slot", "ES256"]).ends(ALARM);
    assert!(ran.out.contains("alarm: StateLost"), "{}", ran.out);
    let document = ring.run(&["tick"], &["--slot", "ES256", "--json"]).ends(ALARM).json();
    assert!(document["alarms"].as_array().unwrap().contains(&json!("StateLost")), "{document}");
}

#[test]
fn another_kind_of_key_joins_a_ring_and_a_large_one_is_made_in_time() {
    let ring = Ring::new("join");
    let before = ring.signing("es256");
    ring.run(&["tick"], &["--slot", "RS256:4096", "--slot", "Ed25519"]).ends(GOOD);
    let listed = ring.list();
    assert_eq!(listed["slots"].as_object().unwrap().len(), 3);
    // They are announced first; this ring has verifiers.
    assert!(listed["slots"]["rs256-4096"]["signs"].is_null() && listed["slots"]["ed25519"]["signs"].is_null());
    assert_eq!(ring.signing("es256"), before);
    assert_eq!(ring.list()["keys"].as_object().unwrap().len(), 4);
    let checked = run(&["jwks", "check", &ring.exported(), "--json"]).ends(GOOD).json();
    assert!(checked["keys"].as_array().unwrap().iter().any(|key| key["bits"] == 4096));
}
