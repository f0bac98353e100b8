//! URLs that have one spelling.

use std::fmt;

/// The beginning of every URL of a service, as its clients see it: scheme, host, a port that is not the scheme's own, and a
/// path, if the service is below one (without a slash at its end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    text: Box<str>,
    /// Where the path begins.
    origin: usize,
}

/// What is no URL that a request can be signed for, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUrl(&'static str);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadUrl {}

/// The path and query of a request can be read in more than one way: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTarget;

impl fmt::Display for NoTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's target can be read in more than one way")
    }
}

impl std::error::Error for NoTarget {}

impl BaseUrl {
    /// A base as it is written; nothing is normalised.
    ///
    /// # Errors
    /// [`BadUrl`], which says what is to be written otherwise.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let (origin, path) = split(text)?;
        if path.ends_with('/') {
            return Err(BadUrl("a base URL ends without a slash"));
        }
        if path.contains('?') {
            return Err(BadUrl("a base URL has no query"));
        }
        if !path.is_empty() {
            check_target(path)?;
        }
        Ok(Self { text: text.into(), origin: origin.len() })
    }

    /// The URL of a request with this path and query.
    ///
    /// # Errors
    /// [`NoTarget`]: no path, an empty or dot segment, a `\` or `#`, or something that is not printable ASCII.
    pub fn url_of(&self, path_and_query: &str) -> Result<String, NoTarget> {
        check_target(path_and_query).map_err(|_| NoTarget)?;
        Ok([&*self.text, path_and_query].concat())
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.text.get(..self.origin).unwrap_or_default()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a request for this URL can be signed.
pub(super) fn check(url: &str) -> Result<(), BadUrl> {
    let (_, target) = split(url)?;
    check_target(target)
}

/// Origin, and the rest.
fn split(url: &str) -> Result<(&str, &str), BadUrl> {
    let (scheme, default_port) = [("https://", "443"), ("http://", "80")]
        .into_iter()
        .find(|(scheme, _)| url.starts_with(scheme))
        .ok_or(BadUrl("a URL begins with `https://`, or with `http://`"))?;
    let rest = url.get(scheme.len()..).unwrap_or_default();
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    check_authority(rest.get(..end).unwrap_or_default(), default_port)?;
    Ok(url.split_at(scheme.len() + end))
}

fn check_authority(authority: &str, default_port: &str) -> Result<(), BadUrl> {
    if authority.contains('@') {
        return Err(BadUrl("a URL has no user information"));
    }
    let in_brackets = authority.strip_prefix('[').map(|rest| rest.split_once(']').ok_or(BadUrl(HOST))).transpose()?;
    let (host, behind, is_fit): (_, _, fn(u8) -> bool) = match in_brackets {
        Some((host, behind)) => (host, behind, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b':' | b'.')),
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, behind) = authority.split_at(end);
            (host, behind, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'-' | b'.' | b'_'))
        }
    };
    if host.is_empty() || host.ends_with('.') || !host.bytes().all(is_fit) {
        return Err(BadUrl(HOST));
    }
    if behind.is_empty() {
        return Ok(());
    }
    let port = behind.strip_prefix(':').ok_or(BadUrl(HOST))?;
    let is_port =
        !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if !is_port || port == default_port {
        return Err(BadUrl("the port is a number, and left out if it is the scheme's own"));
    }
    Ok(())
}

const HOST: &str = "the host is in lower case, in ASCII, and without a dot at its end";

/// A path, and behind a `?` a query, that everybody reads alike.
fn check_target(target: &str) -> Result<(), BadUrl> {
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') {
        return Err(BadUrl("a URL has a path, `/` if no other"));
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(BadUrl("a URL is printable ASCII without white space, and without a fragment"));
    }
    if path.contains('\\') {
        return Err(BadUrl("a path has no `\\`"));
    }
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        // The last may be empty.
        if segment.is_empty() && segments.peek().is_some() {
            return Err(BadUrl("a path has no `//`"));
        }
        if is_dots(segment) {
            return Err(BadUrl("a path has no `.` and no `..`, however they are written"));
        }
    }
    Ok(())
}

/// `.` or `..`, with `%2e` for either; and what some take for that, because a `;` ends it for them.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    if name.len() > "%2e%2e".len() || name.is_empty() {
        return false;
    }
    let name = name.to_ascii_lowercase().replace("%2e", ".");
    name == "." || name == ".."
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails panics")]

    use super::*;

    #[test]
    fn a_base_has_one_spelling() {
        for good in [
            "https://api.example",
            "http://localhost:8080",
            "https://[::1]:8443",
            "https://api.example/tenant/a",
            "https://127.0.0.1",
        ] {
            assert_eq!(BaseUrl::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "api.example",
            "HTTPS://api.example",
            "https://API.example",
            "https://api.example/",
            "https://api.example/a/",
            "https://api.example//a",
            "https://api.example/../a",
            "https://api.example?a",
            "https://api.example/a?b",
            "https://api.example#a",
            "https://api.example:443",
            "http://api.example:80",
            "https://api.example:",
            "https://api.example:0443",
            "https://api.example:65536",
            "https://api.example:+1",
            "https://api.example.",
            "https://user@api.example",
            "https://user:word@api.example",
            "https://",
            "https:///a",
            "https://bücher.example",
            "https://api.example\\a",
            "https://[::1",
            "https://[::1]x",
            "https://[::G]",
            "ftp://api.example",
            "https://api.example/a b",
        ] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_that_can_be_read_in_two_ways_is_none() {
        let base = BaseUrl::parse("https://api.example").unwrap();
        for good in
            ["/", "/a", "/a/", "/a?", "/a?b=//c/../d", "/a%2Fb", "/a;b=c", "/...", "/a..b", "/%41", "/.well-known/x"]
        {
            assert_eq!(base.url_of(good), Ok(format!("https://api.example{good}")));
        }
        for bad in [
            "",
            "*",
            "a",
            "?a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/./a",
            "/a/..",
            "/a/../b",
            "/a/%2e%2E/b",
            "/a/.%2e/b",
            "/%2e",
            "/a/..;x/b",
            "/a\\b",
            "/a#b",
            "/a b",
            "/ü",
            "/a\u{7f}",
            "https://api.example/a",
        ] {
            assert_eq!(base.url_of(bad), Err(NoTarget), "{bad}");
        }
    }
}
