//! Checks that run while entries come, are compacted and are replaced.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{START, at, cut_off, entry, is_revoked, judged, list, options, replace, token};
use countersign_claims::revocation::{Judged, Level, Revocations as _, Revoked, Revokes, Verdict};
use countersign_revocation::Filter;

/// Enough for several compactions, which begin at 4,096.
const TOKENS: u64 = 20_000;

/// Ends the others, however a thread ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn whoever_looks_after_an_addition_sees_it(filter: Filter) {
    let (list, [one, other]) = list(options().filter(filter).filter_from(1_000), ["one", "other"]);
    let (added, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|threads| {
        let writer = threads.spawn(|| {
            let _over = SetOnDrop(&over);
            // Eight at a time, the last of which the others hear of.
            for from in (0..TOKENS).step_by(8) {
                let entries: Vec<_> = (from..from + 8).map(token).collect();
                one.add(&entries, None).expect("there is room");
                added.store(from + 8, Ordering::Release);
            }
        });
        // Another feed replaces everything of its own all the time.
        threads.spawn(|| {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                replace(&other, (0..500).map(|i| token(format!("other {round} {i}"))), at(round));
                assert!(is_revoked(&list, format!("other {round} 499")));
                assert!(round == 0 || !is_revoked(&list, format!("other {} 499", round - 1)));
                round = (round + 1).min(200);
            }
        });
        for reader in 0..2_u64 {
            let (list, added, over) = (&list, &added, &over);
            threads.spawn(move || {
                let mut random = reader;
                while !over.load(Ordering::Relaxed) {
                    let known = added.load(Ordering::Acquire);
                    random = (random * 6_364_136_223 + 1_442_695) % 1_000_000_007;
                    // The last, and any.
                    for jwt_id in [known.checked_sub(1), random.checked_rem(known)].into_iter().flatten() {
                        assert!(is_revoked(list, jwt_id), "{jwt_id} of {known}");
                    }
                }
            });
        }
        writer.join().expect("it adds them all");
    });
    assert!((0..TOKENS).all(|jwt_id| is_revoked(&list, jwt_id)));
    assert!(!is_revoked(&list, TOKENS));
}

#[test]
fn whoever_looks_after_an_addition_sees_it_across_compactions_and_replacements() {
    whoever_looks_after_an_addition_sees_it(Filter::Off);
}

#[test]
fn whoever_looks_after_an_addition_sees_it_behind_a_filter() {
    whoever_looks_after_an_addition_sees_it(Filter::Front);
}

/// The token fits both cut-offs of an addition, and the later one is named. Seen whole, that is always the session's: half of an addition would
/// name the subject's, which is one second earlier.
#[test]
fn nobody_sees_half_of_an_addition() {
    const ROUNDS: i64 = 2_000;
    let (list, [feed]) = list(options(), ["feed"]);
    let (over, begin) = (AtomicBool::new(false), Barrier::new(2));
    let mut judged = Judged::at(START);
    (judged.issuer, judged.subject, judged.session) = (Some("issuer"), Some("ada"), Some("s"));
    judged.issued_at = Some(at(-1));
    thread::scope(|threads| {
        let writer = threads.spawn(|| {
            let _over = SetOnDrop(&over);
            begin.wait();
            for round in 0..ROUNDS {
                let entries =
                    [cut_off(Level::Subject, "ada", at(2 * round)), cut_off(Level::Session, "s", at(2 * round + 1))];
                feed.add(&entries, None).unwrap();
            }
        });
        threads.spawn(|| {
            begin.wait();
            while !over.load(Ordering::Relaxed) {
                match list.check(&judged) {
                    Verdict::Revoked(Revoked::CutOff { level: Level::Session, issued_until }) => {
                        assert_eq!((issued_until.as_secs() - START.as_secs()) % 2, 1);
                    }
                    Verdict::Stale { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        writer.join().unwrap();
    });
}

/// Each replacement has the one or the other of two tokens, so a token is revoked at any time; and what is added between comes and goes.
#[test]
fn nobody_sees_half_of_a_replacement() {
    let (list, [feed]) = list(options(), ["feed"]);
    let over = AtomicBool::new(false);
    let both = |odd: bool| {
        let name = if odd { "odd" } else { "even" };
        [entry(Revokes::Token { jwt_id: name.into() }, None), cut_off(Level::Subject, name, at(10))]
    };
    replace(&feed, both(false), START);
    thread::scope(|threads| {
        let writer = threads.spawn(|| {
            let _over = SetOnDrop(&over);
            for round in 0..2_000 {
                replace(&feed, both(round % 2 == 0), at(round / 100));
            }
        });
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // The cut-off of the one or the `jti` of the other: in each of the two this is one of them.
                let mut judged = judged("even");
                (judged.subject, judged.issued_at) = (Some("odd"), Some(START));
                assert!(matches!(list.check(&judged), Verdict::Revoked(_)));
            }
        });
        writer.join().unwrap();
    });
}
