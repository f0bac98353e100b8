use countersign_claims::{ClaimPointer, ClaimValue, ConfigError, Verified};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use crate::grpc::percent_encoded_unless;

/// Which claims go on as headers, to a service that trusts this one. What the client sent under these names is always removed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forward {
    claims: Vec<Claim>,
}

#[derive(Clone, Debug)]
struct Claim {
    claim: Result<ClaimPointer, ConfigError>,
    /// As it was configured, if it is no header's name.
    header: Result<HeaderName, Box<str>>,
}

impl Forward {
    pub(crate) fn add(&mut self, claim: &str, header: &str) {
        self.claims.push(Claim {
            claim: ClaimPointer::parse(claim),
            header: HeaderName::try_from(header).map_err(|_| header.into()),
        });
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (index, Claim { claim, header }) in self.claims.iter().enumerate() {
            let name = header.as_ref().map_err(|header| {
                ConfigError::Other(format!("{header:?} is not the name of a header to forward a claim in").into())
            })?;
            claim.as_ref().map_err(Clone::clone)?;
            if OF_HTTP.iter().any(|of_http| reads_as(of_http, name)) {
                return Err(ConfigError::Other(format!("{name} is HTTP's own: no claim is forwarded in it").into()));
            }
            if self.claims[..index]
                .iter()
                .any(|earlier| earlier.header.as_ref().is_ok_and(|earlier| reads_as(earlier, name)))
            {
                return Err(ConfigError::Other(format!("two claims are forwarded as {name}").into()));
            }
        }
        Ok(())
    }

    /// Removes what the client sent under these names, then writes what the token says.
    pub(crate) fn apply(&self, verified: Option<&Verified>, headers: &mut HeaderMap) {
        let is_ours = |name: &HeaderName| {
            self.claims.iter().any(|claim| claim.header.as_ref().is_ok_and(|header| reads_as(header, name)))
        };
        let sent: Vec<_> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
        for name in sent {
            headers.remove(name);
        }
        keep_end_to_end(headers, is_ours);
        let Some(verified) = verified else { return };
        for Claim { claim, header } in &self.claims {
            if let (Ok(claim), Ok(header)) = (claim, header)
                && let Some(text) = verified.claim(claim).and_then(ClaimValue::plain_text)
                && let Ok(value) = HeaderValue::try_from(visible(&text))
            {
                headers.insert(header, value);
            }
        }
    }
}

/// What frames a message, or leads it: a claim in these would change where one request ends, or where it goes.
const OF_HTTP: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Takes our names out of `Connection`: named there, a proxy would drop what we write before it sends the request on (RFC 9110 §7.6.1),
/// and whoever comes after it would see no caller.
fn keep_end_to_end(headers: &mut HeaderMap, is_ours: impl Fn(&HeaderName) -> bool) {
    let is_ours = |option: &[u8]| HeaderName::from_bytes(option.trim_ascii()).is_ok_and(|name| is_ours(&name));
    let is_named = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').any(is_ours);
    if !headers.get_all(CONNECTION).iter().any(is_named) {
        return;
    }
    let options = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let kept: Vec<_> = options.map(<[u8]>::trim_ascii).filter(|option| !is_ours(option)).collect();
    match HeaderValue::from_bytes(&kept.join(&b", "[..])) {
        Ok(value) if !value.is_empty() => drop(headers.insert(CONNECTION, value)),
        _ => drop(headers.remove(CONNECTION)),
    }
}

/// Whether a server may take one name for the other: many make `X_USER` of both `x-user` and `x_user` (CGI, RFC 3875 §4.1.18).
fn reads_as(one: &HeaderName, other: &HeaderName) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.as_str().bytes().map(plain).eq(other.as_str().bytes().map(plain))
}

/// Visible ASCII as it is, spaces within too; everything else, and `%`, as `%XX` of its UTF-8. (Spaces at the ends would be lost, and
/// one name become another.)
fn visible(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    percent_encoded_unless(text, |index, byte| match byte {
        b' ' => index != 0 && index != last,
        _ => byte.is_ascii_graphic(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_value_cannot_leave_its_header() {
        for (text, expected) in [
            ("ada", "ada"),
            ("Ada Lovelace", "Ada Lovelace"),
            (" a ", "%20a%20"),
            ("100%", "100%25"),
            ("a\r\nx-admin: 1", "a%0D%0Ax-admin: 1"),
            ("é\u{0}\u{7f}", "%C3%A9%00%7F"),
            ("", ""),
        ] {
            assert_eq!(visible(text), expected);
        }
    }

    #[test]
    fn what_the_client_sent_is_removed_in_every_spelling_that_a_server_reads_alike() {
        let mut forward = Forward::default();
        forward.add("sub", "x-user-id");
        let mut headers = HeaderMap::new();
        for name in ["X-User-Id", "x_user_id", "x-user_id", "x-user-id", "x-user", "x-user-idx"] {
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("admin"));
        }
        forward.apply(None, &mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-user", "x-user-idx"]);
    }

    #[test]
    fn a_client_cannot_have_a_proxy_drop_what_is_forwarded() {
        let mut forward = Forward::default();
        forward.add("sub", "x-user-id");
        for (sent, expected) in [
            (&["close"][..], &["close"][..]),
            (&["x-user-id"], &[]),
            (&["close, X-User_ID , keep-alive"], &["close, keep-alive"]),
            (&["close", "x-user-id,upgrade"], &["close, upgrade"]),
            (&["close,  x-other"], &["close,  x-other"]),
        ] {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(CONNECTION, HeaderValue::from_static(value));
            }
            forward.apply(None, &mut headers);
            let left: Vec<_> = headers.get_all(CONNECTION).iter().collect();
            assert_eq!(left, expected, "{sent:?}");
        }
    }

    #[test]
    fn no_claim_is_forwarded_in_a_header_that_frames_or_leads_the_message() {
        for header in ["Content-Length", "transfer_encoding", "host", "connection", "te", "upgrade"] {
            let mut forward = Forward::default();
            forward.add("sub", header);
            assert!(forward.check().unwrap_err().to_string().contains("HTTP's own"), "{header}");
        }
    }

    #[test]
    fn two_claims_for_one_header_and_names_that_are_none_are_configuration_errors() {
        for pairs in [&[("sub", "x y")][..], &[("", "x-a")], &[("sub", "x-a"), ("iss", "X_A")], &[("sub", "")]] {
            let mut forward = Forward::default();
            for (claim, header) in pairs {
                forward.add(claim, header);
            }
            assert!(forward.check().is_err(), "{pairs:?}");
        }
    }
}
