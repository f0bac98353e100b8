//! The cost of a token that was seen before, by the source of its key: whether that is still in force is asked of the source each time.

use countersign::{Algorithm, KeySet, Keys, Policy, RequireJwtLayer, SigningKey, Verifier};
use tower_layer::Layer;

use crate::cached::MANY;
use crate::published::{Published, issuer, running, runtime, signers};
use crate::request::{AUDIENCE, Arrivals, Handler, MyClaims, claims, token_id};
use crate::timing::{Effort, medians};
use crate::{Failure, unix_seconds};

/// Which one does not matter to a token that was seen before, but for its length.
const ALGORITHM: Algorithm = Algorithm::Es256;

const ISSUERS: usize = 100;

/// How often all tokens come before they are timed. Twice is enough for nearly all; a few meet others in the table of tokens seen once, and are remembered at
/// their fourth sight.
const ACQUAINTANCE: usize = 8;

pub fn table(effort: &Effort) -> Result<String, Failure> {
    let signers = signers(ISSUERS, ALGORITHM)?;
    let published = Published::new(&signers)?;
    let [of_one, of_all] = [tokens(&signers[..1])?, tokens(&signers)?];
    let runtime = runtime()?;
    let fixed = Keys::fixed(KeySet::new([signers[0].verifying_key()?]));
    let [one, all] = [1, ISSUERS].map(|count| runtime.block_on(running(published.issuers(count), count)));
    let remote = runtime.block_on(published.first())?;
    let by_name = || Policy::new().issuer(issuer(0));
    let sources = [
        ("`Keys::fixed`", fixed, by_name(), &of_one),
        ("`Keys::remote`, as `JwtAuth::new` has it", remote, by_name(), &of_one),
        ("`Keys::issuers`, 1 issuer", one, Policy::new().issuer_of_key(), &of_one),
        ("`Keys::issuers`, 100 issuers", all, Policy::new().issuer_of_key(), &of_all),
    ];
    let sources = sources.map(|(name, keys, policy, tokens)| Source {
        name,
        layer: RequireJwtLayer::new(
            Verifier::new(keys, policy.audience(AUDIENCE)).algorithms(ALGORITHM).with_claims::<MyClaims>(),
        ),
        again_and_again: Arrivals::new(&tokens[..1]),
        in_turn: Arrivals::new(tokens),
    });
    let handler = Handler::reading::<MyClaims>();
    let mut contenders = Vec::new();
    for source in &sources {
        let mut service = source.layer.layer(handler.clone());
        source.in_turn.get_known(&mut service, &handler, ACQUAINTANCE);
        contenders.push(source.again_and_again.served_by("the same token again", service, handler.clone()));
    }
    for source in &sources {
        let service = source.layer.layer(handler.clone());
        contenders.push(source.in_turn.served_by("10,000 tokens in turn", service, handler.clone()));
    }
    let before = sources.each_ref().map(Source::verified);
    let medians = medians(&mut contenders, effort);
    let mut table = format!(
        "### Seen before, by the source of the keys ({ALGORITHM})\n\n| | | × `Keys::fixed` | µs | allocations |\n"
    ) + "|---|---|---:|---:|---:|\n";
    for (at, contender) in contenders.iter_mut().enumerate() {
        let fixed = medians[at - at % sources.len()];
        let name = sources[at % sources.len()].name;
        let allocations = contender.allocations().allocations;
        table.push_str(&format!(
            "| {} | {name} | {:.2} | {:.3} | {allocations} |\n",
            contender.name,
            medians[at] / fixed,
            medians[at],
        ));
    }
    for (source, before) in sources.iter().zip(before) {
        if source.verified() > before {
            return Err(format!("{}: tokens that were seen before were verified again", source.name).into());
        }
    }
    Ok(table)
}

struct Source<'t> {
    name: &'static str,
    layer: RequireJwtLayer<Keys>,
    again_and_again: Arrivals<'t>,
    in_turn: Arrivals<'t>,
}

impl Source<'_> {
    /// How often a signature was checked.
    fn verified(&self) -> u64 {
        self.layer.verifier().token_cache_status().map_or(u64::MAX, |status| status.misses)
    }
}

/// Of each issuer in turn.
fn tokens(signers: &[SigningKey]) -> Result<Vec<String>, Failure> {
    let now = unix_seconds()?;
    (0..MANY)
        .map(|at| {
            let number = at % signers.len();
            let mut claims = claims(now);
            claims["iss"] = issuer(number).into();
            claims["jti"] = token_id(at).into();
            Ok(signers[number].sign_as("at+jwt", &claims)?)
        })
        .collect()
}
