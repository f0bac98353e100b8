//! Keys out of files.

use std::path::{Path, PathBuf};

use countersign::Algorithm;
use countersign_examples::{Client, Running, documented_calls_of};
use countersign_testkit::{TestKey, Token};

const ISSUER: &str = "https://issuer.example";

fn token(key: &TestKey) -> Token {
    Token::new(key).issuer(ISSUER).audience("orders")
}

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        Path::to_str(&self.0).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn each_of_several_keys_is_good_whatever_its_kind_and_no_other() {
    let [old, new, unknown] =
        [Algorithm::Rs256, Algorithm::Es256, Algorithm::Ed25519].map(|algorithm| TestKey::nth(algorithm, 0));
    let old_pem = File::new("old.pem", old.public_pem());
    let new_pem = File::new("new.pem", new.public_pem());
    let example = Running::start("static_keys", &["--key", old_pem.path(), "--key", new_pem.path()]);
    let client = Client::http1();
    let (hello, orders) = (example.url("/hello"), example.url("/orders"));

    for key in [&old, &new] {
        assert_eq!(client.get(&hello, &token(key)).await.content(), (200, "Hello, ada!"));
    }
    assert_eq!(client.get(&hello, &token(&new.without_kid())).await.status, 200);

    let nobody = client.get_bare(&hello).await;
    assert_eq!((nobody.content(), nobody.challenge()), ((401, ""), r#"Bearer realm="api""#));
    for refused in [token(&unknown), token(&old).issuer("https://attacker.example"), token(&old).audience("invoices")] {
        let answer = client.get(&hello, &refused).await;
        assert_eq!(answer.content(), (401, ""));
        assert!(answer.challenge().contains(r#"error="invalid_token""#));
    }
    client.check_that_hostile_tokens_are_refused(&hello, &token(&old)).await;

    let forbidden = client.delete(&orders, &token(&old)).await;
    assert_eq!(forbidden.content(), (403, ""));
    assert!(forbidden.challenge().contains(r#"scope="orders:write""#));
    let cancelled = client.delete(&orders, &token(&old).scope("orders:write")).await;
    assert_eq!(cancelled.content(), (200, "cancelled"));
}

#[tokio::test]
async fn a_secret_is_for_hs256_and_a_public_key_is_not() {
    let public = TestKey::nth(Algorithm::Es256, 1);
    let shared = TestKey::nth(Algorithm::Hs256, 0);
    let pem = File::new("public.pem", public.public_pem());
    let secret = File::new("secret", shared.secret().unwrap());
    let example = Running::start("static_keys", &["--secret", secret.path(), "--key", pem.path()]);
    let client = Client::http1();

    for key in [&shared, &public] {
        let hello = client.get(&example.url("/hello"), &token(key)).await;
        assert_eq!(hello.content(), (200, "Hello, ada!"));
    }
    let another = client.get(&example.url("/hello"), &token(&TestKey::nth(Algorithm::Hs256, 1))).await;
    assert_eq!(another.content(), (401, ""));
    // Among them: HS256, keyed with the public key that it knows.
    client.check_that_hostile_tokens_are_refused(&example.url("/hello"), &token(&public)).await;
}

#[tokio::test]
async fn the_documented_calls_work() {
    documented_calls_of("static_keys", include_str!("../../static_keys.rs")).await;
}
