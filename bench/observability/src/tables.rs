//! The same layer with and without, for a token at first sight, one that was seen before, and one that is refused.

use std::convert::Infallible;
use std::hint::black_box;

use countersign::{Algorithm, JwtAuth, KeySet, SigningKey, TokenCacheStatus};
use countersign_bench::request::{AUDIENCE, Arrivals, Handler, ISSUER, MyClaims, tokens, wrongly_signed};
use countersign_bench::timing::{BATCH, Contender, Effort, Timed as _, median, medians, rounds};
use countersign_bench::{Failure, unix_seconds};
use http::{Request, Response};
use tower_layer::Layer as _;
use tower_service::Service;

use crate::seen::{InSpan, Seen, Sum};

/// That of most issuers, whose cryptography hides little things in noise, and the one with the least.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::Hs256];

/// After so many tokens, "first sight" begins anew with a layer that has seen none.
const NEW: usize = 16 * BATCH;

/// Of which the allocations are counted.
const COUNTED_CALLS: usize = 31;

/// The most that both together may add, microseconds.
const WANTED: f64 = 0.5;

const KID: &str = "3f0c6a52-2026-11";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    First,
    Before,
    Refused,
}

const CASES: [(Case, &str); 3] =
    [(Case::First, "at first sight"), (Case::Before, "seen before"), (Case::Refused, "refused: wrong signature")];

/// What a layer has, and is in.
struct With {
    name: &'static str,
    metrics: bool,
    traces: bool,
    span: bool,
    /// The row of this table without what this one has.
    without: Option<usize>,
}

const WAYS: [With; 5] = [
    With { name: "the layer", metrics: false, traces: false, span: false, without: None },
    With { name: "`metrics`", metrics: true, traces: false, span: false, without: Some(0) },
    With { name: "the layer in a request's span", metrics: false, traces: false, span: true, without: Some(0) },
    With { name: "`traced`, in such a span", metrics: false, traces: true, span: true, without: Some(2) },
    With { name: "`metrics` and `traced`, in such a span", metrics: true, traces: true, span: true, without: Some(2) },
];

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let seen = Seen::begin()?;
    let mut report = String::new();
    for algorithm in ALGORITHMS {
        report.push_str(&table(algorithm, &seen, effort)?);
        report.push('\n');
    }
    let mut scrape = [Contender::new("a scrape", || drop(black_box(seen.scrape())))];
    let took = medians(&mut scrape, effort)[0];
    report.push_str(&format!(
        "A scrape (`Metrics::flush`, and the exporter's text) takes {took:.0} µs, of whoever answers it.\n"
    ));
    Ok(report)
}

fn table(algorithm: Algorithm, seen: &Seen, effort: &Effort) -> Result<String, Failure> {
    let signer = SigningKey::generate(algorithm)?.with_kid(KID);
    let auth = JwtAuth::with_keys(KeySet::new([signer.verifying_key()?]))
        .algorithms(algorithm)
        .issuer(ISSUER)
        .audience(AUDIENCE);
    let now = unix_seconds()?;
    let good = tokens(&signer, now, NEW)?;
    let bad = [wrongly_signed(&signer, now)?];
    let arrivals = CASES.map(|(case, _)| {
        WAYS.map(|_| match case {
            Case::First => Arrivals::new(&good),
            Case::Before => Arrivals::new(&good[..1]),
            Case::Refused => Arrivals::new(&bad),
        })
    });
    let mut contenders = Vec::new();
    for ((case, _), arrivals) in CASES.iter().zip(&arrivals) {
        for (way, arrivals) in WAYS.iter().zip(arrivals) {
            let handler = Handler::reading::<MyClaims>();
            let (auth, inner) = (auth.clone(), handler.clone());
            let make = move || way.layer(auth.clone(), seen).layer(inner.clone());
            contenders.push(if way.span {
                contender(*case, way, arrivals, move || InSpan(make()), handler)
            } else {
                contender(*case, way, arrivals, make, handler)
            });
        }
    }
    for (at, contender) in contenders.iter_mut().enumerate() {
        check(&WAYS[at % WAYS.len()], contender, seen)?;
    }
    let times = rounds(&mut contenders, effort);
    let more = |case: usize, with: usize, without: usize| {
        let [with, without] = [with, without].map(|at| &times[case * WAYS.len() + at]);
        median(&mut with.iter().zip(without).map(|(with, without)| with - without).collect::<Vec<_>>())
    };
    let mut table = format!("### {algorithm}\n\n| | | µs | µs more | allocations |\n|---|---|---:|---:|---:|\n");
    for (at, contender) in contenders.iter_mut().enumerate() {
        let (case, way) = (at / WAYS.len(), at % WAYS.len());
        let more = WAYS[way].without.map_or(String::new(), |without| format!("{:.3}", more(case, way, without)));
        let (took, allocations) = (median(&mut times[at].clone()), allocations(contender));
        table.push_str(&format!("| {} | {} | {took:.3} | {more} | {allocations} |\n", CASES[case].1, contender.name));
    }
    let all = WAYS.len() - 1;
    let added = CASES.iter().enumerate().map(|(case, (_, name))| format!("{:.2} µs {name}", more(case, all, all - 2)));
    let added = added.collect::<Vec<_>>().join(", ");
    table.push_str(&format!("\n`metrics` and `traced` together add **{added}** (wanted: at most {WANTED} µs).\n"));
    Ok(table)
}

impl With {
    /// One that has seen no token.
    fn layer(&self, auth: JwtAuth, seen: &Seen) -> JwtAuth {
        // Whatever is set makes it another one; clones that are alike have one cache of tokens between them.
        let auth = auth.with_claims::<MyClaims>();
        let auth = if self.metrics { auth.metrics(&seen.metrics) } else { auth };
        let auth = if self.traces { auth.traced() } else { auth };
        assert_eq!(auth.verifier().token_cache_status(), Some(TokenCacheStatus::default()), "it has seen no token");
        auth
    }
}

fn contender<'t, S>(
    case: Case,
    way: &With,
    arrivals: &'t Arrivals<'t>,
    make: impl Fn() -> S + 't,
    handler: Handler,
) -> Contender<'t>
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible> + 't,
{
    match case {
        Case::First => arrivals.first_seen_by(way.name, make, handler),
        Case::Before => arrivals.served_by(way.name, make(), handler),
        Case::Refused => arrivals.refused_by(way.name, make()),
    }
}

/// The median of some calls: a slab of spans that grows now and then is not what a request costs.
fn allocations(contender: &mut Contender<'_>) -> u64 {
    let mut counts = [(); COUNTED_CALLS].map(|()| contender.allocations().allocations);
    counts.sort_unstable();
    counts[COUNTED_CALLS / 2]
}

/// Whether as many requests are seen as there are, by those who should see them and nobody else: what is not told costs nothing.
fn check(way: &With, contender: &mut Contender<'_>, seen: &Seen) -> Result<(), Failure> {
    let before = seen.sum()?;
    contender.before_batch();
    (0..BATCH).for_each(|_| contender.once());
    let after = seen.sum()?;
    let expected = |is_told: bool| if is_told { BATCH as u64 } else { 0 };
    let expected = Sum {
        requests: before.requests + expected(way.metrics),
        spans: before.spans + expected(way.span),
        outcomes: before.outcomes + expected(way.traces),
    };
    if after == expected {
        Ok(())
    } else {
        Err(format!("{}: {after:?} was seen where it should be {expected:?}", way.name).into())
    }
}
