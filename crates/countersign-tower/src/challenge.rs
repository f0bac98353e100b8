use countersign_claims::Denied;
use http::{HeaderValue, StatusCode};

use crate::refusal::Refusal;

/// The realm of a challenge where none is configured: a challenge must have a parameter (RFC 6750 §3), and that to a
/// request without credentials has no other.
pub const DEFAULT_REALM: &str = "api";

/// What a layer adds to its challenges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wording<'a> {
    pub(crate) realm: Option<&'a str>,
    /// RFC 9728 §5.1.
    pub(crate) resource_metadata: Option<&'a str>,
    /// What to ask the issuer for, for those who have no token yet, or none that is good.
    pub(crate) scope: Option<&'a str>,
}

/// The `WWW-Authenticate` header of a refusal; those that no other credentials would change (429, 503) have none.
///
/// Each parameter is written in one place, and so at most once (RFC 6750 §3).
pub(crate) fn of(refusal: &Refusal, wording: &Wording<'_>) -> Option<HeaderValue> {
    let denied = match refusal {
        Refusal::Denied(denied) => Some(denied),
        _ => None,
    };
    let error = refusal.error();
    if error.is_none() && *refusal != Refusal::NoCredentials {
        return None;
    }
    let mut challenge = Challenge(String::from("Bearer"));
    if let Some(realm) = wording.realm.or(error.is_none().then_some(DEFAULT_REALM)) {
        challenge.parameter("realm", realm);
    }
    if let Some(error) = error {
        challenge.parameter("error", error);
        challenge.parameter("error_description", refusal.client_message());
    }
    let scope = match denied {
        Some(denied) => Some(denied.required_scopes()).filter(|scopes| !scopes.is_empty()),
        None if refusal.status() == StatusCode::UNAUTHORIZED => wording.scope,
        None => None,
    };
    if let Some(scope) = scope {
        challenge.parameter("scope", scope);
    }
    if let Some(step_up) = denied.and_then(Denied::step_up) {
        if let Some(acr_values) = step_up.acr_values() {
            challenge.parameter("acr_values", acr_values);
        }
        if let Some(max_age) = step_up.max_age() {
            challenge.parameter("max_age", &max_age.as_secs().to_string());
        }
    }
    if let Some(url) = wording.resource_metadata {
        challenge.parameter("resource_metadata", url);
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
        of(refusal, &Wording { realm, ..Wording::default() }).unwrap().to_str().unwrap().to_owned()
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
