//! The cost of a token that was seen before, beside that of the bare signature check and of one that was not.

use std::cell::RefCell;

use countersign::{Algorithm, KeySet, Keys, Policy, RequireJwtLayer, SigningKey, Verifier};
use tower_layer::Layer;

use crate::request::{AUDIENCE, Arrivals, Handler, ISSUER, claims};
use crate::timing::{BATCH, Contender, Effort, medians};
use crate::verification::{MyClaims, raw};
use crate::{Failure, unix_seconds};

/// The algorithms in common use.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Hs256];

/// As many callers as a busy service has.
pub const MANY: usize = 10_000;

/// After so many tokens, "first sight" begins anew with a layer that has seen none: few enough to lie near, as the one token of the raw check does, and
/// enough that the new layer costs nothing per call.
const NEW: usize = 16 * BATCH;

/// A table for all algorithms.
pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let mut table = String::from("| | | × raw | µs | allocations |\n|---|---|---:|---:|---:|\n");
    for algorithm in ALGORITHMS {
        table.push_str(&measure(algorithm, effort)?);
    }
    Ok(table)
}

fn measure(algorithm: Algorithm, effort: &Effort) -> Result<String, Failure> {
    let signer = SigningKey::generate(algorithm)?.with_kid("3f0c6a52-2026-11");
    let tokens = tokens(&signer, unix_seconds()?, MANY)?;
    let handler = Handler::reading::<MyClaims>();
    let layer = |is_cached: bool| -> Result<_, Failure> {
        let keys = Keys::fixed(KeySet::new([signer.verifying_key()?]));
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
        let mut verifier = Verifier::new(keys, policy).algorithms(algorithm).with_claims::<MyClaims>();
        if !is_cached {
            verifier = verifier.without_token_cache();
        }
        Ok(RequireJwtLayer::new(verifier).layer(handler.clone()))
    };
    let [new_ones, again_and_again, in_turn, bare_one] =
        [&tokens[..NEW], &tokens[..1], &tokens[..], &tokens[..1]].map(Arrivals::new);
    let first = RefCell::new(layer(true)?);
    let mut many = layer(true)?;
    // Each comes twice before it is remembered.
    for _ in 0..(2 * MANY).div_ceil(BATCH) {
        in_turn.arrive();
        for _ in 0..BATCH {
            in_turn.serve(&mut many, &handler);
        }
    }
    let mut contenders = [
        // Each beside the raw check of the same tokens: that of one token again and again goes the same way through the arithmetic each time, which
        // processors learn.
        Contender::new("raw, one token", raw(algorithm, &signer, &tokens[..1])?),
        again_and_again.served_by("the same token again", layer(true)?, handler.clone()),
        bare_one.served_by("(no layer)", handler.clone(), handler.clone()),
        Contender::new("raw, 1,024 tokens in turn", raw(algorithm, &signer, &tokens[..NEW])?),
        Contender::prepared(
            "each at first sight",
            || {
                if new_ones.begin_anew() {
                    // One that has seen none of them.
                    first.replace(layer(true).expect("good"));
                }
                new_ones.arrive();
            },
            || new_ones.serve(&mut *first.borrow_mut(), &handler),
        ),
        Contender::new("raw, 10,000 tokens in turn", raw(algorithm, &signer, &tokens)?),
        in_turn.served_by("each seen before", many, handler.clone()),
    ];
    let medians = medians(&mut contenders, effort);
    let mut rows = String::new();
    let mut raw = medians[0];
    for (at, contender) in contenders.iter_mut().enumerate() {
        if contender.name.starts_with("raw") {
            raw = medians[at];
        }
        let allocated = contender.allocations();
        rows.push_str(&format!(
            "| {algorithm} | {} | {:.3} | {:.3} | {} |\n",
            contender.name,
            medians[at] / raw,
            medians[at],
            allocated.allocations,
        ));
    }
    Ok(rows)
}

/// So many tokens, each of another subject.
pub fn tokens(signer: &SigningKey, now: u64, many: usize) -> Result<Vec<String>, Failure> {
    (0..many)
        .map(|at| {
            let mut claims = claims(now);
            claims["jti"] = format!("0b1e6a3c-52c7-4f7e-8f27-{at:012}").into();
            Ok(signer.sign_as("at+jwt", &claims)?)
        })
        .collect()
}
