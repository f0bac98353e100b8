use http::{HeaderValue, StatusCode};

use crate::refusal::Refusal;

/// The realm of a challenge where none is configured: a challenge must have a parameter (RFC 6750 §3), and that to a
/// request without credentials has no other.
pub const DEFAULT_REALM: &str = "api";

/// The `WWW-Authenticate` header of a refusal; those that no other credentials would change (429, 503) have none.
///
/// Each parameter is written in one place, and so at most once (RFC 6750 §3).
pub(crate) fn of(refusal: &Refusal, realm: Option<&str>) -> Option<HeaderValue> {
    let error = match (refusal, refusal.status()) {
        // RFC 6750 §3.1: who has shown nothing is not told of an error.
        (Refusal::NoCredentials, _) => None,
        (_, StatusCode::BAD_REQUEST) => Some("invalid_request"),
        (Refusal::Denied(denied), StatusCode::UNAUTHORIZED) => Some(denied.code()),
        (_, StatusCode::UNAUTHORIZED) => Some("invalid_token"),
        (_, StatusCode::FORBIDDEN) => Some("insufficient_scope"),
        _ => return None,
    };
    let mut challenge = Challenge(String::from("Bearer"));
    if let Some(realm) = realm.or(error.is_none().then_some(DEFAULT_REALM)) {
        challenge.parameter("realm", realm);
    }
    if let Some(error) = error {
        challenge.parameter("error", error);
        challenge.parameter("error_description", refusal.client_message());
    }
    if let Refusal::Denied(denied) = refusal
        && !denied.required_scopes().is_empty()
    {
        challenge.parameter("scope", denied.required_scopes());
    }
    // Only printable ASCII was written, which every header can hold.
    HeaderValue::try_from(challenge.0).ok()
}

/// Whether `byte` may stand between the quotes of a parameter (RFC 6750 §3): printable ASCII without `"` and `\`.
pub(crate) fn is_quotable(byte: u8) -> bool {
    matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e)
}

struct Challenge(String);

impl Challenge {
    /// What may not stand in a parameter is left out, not escaped: many clients do not undo the escaping.
    fn parameter(&mut self, name: &str, value: &str) {
        self.0.push_str(if self.0.ends_with('"') { ", " } else { " " });
        self.0.push_str(name);
        self.0.push_str("=\"");
        self.0.extend(value.bytes().filter(|byte| is_quotable(*byte)).map(char::from));
        self.0.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_verifier::Refusal as TokenRefusal;

    fn challenge(refusal: &Refusal, realm: Option<&str>) -> String {
        of(refusal, realm).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn statement_6_a_challenge_has_at_least_one_parameter() {
        assert_eq!(challenge(&Refusal::NoCredentials, None), r#"Bearer realm="api""#);
        assert_eq!(
            challenge(&Refusal::Token(TokenRefusal::UnknownKey), None),
            r#"Bearer error="invalid_token", error_description="the token is not valid""#
        );
    }

    #[test]
    fn statement_11_what_may_not_stand_in_a_parameter_is_left_out() {
        for (realm, expected) in [
            ("a b", r#"Bearer realm="a b""#),
            ("a\"b", r#"Bearer realm="ab""#),
            ("a\\", r#"Bearer realm="a""#),
            ("a\r\nSet-Cookie: b=c", r#"Bearer realm="aSet-Cookie: b=c""#),
            ("\u{e9}\u{7f}\0\t", r#"Bearer realm="""#),
            ("a\", error=\"x", r#"Bearer realm="a, error=x""#),
        ] {
            assert_eq!(challenge(&Refusal::NoCredentials, Some(realm)), expected);
        }
    }
}
