//! The cost of a token that was seen before, beside that of the bare signature check and of one that was not.

use countersign::{Algorithm, KeySet, Keys, Policy, RequireJwtLayer, SigningKey, Verifier};
use tower_layer::Layer;

use crate::request::{AUDIENCE, Arrivals, Handler, ISSUER, MyClaims, tokens};
use crate::timing::{BATCH, Contender, Effort, medians};
use crate::verification::raw;
use crate::{Failure, sources, unix_seconds};

/// The algorithms in common use.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa, Algorithm::Hs256];

/// As many callers as a busy service has.
pub const MANY: usize = 10_000;

/// After so many tokens, "first sight" begins anew with a layer that has seen none: few enough to lie near, as the one token of the raw check does, and
/// enough that the new layer costs nothing per call.
pub const NEW: usize = 16 * BATCH;

/// A table for all algorithms, and one for all sources of keys.
pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let mut table = String::from("| | | × raw | µs | allocations |\n|---|---|---:|---:|---:|\n");
    for algorithm in ALGORITHMS {
        table.push_str(&measure(algorithm, effort)?);
    }
    Ok(format!("{table}\n{}", sources::table(effort)?))
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
    let mut many = layer(true)?;
    // Each comes twice before it is remembered.
    in_turn.get_known(&mut many, &handler, 2);
    let mut contenders = [
        // Each beside the raw check of the same tokens: that of one token again and again goes the same way through the arithmetic each time, which
        // processors learn.
        Contender::new("raw, one token", raw(algorithm, &signer, &tokens[..1])?),
        again_and_again.served_by("the same token again", layer(true)?, handler.clone()),
        bare_one.served_by("(no layer)", handler.clone(), handler.clone()),
        Contender::new("raw, 1,024 tokens in turn", raw(algorithm, &signer, &tokens[..NEW])?),
        new_ones.first_seen_by("each at first sight", || layer(true).expect("good"), handler.clone()),
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
