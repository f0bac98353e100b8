//! What a key takes in memory, and a remembered token.
//!
//! Rust's allocations are counted. The crypto library allocates by itself, in C, which nothing here sees but the operating
//! system: so what the process grows by is measured beside them.

use std::fs;
use std::hint::black_box;
use std::time::SystemTime;

use countersign::{Algorithm, JwkSet, KeySet, Origin, Policy, SigningKey, UnixTime, Verifier};
use serde_json::json;

use crate::counts::count;
use crate::request::{AUDIENCE, ISSUER, MyClaims, claims};
use crate::timing::Effort;
use crate::{Failure, unix_seconds};

/// Keys in the set that is measured.
const KEYS: usize = 1_000;

/// How many such sets the process grows by, so that whole pages do not matter.
const SETS: usize = 4;

/// Keys in a document: as many as are read of one.
const DOCUMENT: usize = 250;

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let mut table = format!(
        "### Memory per key, in sets of {KEYS}\n\n\
         | | prepared for | Rust's allocator, bytes | resident, bytes |\n|---|---:|---:|---:|\n"
    );
    // Freed at the end only: the next must not grow into the holes.
    let mut kept = Vec::new();
    for (name, algorithm, alg) in [
        ("RSA 2048, `alg` is RS256", Algorithm::Rs256, true),
        ("RSA 2048, no `alg`", Algorithm::Rs256, false),
        ("P-256, `alg` is ES256", Algorithm::Es256, true),
        ("Ed25519, `alg` is EdDSA", Algorithm::EdDsa, true),
        ("Ed25519, no `alg`", Algorithm::EdDsa, false),
    ] {
        let published = Published::new(algorithm, alg)?;
        // What is made once per process, and holes that are there already.
        kept.push(published.key_set()?);
        let prepared_for =
            kept.last().and_then(|set| set.iter().next()).map_or(0, |key| key.algorithms().iter().count());
        let (grown, sets) = growth(|| (0..SETS).map(|_| published.key_set()).collect::<Result<Vec<_>, _>>());
        kept.extend(sets?);
        let per_key = |bytes: i64| bytes / i64::try_from(KEYS * SETS).unwrap_or(i64::MAX);
        table.push_str(&format!(
            "| {name} | {prepared_for} | {} | {} |\n",
            per_key(grown.counted),
            grown.resident.map_or("–".to_owned(), |bytes| per_key(bytes).to_string()),
        ));
    }
    drop(black_box(kept));
    table.push_str(&cached_tokens(effort)?);
    Ok(table)
}

/// A million tokens of 578 bytes in one cache, each verified twice.
fn cached_tokens(effort: &Effort) -> Result<String, Failure> {
    let count = if effort.rounds < Effort::FULL.rounds { 10_000 } else { 1_000_000 };
    let (signer, now) = (SigningKey::generate(Algorithm::Hs256)?.with_kid("3f0c6a52-2026-11"), unix_seconds()?);
    let keys = KeySet::new([signer.verifying_key()?]);
    let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
    // Room for twice as many, so that none has to leave because its shard has more than its share.
    let verifier = Verifier::new(keys, policy)
        .algorithms(Algorithm::Hs256)
        .with_claims::<MyClaims>()
        .token_cache(2 * count, 2 * count * 4096);
    let (grown, length) = growth(|| -> Result<usize, Failure> {
        let mut length = 0;
        for at in 0..count {
            let mut claims = claims(now);
            claims["jti"] = format!("0b1e6a3c-52c7-4f7e-8f27-{at:012}").into();
            let token = signer.sign_as("at+jwt", &claims)?;
            length = token.len();
            for _ in 0..2 {
                verifier.verify(&token, UnixTime::from(SystemTime::now())).map_err(|refusal| refusal.to_string())?;
            }
        }
        Ok(length)
    });
    let (length, status) = (length?, verifier.token_cache_status().unwrap_or_default());
    let held = i64::try_from(status.tokens.max(1))?;
    Ok(format!(
        "\n### Memory per remembered token\n\n| tokens | of bytes | remembered | Rust's allocator, bytes each | resident, bytes each | all resident, MiB |\n\
         |---:|---:|---:|---:|---:|---:|\n| {count} | {length} | {} | {} | {} | {} |\n",
        status.tokens,
        grown.counted / held,
        grown.resident.map_or("–".to_owned(), |bytes| (bytes / held).to_string()),
        grown.resident.map_or("–".to_owned(), |bytes| (bytes >> 20).to_string()),
    ))
}

/// Bytes that something has and keeps.
pub struct Growth {
    /// As asked of Rust's allocator.
    pub counted: i64,
    /// What the process's own memory grew by; `None` where it is not Linux that says so.
    pub resident: Option<i64>,
}

/// What `make` leaves behind.
pub fn growth<T>(make: impl FnOnce() -> T) -> (Growth, T) {
    let before = resident();
    let mut made = None;
    let mut make = Some(make);
    let counted = count(|| made = make.take().map(|make| make())).kept;
    let resident = resident().zip(before).map(|(after, before)| after - before);
    (Growth { counted, resident }, made.expect("measured"))
}

/// The process's memory that is no file's, bytes. Unlike the shorter files beside it this one is exact.
fn resident() -> Option<i64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("Anonymous:")?.trim().strip_suffix(" kB"))?;
    Some(kibibytes.parse::<i64>().ok()? * 1024)
}

/// Documents as an issuer publishes them. All have one key under a thousand names: making RSA keys takes long, and what is
/// read of a document is never shared.
struct Published {
    documents: Vec<Vec<u8>>,
    algorithm: Algorithm,
    signature: Vec<u8>,
}

impl Published {
    fn new(algorithm: Algorithm, with_alg: bool) -> Result<Self, Failure> {
        let signer = SigningKey::generate(algorithm)?;
        let mut jwk = signer.public_jwk()?;
        if !with_alg {
            jwk.as_object_mut().ok_or("a JWK is an object")?.remove("alg");
        }
        let mut documents = Vec::new();
        for first in (0..KEYS).step_by(DOCUMENT) {
            let keys: Vec<_> = (first..first + DOCUMENT)
                .map(|n| {
                    let mut jwk = jwk.clone();
                    jwk["kid"] = format!("3f0c6a52-{n:08}").into();
                    jwk
                })
                .collect();
            documents.push(json!({ "keys": keys }).to_string().into_bytes());
        }
        Ok(Self { documents, algorithm, signature: signer.signature(MESSAGE)? })
    }

    /// One set of all keys, each of which has verified something: the crypto library prepares some of it only then.
    fn key_set(&self) -> Result<KeySet, Failure> {
        let mut keys = Vec::new();
        for document in &self.documents {
            let set = JwkSet::parse(document, Origin::Remote).map_err(|error| error.to_string())?;
            keys.extend(set.keys().iter().cloned());
        }
        let set = KeySet::new(keys);
        assert_eq!(set.len(), KEYS);
        for key in set.iter() {
            key.verify_bytes(self.algorithm, MESSAGE, &self.signature)?;
        }
        Ok(set)
    }
}

const MESSAGE: &[u8] = b"header.payload";
