//! Claims in, token out, from memory: which key signs and for how long its tokens may live is read off one snapshot, by
//! whoever mints, on its own thread.

mod claims;
mod error;
mod prepared;

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, general_purpose::GeneralPurposeConfig};
use countersign_claims::{MAX_NUMERIC_DATE, UnixTime};
use countersign_token::{Algorithm, SignError};

pub use claims::{ACCESS_TOKEN_TYPE, MAX_CLAIMS_BYTES, MAX_TYPE_BYTES, Mint};
pub use error::MintError;
pub(crate) use prepared::{Prepared, prepared};

use crate::desk::Shared;
use crate::step::{Leave, NotSigning};
use crate::time::Now;

/// The largest payload by default, bytes: encoded it takes two thirds of the 8 KiB that a header of a request usually may
/// have. With a signature of ML-DSA, encoded 3 KiB and more, that is too much for a header.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 4 * 1024;

/// Octets of randomness in a `jti`: as many as a UUID has, all of them random.
const JTI_BYTES: usize = 16;

/// Mints the tokens of one issuer.
///
/// The issuer owns `iss`, `iat`, `nbf`, `exp`, `jti`, `kid`, `alg` and `typ`: none of them can be put in as a claim. How
/// long the token lives, from when on it is good, its `typ` and everything else is said by a [`Mint`].
///
/// # Security & performance
/// Each call reads one snapshot of the ring and takes no lock; clones share nothing that a call writes, so give each
/// worker its own. A token of an RSA key with 4096 bits takes a millisecond and more of the thread that mints it.
#[derive(Clone)]
pub struct Minter {
    shared: Arc<Shared>,
    /// `{"iss":"…"`.
    opening: Arc<[u8]>,
    max_payload_bytes: usize,
}

/// A token, and what is in it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Minted {
    /// The compact JWS (RFC 7515 §7.1).
    pub token: String,
    /// The name of the key that has signed it.
    pub kid: String,
    /// What it was signed with.
    pub algorithm: Algorithm,
    /// Its name, unlike that of any other token.
    pub jti: String,
    /// `iat`, in whole seconds, never later than the time of this node.
    pub issued_at: UnixTime,
    /// `exp`, in whole seconds: later than now, and no later than the ring can answer for.
    pub expires_at: UnixTime,
}

/// Without the token.
impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .field("jti", &self.jti)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Minter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minter").field("issuer", &self.shared.issuer).finish_non_exhaustive()
    }
}

impl Minter {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let mut opening = b"{\"iss\":".to_vec();
        write_text(&mut opening, &shared.issuer);
        Self { shared, opening: opening.into(), max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES }
    }

    /// The largest payload, bytes of JSON; [`DEFAULT_MAX_PAYLOAD_BYTES`].
    #[must_use]
    pub fn max_payload_bytes(mut self, bytes: usize) -> Self {
        self.max_payload_bytes = bytes;
        self
    }

    /// The `iss` of all its tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Signs what `mint` says with the active key of that slot.
    ///
    /// # Errors
    /// [`MintError`]: the first thing that is wrong with `mint`, or why the slot does not sign.
    pub fn mint(&self, slot: &str, mint: &Mint) -> Result<Minted, MintError> {
        if let Some(fault) = mint.fault() {
            return Err(fault);
        }
        // The snapshot before the clock: if this thread is held up in between, its view counts as older than it is.
        let desk = self.shared.desk.load();
        let now = self.shared.clock.now();
        let leave = desk.view.leave(slot, now)?;
        let key = desk.prepared.get(leave.kid).ok_or(NotSigning::KeyUnavailable)?;
        if key.signer.algorithm() != key.algorithm {
            return Err(NotSigning::KeyUnavailable.into());
        }
        let (issued_at, expires_at) = lifetime(mint, leave, now)?;
        let jti = jti()?;
        let payload = self.payload(mint, issued_at, expires_at, &jti)?;
        let token = key.sign(mint.typ_or_default(), &payload, mint.most_bytes())?;
        Ok(Minted {
            token,
            kid: leave.kid.to_owned(),
            algorithm: key.algorithm,
            jti,
            issued_at: UnixTime::from_secs(issued_at),
            expires_at: UnixTime::from_secs(expires_at),
        })
    }

    fn payload(&self, mint: &Mint, issued_at: i64, expires_at: i64, jti: &str) -> Result<Vec<u8>, MintError> {
        let mut payload = Vec::with_capacity(self.opening.len() + mint.len() + OWN_CLAIMS_BYTES);
        payload.extend_from_slice(&self.opening);
        member(&mut payload, b",\"iat\":", issued_at);
        member(&mut payload, b",\"exp\":", expires_at);
        if let Some(delay) = mint.delay() {
            let not_before = issued_at.saturating_add(seconds(delay));
            if not_before >= expires_at {
                return Err(MintError::NeverValid);
            }
            member(&mut payload, b",\"nbf\":", not_before);
        }
        payload.extend_from_slice(b",\"jti\":\"");
        payload.extend_from_slice(jti.as_bytes());
        payload.push(b'"');
        mint.write(&mut payload);
        payload.push(b'}');
        if payload.len() > self.max_payload_bytes {
            return Err(MintError::PayloadTooLarge { most: self.max_payload_bytes });
        }
        Ok(payload)
    }
}

/// What the claims of the issuer take, but for `iss`.
const OWN_CLAIMS_BYTES: usize = 128;

/// `iat` and `exp`.
fn lifetime(mint: &Mint, leave: Leave<'_>, now: Now) -> Result<(i64, i64), MintError> {
    let issued_at = now.wall.as_secs();
    if !(0..=MAX_NUMERIC_DATE).contains(&issued_at) {
        return Err(NotSigning::ClockUnsound.into());
    }
    // Both are rounded down, so `exp` is no later than the leave, and it is later than now by what is left of a second
    // at least.
    let most = leave.latest_exp.as_secs().min(MAX_NUMERIC_DATE).saturating_sub(issued_at);
    if most < 1 {
        return Err(NotSigning::NoTimeLeft.into());
    }
    let wanted = seconds(mint.lifetime());
    if wanted > most && !mint.is_clamped() {
        return Err(MintError::LifetimeTooLong { most: Duration::from_secs(most.unsigned_abs()) });
    }
    Ok((issued_at, issued_at + wanted.min(most)))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn jti() -> Result<String, MintError> {
    let mut random = [0; JTI_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| MintError::Sign(SignError::Crypto))?;
    Ok(BASE64URL.encode(random))
}

fn member(out: &mut Vec<u8>, name: &[u8], number: i64) {
    out.extend_from_slice(name);
    // Writing a number to memory does not fail.
    let _ = serde_json::to_writer(out, &number);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Nor does writing a string.
    let _ = serde_json::to_writer(out, text);
}

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::RequireNone);

/// With AVX2 or NEON where the processor has them (looked up once); elsewhere plain code.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static BASE64URL: LazyLock<base64::engine::Simd> = LazyLock::new(|| base64::engine::Simd::url_safe(CONFIG));

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static BASE64URL: LazyLock<base64::engine::GeneralPurpose> =
    LazyLock::new(|| base64::engine::GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG));

#[cfg(test)]
mod tests;
