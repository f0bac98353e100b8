//! Histories at random, in which both services must say the same at each step.
//!
//! Names, keys and claims are few, so that most steps hit something that an earlier one has left behind.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::claims::revocation::{Entry, Level, Revokes};
use countersign::revocation::ListOptions;
use countersign::{
    Algorithm, AlgorithmSet, Clock as _, KeySet, Policy, RequireJwt, RequireJwtLayer, RevocationList, UnixTime,
    Verifier, scope,
};
use countersign_testkit::ManualClock;
use http::HeaderMap;
use proptest::collection::vec;
use proptest::prelude::*;
use tower::Layer;

use crate::story::{
    Kind, MAX_AGE_SECONDS, Minted, Named, START, Settings, Step, TOKENS, apply, material, minted, named, named_key,
    settings, show, step,
};
use crate::world::{Hand, Handler, ISSUERS, Source, Typed, ask, bearer};

type Gate = RequireJwt<Handler, Arc<Source>>;

/// Everything that both services have in common.
struct World {
    source: Arc<Source>,
    clock: ManualClock,
    hand: Hand,
    list: RevocationList,
    banished: Arc<AtomicUsize>,
}

impl World {
    fn new(settings: &Settings) -> Self {
        let clock = ManualClock::new(UnixTime::from_secs(START));
        let hand = Hand::default();
        let list = RevocationList::with(ListOptions::new().clock(clock.clone())).follow(hand.clone());
        hand.intake().confirm_always();
        let source = Source::new(settings.apart, settings.knows_issuers);
        Self { source, clock, hand, list, banished: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    fn service(&self, settings: &Settings, cached: bool) -> (Gate, Arc<Verifier<Arc<Source>>>) {
        let banished = Arc::clone(&self.banished);
        let mut policy = Policy::new()
            .audience("orders")
            .leeway(Duration::from_secs(settings.leeway))
            .subject(move |subject| subject != format!("s{}", banished.load(Ordering::SeqCst)));
        policy =
            if settings.issuer_of_key { policy.issuer_of_key() } else { policy.issuer(ISSUERS[0]).issuer(ISSUERS[1]) };
        if settings.max_age {
            policy = policy.max_age(Duration::from_secs(MAX_AGE_SECONDS.unsigned_abs()));
        }
        let mut verifier = Verifier::new(Arc::clone(&self.source), policy)
            .algorithms(AlgorithmSet::from_iter([Algorithm::Hs256, Algorithm::Ed25519]));
        if settings.typed {
            verifier = verifier.with_claims::<Typed>();
        }
        if settings.needs_kid {
            verifier = verifier.require_kid();
        }
        if !settings.layer_revokes {
            verifier = verifier.revocation(self.list.clone());
        }
        verifier = if cached {
            verifier.token_cache(settings.cache.0, settings.cache.1)
        } else {
            verifier.without_token_cache()
        };
        let verifier = Arc::new(verifier);
        let mut layer = RequireJwtLayer::new(Arc::clone(&verifier))
            .clock(self.clock.clone())
            .resource_metadata("https://orders.example/.well-known/oauth-protected-resource");
        if settings.needs_scope {
            layer = layer.require(scope("read"));
        }
        if settings.layer_revokes {
            layer = layer.revocation(self.list.clone());
        }
        (layer.layer(Handler), verifier)
    }

    fn revoke(&self, token: &Minted, kind: Kind) {
        let now = self.clock.now();
        let cut_off = |level, name: String| Revokes::CutOff { level, name: name.into(), issued_until: now };
        let revokes = match kind {
            Kind::Jti => Revokes::Token { jwt_id: format!("j{}", token.jti).into() },
            Kind::Subject => cut_off(Level::Subject, format!("s{}", token.subject)),
            Kind::Client => cut_off(Level::Client, format!("c{}", token.subject % 2)),
            Kind::Issuer => cut_off(Level::Issuer, String::new()),
            Kind::Key => Revokes::Key { kid: format!("k{}", token.key.1.unwrap_or(0)).into() },
            Kind::Material => Revokes::KeyMaterial { thumbprint: *material(token.key.0).verifying_key().thumbprint() },
        };
        let until = Some(now.saturating_add(Duration::from_secs(200)));
        let entry = Entry { issuer: ISSUERS[token.issuer].into(), revokes, until };
        assert!(self.hand.intake().add(&[entry], None).is_ok(), "there is room");
    }
}

/// What happened over all histories, so that it can be seen that they were about something.
static HITS: AtomicU64 = AtomicU64::new(0);
static ACCEPTED: AtomicU64 = AtomicU64::new(0);
static REFUSED_AFTER: AtomicU64 = AtomicU64::new(0);

fn live(settings: &Settings, minted: &[Minted], first: &[Named], steps: &[Step]) -> Result<(), TestCaseError> {
    let world = World::new(settings);
    let ((mut with, remembering), (mut without, _)) = (world.service(settings, true), world.service(settings, false));
    let tokens: Vec<_> = minted.iter().map(Minted::sign).collect();
    // Each token has its key at first, with some others before or after.
    let own = minted.iter().map(Minted::named);
    let keys: Arc<KeySet> = Arc::new(KeySet::new(first.iter().copied().chain(own).map(|key| named(&key))));
    world.source.set(0, Some(Arc::clone(&keys)));
    world.source.set(1, Some(keys));
    let mut accepted = [false; TOKENS];
    for (number, step) in steps.iter().enumerate() {
        let mut both = |token: &HeaderMap| -> Result<u16, TestCaseError> {
            let (there, here) = (ask(&mut without, token), ask(&mut with, token));
            prop_assert_eq!(&there, &here, "step {}: {:?}", number, step);
            Ok(here.status)
        };
        match step {
            Step::Ask(token, times, shown) => {
                for _ in 0..*times {
                    let is_good = both(&show(&tokens[*token], *shown))? == 200;
                    ACCEPTED.fetch_add(is_good.into(), Ordering::Relaxed);
                    REFUSED_AFTER.fetch_add((accepted[*token] && !is_good).into(), Ordering::Relaxed);
                    accepted[*token] |= is_good;
                }
            }
            Step::AskChanged(token, changes) => {
                both(&bearer(&apply(&tokens[*token], changes, &tokens)))?;
                both(&bearer(&tokens[*token]))?;
            }
            Step::Keys(issuer, others, own, succeeding) => {
                let own =
                    minted.iter().enumerate().filter(|(at, _)| own >> at & 1 == 1).map(|(_, token)| token.named());
                let keys = KeySet::new(others.iter().copied().chain(own).map(|key| named(&key)));
                let keys = match world.source.get(*issuer) {
                    Some(old) if *succeeding => keys.succeeding(&old),
                    _ => keys,
                };
                world.source.set(*issuer, Some(Arc::new(keys)));
            }
            Step::Reorder(issuer) => {
                if let Some(old) = world.source.get(*issuer) {
                    let mut keys: Vec<_> = old.iter().cloned().collect();
                    keys.reverse();
                    world.source.set(*issuer, Some(Arc::new(KeySet::new(keys))));
                }
            }
            Step::NoKeys(issuer) => world.source.set(*issuer, None),
            Step::Clock(tenths) if *tenths < 0 => {
                world.clock.turn_back(Duration::from_millis(tenths.unsigned_abs() * 100));
            }
            Step::Clock(tenths) => world.clock.advance(Duration::from_millis(tenths.unsigned_abs() * 100)),
            Step::Edge(token, which, beside) => {
                let leeway = i64::try_from(settings.leeway).unwrap_or(0) * 10;
                let tenths = minted[*token].edge(*which, leeway) + beside;
                let seconds = UnixTime::from_secs(START + tenths.div_euclid(10));
                world
                    .clock
                    .set(seconds.saturating_add(Duration::from_millis(tenths.rem_euclid(10).unsigned_abs() * 100)));
            }
            Step::Revoke(token, kind) => world.revoke(&minted[*token], *kind),
            Step::Forgive => {
                static AS_OF: AtomicU64 = AtomicU64::new(0);
                let as_of = UnixTime::from_secs(START)
                    .saturating_add(Duration::from_secs(AS_OF.fetch_add(1, Ordering::Relaxed)));
                let _ = world.hand.intake().replace(world.hand.intake().snapshot(), as_of);
            }
            Step::Banish(subject) => world.banished.store((*subject).into(), Ordering::SeqCst),
        }
    }
    HITS.fetch_add(remembering.token_cache_status().map_or(0, |status| status.hits), Ordering::Relaxed);
    Ok(())
}

/// As many histories as `PROPTEST_CASES` says, or so many.
const HISTORIES: u32 = 400;

static CASES: LazyLock<u32> =
    LazyLock::new(|| std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(HISTORIES));

#[test]
fn a_layer_with_a_cache_answers_as_one_without() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(*CASES)
    });
    let histories = (settings(), vec(minted(), TOKENS), vec(named_key(), 0..2), vec(step(), 5..40));
    runner.run(&histories, |(settings, minted, first, steps)| live(&settings, &minted, &first, &steps)).unwrap();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let cases = u64::from(*CASES);
    println!(
        "{cases} histories: {} accepted, {} of them known, {} refused that had been accepted",
        count(&ACCEPTED),
        count(&HITS),
        count(&REFUSED_AFTER)
    );
    // So that what they are about cannot get lost.
    assert!(count(&HITS) > cases, "the cache was hardly used");
    assert!(count(&REFUSED_AFTER) > cases, "hardly anything has changed");
}
