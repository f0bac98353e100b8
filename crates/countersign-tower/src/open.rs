//! Which requests need no token.

use countersign_claims::ConfigError;
use countersign_verifier::Fault;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, Uri};

use crate::refusal::Refusal;

/// What lets a request pass without a token. By default nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Open {
    pub(crate) preflight: bool,
    pub(crate) missing: bool,
    pub(crate) invalid: bool,
    exempt: Vec<ExemptPath>,
}

/// What nobody looks at the token of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unjudged {
    Preflight,
    Exempt,
}

impl Open {
    pub(crate) fn exempt(&mut self, path: &str) {
        self.exempt.push(ExemptPath::new(path));
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.exempt.iter().find(|path| !is_plain(&path.prefix)) {
            Some(path) => Err(ConfigError::Other(
                format!(
                    "an exempt path begins with `/`, is as requests spell it, and ends in `/*` or has no `*`: {:?}",
                    path.prefix
                )
                .into(),
            )),
            None => Ok(()),
        }
    }

    pub(crate) fn without_a_look(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Unjudged> {
        if self.preflight && is_preflight(method, headers) {
            return Some(Unjudged::Preflight);
        }
        self.exempt.iter().any(|path| path.matches(uri.path())).then_some(Unjudged::Exempt)
    }

    /// Whether a request that shows no good token may go on without a caller.
    pub(crate) fn forgives(&self, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::NoCredentials => self.missing,
            Refusal::MalformedCredentials => self.invalid,
            // Nobody knows whether these are invalid.
            Refusal::Token(refusal) => self.invalid && refusal.fault() == Fault::Token,
            _ => false,
        }
    }
}

/// The CORS protocol's own test (Fetch §4.8, "CORS-preflight fetch"): method, origin, and the method that is asked for, each once.
fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let is_method = |value: &HeaderValue| Method::from_bytes(value.as_bytes()).is_ok();
    let is_origin = |value: &HeaderValue| !value.is_empty();
    method == Method::OPTIONS
        && one(ORIGIN).is_some_and(is_origin)
        && one(ACCESS_CONTROL_REQUEST_METHOD).is_some_and(is_method)
}

#[derive(Clone, Debug)]
struct ExemptPath {
    /// Without the `*`, and so with a `/` at its end if there was one.
    prefix: Box<str>,
    is_whole: bool,
}

impl ExemptPath {
    fn new(path: &str) -> Self {
        match path.strip_suffix('*') {
            // `/public*` would let `/publication` through as well.
            Some(prefix) if prefix.ends_with('/') => Self { prefix: prefix.into(), is_whole: false },
            _ => Self { prefix: path.into(), is_whole: true },
        }
    }

    /// A path that a router may read in another way than it is written is not exempt.
    fn matches(&self, path: &str) -> bool {
        if self.is_whole { *self.prefix == *path } else { path.starts_with(&*self.prefix) && is_plain(path) }
    }
}

/// Without what servers undo or collapse: escapes, empty segments, dot segments, backslashes, parameters.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(['%', '\\', ';', '*', '?', '#'])
        && !path.contains("//")
        && path.split('/').all(|segment| segment != "." && segment != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preflight(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
        is_preflight(method, &headers)
    }

    #[test]
    fn a_preflight_is_options_with_origin_and_the_method_asked_for() {
        let (origin, asked) = (("origin", "https://app.example"), ("access-control-request-method", "PUT"));
        assert!(preflight(&Method::OPTIONS, &[origin, asked]));
        assert!(preflight(&Method::OPTIONS, &[("origin", "null"), asked, ("access-control-request-headers", "x")]));
        for method in &[Method::GET, Method::HEAD, Method::POST, Method::PUT] {
            assert!(!preflight(method, &[origin, asked]));
        }
        assert!(!preflight(&Method::OPTIONS, &[]));
        assert!(!preflight(&Method::OPTIONS, &[origin]));
        assert!(!preflight(&Method::OPTIONS, &[asked]));
        assert!(!preflight(&Method::OPTIONS, &[("origin", ""), asked]));
        assert!(!preflight(&Method::OPTIONS, &[origin, ("access-control-request-method", "")]));
        assert!(!preflight(&Method::OPTIONS, &[origin, ("access-control-request-method", "PUT, GET")]));
        assert!(!preflight(&Method::OPTIONS, &[origin, origin, asked]));
        assert!(!preflight(&Method::OPTIONS, &[origin, asked, asked]));
    }

    #[test]
    fn an_exempt_path_is_exempt_as_it_is_written_and_in_no_other_spelling() {
        let is_exempt = |exempt: &str, path: &str| {
            let mut open = Open::default();
            open.exempt(exempt);
            assert_eq!(open.check(), Ok(()), "{exempt}");
            open.without_a_look(&Method::GET, &path.parse().unwrap(), &HeaderMap::new()).is_some()
        };
        assert!(is_exempt("/healthz", "/healthz"));
        assert!(is_exempt("/healthz", "/healthz?full"));
        assert!(is_exempt("/healthz", "https://api.example/healthz"));
        assert!(is_exempt("/", "/"));
        assert!(is_exempt("/public/*", "/public/"));
        assert!(is_exempt("/public/*", "/public/a/b.css"));
        assert!(is_exempt("/*", "/a"));
        for path in
            ["/healthz/", "/Healthz", "/healthz/x", "/healthz2", "/x/healthz", "/healthz;a", "/%68ealthz", "//healthz"]
        {
            assert!(!is_exempt("/healthz", path), "{path}");
        }
        for path in [
            "/public",
            "/publication",
            "/public/../orders",
            "/public/..",
            "/public/.",
            "/public/%2e%2e/orders",
            "/public/a%2f..%2f..%2forders",
            "/public//orders",
            "/public/..;/orders",
            "/public/a;b",
            "/public/..\\orders",
        ] {
            // What cannot be a URI at all never comes here.
            if path.parse::<Uri>().is_ok() {
                assert!(!is_exempt("/public/*", path), "{path}");
            }
        }
    }

    #[test]
    fn an_exempt_path_that_no_request_can_have_is_a_configuration_error() {
        for path in ["", "healthz", "*", "/public*", "/a/*/b", "/a//b", "/a/../b", "/a%20b", "/a?b", "/a#b"] {
            let mut open = Open::default();
            open.exempt(path);
            assert!(open.check().is_err(), "{path:?}");
        }
    }
}
