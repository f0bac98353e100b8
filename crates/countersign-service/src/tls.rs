//! TLS 1.2 and 1.3 with rustls over aws-lc-rs, whose certificate can be exchanged while connections come.

mod client;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ParsedCertificate};
use tokio_rustls::rustls::{ServerConfig, version};
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use self::client::ClientCertificates;
pub use self::client::PinnedCertificates;
use crate::certificate::ClientCertificate;

/// The longest file of certificates or of a key, bytes: the authorities that an operating system knows take 220 KiB.
pub const MAX_PEM_BYTES: usize = 512 * 1024;

/// Certificates in the service's own chain, at most: each handshake sends them.
const MAX_CHAIN: usize = 8;

/// HTTP/2 first, because whoever offers both prefers it.
const PROTOCOLS: [&[u8]; 2] = [H2, b"http/1.1"];

pub(crate) const H2: &[u8] = b"h2";

/// What is read of files, in PEM.
#[derive(Clone)]
#[non_exhaustive]
pub struct TlsPem {
    /// The service's certificate and those between it and its authority, in this order.
    pub certificates: Vec<u8>,
    /// Its private key.
    pub key: Zeroizing<Vec<u8>>,
    /// Who vouches for clients (`tls_client_auth`, RFC 8705 §2.1).
    pub client_authorities: Option<Vec<u8>>,
}

impl TlsPem {
    /// A certificate chain and its key; no client is asked for a certificate of an authority's.
    #[must_use]
    pub fn new(certificates: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self { certificates: certificates.into(), key: Zeroizing::new(key.into()), client_authorities: None }
    }

    /// Asks clients for a certificate, and takes those that one of these vouches for.
    #[must_use]
    pub fn client_authorities(self, certificates: impl Into<Vec<u8>>) -> Self {
        Self { client_authorities: Some(certificates.into()), ..self }
    }
}

/// Shows nothing of the key.
impl fmt::Debug for TlsPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPem").finish_non_exhaustive()
    }
}

/// Why there is no TLS with what was given. Says nothing of what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(Box<str>);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// How connections are secured: TLS 1.2 or 1.3, without resumption, so that each shows its certificate. Clones are the
/// same, and follow a [reload](Self::reload).
///
/// Clients are asked for a certificate if there are [authorities](TlsPem::client_authorities) for them, or if a client is
/// known by a certificate that it has signed itself. Whoever has none is served without; a certificate that nobody
/// vouches for ends the handshake.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    pinned: Arc<dyn PinnedCertificates>,
    in_force: ArcSwap<InForce>,
}

struct InForce {
    config: Arc<ServerConfig>,
    clients: Arc<ClientCertificates>,
}

impl Tls {
    /// `pinned` says which certificates clients are known by that no authority vouches for: a
    /// [`TokenService`](crate::TokenService) knows them by its policy, `()` knows none.
    ///
    /// # Errors
    /// [`TlsError`], also for a certificate that is not valid now.
    pub fn new(pem: &TlsPem, pinned: impl PinnedCertificates) -> Result<Self, TlsError> {
        let pinned: Arc<dyn PinnedCertificates> = Arc::new(pinned);
        let in_force = InForce::read(pem, &pinned, SystemTime::now())?;
        Ok(Self(Arc::new(Shared { pinned, in_force: ArcSwap::from_pointee(in_force) })))
    }

    /// Connections from now on have this certificate and ask for certificates of these authorities; those that are there
    /// stay as they are.
    ///
    /// # Errors
    /// [`TlsError`]; then nothing has changed.
    pub fn reload(&self, pem: &TlsPem) -> Result<(), TlsError> {
        let next = InForce::read(pem, &self.0.pinned, SystemTime::now())?;
        self.0.in_force.store(Arc::new(next));
        Ok(())
    }

    /// The handshake, and whose certificate was shown.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<(TlsStream<S>, Option<ClientCertificate>)> {
        let in_force = self.0.in_force.load_full();
        let stream = TlsAcceptor::from(Arc::clone(&in_force.config)).accept(stream).await?;
        let certificate = match stream.get_ref().1.peer_certificates() {
            None | Some([]) => None,
            Some([certificate, rest @ ..]) => {
                // What a handshake has let pass is judged once more: by whom is what its user has to know.
                let is_vouched_for = in_force.clients.is_vouched_for(certificate, rest, UnixTime::now());
                Some(ClientCertificate::read(certificate, is_vouched_for).map_err(std::io::Error::other)?)
            }
        };
        Ok((stream, certificate))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl InForce {
    fn read(pem: &TlsPem, pinned: &Arc<dyn PinnedCertificates>, now: SystemTime) -> Result<Self, TlsError> {
        let chain = certificates(&pem.certificates, "the certificate")?;
        let Some(own) = chain.first().filter(|_| chain.len() <= MAX_CHAIN) else {
            return Err(failed(format!("the certificate is not a chain of 1 to {MAX_CHAIN}")));
        };
        let facts = ClientCertificate::read(own, false).map_err(|error| failed(format!("the certificate: {error}")))?;
        if !facts.is_valid_at(now.into()) {
            return Err(failed("the certificate is not valid at this time"));
        }
        ParsedCertificate::try_from(own).map_err(|error| failed(format!("the certificate: {error}")))?;
        if pem.key.len() > MAX_PEM_BYTES {
            return Err(failed("the key is too long"));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|_| failed("the key is no private key in PEM"))?;
        let authorities = pem.client_authorities.as_deref();
        let authorities = authorities.map(|pem| certificates(pem, "the authority of clients")).transpose()?;
        let provider = Arc::new(default_provider());
        let clients = ClientCertificates::new(authorities, Arc::clone(pinned), &provider).map_err(failed)?;
        let clients = Arc::new(clients);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| failed(error.to_string()))?
            .with_client_cert_verifier(Arc::clone(&clients) as _)
            // Finds a key that is another certificate's.
            .with_single_cert(chain, key)
            .map_err(|error| failed(format!("certificate and key: {error}")))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), clients })
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    if pem.len() > MAX_PEM_BYTES {
        return Err(failed(format!("{what} is longer than {MAX_PEM_BYTES} bytes")));
    }
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|_| failed(format!("{what} is not in PEM")))?;
    if read.is_empty() { Err(failed(format!("{what} is not there"))) } else { Ok(read) }
}

fn failed(text: impl Into<Box<str>>) -> TlsError {
    TlsError(text.into())
}
