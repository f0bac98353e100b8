//! A service that runs by itself, in a directory that it makes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign::{Algorithm, SigningKey};
use countersign_service::{Config, Server};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::bench::{ISSUER, read};
use crate::pki::{Authority, BOTH, client, secure};
use crate::served::Served;

/// Gone with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(directory: &Path) -> Config {
    let directory = directory.to_str().unwrap();
    Config::read("listen = '127.0.0.1:0'\nissuer = 'https://issuer.example'", [("COUNTERSIGN_DIRECTORY", directory)])
        .unwrap()
}

fn mode(file: &Path) -> u32 {
    file.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_run_makes_a_client_of_its_own_and_later_ones_nothing() {
    let directory = Directory::new("first-run");
    let data = directory.0.join("data");
    let server = Server::start(config(&data)).await.unwrap();
    let first = server.first_run().unwrap().clone();
    assert_eq!(
        (mode(&data), mode(&first.key_file), mode(&first.policy_file), mode(&data.join("kek"))),
        (0o700, 0o600, 0o600, 0o600)
    );
    let address = server.local_addr().unwrap();
    let (end, ending) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = ending.await;
    }));
    let send = async |request: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream).await
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for _ in 0..600 {
        if send(get("/readyz")).await.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let pem = pem::parse(std::fs::read(&first.key_file).unwrap()).unwrap();
    let key = SigningKey::from_der(pem.contents(), Algorithm::Es256).unwrap();
    let ask = async |audience: &str| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({ "iss": first.client, "sub": first.client, "aud": "https://issuer.example", "iat": now,
            "exp": now + 60, "jti": format!("{audience}{:?}", std::time::Instant::now()) });
        let assertion = key.sign_as("client-authentication+jwt", &claims).unwrap();
        let body = json!({ "profile": "access", "aud": audience }).to_string();
        send(format!(
            "POST /v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {assertion}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    };
    let answer = ask("example").await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(ask("other").await.refusal(), (403, "invalid_target".to_owned()));

    // The policy is read again; one that is broken changes nothing.
    let policy = std::fs::read_to_string(&first.policy_file).unwrap();
    std::fs::write(&first.policy_file, policy.replace("\"example\"", "\"other\"")).unwrap();
    let mut status = 0;
    for _ in 0..100 {
        status = ask("other").await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status, 200);
    // It is looked at every second, and taken at the second look.
    std::fs::write(&first.policy_file, "version = 2").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ask("other").await.status, 200);
    std::fs::write(&first.policy_file, policy).unwrap();
    end.send(()).unwrap();
    running.await.unwrap();

    let again = Server::start(config(&data)).await.unwrap();
    assert_eq!(again.first_run(), None);
    drop(again);
    // A ring whose key is lost is not begun anew.
    std::fs::remove_file(data.join("kek")).unwrap();
    let error = Server::start(config(&data)).await.unwrap_err().to_string();
    assert!(error.contains("kek"), "{error}");
    assert!(!data.join("kek").exists());
}

#[tokio::test]
async fn a_key_that_is_there_without_a_policy_is_kept_and_is_the_one_in_the_policy_that_is_made() {
    let directory = Directory::new("kept-key");
    let data = directory.0.join("data");
    // A start that was cut off while it wrote the key has left this.
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join(".new-Ab12cD"), "-----BEGIN").unwrap();
    // And this is somebody else's.
    std::fs::write(data.join(".new-policy.toml"), "version = 1").unwrap();
    assert!(!Server::start(config(&data)).await.unwrap().first_run().unwrap().is_key_kept);
    let mut names: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [".new-policy.toml", "client.pem", "kek", "policy.toml", "ring"],
        "nothing of how they were written is left"
    );
    let (policy, key) = (data.join("policy.toml"), data.join("client.pem"));
    let [before, pem] = [&policy, &key].map(|file| std::fs::read(file).unwrap());
    std::fs::remove_file(&policy).unwrap();
    assert!(Server::start(config(&data)).await.unwrap().first_run().unwrap().is_key_kept);
    assert_eq!([&policy, &key].map(|file| std::fs::read(file).unwrap()), [before, pem.clone()]);

    // What is no such key is somebody's all the same, and so is one that others may read.
    let text = String::from_utf8(pem.clone()).unwrap();
    let (_, other) = SigningKey::generate_exportable(Algorithm::Ed25519).unwrap();
    let other = pem::encode(&pem::Pem::new("PRIVATE KEY", other.as_bytes()));
    for (contents, mode, word) in [
        ("", 0o600, "write the policy"),
        (&text[..text.len() / 2], 0o600, "write the policy"),
        (&*text.replace("PRIVATE KEY", "CERTIFICATE"), 0o600, "write the policy"),
        (&*other, 0o600, "write the policy"),
        (&*text, 0o644, "chmod"),
    ] {
        std::fs::remove_file(&policy).unwrap_or_default();
        std::fs::write(&key, contents).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Server::start(config(&data)).await.unwrap_err().to_string();
        assert!(error.contains("client.pem") && error.contains(word), "{error}");
        assert_eq!(std::fs::read_to_string(&key).unwrap(), contents);
        assert!(!policy.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again_and_a_key_that_others_may_read_is_not_used() {
    let directory = Directory::new("tls");
    std::fs::create_dir_all(&directory.0).unwrap();
    let file = |name: &str| directory.0.join(name);
    let write = |name: &str, text: &[u8], mode: u32| {
        std::fs::write(file(name), text).unwrap();
        std::fs::set_permissions(file(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let config = || {
        let names = [("directory", "data"), ("tls_certificate_file", "c.pem"), ("tls_key_file", "k.pem")];
        let places = names.map(|(name, place)| format!("{name} = '{}'\n", file(place).display())).concat();
        const NONE: [(&str, &str); 0] = [];
        Config::read(&(places + "listen = '127.0.0.1:0'\nissuer = 'https://issuer.example'"), NONE).unwrap()
    };
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let (good, next) = (first.service(), second.service());
    assert!(Server::start(config()).await.unwrap_err().to_string().contains("c.pem"));
    write("c.pem", &good.certificates, 0o644);
    for (key, mode, word) in [(&good.key, 0o644, "chmod"), (&good.key, 0o620, "chmod"), (&next.key, 0o600, "key")] {
        write("k.pem", key, mode);
        let error = Server::start(config()).await.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    write("k.pem", &good.key, 0o640);
    let server = Server::start(config()).await.unwrap();
    let address = server.local_addr().unwrap();
    let (end, ending) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = ending.await;
    }));
    let serves = async |authority: &Authority| {
        let stream = TcpStream::connect(address).await.unwrap();
        let Ok(mut stream) = secure(client(authority, None, &[], BOTH), stream).await else { return false };
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        read(&mut stream).await.status == 200
    };
    assert!(serves(&first).await && !serves(&second).await);
    // One after the other, with time enough for half of it to be seen.
    write("c.pem", &next.certificates, 0o644);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(serves(&first).await && !serves(&second).await);
    write("k.pem", &next.key, 0o600);
    let mut has_changed = false;
    for _ in 0..100 {
        has_changed = serves(&second).await;
        if has_changed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(has_changed && !serves(&first).await);
    end.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_ended_at_once_leaves_no_key_without_its_private_part() {
    for by_then in 0..=2 {
        let directory = Directory::new(&format!("ended-{by_then}"));
        let ring = directory.0.join("ring");
        let published = || -> Vec<String> {
            let Ok(set) = std::fs::read(ring.join("jwks.json")) else { return Vec::new() };
            let set: serde_json::Value = serde_json::from_slice(&set).unwrap();
            set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
        };
        let server = Server::start(config(&directory.0)).await.unwrap();
        while published().len() < by_then {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let told = std::time::Instant::now();
        server.run(std::future::ready(())).await;
        // A ring looks every ten seconds, and waits for none of them.
        assert!(told.elapsed() < Duration::from_secs(4), "{by_then}: {:?}", told.elapsed());
        assert!(published().len() >= by_then);
        for kid in published() {
            let file = ring.join("keys").join(format!("{kid}.sealed"));
            assert!(file.exists(), "{}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_signed_for_the_base_url_that_is_set_and_for_no_other() {
    let settings = "listen = '127.0.0.1:0'\nbase_url = 'https://inside.example:8443'";
    let served = Served::new("base-url", settings).await;
    served.ready().await;
    let wish = json!({ "profile": "access", "aud": "example" });
    assert_eq!(served.post_as("https://inside.example:8443", "/v1/tokens", &wish).await.status, 200);
    for other in [ISSUER, "https://inside.example"] {
        assert_eq!(served.post_as(other, "/v1/tokens", &wish).await.status, 401, "{other}");
    }
}

#[tokio::test]
async fn a_policy_that_is_named_and_not_there_is_not_made_up() {
    let directory = Directory::new("no-policy");
    let mut config = config(&directory.0);
    config.policy_file = Some(directory.0.join("elsewhere.toml"));
    let error = Server::start(config).await.unwrap_err().to_string();
    assert!(error.contains("elsewhere.toml"), "{error}");
    assert!(!directory.0.join("client.pem").exists());
}

#[tokio::test]
async fn a_policy_that_others_may_write_is_not_in_force() {
    let directory = Directory::new("open-policy");
    let data = directory.0.join("data");
    let policy = data.join("policy.toml");
    drop(Server::start(config(&data)).await.unwrap());
    let set = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    for (path, mode, usual) in [(&policy, 0o620, 0o600), (&policy, 0o602, 0o600), (&data, 0o770, 0o700)] {
        set(path, mode);
        let error = Server::start(config(&data)).await.unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("chmod go-w"), "{error}");
        set(path, usual);
    }
    drop(Server::start(config(&data)).await.unwrap());
}

#[tokio::test]
async fn nobody_waits_for_a_fifo_where_a_file_is_to_be() {
    let directory = Directory::new("fifo");
    let data = directory.0.join("data");
    drop(Server::start(config(&data)).await.unwrap());
    let fifo = directory.0.join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let fault = async |set: fn(&mut Config, PathBuf)| {
        let mut config = config(&data);
        set(&mut config, fifo.clone());
        let started = tokio::time::timeout(Duration::from_secs(20), Server::start(config)).await;
        started.expect("nobody waits").unwrap_err().to_string()
    };
    for error in [
        fault(|config, fifo| config.policy_file = Some(fifo)).await,
        fault(|config, fifo| config.secret_key_file = Some(fifo)).await,
        fault(|config, fifo| config.kek = vec![format!("file:{}", fifo.display())]).await,
        fault(|config, fifo| config.directory = fifo).await,
    ] {
        assert!(error.contains("fifo"), "{error}");
    }
}

#[tokio::test]
async fn a_key_for_secrets_that_others_may_read_or_that_is_short_is_not_used() {
    let directory = Directory::new("secret-key");
    std::fs::create_dir_all(&directory.0).unwrap();
    let file = directory.0.join("secrets.key");
    let start = async || {
        let mut config = config(&directory.0.join("data"));
        config.secret_key_file = Some(file.clone());
        Server::start(config).await.map(drop).map_err(|error| error.to_string())
    };
    let write = |text: &str, mode: u32| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    assert!(start().await.unwrap_err().contains("secrets.key"));
    for (text, mode, word) in
        [("k".repeat(32), 0o644, "chmod"), ("k".repeat(32), 0o640, "chmod"), ("k".repeat(31), 0o600, "32")]
    {
        write(&text, mode);
        assert!(start().await.unwrap_err().contains(word));
    }
    for (length, is_good) in [(32, true), (4_096, true), (4_097, false)] {
        write(&"k".repeat(length), 0o600);
        assert_eq!(start().await.is_ok(), is_good, "{length}");
    }
}
