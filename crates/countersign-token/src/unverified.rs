use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use crate::base64url;
use crate::compact::UnverifiedToken;
use crate::header::MAX_HEADER_BYTES;
use crate::json;

/// The longest `iss` with escapes that is read before anybody has vouched for it, bytes as written: it takes memory. Some issuers write each slash of their
/// URL as `\\/`; none needs half as much.
const MAX_ESCAPED_ISSUER_BYTES: usize = 1024;

/// Who a token says that it is from, before anybody has vouched for it: good for choosing whose keys it is tried with, and for
/// nothing else.
///
/// It can be compared and looked up. It is neither shown nor turned into text that could be mistaken for a claim; the claim is
/// compared once more, after a key [bound to its issuer](crate::VerifyingKey::bound_to_issuer) has verified the token.
#[derive(Clone, Copy)]
pub struct UnverifiedIssuer<'a>(&'a str);

impl<'a> UnverifiedIssuer<'a> {
    /// Whether it is this one, character by character.
    #[must_use]
    pub fn is(self, issuer: &str) -> bool {
        self.0 == issuer
    }

    /// What `map` has under its name.
    #[must_use]
    pub fn find_in<K, V, S>(self, map: &HashMap<K, V, S>) -> Option<&V>
    where
        K: Borrow<str> + Eq + Hash,
        S: BuildHasher,
    {
        map.get(self.0)
    }

    /// What stands between `prefix` and `suffix`, if it begins and ends with these: the tenant in the name of a tenant's issuer.
    /// Hostile text of any length.
    #[must_use]
    pub fn between(self, prefix: &str, suffix: &str) -> Option<&'a str> {
        self.0.strip_prefix(prefix)?.strip_suffix(suffix)
    }
}

/// Does not show it.
impl fmt::Debug for UnverifiedIssuer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedIssuer")
    }
}

impl UnverifiedToken<'_> {
    /// What `look` makes of the token's `iss`, which nobody has vouched for. `None` if it has none that is a string, or if its
    /// payload is not one JSON object in strict base64url. Of several the first counts here; such a token is refused when it is judged.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use countersign_token::{Algorithm, HeaderScratch, SigningKey, UnverifiedToken};
    ///
    /// let keys = HashMap::from([("https://a.example", 1), ("https://b.example", 2)]);
    /// let token = SigningKey::generate(Algorithm::Es256)?.sign(&serde_json::json!({ "iss": "https://b.example" }))?;
    /// let mut scratch = HeaderScratch::new();
    /// let token = UnverifiedToken::parse(&token, 8192, &mut scratch)?;
    /// assert_eq!(token.with_unverified_issuer(|issuer| issuer.find_in(&keys).copied()), Some(Some(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_unverified_issuer<T>(&self, look: impl FnOnce(UnverifiedIssuer<'_>) -> T) -> Option<T> {
        self.look_at_unverified_payload(|payload| {
            let issuer = json::first(payload, "iss")?;
            let issuer = issuer.string_of_at_most(MAX_ESCAPED_ISSUER_BYTES)?;
            Some(look(UnverifiedIssuer(&issuer)))
        })?
    }
}

/// What `look` makes of the header of what may be a token, however wrong that header is: for telling people what is wrong with it, and
/// for nothing else. `None` if there is no first part in strict base64url, or if it is longer than [`MAX_HEADER_BYTES`].
///
/// ```
/// use countersign_token::look_at_unverified_header;
///
/// // `{"alg":"none"}`
/// let length = look_at_unverified_header("eyJhbGciOiJub25lIn0.e30.", |header| header.len());
/// assert_eq!(length, Some(14));
/// ```
pub fn look_at_unverified_header<T>(token: &str, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let (header, _) = token.split_once('.')?;
    if base64url::decoded_len(header.len()) > MAX_HEADER_BYTES {
        return None;
    }
    base64url::look_at(header, look).ok()
}

/// The same for the second part, the payload, of at most `most` bytes decoded; what stands behind the second dot does not matter.
///
/// ```
/// use countersign_token::look_at_unverified_payload;
///
/// // `{"alg":"none"}` and `{"sub":"ada"}`
/// let payload = look_at_unverified_payload("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.", 100, <[u8]>::to_vec);
/// assert_eq!(payload.as_deref(), Some(&br#"{"sub":"ada"}"#[..]));
/// ```
pub fn look_at_unverified_payload<T>(token: &str, most: usize, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let (_, behind) = token.split_once('.')?;
    let (payload, _) = behind.split_once('.')?;
    if base64url::decoded_len(payload.len()) > most {
        return None;
    }
    base64url::look_at(payload, look).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::HeaderScratch;

    fn issuer_is(payload: &str, issuer: &str) -> Option<bool> {
        // `{"alg":"ES256"}`
        let token = format!("eyJhbGciOiJFUzI1NiJ9.{payload}.AA");
        let mut scratch = HeaderScratch::new();
        let token = UnverifiedToken::parse(&token, 8192, &mut scratch).unwrap();
        token.with_unverified_issuer(|unverified| unverified.is(issuer))
    }

    #[test]
    fn an_issuer_is_a_string_that_stands_in_one_object() {
        for (payload, expected) in [
            (r#"{"iss":"a"}"#, Some(true)),
            (r#"{"sub":"x","iss":"\u0061"}"#, Some(true)),
            (r#"{"iss":"A"}"#, Some(false)),
            (r#"{"iss":"a "}"#, Some(false)),
            (r#"{"iss":["a"]}"#, None),
            (r#"{"iss":null}"#, None),
            (r#"{"sub":"a"}"#, None),
            (r#"{"x":{"iss":"a"}}"#, None),
            (r#"{"iss":"a","iss":"b"}"#, Some(true)),
            (r#"{"iss":"b","iss":"a"}"#, Some(false)),
            (&format!(r#"{{"iss":"\u0061{}"}}"#, "b".repeat(900)), Some(false)),
            (&format!(r#"{{"iss":"\u0061{}"}}"#, "b".repeat(2000)), None),
            (&format!(r#"{{"iss":"{}"}}"#, "b".repeat(2000)), Some(false)),
            (r#"{"iss":"a"} {}"#, None),
            (r#""iss""#, None),
        ] {
            assert_eq!(issuer_is(&base64url::encode(payload.as_bytes()), "a"), expected, "{payload}");
        }
        assert_eq!(issuer_is("!", "a"), None);
    }

    #[test]
    fn a_payload_can_be_looked_at_whatever_stands_around_it_and_within_a_bound() {
        let look = |token: &str| look_at_unverified_payload(token, 3, <[u8]>::to_vec);
        for (token, expected) in [
            ("!.e30.!", Some(b"{}".to_vec())),
            (".e30.", Some(b"{}".to_vec())),
            ("..", Some(Vec::new())),
            (".YWJj.a.b", Some(b"abc".to_vec())),
            (".YWJjZA.", None),
            (".e30=.", None),
            (".e30", None),
            ("e30", None),
        ] {
            assert_eq!(look(token), expected, "{token}");
        }
    }

    #[test]
    fn nothing_of_it_is_shown() {
        assert_eq!(format!("{:?}", UnverifiedIssuer("https://evil.example")), "UnverifiedIssuer");
    }

    #[test]
    fn a_tenant_stands_between_prefix_and_suffix() {
        let between = |issuer: &'static str| UnverifiedIssuer(issuer).between("https://l/", "/v2");
        for (issuer, tenant) in [
            ("https://l/t1/v2", Some("t1")),
            ("https://l//v2", Some("")),
            ("https://l/v2", None),
            ("https://l/a/b/v2", Some("a/b")),
            ("http://l/t1/v2", None),
            ("https://l/t1/v2/", None),
        ] {
            assert_eq!(between(issuer), tenant, "{issuer}");
        }
    }
}
