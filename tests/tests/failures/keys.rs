//! What the provider may do with its keys, while many callers come and strangers flood the service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::KeyEvent;
use countersign::jwks::DEFAULT_LIFETIME;
use countersign_testkit::Answer;
use countersign_tests::crowd::{Crowd, Seen, Tokens, accepted_after, earliest_look, first_accepted, made_up};
use countersign_tests::documented::{A_FETCH, Row, rows};

use crate::{LOOK, Stage};

/// How many callers there are, as in the requirement.
const CALLERS: u32 = 64;

/// Each of them calls so often: 640 requests a second in all, which a debug build on two cores can bear.
const PERIOD: Duration = Duration::from_millis(100);

/// An empty set is not believed before it comes a second time, at least this much later.
const CONFIRMED_AFTER: Duration = Duration::from_millis(900);

/// Everything that the first column of the table may say.
const HAPPENINGS: [&str; 9] = [
    "a rotation, announced",
    "a rotation, unannounced",
    "an emergency rotation",
    "an emergency rotation under a flood, between two looks",
    "an emergency rotation under a flood, while a look hangs",
    "a key is withdrawn, and nobody looks for another",
    "all keys are withdrawn",
    "no good answer for longer than the lifetime",
    "a flood of made-up key names",
];

fn row(name: &str) -> Row {
    assert!(HAPPENINGS.contains(&name), "{name}: not in the list");
    let row = rows("what happens").into_iter().find(|row| row.cell("what happens") == name);
    row.unwrap_or_else(|| panic!("{name}: not documented"))
}

#[test]
fn the_table_has_no_row_that_nobody_tries() {
    let documented: Vec<_> = rows("what happens").iter().map(|row| row.cell("what happens").to_owned()).collect();
    assert_eq!(documented, HAPPENINGS);
}

async fn crowd(stage: &Stage, tokens: &Tokens) -> Crowd {
    let tokens = tokens.clone();
    Crowd::gather(stage.address, CALLERS, PERIOD, move |n| tokens.nth(n, CALLERS)).await.unwrap()
}

/// Whether what each caller saw with these tokens is what the row says. Their order counts for each caller by itself.
fn assert_seen(row: &Row, heading: &str, name: &str, seen: &[Vec<Seen>]) {
    for seen in seen {
        let statuses = || seen.iter().filter(|seen| seen.name == name).map(|seen| seen.answer.status);
        assert!(
            row.allows(heading, statuses()),
            "{}: {heading}: {}, but {:?}",
            row.cell("what happens"),
            row.cell(heading),
            statuses().collect::<Vec<_>>()
        );
    }
}

/// Whether the operator sees the state that the row says.
fn assert_state(row: &Row, stage: &Stage) {
    assert_eq!(format!("{:?}", stage.status().state), row.cell("state"), "{}", row.cell("what happens"));
}

/// Nobody who shows such a token after that is let in.
fn assert_dead_after(at: Instant, name: &str, seen: &[Vec<Seen>]) {
    let late = accepted_after(seen, name, at);
    assert!(late.is_none(), "a token of a withdrawn key was accepted {:?} later", late.unwrap().sent - at);
}

/// How soon what happens is followed, by a source whose keys are good for `lifetime`.
fn within(row: &Row, lifetime: Duration) -> Duration {
    match row.cell("seen within") {
        "a fetch" => A_FETCH,
        "a lifetime and a fetch" => lifetime + A_FETCH,
        _ => row.time("seen within").unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_rotation_goes_unnoticed() {
    const LIFETIME: Duration = Duration::from_secs(1);
    let row = row("a rotation, announced");
    let stage = Stage::with_keys_that(|auth| auth.default_lifetime(LIFETIME)).await;
    let old = stage.token();
    let tokens = Tokens::default();
    tokens.set([("old", Arc::clone(&old))]);
    let crowd = crowd(&stage, &tokens).await;
    stage.provider.announce();
    tokio::time::sleep(within(&row, LIFETIME)).await;
    stage.provider.rotate();
    tokens.set([("old", old), ("new", stage.token())]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = crowd.disperse().await.unwrap();
    assert_seen(&row, "a token of the new key", "new", &seen);
    assert_seen(&row, "a token of the old key", "old", &seen);
    assert_state(&row, &stage);
    let requests = stage.provider.requests();
    assert!(requests.len() > 2, "{}", requests.len());
    // That is how a fetch says that somebody misses a key.
    assert!(requests.iter().all(|request| !request.headers.contains_key("cache-control")), "nobody had to look");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unannounced_rotation_under_load_refuses_nobody_and_costs_one_fetch() {
    let row = row("a rotation, unannounced");
    let stage = Stage::with_keys().await;
    let first_fetch = Instant::now();
    let old = stage.token();
    let tokens = Tokens::default();
    tokens.set([("old", Arc::clone(&old))]);
    let crowd = crowd(&stage, &tokens).await;
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(first_fetch.elapsed())).await;
    stage.provider.rotate();
    let rotated = Instant::now();
    tokens.set([("old", old), ("new", stage.token())]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seen = crowd.disperse().await.unwrap();
    assert_seen(&row, "a token of the new key", "new", &seen);
    assert_seen(&row, "a token of the old key", "old", &seen);
    assert!(first_accepted(&seen, "new").unwrap() - rotated <= within(&row, DEFAULT_LIFETIME));
    assert_state(&row, &stage);
    assert_eq!(stage.provider.fetches(), 2, "the first, and one for all who came with the new key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_rotation_refuses_nobody_and_the_old_key_is_dead_at_once() {
    let row = row("an emergency rotation");
    let stage = Stage::with_keys().await;
    let mut events = stage.handle.keys().events();
    let old = stage.token();
    let tokens = Tokens::default();
    tokens.set([("old", Arc::clone(&old))]);
    let crowd = crowd(&stage, &tokens).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.provider.replace_keys();
    let replaced = Instant::now();
    tokens.set([("old", old), ("new", stage.token())]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let seen = crowd.disperse().await.unwrap();
    assert_seen(&row, "a token of the new key", "new", &seen);
    assert_seen(&row, "a token of the old key", "old", &seen);
    let followed = first_accepted(&seen, "new").unwrap();
    assert!(followed - replaced <= within(&row, DEFAULT_LIFETIME));
    assert_dead_after(followed, "old", &seen);
    assert_state(&row, &stage);
    let event = events.next().await.unwrap();
    let KeyEvent::Rotated { added, removed, .. } = &event else { panic!("{event:?}") };
    assert_eq!((added.len(), removed.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_rotation_under_a_flood_is_followed_within_the_bound() {
    let (between, during) = ("between two looks", "while a look hangs");
    let row = |when| row(&format!("an emergency rotation under a flood, {when}"));
    tokio::join!(emergency_under_flood(row(between), Answer::Keys), emergency_under_flood(row(during), Answer::Stall));
}

/// The keys are replaced just after the last look at the old ones has begun that has this for an answer.
async fn emergency_under_flood(row: Row, last: Answer) {
    let stage = Stage::with_keys().await;
    let (flooded, provider) = (stage.address, stage.provider.clone());
    let flood =
        Crowd::gather(flooded, CALLERS, PERIOD, move |n| Some(("made up", made_up(&provider, n)))).await.unwrap();
    // The first look, and those that the flood causes after 0 and 2 s. Then there is one after 6 s, and none before 11 s.
    stage.provider.wait_for_fetches(3).await;
    let hangs = matches!(last, Answer::Stall);
    stage.provider.answer_once(last);
    stage.provider.wait_for_fetches(4).await;
    while !hangs && stage.status().last_success > Some(Duration::from_secs(1)) {
        tokio::time::sleep(LOOK).await;
    }
    let old = stage.token();
    stage.provider.replace_keys();
    let replaced = Instant::now();
    let tokens = Tokens::default();
    tokens.set([("old", old), ("new", stage.token())]);
    let crowd = crowd(&stage, &tokens).await;
    let bound = within(&row, DEFAULT_LIFETIME);
    tokio::time::sleep(bound + Duration::from_secs(1)).await;
    let seen = crowd.disperse().await.unwrap();
    let strangers = flood.disperse().await.unwrap();
    assert_seen(&row, "a token of the new key", "new", &seen);
    assert_seen(&row, "a token of the old key", "old", &seen);
    let followed = first_accepted(&seen, "new").unwrap();
    assert!(followed - replaced <= bound, "after {:?}", followed - replaced);
    let refused =
        seen.iter().flatten().find(|seen| seen.name == "new" && seen.sent > followed && seen.answer.status != 200);
    assert!(refused.is_none(), "known, and then not: {refused:?}");
    assert_dead_after(followed, "old", &seen);
    assert_seen(&row, "a made-up key name", "made up", &strangers);
    assert_state(&row, &stage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_key_is_trusted_for_a_lifetime_when_nobody_looks_for_another() {
    const LIFETIME: Duration = Duration::from_secs(1);
    let row = row("a key is withdrawn, and nobody looks for another");
    let stage = Stage::with_keys_that(|auth| auth.default_lifetime(LIFETIME)).await;
    let withdrawn = stage.provider.key();
    let old = stage.token();
    stage.provider.rotate();
    stage.handle.keys().refresh().await.unwrap();
    let tokens = Tokens::default();
    tokens.set([("old", old), ("new", stage.token())]);
    let crowd = crowd(&stage, &tokens).await;
    tokio::time::sleep(LIFETIME).await;
    stage.provider.withdraw(&withdrawn);
    let at = Instant::now();
    let bound = within(&row, LIFETIME);
    tokio::time::sleep(bound + Duration::from_secs(1)).await;
    let seen = crowd.disperse().await.unwrap();
    assert_seen(&row, "a token of the new key", "new", &seen);
    assert_seen(&row, "a token of the old key", "old", &seen);
    assert_dead_after(at + bound, "old", &seen);
    assert_state(&row, &stage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_keys_withdrawn_is_believed_when_it_is_said_twice() {
    let row = row("all keys are withdrawn");
    let stage = Stage::with_keys().await;
    let old = stage.token();
    let tokens = Tokens::default();
    tokens.set([("old", old)]);
    let mut events = stage.handle.keys().events();
    let crowd = crowd(&stage, &tokens).await;
    stage.provider.publish([]);
    stage.handle.keys().refresh().await.unwrap_err();
    let refused = Instant::now();
    assert!(matches!(events.next().await, Some(KeyEvent::Refused { .. })));
    assert!(matches!(events.next().await, Some(KeyEvent::Rotated { keys: 0, .. })));
    let confirmed = refused.elapsed();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let seen = crowd.disperse().await.unwrap();
    assert_seen(&row, "a token of the old key", "old", &seen);
    assert_state(&row, &stage);
    let bound = within(&row, DEFAULT_LIFETIME);
    assert!((CONFIRMED_AFTER..bound).contains(&confirmed), "{confirmed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_outlive_their_lifetime_serve_and_show_as_stale() {
    let row = row("no good answer for longer than the lifetime");
    let stage = Stage::with_keys_that(|auth| auth.default_lifetime(Duration::from_secs(1))).await;
    let mut events = stage.handle.keys().events();
    let mut connection = stage.connect().await;
    let token = stage.token();
    stage.provider.set_answer(Answer::status(500));
    let mut statuses = Vec::new();
    loop {
        statuses.push(connection.get(&token).await.unwrap().status);
        if let Ok(Some(KeyEvent::Stale)) = tokio::time::timeout(LOOK, events.next()).await {
            break;
        }
    }
    assert_state(&row, &stage);
    statuses.push(connection.get(&token).await.unwrap().status);
    assert!(row.allows("a token of the old key", statuses));
    assert!(stage.handle.is_ready());
    stage.provider.set_answer(Answer::Keys);
    stage.handle.keys().refresh().await.unwrap();
    while events.next().await != Some(KeyEvent::Recovered) {}
    assert_eq!(format!("{:?}", stage.status().state), "Ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_made_up_kids_cost_one_fetch_per_spacing_and_slow_nobody_down() {
    const NAMES: u32 = 10_000;
    let row = row("a flood of made-up key names");
    // Both in this process, so that whatever the machine does to one it does to the other.
    let (flooded, calm) = (Stage::with_keys().await, Stage::with_keys().await);
    let strangers: Arc<Vec<_>> = Arc::new((0..NAMES).map(|n| ("made up", made_up(&flooded.provider, n))).collect());
    let (mut here, mut there) = (flooded.connect().await, calm.connect().await);
    let good = [flooded.token(), calm.token()];

    let start = Instant::now();
    let flood =
        Crowd::gather(flooded.address, CALLERS, Duration::from_millis(50), move |n| strangers.get(n as usize).cloned());
    let mut flood = std::pin::pin!(async { flood.await.unwrap().finish().await.unwrap() });
    let (mut flooded_took, mut calm_took) = (Vec::new(), Vec::new());
    let strangers = loop {
        for (connection, token, took) in
            [(&mut here, &good[0], &mut flooded_took), (&mut there, &good[1], &mut calm_took)]
        {
            let start = Instant::now();
            let status = connection.get(token).await.unwrap().status;
            assert!(row.allows("a token of the old key", [status]), "{status}");
            took.push(start.elapsed());
        }
        if let Ok(seen) = tokio::time::timeout(Duration::from_millis(2), &mut flood).await {
            break seen;
        }
    };
    assert_eq!(strangers.iter().map(Vec::len).sum::<usize>(), NAMES as usize);
    assert_seen(&row, "a made-up key name", "made up", &strangers);
    assert_state(&row, &flooded);

    // No fetch is ahead of its time. The first was nobody's fault.
    let looks: Vec<_> = flooded.provider.requests().iter().skip(1).map(|request| request.at - start).collect();
    assert_eq!(looks.len() + 1, flooded.provider.fetches(), "more than are remembered");
    for (n, look) in looks.iter().enumerate() {
        assert!(*look >= earliest_look(n), "look {n} after {look:?}, not {:?}", earliest_look(n));
    }
    assert!(looks.len() >= 3, "the flood was too short to show it: {looks:?}");

    let median = |mut took: Vec<Duration>| {
        took.sort_unstable();
        took[took.len() / 2]
    };
    let (flooded, calm) = (median(flooded_took), median(calm_took));
    // Whoever had to wait would wait for a look, which comes once in a second or more. How much faster is a matter of the benchmark.
    assert!(flooded <= calm + Duration::from_millis(250), "{flooded:?} under the flood, {calm:?} beside it");
}
