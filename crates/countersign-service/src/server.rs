//! A service that runs by itself, on one machine with a directory.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::{Algorithm, SigningKey};
use countersign_issuer::{DirectoryStore, Kek, KekRing, KekSource, Ring};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};

use crate::authenticate::SecretKey;
use crate::config::Config;
use crate::policy::{MAX_POLICY_BYTES, Policy};
use crate::serve::{ConnectionLimits, serve};
use crate::service::TokenService;

/// How often is looked whether the policy has changed.
const POLICY_POLL: Duration = Duration::from_secs(2);

/// The client that the first run makes.
const FIRST_CLIENT: &str = "first";

/// The whole service on one machine: a ring, a policy and a listener, over a directory. `countersign serve` is this.
///
/// ```text
/// <directory>        0700
///   ring/            the ring (DirectoryStore)
///   kek              0600   what its private keys are sealed under
///   policy.toml      0600   made by the first run
///   client.pem       0600   the private key of the client in it; to be moved to where that client is
/// ```
pub struct Server {
    service: TokenService,
    listener: TcpListener,
    limits: ConnectionLimits,
    policy_file: PathBuf,
    policy: String,
    first_run: Option<FirstRun>,
}

/// What the first run has made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstRun {
    /// The only client there is.
    pub client: &'static str,
    /// Its private key. It is nowhere else, and the service does not need it.
    pub key_file: PathBuf,
    /// What says so.
    pub policy_file: PathBuf,
}

/// Why a service did not start: what was to be done, and why that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError(Box<str>);

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ServerError {}

impl Server {
    /// Opens everything that `config` names, and makes what a first run needs: a directory, a key-encryption key, a client
    /// with a new key and a policy for it. There is no secret that two of them have in common.
    ///
    /// It does not wait for keys: until there are some, it is not ready (`/readyz`).
    ///
    /// # Errors
    /// [`ServerError`]. What was made by then stays and is used by the next start.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let opened = tokio::task::spawn_blocking(move || Opened::open(config)).await;
        let opened = opened.map_err(|_| ServerError("opening ended early".into()))??;
        let Opened { config, store, keks, policy_file, text, first_run, secret_key } = opened;
        let policy = Policy::parse(&text, &config.ring);
        let policy = policy.map_err(|error| failed("read", &policy_file, &error))?;
        let ring = Ring::builder(&*config.issuer, config.ring, Arc::new(store), keks).start().await;
        let ring = ring.map_err(|error| ServerError(error.to_string().into()))?;
        let mut builder = TokenService::builder(ring, policy);
        if let Some(key) = secret_key {
            builder = builder.secret_key(key);
        }
        let service = builder.build().map_err(|error| ServerError(error.to_string().into()))?;
        let listener = TcpListener::bind(config.listen).await;
        let listener =
            listener.map_err(|error| ServerError(format!("cannot listen on {}: {error}", config.listen).into()))?;
        Ok(Self { service, listener, limits: config.limits, policy_file, policy: text, first_run })
    }

    /// What is listened on.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What this start has made, if it was the first.
    #[must_use]
    pub fn first_run(&self) -> Option<&FirstRun> {
        self.first_run.as_ref()
    }

    /// The service itself.
    #[must_use]
    pub fn service(&self) -> &TokenService {
        &self.service
    }

    /// Serves until `shutdown`, and reads the policy again when its file changes. A policy that is not good changes nothing
    /// but the log. What the ring is about to write at the end is written, if it takes no longer than a request may.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let serving = serve(self.listener, self.service.router(), self.limits, shutdown);
        tokio::select! {
            () = serving => {}
            () = watch(&self.service, &self.policy_file, self.policy) => {}
        }
        // A key that is announced while its private part is in this process only would be lost with it, and the slot without
        // a standby until it is given up.
        self.service.ring().settled_within(self.limits.ending_time).await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// Never ends.
async fn watch(service: &TokenService, file: &Path, mut seen: String) {
    let mut ticks = interval(POLICY_POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let path = file.to_owned();
        let read = tokio::task::spawn_blocking(move || read_policy(&path)).await;
        let Ok(Ok(text)) = read else {
            tracing::warn!(target: "countersign::service", "the policy cannot be read; the one in force stays");
            continue;
        };
        if text == seen {
            continue;
        }
        if let Err(error) = service.reload(&text) {
            tracing::error!(target: "countersign::service", %error, "the policy is not good; the one in force stays");
        }
        seen = text;
    }
}

/// What is opened before anything runs. Blocks.
struct Opened {
    config: Config,
    store: DirectoryStore,
    keks: KekRing,
    policy_file: PathBuf,
    text: String,
    first_run: Option<FirstRun>,
    secret_key: Option<SecretKey>,
}

impl Opened {
    fn open(config: Config) -> Result<Self, ServerError> {
        let directory = &config.directory;
        make_directory(directory).map_err(|error| failed("make", directory, &error))?;
        let secret_key = config.secret_key_file.as_deref().map(secret_key).transpose()?;
        let kek = kek(directory)?;
        let keks = KekRing::new([kek]).map_err(|error| ServerError(error.to_string().into()))?;
        let ring = directory.join("ring");
        let store = DirectoryStore::open(&ring).map_err(|error| failed("open", &ring, &error))?;
        let usual = directory.join("policy.toml");
        let first_run = match &config.policy_file {
            None if !exists(&usual) => Some(first_run(&config, &usual)?),
            _ => None,
        };
        let policy_file = config.policy_file.clone().unwrap_or(usual);
        let text = read_policy(&policy_file).map_err(|error| failed("read", &policy_file, &error))?;
        Ok(Self { config, store, keks, policy_file, text, first_run, secret_key })
    }
}

/// A client with a key of its own, and a policy under which it may have tokens signed that are good for nobody.
fn first_run(config: &Config, policy_file: &Path) -> Result<FirstRun, ServerError> {
    let key_file = config.directory.join("client.pem");
    let (key, private) = SigningKey::generate_exportable(Algorithm::Es256)
        .map_err(|error| failed("make a key for", &key_file, &error))?;
    let jwk = key.public_jwk().map_err(|error| failed("make a key for", &key_file, &error))?;
    // What was left by a start that did not come as far as the policy is nobody's key.
    let _ = fs::remove_file(&key_file);
    let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_bytes()));
    write_new(&key_file, pem.as_bytes()).map_err(|error| failed("write", &key_file, &error))?;
    let slot = config.ring.slots.first().map_or("", |slot| &*slot.name);
    let lifetime = config.ring.slots.first().map_or(300, |slot| config.ring.max_lifetime(slot).as_secs().min(300));
    let jwks = json!({ "keys": [jwk] });
    let text = format!(
        "# Who may have which tokens signed. It is read again when it changes; one that is not good changes nothing.\n\
         version = 1\nrevision = \"first run\"\n\n\
         [profiles.access]\nslots = [\"{slot}\"]\nlifetime = {lifetime}\n\n\
         [clients.{FIRST_CLIENT}]\njwks = '{jwks}'\n\n\
         [clients.{FIRST_CLIENT}.grants.example]\nprofiles = [\"access\"]\n\
         subjects = {{ self = true, prefixes = [\"user:\"] }}\naudiences = {{ exact = [\"example\"] }}\n\
         scopes = [\"example:read\"]\n"
    );
    write_new(policy_file, text.as_bytes()).map_err(|error| failed("write", policy_file, &error))?;
    Ok(FirstRun { client: FIRST_CLIENT, key_file, policy_file: policy_file.to_owned() })
}

/// A new one only for a ring that does not exist: keys that are sealed under a lost one would be lost too.
fn kek(directory: &Path) -> Result<Kek, ServerError> {
    let file = directory.join("kek");
    let kek = match exists(&file) || exists(&directory.join("ring").join("state.json")) {
        true => KekSource::file(&file).load(),
        false => Kek::create_file(&file),
    };
    kek.map_err(|error| failed("use", &file, &error))
}

fn secret_key(file: &Path) -> Result<SecretKey, ServerError> {
    /// No key is longer.
    const MOST: u64 = 4_096;
    let mut octets = zeroize::Zeroizing::new(Vec::with_capacity(MOST as usize));
    let opened = File::open(file).map_err(|error| failed("read", file, &error))?;
    let mode = opened.metadata().map_err(|error| failed("read", file, &error))?.permissions();
    if std::os::unix::fs::PermissionsExt::mode(&mode) & 0o077 != 0 {
        return Err(failed("use", file, &"others may read it: chmod go= it"));
    }
    opened.take(MOST).read_to_end(&mut octets).map_err(|error| failed("read", file, &error))?;
    SecretKey::new(octets.trim_ascii()).ok_or_else(|| failed("use", file, &"it has less than 32 octets"))
}

fn read_policy(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than is allowed, so that what is too long is found to be.
    File::open(file)?.take(MAX_POLICY_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn write_new(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(file)?;
    opened.write_all(text)?;
    opened.sync_all()
}

/// Also if it cannot be told: then nothing is made in its place.
fn exists(file: &Path) -> bool {
    file.try_exists().unwrap_or(true)
}

fn failed(what: &str, place: &Path, why: &dyn fmt::Display) -> ServerError {
    ServerError(format!("cannot {what} {}: {why}", place.display()).into())
}
