//! What a ring signs, and what a verifier makes of it. Shared with `tests/stores`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_claims::UnixTime;
use countersign_issuer::state::RingState;
use countersign_issuer::step::NotSigning;
use countersign_issuer::{Kek, KekRing, Ring, StateMac};
use countersign_token::{DEFAULT_MAX_TOKEN_BYTES, HeaderScratch, JwkSet, KeySet, Origin, UnverifiedToken};

pub(crate) const ISSUER: &str = "https://issuer.example";

pub(crate) fn keks() -> KekRing {
    KekRing::new([Kek::parse(&std::array::from_fn::<u8, 32, _>(|at| at as u8 ^ 0x80)).unwrap()]).unwrap()
}

pub(crate) fn read_state(document: &[u8]) -> RingState {
    let mac = StateMac::new(Arc::new(keks()), ISSUER);
    RingState::from_bytes(mac.check(document).unwrap()).unwrap()
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) kid: String,
    pub(crate) exp: UnixTime,
}

/// A token of that slot, as good as it may be, if the node signs at this moment.
pub(crate) fn try_token(ring: &Ring, slot: &str) -> Result<Token, NotSigning> {
    let signing = ring.signer(slot)?;
    let header = serde_json::json!({ "alg": signing.signer.algorithm().name(), "kid": signing.kid, "typ": "JWT" });
    let claims = serde_json::json!({ "iss": ISSUER, "exp": signing.latest_exp.as_secs() });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&header), encode(&claims));
    let signature = signing.signer.sign(message.as_bytes()).unwrap();
    let text = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    Ok(Token { text, kid: signing.kid, exp: signing.latest_exp })
}

/// What a verifier has that has fetched that document.
pub(crate) fn fetched(jwks: &[u8]) -> KeySet {
    let set = JwkSet::parse(jwks, Origin::Remote).unwrap();
    assert!(set.skipped().is_empty(), "{:?}", set.skipped());
    set.into_key_set()
}

pub(crate) fn verifies(token: &Token, keys: &KeySet) -> bool {
    let mut scratch = HeaderScratch::new();
    let parsed = UnverifiedToken::parse(&token.text, DEFAULT_MAX_TOKEN_BYTES, &mut scratch).unwrap();
    let mut candidates = keys.candidates(parsed.header().kid(), parsed.header().algorithm());
    candidates.any(|key| parsed.verify(key).is_ok())
}
