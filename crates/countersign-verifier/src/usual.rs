//! The headers that tokens usually have: those of one key have the same again and again, and it need be read once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwapOption, Guard};
use countersign_token::{KnownHeader, UnreadToken, UnverifiedToken};

/// How many are kept: of each issuer one or two are in use, and one that has no place is read anew with each token.
const PLACES: usize = 64;

/// The longest that is kept, bytes: four times an ordinary one. All that are kept are 32 KiB and what they say.
const MAX_BYTES: usize = 512;

/// The headers of tokens that were accepted. What is refused leaves nothing here, so that strangers drive nobody out.
pub(crate) struct UsualHeaders(Box<[Place]>);

#[derive(Default)]
struct Place {
    known: ArcSwapOption<KnownHeader>,
    /// The mark of the last that was accepted and is not known. A header is kept when its second token comes: one that is another one with each
    /// token is not worth it.
    newcomer: AtomicU64,
}

impl UsualHeaders {
    pub(crate) fn new() -> Self {
        Self((0..PLACES).map(|_| Place::default()).collect())
    }

    /// What is known in the place of this token's header, be it this one or another.
    pub(crate) fn look(&self, token: &UnreadToken<'_>) -> Guard<Option<Arc<KnownHeader>>> {
        self.place(mark(token.encoded_header())).known.load()
    }

    /// That this token was accepted.
    pub(crate) fn note(&self, token: &UnverifiedToken<'_>) {
        let header = token.encoded_header();
        if token.is_header_known() || header.len() > MAX_BYTES {
            return;
        }
        let mark = mark(header);
        let place = self.place(mark);
        if place.newcomer.swap(mark, Ordering::Relaxed) == mark {
            place.known.store(Some(Arc::new(KnownHeader::of(token))));
        }
    }

    fn place(&self, mark: u64) -> &Place {
        &self.0[(mark >> (u64::BITS - PLACES.ilog2())) as usize]
    }
}

/// A number that other headers hardly have.
fn mark(header: &str) -> u64 {
    // 2^64 by the golden ratio: a product with it spreads what differs over the upper bits.
    let mix = |mark: u64, word: u64| (mark.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = header.as_bytes().as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let whole = words.iter().fold(header.len() as u64, |mark, word| mix(mark, u64::from_le_bytes(*word)));
    mix(whole, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_token::{Algorithm, HeaderScratch, SigningKey};

    fn token(key: &SigningKey) -> String {
        key.sign(&serde_json::json!({ "exp": 1 })).unwrap()
    }

    fn is_known(headers: &UsualHeaders, token: &str) -> bool {
        let token = UnreadToken::split(token, 8192).unwrap();
        let known = headers.look(&token);
        known.as_ref().is_some_and(|known| token.recognise(known).is_ok())
    }

    fn note(headers: &UsualHeaders, token: &str) {
        headers.note(&UnverifiedToken::parse(token, 8192, &mut HeaderScratch::new()).unwrap());
    }

    #[test]
    fn a_header_is_known_from_its_second_token_on() {
        let headers = UsualHeaders::new();
        let key = SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid("k1");
        for expected in [false, false, true, true] {
            assert_eq!(is_known(&headers, &token(&key)), expected);
            note(&headers, &token(&key));
        }
    }

    #[test]
    fn as_many_as_there_are_places_find_most_of_themselves() {
        let headers = UsualHeaders::new();
        let keys = (0..PLACES).map(|n| SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid(format!("key {n}")));
        let tokens: Vec<_> = keys.map(|key| token(&key)).collect();
        for token in &tokens {
            note(&headers, token);
            note(&headers, token);
        }
        // Thrown at random, 1 - 1/e of the places would be taken.
        assert!(tokens.iter().filter(|token| is_known(&headers, token)).count() > PLACES / 2);
    }

    #[test]
    fn a_header_that_is_too_long_is_not_kept() {
        let headers = UsualHeaders::new();
        let key = SigningKey::generate(Algorithm::Ed25519).unwrap().with_kid("k".repeat(250));
        let long = key.sign_as(&"x".repeat(250), &serde_json::json!({})).unwrap();
        note(&headers, &long);
        note(&headers, &long);
        assert!(!is_known(&headers, &long));
    }
}
