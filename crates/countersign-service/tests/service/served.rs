//! A service that runs by itself, and its first client.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use countersign::claims::signed_request::RequestSigner;
use countersign::{Algorithm, SigningKey, UnixTime};
use countersign_service::{Config, Server};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::bench::{Answer, ISSUER, read};

/// In a directory of its own, which are both gone with the test.
pub(crate) struct Served {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    _end: oneshot::Sender<()>,
}

impl Served {
    pub(crate) async fn new(name: &str, settings: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        let settings = settings.replace("DIRECTORY", directory.to_str().unwrap());
        let issuer = if settings.contains("issuer") { String::new() } else { format!("issuer = '{ISSUER}'\n") };
        let settings = issuer + &settings;
        let data = directory.join("data");
        let config = Config::read(&settings, [("COUNTERSIGN_DIRECTORY", data.to_str().unwrap())]).unwrap();
        let server = Server::start(config).await.unwrap();
        let (address, metrics) = (server.local_addr().unwrap(), server.metrics_addr().unwrap());
        let (end, ending) = oneshot::channel::<()>();
        tokio::spawn(server.run(async {
            let _ = ending.await;
        }));
        Self { directory, address, metrics, _end: end }
    }

    pub(crate) fn policy_file(&self) -> PathBuf {
        self.directory.join("data/policy.toml")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        get(self.address, path).await
    }

    /// Of the first client's, which it signs.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(ISSUER, path, body).await
    }

    /// The same of a client that knows the service as `base_url`.
    pub(crate) async fn post_as(&self, base_url: &str, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let pem = std::fs::read(self.directory.join("data/client.pem")).unwrap();
        let key = SigningKey::from_pem(&pem, Algorithm::Es256).unwrap();
        let signer = RequestSigner::new(key, "first", ISSUER).unwrap();
        let now = UnixTime::from(SystemTime::now());
        let token = signer.sign("POST", &format!("{base_url}{path}"), body.as_bytes(), now).unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        send(self.address, &request).await
    }

    /// Until it is.
    pub(crate) async fn ready(&self) {
        for _ in 0..600 {
            if self.get("/readyz").await.status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it is not ready");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

async fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read(&mut stream).await
}
