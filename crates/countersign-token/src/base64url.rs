//! Strict base64url (RFC 7515 §2): no padding, no white space, no foreign characters, and the unused bits of the last
//! character are zero, so that one octet string has exactly one spelling.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, general_purpose::GeneralPurposeConfig};

/// The text was not strict base64url.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotBase64Url;

pub(crate) fn encode(bytes: &[u8]) -> String {
    ENGINE.encode(bytes)
}

/// How many octets `encoded_len` characters decode to, if they are valid.
pub(crate) const fn decoded_len(encoded_len: usize) -> usize {
    encoded_len / 4 * 3 + (encoded_len % 4) * 3 / 4
}

/// Decodes into the front of `out` and returns that front. `out` is at least [`decoded_len`] long.
pub(crate) fn decode_into<'o>(text: &str, out: &'o mut [u8]) -> Result<&'o [u8], NotBase64Url> {
    let written = ENGINE.decode_slice(text, out).map_err(|_| NotBase64Url)?;
    Ok(&out[..written])
}

/// Decodes to the end of `out`, which is left as it was on failure.
pub(crate) fn decode_append(text: &str, out: &mut Vec<u8>) -> Result<(), NotBase64Url> {
    let start = out.len();
    out.resize(start + decoded_len(text.len()), 0);
    match ENGINE.decode_slice(text, &mut out[start..]) {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(_) => {
            out.truncate(start);
            Err(NotBase64Url)
        }
    }
}

/// What `look` makes of what `text` decodes to, for a look and no longer: on the stack, unless it is longer than the payload of any token
/// that is read by default.
pub(crate) fn look_at<T>(text: &str, look: impl FnOnce(&[u8]) -> T) -> Result<T, NotBase64Url> {
    let length = decoded_len(text.len());
    if length <= 1024 {
        decode_into(text, &mut [0; 1024]).map(look)
    } else if length <= LONGEST_ON_STACK {
        decode_into(text, &mut [0; LONGEST_ON_STACK]).map(look)
    } else {
        decode(text).map(|bytes| look(&bytes))
    }
}

/// Three quarters of [`DEFAULT_MAX_TOKEN_BYTES`](crate::DEFAULT_MAX_TOKEN_BYTES).
const LONGEST_ON_STACK: usize = 6 * 1024;

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, NotBase64Url> {
    let mut out = Vec::new();
    decode_append(text, &mut out)?;
    Ok(out)
}

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::RequireNone)
    .with_decode_allow_trailing_bits(false);

/// With AVX2 or NEON where the processor has them (looked up once); elsewhere plain code.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static ENGINE: LazyLock<base64::engine::Simd> = LazyLock::new(|| base64::engine::Simd::url_safe(CONFIG));

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static ENGINE: LazyLock<base64::engine::GeneralPurpose> =
    LazyLock::new(|| base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG));

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes_only_the_one_spelling() {
        assert_eq!(decode("AQIDBA"), Ok(vec![1, 2, 3, 4]));
        for text in ["AQIDBA==", "AQIDBA=", "AQIDBB", "AQID\n", " AQID", "AQ+D", "AQ/D", "A", "AQID\0", "AQIDé"] {
            assert_eq!(decode(text), Err(NotBase64Url), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_itself(text in "[A-Za-z0-9_=+/-]{0,40}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(bytes.len(), decoded_len(text.len()));
                prop_assert_eq!(encode(&bytes), text);
            }
        }

        /// Long enough for every lane of the vector code, with one odd character anywhere.
        #[test]
        fn one_odd_character_anywhere_is_refused(
            bytes in proptest::collection::vec(any::<u8>(), 30..300), at in any::<prop::sample::Index>(),
            odd in prop::sample::select(b"=+/ .,\n\0~\x7f".to_vec()),
        ) {
            let mut text = encode(&bytes).into_bytes();
            let at = at.index(text.len());
            text[at] = odd;
            prop_assert_eq!(decode(std::str::from_utf8(&text).unwrap()), Err(NotBase64Url));
        }

        #[test]
        fn round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn a_look_sees_the_same(octet in any::<u8>(), length in prop::sample::select(vec![0, 1, 1024, 1025, 6144, 6145])) {
            let text = encode(&vec![octet; length]);
            prop_assert_eq!(look_at(&text, <[u8]>::to_vec), decode(&text));
            prop_assert_eq!(look_at(&format!("{text}="), <[u8]>::to_vec), Err(NotBase64Url));
        }
    }
}
