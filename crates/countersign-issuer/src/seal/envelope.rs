//! The sealed form of a private key, format 1:
//!
//! ```text
//! "CSKEY"  format  KEK's name  nonce  data key, wrapped  nonce  private key, encrypted
//!   5        1         16        12       32 + 16          12     1…  + 16
//! ```
//!
//! Each encryption is AES-256-GCM. Both are bound to what the key is: the wrapped data key, so that nothing is wrapped
//! anew under another identity; the private key, so that one that was wrapped in another way is not taken either. Only
//! the wrapping knows the name of the key-encryption key, so that it can be replaced alone.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use countersign_claims::UnixTime;
use countersign_token::Algorithm;
use zeroize::Zeroizing;

use super::{Kek, KekId, SealError, append, nonce, random};
use crate::store::MAX_SEALED_BYTES;

const MAGIC: &[u8] = b"CSKEY";
const FORMAT: u8 = 1;
const DATA_KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const WRAPPED_BYTES: usize = DATA_KEY_BYTES + TAG_BYTES;
/// Everything in front of the encrypted private key.
const HEADER_BYTES: usize = MAGIC.len() + 1 + KekId::BYTES + NONCE_LEN + WRAPPED_BYTES + NONCE_LEN;

/// The largest private key that is sealed, bytes, so that what it becomes can be stored.
pub const MAX_PRIVATE_DER_BYTES: usize = MAX_SEALED_BYTES - HEADER_BYTES - TAG_BYTES;

/// What a private key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// To sign tokens.
    Signing,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Signing => "signing",
        }
    }
}

/// Which key it is. What was sealed for one does not open for another, so that nobody who may write to a store can
/// exchange keys in it. None of this is in the sealed form: whoever opens it knows what he expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyIdentity<'a> {
    /// Whose tokens it signs.
    pub issuer: &'a str,
    /// Its name.
    pub kid: &'a str,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// What it is for.
    pub purpose: Purpose,
    /// When it was made; whole seconds count.
    pub created_at: UnixTime,
}

/// A sealed key, taken apart.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) kek: KekId,
    wrap_nonce: [u8; NONCE_LEN],
    wrapped: [u8; WRAPPED_BYTES],
    /// From the second nonce to the end.
    sealed: &'a [u8],
}

pub(super) fn seal(kek: &Kek, identity: &KeyIdentity<'_>, der: &[u8]) -> Result<Vec<u8>, SealError> {
    if der.is_empty() || der.len() > MAX_PRIVATE_DER_BYTES {
        return Err(SealError::TooLarge);
    }
    let data_key = Zeroizing::new(random::<DATA_KEY_BYTES>()?);
    let mut sealed = header(kek, identity, &data_key)?;
    let nonce = nonce()?;
    sealed.extend_from_slice(&nonce);
    let mut text = Zeroizing::new(Vec::with_capacity(der.len() + TAG_BYTES));
    text.extend_from_slice(der);
    cipher(&data_key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(payload_aad(identity)), &mut *text)
        .map_err(|_| SealError::Crypto)?;
    sealed.extend_from_slice(&text);
    Ok(sealed)
}

impl<'a> Envelope<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, SealError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(SealError::Malformed)?;
        match take::<1>(&mut rest)? {
            [FORMAT] => {}
            [other] => return Err(SealError::UnknownVersion(other)),
        }
        if !(HEADER_BYTES + TAG_BYTES + 1..=MAX_SEALED_BYTES).contains(&bytes.len()) {
            return Err(SealError::Malformed);
        }
        Ok(Self { kek: KekId(take(&mut rest)?), wrap_nonce: take(&mut rest)?, wrapped: take(&mut rest)?, sealed: rest })
    }

    pub(super) fn open(&self, kek: &Kek, identity: &KeyIdentity<'_>) -> Result<Vec<u8>, SealError> {
        let data_key = self.data_key(kek, identity)?;
        let mut rest = self.sealed;
        let nonce = Nonce::assume_unique_for_key(take(&mut rest)?);
        let mut text = Zeroizing::new(rest.to_vec());
        let opened = cipher(&data_key)?.open_in_place(nonce, Aad::from(payload_aad(identity)), &mut text);
        let length = opened.map_err(|_| SealError::Undecryptable)?.len();
        text.truncate(length);
        Ok(std::mem::take(&mut *text))
    }

    pub(super) fn rewrap(&self, under: &Kek, kek: &Kek, identity: &KeyIdentity<'_>) -> Result<Vec<u8>, SealError> {
        let mut sealed = header(kek, identity, &*self.data_key(under, identity)?)?;
        sealed.extend_from_slice(self.sealed);
        Ok(sealed)
    }

    fn data_key(&self, kek: &Kek, identity: &KeyIdentity<'_>) -> Result<Zeroizing<[u8; DATA_KEY_BYTES]>, SealError> {
        let mut wrapped = Zeroizing::new(self.wrapped);
        let opened = kek.unwrap(self.wrap_nonce, &wrap_aad(kek.id(), identity), &mut *wrapped);
        let mut data_key = Zeroizing::new([0; DATA_KEY_BYTES]);
        // A tag that fits is of just so many bytes.
        data_key.copy_from_slice(opened.filter(|key| key.len() == DATA_KEY_BYTES).ok_or(SealError::Undecryptable)?);
        Ok(data_key)
    }
}

/// Everything in front of the second nonce.
fn header(kek: &Kek, identity: &KeyIdentity<'_>, data_key: &[u8; DATA_KEY_BYTES]) -> Result<Vec<u8>, SealError> {
    let nonce = nonce()?;
    let mut wrapped = Zeroizing::new(Vec::with_capacity(WRAPPED_BYTES));
    wrapped.extend_from_slice(data_key);
    kek.wrap(nonce, &wrap_aad(kek.id(), identity), &mut wrapped).ok_or(SealError::Crypto)?;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.push(FORMAT);
    header.extend_from_slice(&kek.id().0);
    header.extend_from_slice(&nonce);
    header.extend_from_slice(&wrapped);
    Ok(header)
}

fn cipher(data_key: &[u8; DATA_KEY_BYTES]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, data_key).map(LessSafeKey::new).map_err(|_| SealError::Crypto)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], SealError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(SealError::Malformed)?;
    *rest = left;
    Ok(*taken)
}

fn wrap_aad(kek: KekId, identity: &KeyIdentity<'_>) -> Vec<u8> {
    let mut aad = aad(b"countersign data key", identity);
    append(&mut aad, &kek.0);
    aad
}

fn payload_aad(identity: &KeyIdentity<'_>) -> Vec<u8> {
    aad(b"countersign private key", identity)
}

fn aad(what: &[u8], identity: &KeyIdentity<'_>) -> Vec<u8> {
    let mut aad = vec![FORMAT];
    for part in [what, identity.issuer.as_bytes(), identity.kid.as_bytes(), identity.algorithm.name().as_bytes()] {
        append(&mut aad, part);
    }
    append(&mut aad, identity.purpose.name().as_bytes());
    append(&mut aad, &identity.created_at.as_secs().to_be_bytes());
    aad
}
