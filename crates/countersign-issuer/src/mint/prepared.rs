use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use countersign_token::{Algorithm, SignError};

use super::claims::ACCESS_TOKEN_TYPE;
use super::{BASE64URL, MintError, write_text};
use crate::config::RingConfig;
use crate::signer::Signer;
use crate::state::{Key, RingState};

/// A signer with what is the same in all of its tokens.
pub(crate) struct Prepared {
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) algorithm: Algorithm,
    /// `{"alg":"…","kid":"…","typ":"`.
    opening: Box<[u8]>,
    /// The whole header of an access token, encoded, with the full stop behind it.
    access_token: Box<str>,
    signature_bytes: usize,
}

/// By `kid`: the signers of keys that the ring has, if they sign with what the ring says that the key signs with.
pub(crate) fn prepared(
    ring: &RingState,
    signers: &HashMap<String, Arc<dyn Signer>>,
    config: &RingConfig,
) -> HashMap<String, Prepared> {
    let prepare = |(kid, signer): (&String, &Arc<dyn Signer>)| {
        let key = ring.keys.get(kid)?;
        Some((kid.clone(), Prepared::new(kid, key, signer, config)?))
    };
    signers.iter().filter_map(prepare).collect()
}

impl Prepared {
    fn new(kid: &str, key: &Key, signer: &Arc<dyn Signer>, config: &RingConfig) -> Option<Self> {
        let algorithm = match key.jwk.get("alg") {
            Some(name) => Algorithm::from_name(name),
            None => config.slot(&key.slot).map(|slot| slot.algorithm),
        };
        let algorithm = algorithm.filter(|algorithm| *algorithm == signer.algorithm())?;
        let mut opening = format!("{{\"alg\":\"{algorithm}\",\"kid\":").into_bytes();
        write_text(&mut opening, kid);
        opening.extend_from_slice(b",\"typ\":\"");
        let mut access_token = String::new();
        encode_header(&opening, ACCESS_TOKEN_TYPE, &mut access_token);
        Some(Self {
            signer: Arc::clone(signer),
            algorithm,
            opening: opening.into(),
            access_token: access_token.into(),
            signature_bytes: signature_bytes(algorithm, key)?,
        })
    }

    pub(super) fn sign(&self, typ: &str, payload: &[u8], most: Option<usize>) -> Result<String, MintError> {
        let header = self.access_token.len() + typ.len() * 2;
        let room = header + encoded(payload.len()) + 1 + encoded(self.signature_bytes);
        let mut token = String::with_capacity(room);
        if typ == ACCESS_TOKEN_TYPE {
            token.push_str(&self.access_token);
        } else {
            encode_header(&self.opening, typ, &mut token);
        }
        BASE64URL.encode_string(payload, &mut token);
        // Before it is signed: what is too long shall not have existed.
        let size = token.len() + 1 + encoded(self.signature_bytes);
        if let Some(most) = most.filter(|most| size > *most) {
            return Err(MintError::TokenTooLarge { size, most });
        }
        let signature = self.signer.sign(token.as_bytes())?;
        // A module that answers in DER, or not at all, is found out here and not by whoever gets the token.
        if signature.len() != self.signature_bytes {
            return Err(SignError::Crypto.into());
        }
        token.push('.');
        BASE64URL.encode_string(&signature, &mut token);
        Ok(token)
    }
}

/// `typ` needs no escapes.
fn encode_header(opening: &[u8], typ: &str, out: &mut String) {
    let mut header = Vec::with_capacity(opening.len() + typ.len() + 2);
    header.extend_from_slice(opening);
    header.extend_from_slice(typ.as_bytes());
    header.extend_from_slice(b"\"}");
    BASE64URL.encode_string(&header, out);
    out.push('.');
}

const fn encoded(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// RFC 7518 §3.3 and §3.4, RFC 8032 §5.1.6, FIPS 204 §4. `None` if nobody could publish such a key.
fn signature_bytes(algorithm: Algorithm, key: &Key) -> Option<usize> {
    use Algorithm::{Ed25519, EdDsa, Es256, Es384, Es512, MlDsa44, MlDsa65, MlDsa87};
    Some(match algorithm {
        Es256 | Ed25519 | EdDsa => 64,
        Es384 => 96,
        Es512 => 132,
        MlDsa44 => 2_420,
        MlDsa65 => 3_309,
        MlDsa87 => 4_627,
        // As long as the modulus.
        _ => key.jwk.get("n")?.len() * 3 / 4,
    })
}
