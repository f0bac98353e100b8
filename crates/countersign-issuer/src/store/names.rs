//! Names of keys as names of files and objects.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{StoreError, StoreErrorKind};

/// The longest `kid` whose private key can be stored, bytes. In base64, with an extension, it is as long as file
/// systems allow (255); a thumbprint has 43.
pub const MAX_STORED_KID_BYTES: usize = 180;

/// In front of a name that could not stay as it is. No plain name has a full stop.
const ENCODED: &str = "b64.";

/// Behind the name of every private key.
const EXTENSION: &str = ".sealed";

/// The name of the file, or the last part of the object's, that has this key's private part.
pub(super) fn of_private(kid: &str) -> Result<String, StoreError> {
    if kid.is_empty() || kid.len() > MAX_STORED_KID_BYTES {
        let text = format!("a kid has 1 to {MAX_STORED_KID_BYTES} bytes, not {}", kid.len());
        return Err(StoreError::new(StoreErrorKind::Unfit, text));
    }
    if is_plain(kid) {
        return Ok(format!("{kid}{EXTENSION}"));
    }
    Ok(format!("{ENCODED}{}{EXTENSION}", URL_SAFE_NO_PAD.encode(kid)))
}

/// Whose private part is there; `None` if [`of_private`] makes no such name.
pub(super) fn kid_of(name: &str) -> Option<String> {
    let stem = name.strip_suffix(EXTENSION)?;
    let kid = match stem.strip_prefix(ENCODED) {
        Some(encoded) => String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?,
        None => stem.to_owned(),
    };
    // One name for each key, and one key for each name.
    of_private(&kid).is_ok_and(|made| made == name).then_some(kid)
}

/// Thumbprints are. What else people call their keys may be `..`.
fn is_plain(kid: &str) -> bool {
    kid.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_thumbprint_is_the_name_of_its_file() {
        let kid = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(of_private(kid).unwrap(), format!("{kid}.sealed"));
    }

    #[test]
    fn no_kid_leads_out_of_its_directory() {
        for kid in [".", "..", "../state", "/etc/passwd", "a\\b", "a\0b", "C:", "kid with spaces", "%2e%2e", "ключ"]
        {
            let name = of_private(kid).unwrap();
            assert!(
                name.len() <= 255 && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet)),
                "{name}"
            );
            assert!(!name.starts_with('.'), "{name}");
            assert_eq!(kid_of(&name).as_deref(), Some(kid));
        }
    }

    #[test]
    fn a_kid_without_a_name_is_refused() {
        for kid in ["", &"x".repeat(MAX_STORED_KID_BYTES + 1)] {
            assert_eq!(of_private(kid).unwrap_err().kind(), StoreErrorKind::Unfit);
        }
        assert!(of_private(&"\0".repeat(MAX_STORED_KID_BYTES)).unwrap().len() <= 255);
    }

    #[test]
    fn what_no_key_is_called_is_not_listed() {
        for name in [
            "",
            ".sealed",
            "b64..sealed",
            "b64.YQ.sealed",
            "b64.!!.sealed",
            "a.b.sealed",
            "a",
            "a.sealed.tmp",
            "b64._w.sealed",
        ] {
            assert_eq!(kid_of(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn names_are_read_back(kid in "\\PC{1,40}") {
            prop_assert_eq!(kid_of(&of_private(&kid).unwrap()), Some(kid));
        }

        #[test]
        fn a_name_is_read_or_not_but_never_two_ways(name in "(b64\\.)?[A-Za-z0-9_.-]{0,20}(\\.sealed)?") {
            if let Some(kid) = kid_of(&name) {
                prop_assert_eq!(of_private(&kid).unwrap(), name);
            }
        }
    }
}
