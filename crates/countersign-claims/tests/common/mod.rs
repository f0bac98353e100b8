//! Tokens with exactly this header and exactly these octets as claims, signed in earnest and judged.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_claims::{ClaimError, Policy, UnixTime, Verified};
use countersign_token::{Algorithm, HeaderScratch, KeySet, SigningKey, UnverifiedToken};

/// The one key of these tests. HMAC, because it is the cheapest; claims are the same under every algorithm.
static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| {
    SigningKey::from_secret(b"only for tests: 32 bytes or more", Algorithm::Hs256).expect("long enough")
});

static KEYS: LazyLock<KeySet> = LazyLock::new(|| KeySet::new([SIGNER.verifying_key().expect("an HMAC key")]));

/// What `policy` says at the time `now` to a token of this `typ` with these claims.
pub(crate) fn judge(
    policy: &Policy,
    typ: Option<&str>,
    claims: impl AsRef<[u8]>,
    now: UnixTime,
) -> Result<Verified, ClaimError> {
    let header = match typ {
        Some(typ) => serde_json::json!({ "alg": "HS256", "typ": typ }),
        None => serde_json::json!({ "alg": "HS256" }),
    };
    let signed =
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature = SIGNER.signature(signed.as_bytes()).expect("HMAC does not fail");
    let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature));

    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(&token, usize::MAX, &mut scratch).expect("a token");
    let key = KEYS.candidates(None, Algorithm::Hs256).next().expect("the one key");
    policy.judge(token.verify(key).expect("its signature"), now)
}

/// That many seconds after the epoch.
pub(crate) fn at(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}
