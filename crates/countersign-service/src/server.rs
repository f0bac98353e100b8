//! A service that runs by itself.

use std::fmt;
use std::fs::{self, File};
use std::future::pending;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use countersign::{Algorithm, FileSink, SigningKey};
use countersign_issuer::{Kek, KekRing, KekSource, KeyStore, Ring, StartError};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroizing;

use crate::audit::{Audit, AuditOptions};
use crate::authenticate::SecretKey;
use crate::config::{Config, MetricsAt, TlsFiles};
use crate::files::{self, MAX_KEY_BYTES, Others};
use crate::numbers;
use crate::place::RingPlace;
use crate::policy::Policy;
use crate::policy_file::{self, PolicyFault};
use crate::serve::{ConnectionLimits, accept, serve};
use crate::service::TokenService;
use crate::sha256::sha256;
use crate::tls::{MAX_PEM_BYTES, Tls, TlsPem};

/// How often is looked whether the policy, or what TLS needs, has changed.
const POLL: Duration = Duration::from_secs(2);

/// How often what was measured is put into buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// What stands around a private key in PEM (RFC 7468 section 10).
const PRIVATE_KEY: &str = "PRIVATE KEY";

/// The client that the first run makes.
const FIRST_CLIENT: &str = "first";

/// The whole service: a ring, a policy and a listener, over a directory, or with the ring in S3, where several of them have one
/// between them. `countersign serve` is this.
///
/// ```text
/// <directory>        0700
///   ring/            the ring (DirectoryStore)
///   kek              0600   what its private keys are sealed under
///   policy.toml      0600   made by the first run
///   client.pem       0600   the private key of the client in it; to be moved to where that client is
///   audit-subjects.key 0600 what subjects are hashed under in the audit log, if they are
/// ```
///
/// What is elsewhere by the [`Config`] is not made here, and where all is, nor is the directory.
pub struct Server {
    service: TokenService,
    listener: TcpListener,
    limits: ConnectionLimits,
    tls: Option<SecuredBy>,
    policy_file: PathBuf,
    policy: String,
    first_run: Option<FirstRun>,
    metrics: Option<Scraped>,
}

struct SecuredBy {
    tls: Tls,
    files: TlsFiles,
    /// What of them was read last.
    seen: Thumbprint,
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
    /// with a new key and a policy for it. There is no secret that two of them have in common. A `client.pem` that is there
    /// without a policy is kept, and is the key in the policy that is made.
    ///
    /// It does not wait for keys: until there are some, it is not ready (`/readyz`).
    ///
    /// # Errors
    /// [`ServerError`]. What was made by then stays and is used by the next start.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let opened = tokio::task::spawn_blocking(move || Opened::open(config)).await;
        let opened = opened.map_err(|_| ServerError("opening ended early".into()))??;
        let Opened {
            config,
            place,
            store,
            keks,
            policy_file,
            text,
            policy,
            first_run,
            secret_key,
            pem,
            audit,
            revocations,
        } = opened;
        // Before the ring, which begins to count with its start.
        let metrics = Scraped::of(&config).await?;
        let mut ring = Ring::builder(&*config.issuer, config.ring, store, keks);
        if let Some(sink) = revocations {
            ring = ring.revocations(Arc::new(sink));
        }
        let ring = ring.start().await.map_err(|error| match error {
            StartError::State(why) => {
                let issuer = &config.issuer;
                ServerError(format!("the ring in {place} cannot be opened for {issuer} with `kek`: {why}").into())
            }
            error => ServerError(error.to_string().into()),
        })?;
        let mut builder = TokenService::builder(ring, policy);
        if let Some(key) = secret_key {
            builder = builder.secret_key(key);
        }
        if let Some(url) = config.base_url {
            builder = builder.base_url(url);
        }
        if let Some(audit) = audit {
            builder = builder.audit(audit);
        }
        if let Some(per_minute) = NonZeroU32::new(config.failed_authentications) {
            builder = builder.failed_authentications(per_minute);
        }
        let service = builder.build().map_err(|error| ServerError(error.to_string().into()))?;
        let tls = match config.tls.zip(pem) {
            Some((files, pem)) => {
                let tls = Tls::new(&pem, service.pinned_certificates());
                let tls = tls.map_err(|error| failed("use", &files.certificate, &error))?;
                Some(SecuredBy { tls, files, seen: thumbprint_of(&pem) })
            }
            None => None,
        };
        let listener = listen(config.listen).await?;
        Ok(Self { service, listener, limits: config.limits, tls, policy_file, policy: text, first_run, metrics })
    }

    /// What is listened on.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where `/metrics` is served by itself.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn metrics_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.metrics.as_ref().and_then(|metrics| metrics.listener.as_ref()).map(TcpListener::local_addr).transpose()
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

    /// Serves until `shutdown`, and reads the policy and what TLS needs again when their files change. What is not good
    /// changes nothing but the log. What the ring has begun is brought to its end, if that takes no longer than a request
    /// may; what it would do next, such as to make a key, is not waited for.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { service, listener, limits, tls: secured, policy_file, policy, metrics, .. } = self;
        let tls = secured.as_ref().map(|secured| secured.tls.clone());
        let (mut router, mut apart, mut handle) = (service.router(), None, None);
        if let Some(Scraped { handle: shown, listener }) = metrics {
            handle = Some(shown.clone());
            match listener {
                None => router = router.merge(scraped(shown)),
                Some(listener) => apart = Some(serve(listener, scraped(shown), metrics_limits(), pending())),
            }
        }
        tokio::select! {
            () = accept(listener, tls, router, limits, shutdown) => {}
            () = watch(&service, &policy_file, policy) => {}
            () = watch_tls(secured) => {}
            () = or_never(apart) => {}
            () = or_never(handle.map(keep_up)) => {}
        }
        service.write_all_down().await;
        // A key that is announced while its private part is in this process only would be lost with it, and the slot without
        // a standby until it is given up. What is merely due is left to the next start.
        service.ring().end_within(limits.ending_time).await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// Never ends if there is none.
async fn or_never<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// `/metrics`, and where it is served.
struct Scraped {
    handle: PrometheusHandle,
    /// `None`: beside everything else.
    listener: Option<TcpListener>,
}

impl Scraped {
    async fn of(config: &Config) -> Result<Option<Self>, ServerError> {
        let address = match config.metrics {
            MetricsAt::Address(address) => Some(address),
            // An `http` issuer is on loopback.
            MetricsAt::Loopback if config.listen.ip().is_loopback() && config.issuer.starts_with("http:") => None,
            _ => return Ok(None),
        };
        let Some(handle) = numbers::recorder() else {
            // Whoever has installed another one serves that.
            return match address {
                Some(_) => Err(ServerError("cannot serve metrics: another recorder is installed".into())),
                None => Ok(None),
            };
        };
        let listener = match address {
            None => None,
            Some(address) => Some(listen(address).await?),
        };
        Ok(Some(Self { handle, listener }))
    }
}

/// Those of a few scrapers.
fn metrics_limits() -> ConnectionLimits {
    ConnectionLimits { connections: 16, ending_time: Duration::from_secs(1), ..ConnectionLimits::default() }
}

/// `/metrics`, and nothing else.
fn scraped(handle: PrometheusHandle) -> Router {
    let shown =
        async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4"), (CACHE_CONTROL, "no-store")], handle.render());
    Router::new().route("/metrics", get(shown))
}

/// Never ends: what is measured would otherwise be kept until somebody asks.
async fn keep_up(handle: PrometheusHandle) {
    let mut ticks = interval(METRICS_UPKEEP);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| ServerError(format!("cannot listen on {address}: {error}").into()))
}

/// Never ends.
async fn watch(service: &TokenService, file: &Path, mut seen: String) {
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_good = true;
    loop {
        ticks.tick().await;
        let path = file.to_owned();
        let read = tokio::task::spawn_blocking(move || policy_file::read(&path)).await;
        let text = match read {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => {
                tracing::warn!(target: "countersign::service", %error, "the policy cannot be read; the one in force stays");
                numbers::policy_failing(true);
                continue;
            }
            Err(_) => continue,
        };
        if text != seen {
            let reloaded = service.reload(&text);
            if let Err(error) = &reloaded {
                tracing::error!(target: "countersign::service", %error, "the policy is not good; the one in force stays");
            }
            is_good = reloaded.is_ok();
            seen = text;
        }
        numbers::policy_failing(!is_good);
    }
}

/// Never ends. A certificate and a key that were written one after the other are a pair at the next look.
async fn watch_tls(secured: Option<SecuredBy>) {
    let Some(SecuredBy { tls, files, mut seen }) = secured else { return pending().await };
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let paths = files.clone();
        let read = tokio::task::spawn_blocking(move || read_pem(&paths)).await;
        let pem = match read {
            Ok(Ok(pem)) => pem,
            Ok(Err(error)) => {
                tracing::warn!(target: "countersign::service", %error, "TLS: what is in force stays");
                continue;
            }
            Err(_) => continue,
        };
        let next = thumbprint_of(&pem);
        if next == seen {
            continue;
        }
        seen = next;
        match tls.reload(&pem) {
            Ok(()) => tracing::info!(target: "countersign::service", "TLS: another certificate in force"),
            Err(error) => tracing::error!(target: "countersign::service", %error, "TLS: what is in force stays"),
        }
    }
}

/// What is opened before anything runs. Blocks.
struct Opened {
    config: Config,
    place: RingPlace,
    store: Arc<dyn KeyStore>,
    keks: KekRing,
    policy_file: PathBuf,
    text: String,
    policy: Policy,
    first_run: Option<FirstRun>,
    secret_key: Option<SecretKey>,
    pem: Option<TlsPem>,
    audit: Option<Audit>,
    revocations: Option<FileSink>,
}

impl Opened {
    fn open(config: Config) -> Result<Self, ServerError> {
        let directory = &config.directory;
        if config.store.is_none() || config.policy_file.is_none() {
            make_directory(directory).map_err(|error| failed("make", directory, &error))?;
        }
        let secret_key = policy_file::secret_key(&config).map_err(|fault| ServerError(fault.to_string().into()))?;
        let pem = config.tls.as_ref().map(read_pem).transpose()?;
        let keks = KekRing::new(keks(&config)?).map_err(|error| ServerError(error.to_string().into()))?;
        let place = config.store.clone().unwrap_or_else(|| RingPlace::Directory(directory.join("ring")));
        let store = place.open().map_err(|error| ServerError(format!("cannot open {place}: {error}").into()))?;
        let usual = directory.join("policy.toml");
        let first_run = match &config.policy_file {
            None if !exists(&usual) => Some(first_run(&config, &usual)?),
            _ => None,
        };
        let policy_file = config.policy_file.clone().unwrap_or(usual);
        let loaded = policy_file::load(&policy_file, &config, secret_key.as_ref());
        let (text, policy) = loaded.map_err(|fault| match fault {
            PolicyFault::File(text) => ServerError(text),
            fault => failed("use", &policy_file, &fault),
        })?;
        let audit = config.audit_file.as_deref().map(|file| audit(&config, file)).transpose()?;
        let revocations = config.revocations_file.as_deref().map(revocations).transpose()?;
        Ok(Self {
            config,
            place,
            store,
            keks,
            policy_file,
            text,
            policy,
            first_run,
            secret_key,
            pem,
            audit,
            revocations,
        })
    }
}

/// A client with a key of its own, and a policy under which it may have tokens signed that are good for nobody.
fn first_run(config: &Config, policy_file: &Path) -> Result<FirstRun, ServerError> {
    let key_file = config.directory.join("client.pem");
    // One that is there was left by a start that did not come as far as the policy, or is somebody's whose policy is gone: what
    // this start has not made it does not destroy.
    let key = if exists(&key_file) { kept_key(&key_file)? } else { new_key(&key_file)? };
    let jwk = key.public_jwk().map_err(|error| failed("use", &key_file, &error))?;
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

fn new_key(file: &Path) -> Result<SigningKey, ServerError> {
    let (key, private) =
        SigningKey::generate_exportable(Algorithm::Es256).map_err(|error| failed("make a key for", file, &error))?;
    let pem = Zeroizing::new(pem::encode(&pem::Pem::new(PRIVATE_KEY, private.as_bytes())));
    write_new(file, pem.as_bytes()).map_err(|error| failed("write", file, &error))?;
    Ok(key)
}

fn kept_key(file: &Path) -> Result<SigningKey, ServerError> {
    let octets = private_file(file)?;
    let pem = pem::parse(&*octets).ok().filter(|pem| pem.tag() == PRIVATE_KEY);
    let key = pem.and_then(|pem| {
        let der = Zeroizing::new(pem.into_contents());
        SigningKey::from_der(&der, Algorithm::Es256).ok()
    });
    key.ok_or_else(|| {
        let why = "there is no policy, and it is no key that a policy can be made for (ES256, PRIVATE KEY): write the \
                   policy, or move it away to have a new one";
        failed("use", file, &why)
    })
}

/// Those that are named, or else the directory's own.
fn keks(config: &Config) -> Result<Vec<Kek>, ServerError> {
    if config.kek.is_empty() {
        return Ok(vec![kek(&config.directory)?]);
    }
    let load = |text: &String| {
        let failed = |error: &dyn fmt::Display| ServerError(format!("`kek`: {error}").into());
        let source: KekSource = text.parse().map_err(|error| failed(&error))?;
        let source = if config.kek_group_may_read { source.group_may_read() } else { source };
        source.load().map_err(|error| failed(&error))
    };
    config.kek.iter().map(load).collect()
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

fn audit(config: &Config, file: &Path) -> Result<Audit, ServerError> {
    let mut options = AuditOptions::new().when_full(config.audit_when_full);
    if config.hashes_audit_subjects {
        options = options.hash_subjects(&*subjects_key(&config.directory.join("audit-subjects.key"))?);
    }
    Audit::open(file, options).map_err(|error| failed("write the audit log", file, &error))
}

/// A new one if there is none: what was hashed under a lost one stays as it is.
fn subjects_key(file: &Path) -> Result<Zeroizing<[u8; 32]>, ServerError> {
    let mut key = Zeroizing::new([0; 32]);
    if exists(file) {
        let octets = private_file(file)?;
        let octets = octets.as_slice().try_into().map_err(|_| failed("use", file, &"it has not 32 octets"))?;
        *key = octets;
    } else {
        aws_lc_rs::rand::fill(&mut *key).map_err(|error| failed("make", file, &error))?;
        write_new(file, &*key).map_err(|error| failed("write", file, &error))?;
    }
    Ok(key)
}

fn revocations(file: &Path) -> Result<FileSink, ServerError> {
    FileSink::open(file).map_err(|error| failed("write", file, &error))
}

/// A key that nobody else may read.
fn private_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, ServerError> {
    files::read(file, MAX_KEY_BYTES, Others::Nothing).map_err(|error| failed("use", file, &error))
}

fn read_pem(files: &TlsFiles) -> Result<TlsPem, ServerError> {
    let read =
        |file: &Path, others| files::read(file, MAX_PEM_BYTES, others).map_err(|error| failed("use", file, &error));
    // Another certificate than that of the key serves nobody; another authority would vouch for whom it likes.
    let certificates = read(&files.certificate, Others::Anything)?;
    let key = read(&files.key, Others::GroupReads)?;
    let mut pem = TlsPem::new(&**certificates, &**key);
    if let Some(file) = &files.client_authorities {
        pem = pem.client_authorities(&**read(file, Others::AllRead)?);
    }
    Ok(pem)
}

/// Of everything that was read, so that of the key nothing is kept.
fn thumbprint_of(pem: &TlsPem) -> Thumbprint {
    let authorities = pem.client_authorities.as_deref().unwrap_or_default();
    [&*pem.certificates, &**pem.key, authorities].map(sha256)
}

type Thumbprint = [[u8; 32]; 3];

fn make_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn write_new(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
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
