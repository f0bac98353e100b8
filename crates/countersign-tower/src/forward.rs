use countersign_claims::{ClaimPointer, ClaimValue, ConfigError, Verified};
use http::header::{HeaderMap, HeaderName, HeaderValue};

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
