//! Clients that are known by a certificate (RFC 8705 §2).

use std::collections::HashMap;

use countersign::UnixTime;

use super::{Caller, challenged};
use crate::certificate::{CertificateName, ClientCertificate, THUMBPRINT_BYTES};
use crate::policy::Policy;
use crate::problem::Problem;

/// Whose certificate has which name; no name is two clients', or the policy would not be one.
pub(crate) struct Certificates {
    clients: HashMap<CertificateName, Box<str>>,
    has_pins: bool,
}

/// Whom a certificate names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    Nobody,
    One(&'a str, &'static str),
    /// Whose grants would count?
    Several,
}

impl Certificates {
    pub(super) fn of(policy: &Policy) -> Self {
        let entries = policy.credentials().flat_map(|(client, credentials)| {
            credentials.certificates.iter().map(move |name| (name.clone(), client.into()))
        });
        let clients: HashMap<_, _> = entries.collect();
        let has_pins = clients.keys().any(|name| matches!(name, CertificateName::Thumbprint(_)));
        Self { clients, has_pins }
    }

    /// Whether any client is known by a certificate as such.
    pub(crate) fn have_pins(&self) -> bool {
        self.has_pins
    }

    /// Whether one is known by this.
    pub(crate) fn pin(&self, thumbprint: &[u8; THUMBPRINT_BYTES]) -> bool {
        self.has_pins && self.clients.contains_key(&CertificateName::Thumbprint(*thumbprint))
    }

    pub(super) fn named_by(&self, certificate: &ClientCertificate) -> Named<'_> {
        let mut named = Named::Nobody;
        for name in certificate.known_by() {
            let Some(client) = self.clients.get(&name) else { continue };
            let method = match name {
                CertificateName::Thumbprint(_) => "self_signed_tls_client_auth",
                _ => "tls_client_auth",
            };
            named = match named {
                Named::Nobody => Named::One(client, method),
                Named::One(before, method) if *before == **client => Named::One(client, method),
                _ => return Named::Several,
            };
        }
        named
    }

    /// The one client whose certificate this is.
    pub(super) fn recognise(&self, certificate: &ClientCertificate, now: UnixTime) -> Result<Caller, Problem> {
        check_time(certificate, now)?;
        match self.named_by(certificate) {
            Named::One(client, method) => Ok(Caller { client: client.into(), method, once: None, signed: None }),
            Named::Nobody => Err(challenged("no client is known by this certificate")),
            Named::Several => Err(challenged("more than one client is known by this certificate")),
        }
    }

    /// Whether it is no other client's than the one that was recognised by something else. One that nobody is known by
    /// says nothing: it may be there for a token to be bound to.
    pub(super) fn agree(&self, certificate: &ClientCertificate, caller: &Caller, now: UnixTime) -> Result<(), Problem> {
        check_time(certificate, now)?;
        match self.named_by(certificate) {
            Named::Nobody => Ok(()),
            Named::One(client, _) if *client == *caller.client => Ok(()),
            _ => Err(challenged("the certificate is another client's")),
        }
    }
}

/// Again at each request: the connection may be older than the end of its certificate.
fn check_time(certificate: &ClientCertificate, now: UnixTime) -> Result<(), Problem> {
    let problem = || challenged("the certificate is not valid at this time");
    if certificate.is_valid_at(now) { Ok(()) } else { Err(problem()) }
}
