//! Which URLs keys may be fetched from.

use std::net::Ipv4Addr;

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

/// Whether the URL says of the host that it is on this machine or in a private network: what no stranger's metadata should make us ask. A
/// name can stand for such an address too, which only its resolver knows.
pub(crate) fn is_internal(url: &Url) -> bool {
    let is_internal_v4 = |address: Ipv4Addr| {
        let [first, second, ..] = address.octets();
        address.is_loopback()
            || address.is_private()
            || address.is_link_local()
            || address.is_unspecified()
            || address.is_broadcast()
            // RFC 6598: shared by carriers, and by clouds.
            || (first == 100 && (64..128).contains(&second))
    };
    match url.host() {
        Some(Host::Ipv4(address)) => is_internal_v4(address),
        Some(Host::Ipv6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.to_ipv4().is_some_and(is_internal_v4)
        }
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        None => true,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_internal_is_told_however_it_is_written() {
        let is_internal = |host: &str| is_internal(&Url::parse(&format!("https://{host}/")).unwrap());
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "2130706433",
            "0x7f.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
            "[::127.0.0.1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "keys.localhost",
        ] {
            assert!(is_internal(host), "{host}");
        }
        for host in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "[2606:4700::1111]",
            "example.com",
            "localhost.example.com",
            "mylocalhost",
        ] {
            assert!(!is_internal(host), "{host}");
        }
    }
}
