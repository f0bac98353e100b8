//! Which certificates of clients a handshake lets pass. Who their clients are the policy says, request by request.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use crate::sha256::sha256;

/// The certificates that clients are known by as they are, whoever has signed them (RFC 8705 §2.2). Asked at each
/// handshake.
pub trait PinnedCertificates: Send + Sync + 'static {
    /// Whether there are any, so that a client has to be asked.
    fn are_some(&self) -> bool;

    /// Whether the one with this SHA-256 (`x5t#S256`) is among them.
    fn contain(&self, thumbprint: &[u8; 32]) -> bool;
}

/// There are none.
impl PinnedCertificates for () {
    fn are_some(&self) -> bool {
        false
    }

    fn contain(&self, _: &[u8; 32]) -> bool {
        false
    }
}

pub(super) struct ClientCertificates {
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    pinned: Arc<dyn PinnedCertificates>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertificates {
    pub(super) fn new(
        authorities: Option<Vec<CertificateDer<'static>>>,
        pinned: Arc<dyn PinnedCertificates>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let verifier = |certificates: Vec<CertificateDer<'static>>| {
            let mut roots = RootCertStore::empty();
            // Each of them: one that is left out in silence is missed later.
            let added = certificates.into_iter().try_for_each(|certificate| roots.add(certificate));
            added.map_err(|error| format!("an authority of clients: {error}"))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            verifier.map_err(|error| format!("the authorities of clients: {error}"))
        };
        let authorities = authorities.map(verifier).transpose()?;
        Ok(Self { authorities, pinned, algorithms: provider.signature_verification_algorithms })
    }

    /// Whether it is one of an authority's, and good at this time.
    pub(super) fn is_vouched_for(&self, own: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> bool {
        self.authorities.as_ref().is_some_and(|verifier| verifier.verify_client_cert(own, rest, now).is_ok())
    }
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificates").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ClientCertificates {
    fn offer_client_auth(&self) -> bool {
        self.authorities.is_some() || self.pinned.are_some()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: one that a client has signed itself is of no authority's (RFC 8705 §2.2).
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.pinned.contain(&sha256(own)) {
            return Ok(ClientCertVerified::assertion());
        }
        match &self.authorities {
            Some(verifier) => verifier.verify_client_cert(own, rest, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
