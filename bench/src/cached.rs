//! The cost of a token that was seen before, beside that of the bare signature check and of one that was not.

use countersign::{Algorithm, KeySet, Keys, Policy, RequireJwtLayer, SigningKey, Verifier};
use http::HeaderMap;
use tower_layer::Layer;

use crate::request::{AUDIENCE, Handler, ISSUER, call, claims, headers};
use crate::timing::{Contender, Effort, medians};
use crate::verification::{MyClaims, raw};
use crate::{Failure, unix_seconds};

/// The algorithms in common use.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Hs256];

/// As many callers as a busy service has.
const MANY: usize = 10_000;

/// After so many tokens, "first sight" begins anew with a layer that has seen none: few enough to lie near, as the one token of the raw check does, and
/// enough that the new layer costs nothing per call.
const NEW: usize = 1_000;

/// A table for all algorithms.
pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let mut table = String::from(
        "| | | × raw | µs | allocations |\n|---|---|---:|---:|---:|\n",
    );
    for algorithm in ALGORITHMS {
        table.push_str(&measure(algorithm, effort)?);
    }
    Ok(table)
}

fn measure(algorithm: Algorithm, effort: &Effort) -> Result<String, Failure> {
    let signer = SigningKey::generate(algorithm)?.with_kid("3f0c6a52-2026-11");
    let now = unix_seconds()?;
    let tokens = tokens(&signer, now, MANY)?;
    let requests = tokens.iter().map(|token| headers(token)).collect::<Result<Vec<_>, _>>()?;
    let layer = |is_cached: bool| -> Result<_, Failure> {
        let keys = Keys::fixed(KeySet::new([signer.verifying_key()?]));
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
        let mut verifier = Verifier::new(keys, policy).algorithms(algorithm).with_claims::<MyClaims>();
        if !is_cached {
            verifier = verifier.without_token_cache();
        }
        Ok(RequireJwtLayer::new(verifier).layer(Handler))
    };
    let (mut first, mut one, mut many, mut without) = (layer(true)?, layer(true)?, layer(true)?, layer(false)?);
    let new_ones = &requests[..NEW];
    // Each comes twice before it is remembered.
    for headers in requests.iter().chain(&requests) {
        call(&mut many, headers);
    }
    let (mut bare, mut bare_many) = (Handler, Handler);
    let (mut at_first, mut at_many, mut at_without, mut at_bare) = (0, 0, 0, 0);
    let mut contenders = [
        Contender { name: "raw `aws-lc-rs`", once: raw(algorithm, &signer, &tokens[0])? },
        Contender {
            name: "first sight",
            once: Box::new(|| {
                if at_first == 0 {
                    // A layer that has seen none of them.
                    first = layer(true).expect("good");
                }
                call(&mut first, next(new_ones, &mut at_first));
            }),
        },
        Contender { name: "without the cache", once: Box::new(|| call(&mut without, next(&requests, &mut at_without))) },
        Contender { name: "the same token again", once: Box::new(|| call(&mut one, &requests[0])) },
        Contender { name: "10,000 tokens in turn", once: Box::new(|| call(&mut many, next(&requests, &mut at_many))) },
        Contender { name: "(no layer, one token)", once: Box::new(|| call(&mut bare, &requests[0])) },
        Contender { name: "(no layer, 10,000 tokens)", once: Box::new(|| call(&mut bare_many, next(&requests, &mut at_bare))) },
    ];
    let medians = medians(&mut contenders, effort);
    let mut rows = String::new();
    for (at, contender) in contenders.iter_mut().enumerate() {
        let allocated = allocation_counter::measure(|| (contender.once)());
        rows.push_str(&format!(
            "| {algorithm} | {} | {:.3} | {:.3} | {} |\n",
            contender.name,
            medians[at] / medians[0],
            medians[at],
            allocated.count_total,
        ));
    }
    Ok(rows)
}

fn next<'r>(requests: &'r [HeaderMap], at: &mut usize) -> &'r HeaderMap {
    *at = (*at + 1) % requests.len();
    &requests[*at]
}

/// So many tokens, each of another subject.
fn tokens(signer: &SigningKey, now: u64, many: usize) -> Result<Vec<String>, Failure> {
    (0..many)
        .map(|at| {
            let mut claims = claims(now);
            claims["jti"] = format!("0b1e6a3c-52c7-4f7e-8f27-{at:012}").into();
            Ok(signer.sign_as("at+jwt", &claims)?)
        })
        .collect()
}
