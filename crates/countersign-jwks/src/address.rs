//! Which URLs keys may be fetched from.

use url::{Host, ParseError, Url};

use crate::error::SourceError;

/// An absolute `https` or `http` URL with a host and without credentials; its fragment, which is never sent, is dropped.
pub(crate) fn parse(url: &str) -> Result<Url, SourceError> {
    let mut url = Url::parse(url).map_err(|error| match error {
        ParseError::EmptyHost => SourceError::NoHost,
        _ => SourceError::NotAUrl,
    })?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(SourceError::Scheme);
    }
    if url.host().is_none() {
        return Err(SourceError::NoHost);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SourceError::Credentials);
    }
    url.set_fragment(None);
    Ok(url)
}

/// Whether what is sent to this host stays on this machine, as far as the URL says: 127.0.0.0/8, `::1`, `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// Whether nobody on the way can replace what comes from there.
pub(crate) fn is_protected(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

/// The URL without its query, which may hold a secret: for logs.
pub(crate) fn label(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}
