//! What it costs to find a key in sets of different sizes, and to find that there is none.

use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use countersign::token::SignError;
use countersign::{Algorithm, KeySet, Keys, Policy, SigningKey, UnixTime, Verifier};

use crate::request::{AUDIENCE, ISSUER, claims};
use crate::timing::{Contender, Effort, table_by_size};
use crate::{Failure, unix_seconds};

const SIZES: [usize; 3] = [1, 100, 10_000];

/// How many names are looked for in turn, from all over the set: more keys than an issuer signs with at a time.
const IN_USE: usize = 8;

/// How far the next name is from the last where each has its turn: a prime that divides no size.
const STRIDE: usize = 7_919;

pub fn tables(effort: &Effort) -> Result<String, Failure> {
    let claims = claims(unix_seconds()?);
    let signers = (0..SIZES[SIZES.len() - 1])
        .map(|n| Ok(SigningKey::generate(Algorithm::Ed25519)?.with_kid(name(n))))
        .collect::<Result<Vec<_>, SignError>>()?;
    let sets = SIZES.iter().map(|size| Set::new(&signers[..*size], &claims)).collect::<Result<Vec<_>, SignError>>()?;
    let at_size = sets.iter().map(|set| (set.keys.len(), contenders(set))).collect();
    Ok(table_by_size("Look-up of a key by (`kid`, `alg`)", "keys in the set", at_size, effort))
}

struct Set {
    keys: KeySet,
    in_use: Names,
    all: Names,
    /// One of each key, in the order of `all`.
    tokens: Vec<String>,
    verifier: Verifier<Keys>,
}

impl Set {
    fn new(signers: &[SigningKey], claims: &serde_json::Value) -> Result<Self, SignError> {
        let count = signers.len();
        let verifying: Vec<Arc<_>> =
            signers.iter().map(|signer| Ok(Arc::new(signer.verifying_key()?))).collect::<Result<_, SignError>>()?;
        let keys = || KeySet::new(verifying.iter().cloned());
        let in_turn = || (0..count).map(|turn| turn * STRIDE % count);
        let policy = Policy::new().issuer(ISSUER).audience(AUDIENCE);
        Ok(Self {
            keys: keys(),
            in_use: Names::new((0..count).step_by(count.div_ceil(IN_USE))),
            all: Names::new(in_turn()),
            tokens: in_turn().map(|n| signers[n].sign_as("at+jwt", claims)).collect::<Result<_, _>>()?,
            verifier: Verifier::new(Keys::fixed(keys()), policy).algorithms(Algorithm::Ed25519).without_token_cache(),
        })
    }
}

fn contenders(set: &Set) -> Vec<Contender<'_>> {
    let is_there = |kid| set.keys.candidates(black_box(kid), Algorithm::Ed25519).next().is_some();
    let (mut in_use, mut all, mut tokens) = (set.in_use.forever(), set.all.forever(), set.tokens.iter().cycle());
    vec![
        Contender {
            prepare: None,
            name: "one of eight keys in use",
            once: Box::new(move || assert!(is_there(in_use.next()))),
        },
        Contender { prepare: None, name: "every key in turn", once: Box::new(move || assert!(is_there(all.next()))) },
        Contender {
            prepare: None,
            name: "a key that is not there",
            once: Box::new(move || assert!(!is_there(Some("91d2b7e4-00000000")))),
        },
        Contender {
            prepare: None,
            name: "no `kid`: the first key to try",
            once: Box::new(move || assert!(is_there(None))),
        },
        Contender {
            prepare: None,
            name: "the whole `Verifier::verify`, every key in turn",
            once: Box::new(move || {
                let token = tokens.next().expect("there are some");
                drop(black_box(set.verifier.verify(token, UnixTime::from(SystemTime::now())).expect("good")));
            }),
        },
    ]
}

/// Names one after the other in memory, so that reading them costs the same however many there are: a request's own name has
/// just arrived.
struct Names(String);

impl Names {
    fn new(numbers: impl Iterator<Item = usize>) -> Self {
        Self(numbers.map(name).collect())
    }

    fn forever(&self) -> impl Iterator<Item = &str> {
        (0..self.0.len() / NAME_BYTES).cycle().map(|at| &self.0[at * NAME_BYTES..][..NAME_BYTES])
    }
}

const NAME_BYTES: usize = 17;

fn name(number: usize) -> String {
    let name = format!("3f0c6a52-{number:08}");
    assert_eq!(name.len(), NAME_BYTES);
    name
}
