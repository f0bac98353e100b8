//! In what an issuer differs from those that are configured: most often it is the same one in another environment.

use countersign_claims::Found;

/// What to do about an `iss` that is none of those wanted.
pub(crate) fn hint(found: &str, wanted: &[Box<str>]) -> String {
    let nearest = wanted.iter().find_map(|wanted| Some((difference(found, wanted)?, wanted)));
    let found = Found::new(found);
    match nearest {
        Some((Difference::Spelling(what), wanted)) => format!(
            "`iss` {found} and the configured {} differ in {what} only: write it here exactly as the issuer does",
            Found::new(wanted)
        ),
        Some((Difference::Place(what), wanted)) => format!(
            "the token is from another environment: its `iss` {found} differs from the configured {} in {what}",
            Found::new(wanted)
        ),
        None => format!("{found} is not an issuer that is configured here"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Difference {
    /// The same place, spelt differently.
    Spelling(&'static str),
    /// A place that resembles it.
    Place(&'static str),
}

/// `None` if the two have nothing to do with each other.
fn difference(found: &str, wanted: &str) -> Option<Difference> {
    if found.trim() == wanted.trim() {
        return Some(Difference::Spelling("white space"));
    }
    if found.trim_end_matches('/') == wanted.trim_end_matches('/') {
        return Some(Difference::Spelling("the slash at the end"));
    }
    if found.eq_ignore_ascii_case(wanted) {
        return Some(Difference::Spelling("upper and lower case"));
    }
    let (Some(found), Some(wanted)) = (Place::of(found), Place::of(wanted)) else {
        // One of them is a bare name: `login.example` for `https://login.example`.
        let bare = |text: &str| text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/').to_owned();
        return (bare(found) == bare(wanted)).then_some(Difference::Spelling("the scheme"));
    };
    let differs = |is_same: bool, what| (!is_same).then_some(what);
    let differences = [
        differs(found.host == wanted.host, "the host"),
        differs(found.port == wanted.port, "the port"),
        differs(found.path == wanted.path, "the path (realm or tenant)"),
        differs(found.scheme == wanted.scheme, "the scheme"),
    ];
    let mut differences = differences.into_iter().flatten();
    let (first, more) = (differences.next()?, differences.next().is_some());
    match first {
        "the scheme" => Some(Difference::Spelling(first)),
        "the host" if !are_related(found.host, wanted.host) => None,
        _ if more => Some(Difference::Place(match first {
            "the host" => "the host and more",
            "the port" => "the port and more",
            _ => "the path and the scheme",
        })),
        _ => Some(Difference::Place(first)),
    }
}

/// Hosts of one organisation: the last two labels are the same, or the first and the last.
fn are_related(one: &str, other: &str) -> bool {
    let labels = |host: &str| host.split('.').map(str::to_ascii_lowercase).collect::<Vec<_>>();
    let (one, other) = (labels(one), labels(other));
    let (one_ends, others_ends) = (one.iter().rev(), other.iter().rev());
    let common = one_ends.zip(others_ends).take_while(|(one, other)| one == other).count();
    common >= 2 || (common == 1 && one.first() == other.first())
}

struct Place<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<&'a str>,
    path: &'a str,
}

impl<'a> Place<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            // Of an IPv6 address, colons are part.
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        Some(Self { scheme, host, port, path: path.trim_end_matches('/') })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_said() {
        use Difference::{Place, Spelling};
        let wanted = "https://login.example/realms/prod";
        for (found, expected) in [
            ("https://login.example/realms/prod/", Some(Spelling("the slash at the end"))),
            ("https://LOGIN.example/realms/prod", Some(Spelling("upper and lower case"))),
            (" https://login.example/realms/prod\n", Some(Spelling("white space"))),
            ("http://login.example/realms/prod", Some(Spelling("the scheme"))),
            ("login.example/realms/prod", Some(Spelling("the scheme"))),
            ("https://login.staging.example/realms/prod", Some(Place("the host"))),
            ("https://staging.login.example/realms/prod", Some(Place("the host"))),
            ("https://login.example:8443/realms/prod", Some(Place("the port"))),
            ("https://login.example/realms/test", Some(Place("the path (realm or tenant)"))),
            ("http://login.example:8080/realms/test", Some(Place("the port and more"))),
            ("https://login.staging.example/realms/test", Some(Place("the host and more"))),
            ("https://accounts.elsewhere.org", None),
            ("https://evil.example", None),
            ("nonsense", None),
            ("", None),
            ("://", None),
        ] {
            assert_eq!(difference(found, wanted), expected, "{found}");
        }
    }

    #[test]
    fn addresses_are_hosts_too() {
        assert_eq!(difference("http://[::1]:80", "http://[::1]:81"), Some(Difference::Place("the port")));
        assert_eq!(difference("http://[::1]", "http://[::1]:81"), Some(Difference::Place("the port")));
    }
}
