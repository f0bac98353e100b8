//! TLS to a Redis: rustls on aws-lc-rs, whatever else in the tree there is to choose from.

use std::sync::{Arc, OnceLock};

use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

use crate::cache::CacheError;

/// Whom to believe, and what follows from that. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Tls {
    /// `None`: whom the system does.
    roots: Option<Arc<RootCertStore>>,
    // Made with the first connection; a failure is not kept, because trust roots may turn up.
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Tls {
    /// Believes these authorities, and no others.
    pub(super) fn trusting(pem: &[u8]) -> Result<Self, CacheError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| CacheError::new(NO_CERTIFICATE))?;
            roots.add(certificate).map_err(|_| CacheError::new(NO_CERTIFICATE))?;
        }
        if roots.is_empty() {
            return Err(CacheError::new(NO_CERTIFICATE));
        }
        Ok(Self { roots: Some(Arc::new(roots)), config: Arc::default() })
    }

    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, CacheError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| CacheError::new("no certificate can be for that host"))?;
        let config = match self.config.get() {
            Some(config) => Arc::clone(config),
            None => {
                let config = Arc::new(self.config().map_err(|error| CacheError::new(error.to_string()))?);
                Arc::clone(self.config.get_or_init(|| config))
            }
        };
        Ok(TlsConnector::from(config).connect(name, stream).await?)
    }

    fn config(&self) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        let builder = match &self.roots {
            Some(roots) => builder.with_root_certificates(Arc::clone(roots)),
            None => builder.with_platform_verifier()?,
        };
        Ok(builder.with_no_client_auth())
    }
}

const NO_CERTIFICATE: &str = "not certificates in PEM";
