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
    let mut challenge = Challenge::default();
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
    let step_up = denied.and_then(Denied::step_up);
    let max_age = step_up.and_then(countersign_claims::StepUp::max_age).map(|max_age| max_age.as_secs().to_string());
    if let Some(acr_values) = step_up.and_then(|step_up| step_up.acr_values()) {
        challenge.parameter("acr_values", acr_values);
    }
    if let Some(max_age) = &max_age {
        challenge.parameter("max_age", max_age);
    }
    if let Some(url) = wording.resource_metadata {
        challenge.parameter("resource_metadata", url);
    }
    // Only printable ASCII was written, which every header can hold.
    HeaderValue::try_from(challenge.text()).ok()
}

/// Whether `byte` may stand between the quotes of a parameter (RFC 6750 §3): printable ASCII without `"` and `\`.
pub(crate) fn is_quotable(byte: u8) -> bool {
    matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e)
}

/// The parameters of a challenge, in their order: collected before they are written, so that the text is allocated once, and no longer than it
/// is. A header takes such a text over; a longer one it would have to put into yet another allocation.
#[derive(Default)]
struct Challenge<'c> {
    parameters: [(&'static str, &'c str); MAX_PARAMETERS],
    count: usize,
}

/// As many as [`of`] can write.
const MAX_PARAMETERS: usize = 7;

impl<'c> Challenge<'c> {
    fn parameter(&mut self, name: &'static str, value: &'c str) {
        self.parameters[self.count] = (name, value);
        self.count += 1;
    }

    fn text(&self) -> String {
        let parameters = &self.parameters[..self.count];
        let length = parameters.iter().map(|(name, value)| name.len() + value.len() + r#", ="""#.len()).sum::<usize>();
        // The first has no comma before it.
        let mut text = String::with_capacity(("Bearer".len() + length).saturating_sub(1));
        text.push_str("Bearer");
        for (at, (name, value)) in parameters.iter().enumerate() {
            text.push_str(if at == 0 { " " } else { ", " });
            text.push_str(name);
            text.push_str("=\"");
            // What may not stand in a parameter is left out, not escaped: many clients do not undo the escaping.
            if value.bytes().all(is_quotable) {
                text.push_str(value);
            } else {
                text.extend(value.bytes().filter(|byte| is_quotable(*byte)).map(char::from));
            }
            text.push('"');
        }
        text
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
