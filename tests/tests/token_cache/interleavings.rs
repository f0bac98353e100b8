//! What can happen between a look at the keys, a question about revocation and the moment at which a token is remembered.
//!
//! A request looks at a snapshot, verifies, asks, remembers. Nothing of it holds a lock that a writer waits for, so a writer can come between any
//! two of these; the sources here come there themselves, at each place in turn.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use countersign::claims::revocation::{Changed, Judged, Revocations, Revoked, Verdict};
use countersign::{Algorithm, KeySet, Policy, RequireJwt, RequireJwtLayer, UnixTime, Verifier};
use countersign_testkit::{TestKey, Token};
use http::HeaderMap;
use tower::Layer;

use crate::world::{Handler, ISSUERS, Source, Typed, ask, bearer, lock};

type Gate = RequireJwt<Handler, Arc<Source>>;

/// More looks than a request makes, and more requests than it takes to be remembered.
const PLACES: usize = 12;

/// Sights after which a token is certainly known, if anything is.
const SIGHTS: usize = 4;

fn key(number: usize) -> TestKey {
    TestKey::nth(Algorithm::Hs256, 950 + number).with_kid("k")
}

fn set(numbers: &[usize]) -> Arc<KeySet> {
    Arc::new(KeySet::new(numbers.iter().map(|number| key(*number).verifying_key())))
}

fn token() -> HeaderMap {
    bearer(&Token::new(&key(0)).issuer(ISSUERS[0]).audience("orders").claim("n", 7).sign())
}

fn verifier(source: &Arc<Source>) -> Verifier<Arc<Source>> {
    Verifier::new(Arc::clone(source), Policy::new().issuer(ISSUERS[0]).audience("orders")).algorithms(Algorithm::Hs256)
}

fn gate(verifier: Verifier<Arc<Source>>) -> (Gate, Arc<Verifier<Arc<Source>>>) {
    let verifier = Arc::new(verifier);
    (RequireJwtLayer::new(Arc::clone(&verifier)).layer(Handler), verifier)
}

fn status(gate: &mut Gate, token: &HeaderMap) -> u16 {
    ask(gate, token).status
}

#[test]
fn a_key_withdrawn_at_any_look_of_a_request_verifies_nothing_afterwards() {
    for knows_issuers in [false, true] {
        for place in 0..PLACES {
            // Gone; of the same name, but another key; second in line behind a key that is not its own; no keys at all.
            for after in [Some(set(&[])), Some(set(&[1])), None] {
                let source = Source::new(false, knows_issuers);
                let before = set(&[0]);
                source.set(0, Some(Arc::clone(&before)));
                let (mut gate, _) = gate(verifier(&source));
                let token = token();
                let (mut looks, swapped) = (0, Arc::new(AtomicBool::new(false)));
                let (told, withdrawn) = (Arc::clone(&swapped), after.clone());
                // Right behind the look that took the old set, before anything is done with it.
                *lock(&source.hook) = Some(Box::new(move |source| {
                    if looks == place {
                        source.set(0, withdrawn.clone());
                        told.store(true, Ordering::SeqCst);
                    }
                    looks += 1;
                }));
                let mut asked = 0;
                while !swapped.load(Ordering::SeqCst) {
                    assert_eq!(status(&mut gate, &token), 200, "it began with the key in force");
                    asked += 1;
                    assert!(asked <= PLACES);
                }
                for _ in 0..SIGHTS {
                    assert_ne!(
                        status(&mut gate, &token),
                        200,
                        "swapped at look {place}, known issuers: {knows_issuers}"
                    );
                }
                // What is in force again is good again, and gone again when it is gone again.
                source.set(0, Some(before));
                for _ in 0..SIGHTS {
                    assert_eq!(status(&mut gate, &token), 200);
                }
                source.set(0, after);
                assert_ne!(status(&mut gate, &token), 200);
            }
        }
    }
}

/// Says that nothing is revoked, until told otherwise; and what is done while it is asked.
#[derive(Clone, Default)]
struct Told {
    revoked: Arc<AtomicBool>,
    /// At which question, counted down, something is revoked, and whether that question is answered with it.
    at: Arc<Mutex<Option<(usize, bool)>>>,
}

impl Revocations for Told {
    fn check(&self, _: &Judged<'_>) -> Verdict {
        let mut known = self.revoked.load(Ordering::SeqCst);
        let mut at = lock(&self.at);
        *at = match *at {
            Some((0, told)) => {
                self.revoked.store(true, Ordering::SeqCst);
                known |= told;
                None
            }
            Some((later, told)) => Some((later - 1, told)),
            None => None,
        };
        if known { Verdict::Revoked(Revoked::Token) } else { Verdict::Fresh }
    }

    fn age(&self, _: UnixTime) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn changed(&self) -> Changed {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_token_revoked_at_any_question_of_a_request_is_refused_afterwards() {
    for place in 0..PLACES {
        for answered in [false, true] {
            let source = Source::new(false, true);
            source.set(0, Some(set(&[0])));
            let told = Told::default();
            *lock(&told.at) = Some((place, answered));
            let (mut gate, _) = gate(verifier(&source).revocation(told.clone()));
            let token = token();
            for _ in 0..=place {
                status(&mut gate, &token);
            }
            assert!(told.revoked.load(Ordering::SeqCst), "it is asked each time");
            for _ in 0..SIGHTS {
                assert_eq!(status(&mut gate, &token), 401, "revoked at question {place}, which said so: {answered}");
            }
            // The list was wrong: nothing of the refusal has stuck.
            told.revoked.store(false, Ordering::SeqCst);
            assert_eq!(status(&mut gate, &token), 200);
        }
    }
}

#[test]
fn what_was_refused_is_not_remembered() {
    let source = Source::new(false, true);
    source.set(0, Some(set(&[0])));
    let told = Told::default();
    told.revoked.store(true, Ordering::SeqCst);
    let misfit = bearer(&Token::new(&key(0)).issuer(ISSUERS[0]).audience("orders").claim("n", "seven").sign());
    let forged = bearer(&Token::new(&key(1)).issuer(ISSUERS[0]).audience("orders").claim("n", 7).sign());
    let elsewhere = bearer(&Token::new(&key(0)).issuer(ISSUERS[0]).audience("billing").claim("n", 7).sign());
    let over =
        bearer(&Token::new(&key(0)).issuer(ISSUERS[0]).audience("orders").expired(Duration::from_secs(100)).sign());
    let (mut gate, verifier) = gate(verifier(&source).with_claims::<Typed>().revocation(told.clone()));
    for token in [&misfit, &forged, &elsewhere, &over, &token()] {
        for _ in 0..2 * SIGHTS {
            assert_eq!(status(&mut gate, token), 401);
        }
    }
    assert_eq!(verifier.token_cache_status().map(|status| (status.tokens, status.hits)), Some((0, 0)));
}

#[test]
fn layers_over_one_verifier_share_tokens_and_nothing_else() {
    let source = Source::new(false, true);
    source.set(0, Some(set(&[0])));
    let verifier = Arc::new(verifier(&source));
    let told = Told::default();
    let layer = || RequireJwtLayer::new(Arc::clone(&verifier));
    let mut plain = layer().layer(Handler);
    let mut strict = layer().require(countersign::scope("write")).realm("strict").layer(Handler);
    let mut revoking = layer().revocation(told.clone()).realm("revoking").layer(Handler);
    let token = token();
    // One of the handlers can ask whether the token is fresh: the other's layer does not know.
    let first = [ask(&mut plain, &token).body, ask(&mut revoking, &token).body];
    for _ in 0..SIGHTS {
        let refused = ask(&mut strict, &token);
        assert_eq!(refused.status, 403);
        assert!(format!("{:?}", refused.headers).contains("strict"), "{refused:?}");
        for (gate, first) in [&mut plain, &mut revoking].into_iter().zip(&first) {
            assert_eq!(asks_in_vain(&ask(gate, &token).body), asks_in_vain(first));
        }
    }
    assert!(!asks_in_vain(&first[1]) && asks_in_vain(&first[0]));
    assert!(verifier.token_cache_status().is_some_and(|status| status.hits > 0));
    told.revoked.store(true, Ordering::SeqCst);
    assert_eq!(status(&mut revoking, &token), 401);
    assert_eq!(status(&mut plain, &token), 200);
}

/// Whether there was nobody to ask if it is fresh: a refusal that is no refusal, which the handler has seen.
fn asks_in_vain(body: &str) -> bool {
    body.contains("RevocationRefusal")
}

/// How often a writer turns things over while others look.
const TURNS: u64 = 40;

#[test]
fn while_threads_verify_what_was_taken_away_before_they_began_is_refused() {
    let source = Source::new(false, true);
    let told = Told::default();
    let good = set(&[0]);
    source.set(0, Some(Arc::clone(&good)));
    let (gate, verifier) = gate(verifier(&source).revocation(told.clone()));
    let tokens: Vec<_> = (0..3).map(|_| token()).collect();
    // Even: all is good. 1 modulo 4: the key is gone. 3 modulo 4: revoked. Written after the change, and before it is undone.
    let (era, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let in_one_era = AtomicU64::new(0);
    let wrong = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut gate = gate.clone();
                while !over.load(Ordering::SeqCst) {
                    for token in &tokens {
                        let began = era.load(Ordering::SeqCst);
                        let status = status(&mut gate, token);
                        if era.load(Ordering::SeqCst) == began {
                            in_one_era.fetch_add(1, Ordering::Relaxed);
                            // Between two eras things may be either way; `u64::MAX` stands for there.
                            if began != u64::MAX && (status == 200) != (began % 2 == 0) {
                                // The writer waits for others and must hear of it.
                                lock(&wrong).get_or_insert(format!("{status} in era {began}"));
                                over.store(true, Ordering::SeqCst);
                            }
                        }
                    }
                }
            });
        }
        for turn in 0..TURNS {
            let change = |to: u64, change: &dyn Fn()| {
                era.store(u64::MAX, Ordering::SeqCst);
                change();
                era.store(to, Ordering::SeqCst);
                // Until somebody has been through.
                let seen = in_one_era.load(Ordering::SeqCst);
                while in_one_era.load(Ordering::SeqCst) < seen + 4 && !over.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
            };
            let base = turn * 4;
            let others = [set(&[1]), set(&[])];
            change(base + 1, &|| source.set(0, Some(Arc::clone(&others[(turn % 2) as usize]))));
            // The same set as before, or another with the same key.
            let back = if turn % 2 == 0 { Arc::clone(&good) } else { set(&[0]) };
            change(base + 2, &|| source.set(0, Some(Arc::clone(&back))));
            change(base + 3, &|| told.revoked.store(true, Ordering::SeqCst));
            change(base + 4, &|| told.revoked.store(false, Ordering::SeqCst));
        }
        over.store(true, Ordering::SeqCst);
    });
    assert_eq!(*lock(&wrong), None);
    assert!(verifier.token_cache_status().is_some_and(|status| status.hits > TURNS));
}
