//! A service that runs by itself.
//!
//! - `server/open.rs`: what it opens, and what a first run makes. `server/watch.rs`: what it reads again.
//!   `server/metrics.rs`: `/metrics`.

mod metrics;
mod open;
mod watch;

use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_issuer::{Ring, StartError};
use tokio::net::TcpListener;

use self::metrics::{Scraped, keep_up, metrics_limits, scraped};
use self::open::{Opened, thumbprint_of};
use self::watch::{SecuredBy, watch, watch_tls};
use crate::config::Config;
use crate::serve::{ConnectionLimits, accept, serve};
use crate::service::TokenService;
use crate::tls::Tls;

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

/// What the first run has made, or found: a key that was there without a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FirstRun {
    /// The only client there is.
    pub client: &'static str,
    /// Its private key. If this run has made it, it is nowhere else; the service does not need it.
    pub key_file: PathBuf,
    /// Whether the key was there already.
    pub is_key_kept: bool,
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
        let config = opened.config;
        // Before the ring, which begins to count with its start.
        let metrics = Scraped::of(&config).await?;
        let mut ring = Ring::builder(&*config.issuer, config.ring, opened.store, opened.keks);
        if let Some(sink) = opened.revocations {
            ring = ring.revocations(Arc::new(sink));
        }
        let ring = ring.start().await.map_err(|error| match error {
            StartError::State(why) => {
                let (place, issuer) = (opened.place, &config.issuer);
                ServerError(format!("the ring in {place} cannot be opened for {issuer} with `kek`: {why}").into())
            }
            error => ServerError(error.to_string().into()),
        })?;
        let mut builder = TokenService::builder(ring, opened.policy);
        if let Some(key) = opened.secret_key {
            builder = builder.secret_key(key);
        }
        if let Some(url) = config.base_url {
            builder = builder.base_url(url);
        }
        if let Some(audit) = opened.audit {
            builder = builder.audit(audit);
        }
        if let Some(per_minute) = NonZeroU32::new(config.failed_authentications) {
            builder = builder.failed_authentications(per_minute);
        }
        let service = builder.build().map_err(|error| ServerError(error.to_string().into()))?;
        let tls = match config.tls.zip(opened.pem) {
            Some((files, pem)) => {
                let tls = Tls::new(&pem, service.pinned_certificates());
                let tls = tls.map_err(|error| failed("use", &files.certificate, &error))?;
                Some(SecuredBy { tls, files, seen: thumbprint_of(&pem) })
            }
            None => None,
        };
        let listener = listen(config.listen).await?;
        Ok(Self {
            service,
            listener,
            limits: config.limits,
            tls,
            policy_file: opened.policy_file,
            policy: opened.text,
            first_run: opened.first_run,
            metrics,
        })
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
        // A key that is announced while its private part is in this process only would be lost with it, and the slot without
        // a standby until it is given up. What is merely due is left to the next start.
        service.end_within(limits.ending_time).await;
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

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| ServerError(format!("cannot listen on {address}: {error}").into()))
}

fn failed(what: &str, place: &Path, why: &dyn fmt::Display) -> ServerError {
    ServerError(format!("cannot {what} {}: {why}", place.display()).into())
}
