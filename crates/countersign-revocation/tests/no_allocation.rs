//! What a request must not pay for. Its own file, because it counts what the process allocates.

mod common;

use common::{START, cut_off, judged, key, list, options, replace, token};
use countersign_claims::revocation::{Judged, Level, Revocations as _, Revoked, Verdict};
use countersign_revocation::Filter;

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

fn full(jwt_id: &str) -> Judged<'_> {
    let mut judged = judged(jwt_id);
    (judged.subject, judged.session, judged.client) = (Some("ada"), Some("s"), Some("c"));
    (judged.tenant, judged.family, judged.kid) = (Some("t"), Some("f"), Some("k"));
    judged.issued_at = Some(START);
    judged
}

#[test]
fn a_check_allocates_nothing_however_much_is_revoked() {
    for filter in [Filter::Off, Filter::Front, Filter::Only] {
        for count in [0_u64, 1_000, 100_000] {
            let (list, [feed]) = list(options().filter(filter).filter_from(500), ["feed"]);
            replace(&feed, (0..count).map(token), START);
            // What comes between snapshots, and the levels.
            feed.add(&[token("late"), key("other")], None).unwrap();
            let levels =
                Level::ALL.map(|level| cut_off(level, if level == Level::Issuer { "" } else { "x" }, common::at(-1)));
            feed.add(&levels, None).unwrap();
            let check = |jwt_id: &str, expected: Option<Verdict>| {
                let verdict = list.check(&full(jwt_id));
                assert!(expected.is_none_or(|expected| expected == verdict), "{verdict:?}");
            };
            // A thread's first look at a snapshot, and the log's first word of it, set something up.
            check("none", None);
            let revoked = Verdict::Revoked(Revoked::Token);
            assert_eq!(allocations(|| check("late", Some(revoked))), 0);
            assert_eq!(allocations(|| check("none", None)), 0);
            if count > 0 {
                assert_eq!(allocations(|| check("999", Some(revoked))), 0, "{filter:?} {count}");
            }
        }
    }
    // And the count counts.
    assert_ne!(allocations(|| drop(list(options(), ["feed"]))), 0);
}
