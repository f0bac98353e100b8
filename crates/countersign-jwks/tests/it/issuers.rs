//! Many issuers behind one source, each with a scripted place for its keys.

use std::time::Duration;

use crate::support::{Sites, Turn};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwks::{
    DEFAULT_IDLE_AFTER, FetchPool, Issuers, KeyState, Keys, MAX_FETCHES, Remote, SourceError, Tenants, Waiting,
};
use countersign_token::{Algorithm, Answer, Ask, HeaderScratch, KeySource, Miss, SigningKey, UnverifiedToken};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);

pub(crate) fn keys(indices: impl IntoIterator<Item = usize>) -> Turn {
    Turn::Keys(indices.into_iter().collect())
}

/// A token that says these claims, and that nobody need believe.
pub(crate) fn token(claims: &Value, kid: &str) -> String {
    static SIGNER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| vec![7; 32]);
    let signer = SigningKey::from_secret(&SIGNER, Algorithm::Hs256).unwrap().with_kid(kid);
    let token = signer.sign(claims).unwrap();
    // It claims to be of the algorithm of the keys.
    let header = serde_json::to_vec(&json!({ "alg": "Ed25519", "kid": kid })).unwrap();
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}

/// What becomes of a token of `issuer` with that kid. `None`: its key is there.
pub(crate) fn look(keys: &Keys, issuer: &str, kid: &str) -> Option<Ask<Waiting>> {
    look_with(keys, &json!({ "iss": issuer }), kid)
}

pub(crate) fn look_with(keys: &Keys, claims: &Value, kid: &str) -> Option<Ask<Waiting>> {
    let token = token(claims, kid);
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(&token, 8192, &mut scratch).unwrap();
    let generation = match keys.snapshot_for(&token) {
        Some(set) if set.candidates(Some(kid), Algorithm::Ed25519).next().is_some() => return None,
        Some(set) => Some(set.generation()),
        None => None,
    };
    Some(keys.ask(Miss { generation, kid: Some(kid), algorithm: Algorithm::Ed25519, token: Some(&token) }))
}

pub(crate) async fn look_up(keys: &Keys, issuer: &str, kid: &str) -> Option<Answer> {
    match look(keys, issuer, kid)? {
        Ask::Answered(answer) => Some(answer),
        Ask::Wait(waiting) => Some(waiting.await),
    }
}

/// Issuers `https://i0.example`, … with key `k0`, `k1`, …
pub(crate) fn numbered(sites: &Sites, count: usize) -> Issuers {
    let mut issuers = with_sites(Issuers::new(), sites);
    for index in 0..count {
        let (issuer, jwks) = (format!("https://i{index}.example"), format!("https://i{index}.example/keys"));
        sites.set(&jwks, keys([index % 8]));
        issuers = issuers.issuer_at(&issuer, Remote::new(&jwks).unwrap());
    }
    issuers
}

pub(crate) fn with_sites(issuers: Issuers, sites: &Sites) -> Issuers {
    let sites = sites.clone();
    issuers.each(move |remote| remote.fetch(sites.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_token_is_tried_with_the_keys_of_the_issuer_that_it_names_and_of_no_other() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 3));
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    for issuer in 0..3 {
        for key in 0..3 {
            let found = look(&source, &format!("https://i{issuer}.example"), &format!("k{key}")).is_none();
            assert_eq!(found, issuer == key, "{issuer} {key}");
        }
    }
    assert!(source.snapshot().is_none(), "there are no keys for whoever names nobody");
    assert_eq!(source.handle().status().keys, 3);
    assert_eq!(source.handle().parts().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_key_is_bound_to_its_issuer() {
    let sites = Sites::default();
    sites.metadata("https://d.example/.well-known/openid-configuration", "https://d.example", "https://d.example/k");
    sites.set("https://d.example/k", keys([5]));
    sites.set("https://login.example/t1/keys", keys([6]));
    let tenants =
        Tenants::of("https://login.example/{tenant}").jwks("https://login.example/{tenant}/keys").allow(["t1"]);
    let source = Keys::issuers(numbered(&sites, 1).issuer("https://d.example").tenants(tenants));
    for (issuer, kid) in [("https://i0.example", "k0"), ("https://d.example", "k5"), ("https://login.example/t1", "k6")]
    {
        assert_eq!(look_up(&source, issuer, kid).await, Some(Answer::Changed), "{issuer}");
        let token = token(&json!({ "iss": issuer }), kid);
        let mut scratch = HeaderScratch::new();
        let token = UnverifiedToken::parse(&token, 8192, &mut scratch).unwrap();
        let set = source.snapshot_for(&token).unwrap();
        assert!(set.iter().all(|key| key.issuer() == Some(issuer)), "{issuer}");
    }
}

/// Nobody can make us ask anybody.
#[tokio::test(start_paused = true)]
async fn no_token_makes_us_ask_anybody_who_is_not_listed() {
    let sites = Sites::default();
    let tenants =
        Tenants::of("https://login.example/{tenant}/v2.0").allow(["t1"]).admit_if(|tenant| tenant.starts_with("ok-"));
    let source = Keys::issuers(numbered(&sites, 1).tenants(tenants));
    sleep(SEC).await;
    sites.asked();
    for claims in [
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": "https://i0.example/" }),
        json!({ "iss": "https://i0.example.evil.example" }),
        json!({ "iss": "http://i0.example" }),
        json!({ "iss": "https://login.example/t2/v2.0" }),
        json!({ "iss": "https://login.example/../t1/v2.0" }),
        json!({ "iss": "https://login.example/ok-/../../x/v2.0" }),
        json!({ "iss": "https://login.example/ok-@evil.example/v2.0" }),
        json!({ "iss": "https://login.example/t1/v2.0/" }),
        json!({ "iss": "https://login.example/t1?x=/v2.0" }),
        json!({ "iss": "https://login.example/T1/v2.0" }),
        json!({ "iss": "" }),
        json!({ "iss": null }),
        json!({ "iss": ["https://i0.example"] }),
        json!({ "sub": "https://i0.example" }),
    ] {
        let answer = look_with(&source, &claims, "k0");
        assert!(matches!(answer, Some(Ask::Answered(Answer::UnknownIssuer))), "{claims} {answer:?}");
    }
    sleep(5 * SEC).await;
    assert_eq!(sites.asked(), [""; 0]);
    // Without a token nobody knows whose key it is.
    let miss = Miss { generation: None, kid: Some("k0"), algorithm: Algorithm::Ed25519, token: None };
    assert!(matches!(source.ask(miss), Ask::Answered(Answer::UnknownIssuer)));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_begins_with_its_first_token_and_its_metadata_must_be_its_own() {
    let sites = Sites::default();
    let well_known = |tenant: &str| format!("https://login.example/{tenant}/v2.0/.well-known/openid-configuration");
    sites.metadata(&well_known("t1"), "https://login.example/t1/v2.0", "https://login.example/t1/keys");
    sites.set("https://login.example/t1/keys", keys([1]));
    // A tenant that passes itself off as another.
    sites.metadata(&well_known("t2"), "https://login.example/t1/v2.0", "https://login.example/t2/keys");
    sites.set("https://login.example/t2/keys", keys([2]));
    let tenants = Tenants::of("https://login.example/{tenant}/v2.0").allow(["t1", "t2"]);
    let source = Keys::issuers(with_sites(Issuers::new().tenants(tenants), &sites));
    assert!(source.handle().is_ready(), "tenants begin with their first token");
    assert_eq!(sites.asked(), [""; 0]);
    assert_eq!(look_up(&source, "https://login.example/t1/v2.0", "k1").await, Some(Answer::Changed));
    assert_eq!(look_up(&source, "https://login.example/t1/v2.0", "k1").await, None);
    let answer = look_up(&source, "https://login.example/t2/v2.0", "k2").await;
    assert!(matches!(answer, Some(Answer::NotYet { .. })), "others can be judged: {answer:?}");
    assert!(!sites.asked().contains(&"https://login.example/t2/keys".to_owned()));
}

/// One issuer of several that is down is no outage: whoever makes its name up must not raise the rate of 5xx.
#[tokio::test(start_paused = true)]
async fn one_issuer_that_cannot_be_reached_is_no_outage_of_all() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 2));
    sites.set("https://i1.example/keys", Turn::Hang);
    sleep(5 * SEC).await;
    assert!(source.handle().is_ready());
    for _ in 0..3 {
        let answer = look_up(&source, "https://i1.example", "k1").await;
        assert!(matches!(answer, Some(Answer::NotYet { .. })), "{answer:?}");
        sleep(SEC).await;
    }
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 2));
    for index in 0..2 {
        sites.set(&format!("https://i{index}.example/keys"), Turn::Body(500, Vec::new()));
    }
    sleep(5 * SEC).await;
    assert!(!source.handle().is_ready());
    assert!(matches!(look_up(&source, "https://i1.example", "k1").await, Some(Answer::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn idle_tenants_and_lazy_issuers_are_let_go_of_and_come_back() {
    let sites = Sites::default();
    sites.set("https://login.example/t1/keys", keys([1]));
    let tenants =
        Tenants::of("https://login.example/{tenant}").jwks("https://login.example/{tenant}/keys").allow(["t1"]);
    let source = Keys::issuers(numbered(&sites, 4).lazy().tenants(tenants));
    sleep(SEC).await;
    assert_eq!(sites.asked(), [""; 0], "nobody has asked for them");
    assert_eq!(look_up(&source, "https://i2.example", "k2").await, Some(Answer::Changed));
    assert_eq!(look_up(&source, "https://login.example/t1", "k1").await, Some(Answer::Changed));
    assert_eq!(source.handle().parts().len(), 2);
    // One of them stays in use.
    let mut passed = Duration::ZERO;
    while passed < DEFAULT_IDLE_AFTER * 2 {
        sleep(60 * SEC).await;
        passed += 60 * SEC;
        assert!(look(&source, "https://i2.example", "k2").is_none(), "{passed:?}");
    }
    assert_eq!(source.handle().parts().len(), 1);
    sites.asked();
    sleep(DEFAULT_IDLE_AFTER * 2).await;
    assert_eq!(source.handle().parts().len(), 0);
    sites.asked();
    sleep(DEFAULT_IDLE_AFTER).await;
    assert_eq!(sites.asked(), [""; 0], "their tasks have ended");
    assert_eq!(look_up(&source, "https://login.example/t1", "k1").await, Some(Answer::Changed));
}

#[tokio::test(start_paused = true)]
async fn listed_issuers_are_kept_even_if_they_are_idle() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 2));
    sleep(DEFAULT_IDLE_AFTER * 3).await;
    assert!(look(&source, "https://i0.example", "k0").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_number_of_tenants_is_bounded_and_those_in_use_stay() {
    let sites = Sites::default();
    for tenant in 0..10 {
        sites.set(&format!("https://login.example/t{tenant}/keys"), keys([tenant % 8]));
    }
    let tenants =
        Tenants::of("https://login.example/{tenant}").jwks("https://login.example/{tenant}/keys").admit_if(|_| true);
    let source = Keys::issuers(with_sites(Issuers::new().tenants(tenants).max_tenants(3), &sites));
    let issuer = |tenant: usize| format!("https://login.example/t{tenant}");
    for tenant in 0..3 {
        assert_eq!(look_up(&source, &issuer(tenant), &format!("k{tenant}")).await, Some(Answer::Changed));
    }
    // All are in use: the next one waits for room, and is told so.
    assert_eq!(look_up(&source, &issuer(3), "k3").await, Some(Answer::NotYet { retry_after: SEC }));
    sleep(61 * SEC).await;
    assert!(look(&source, &issuer(0), "k0").is_none() && look(&source, &issuer(2), "k2").is_none());
    // Now one has been idle for a minute.
    assert_eq!(look_up(&source, &issuer(3), "k3").await, Some(Answer::Changed));
    assert!(look(&source, &issuer(0), "k0").is_none() && look(&source, &issuer(2), "k2").is_none());
    assert_eq!(source.handle().parts().len(), 3);
    // Made-up ones, which never come to anything, make room for each other and for nobody else.
    for made_up in 0..50 {
        let answer = look_up(&source, &format!("https://login.example/made-up-{made_up}"), "k0").await;
        assert!(matches!(answer, Some(Answer::NotYet { .. })), "{answer:?}");
        for tenant in [0, 2, 3] {
            assert!(look(&source, &issuer(tenant), &format!("k{tenant}")).is_none());
        }
    }
}

fn checked() -> Tenants {
    Tenants::of("https://login.example/{tenant}").jwks("https://login.example/{tenant}/keys").admit_if(|_| true)
}

#[tokio::test(start_paused = true)]
async fn made_up_tenants_that_a_check_lets_through_flood_nobody() {
    let sites = Sites::default();
    let source = Keys::issuers(with_sites(Issuers::new().tenants(checked()), &sites));
    let (mut let_in, minute) = (0, 60_000 / 5);
    for made_up in 0..minute {
        let answer = look(&source, &format!("https://login.example/t{made_up}"), "k0");
        let_in += usize::from(matches!(answer, Some(Ask::Wait(_))));
        assert!(source.handle().parts().len() <= 64);
        sleep(Duration::from_millis(5)).await;
    }
    assert!(let_in <= 64 + 4 * 60 + 4, "{let_in}");
    assert!(sites.most_in_flight() <= MAX_FETCHES, "{}", sites.most_in_flight());
    let asked = sites.asked().len();
    // At 0, 1, 3, 7 and 15 s at most, until the next one takes the place.
    assert!(asked <= let_in * 6, "{asked} for {let_in}");
    // And once nobody makes names up any more, nobody is asked.
    sleep(120 * SEC).await;
    sites.asked();
    sleep(600 * SEC).await;
    assert_eq!((source.handle().parts().len(), sites.asked().len()), (0, 0));
}

/// They make room as soon as they have keys.
#[tokio::test(start_paused = true)]
async fn real_tenants_come_in_as_fast_as_their_keys_do() {
    let sites = Sites::default();
    let source = Keys::issuers(with_sites(Issuers::new().tenants(checked()), &sites));
    for tenant in 0..900 {
        sites.set(&format!("https://login.example/t{tenant}/keys"), keys([tenant % 8]));
        let answer = look_up(&source, &format!("https://login.example/t{tenant}"), &format!("k{}", tenant % 8)).await;
        assert_eq!(answer, Some(Answer::Changed), "{tenant}");
    }
}

/// Nor does it help to name tenants in turn for which there is no room together: none begins anew so soon.
#[tokio::test(start_paused = true)]
async fn tenants_that_take_each_others_place_do_not_forget_when_they_were_asked_for() {
    let sites = Sites::default();
    let tenants =
        Tenants::of("https://login.example/{tenant}").jwks("https://login.example/{tenant}/keys").allow(["t1", "t2"]);
    let source = Keys::issuers(with_sites(Issuers::new().tenants(tenants).max_tenants(1), &sites));
    for turn in 0..60_000 {
        let _ = look(&source, &format!("https://login.example/t{}", 1 + turn % 2), "k0");
        sleep(Duration::from_millis(1)).await;
    }
    let asked = sites.asked().len();
    assert!(asked <= 30, "{asked} in a minute");
}

#[tokio::test(start_paused = true)]
async fn fetches_of_all_issuers_together_are_bounded() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 300));
    sleep(2 * SEC).await;
    assert_eq!(sites.most_in_flight(), MAX_FETCHES / 3, "the rest is for those that have keys");
    for issuer in 0..300 {
        assert!(
            look(&source, &format!("https://i{issuer}.example"), &format!("k{}", issuer % 8)).is_none(),
            "{issuer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn sources_of_one_pool_fetch_no_more_than_so_much_at_once_and_ever_more_seldom_without_keys() {
    let (sites, pool) = (Sites::default(), FetchPool::new());
    let url = |number: usize| format!("https://i{number}.example/keys");
    (0..200).for_each(|number| sites.set(&url(number), keys([number % 8])));
    let source = |number| Keys::remote(Remote::new(url(number)).unwrap().fetch(sites.clone()).pooled(&pool));
    let sources: Vec<_> = (0..300).map(source).collect();
    sleep(2 * SEC).await;
    assert_eq!(sites.most_in_flight(), MAX_FETCHES / 3);
    let ready = sources.iter().filter(|source| source.handle().is_ready()).count();
    assert_eq!(ready, 200, "the others have no keys");
    sleep(600 * SEC).await;
    let dead: Vec<_> = (200..300).map(url).collect();
    sites.asked();
    sleep(600 * SEC).await;
    let asked = sites.asked().iter().filter(|url| dead.contains(url)).count();
    assert!((100..=1_500).contains(&asked), "{asked}: each once a minute");
}

/// Many issuers that never answer must not keep the others from being refreshed.
#[tokio::test(start_paused = true)]
async fn issuers_that_hang_do_not_delay_those_that_have_keys() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 200));
    for hanging in 1..200 {
        sites.set(&format!("https://i{hanging}.example/keys"), Turn::Hang);
    }
    sites.set("https://i0.example/keys", keys([0]));
    let first = look_up(&source, "https://i0.example", "k0").await;
    assert!(matches!(first, Some(Answer::Changed | Answer::NotYet { .. } | Answer::Unavailable { .. })), "{first:?}");
    // It has to get one of 32 places for its first keys, among 199 that hang for two seconds each and come again: about one try in two
    // succeeds, and there is one in every five seconds. (After 30 s one run in eight was still without.)
    sleep(300 * SEC).await;
    assert!(look(&source, "https://i0.example", "k0").is_none());
    for key in 1..6 {
        sites.set("https://i0.example/keys", keys([0, key]));
        let begun = Instant::now();
        assert_eq!(look_up(&source, "https://i0.example", &format!("k{key}")).await, Some(Answer::Changed));
        assert!(begun.elapsed() <= SEC / 10, "{:?}", begun.elapsed());
        sleep(20 * SEC).await;
    }
}

#[tokio::test(start_paused = true)]
async fn issuers_come_and_go_while_it_runs() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 1));
    let handle = source.handle();
    handle.ready().await.unwrap();
    assert!(matches!(look(&source, "https://new.example", "k3"), Some(Ask::Answered(Answer::UnknownIssuer))));
    sites.set("https://new.example/keys", keys([3]));
    let remote = || Remote::new("https://new.example/keys").unwrap();
    handle.add_issuer("https://new.example", remote()).unwrap();
    assert_eq!(look_up(&source, "https://new.example", "k3").await, Some(Answer::Changed));
    // Another source for the same issuer.
    sites.set("https://other.example/keys", keys([4]));
    handle.add_issuer("https://new.example", Remote::new("https://other.example/keys").unwrap()).unwrap();
    assert_eq!(look_up(&source, "https://new.example", "k4").await, Some(Answer::Changed));
    assert!(look(&source, "https://new.example", "k3").is_some());
    assert!(handle.remove_issuer("https://new.example") && !handle.remove_issuer("https://new.example"));
    assert!(matches!(look(&source, "https://new.example", "k4"), Some(Ask::Answered(Answer::UnknownIssuer))));
    assert_eq!(
        handle.add_issuer("https://x.example", Remote::new("http://x.example").unwrap()),
        Err(SourceError::PlainHttp)
    );
    assert_eq!(handle.add_issuer("", remote()), Err(SourceError::NotAnIssuer));
    let one = Keys::remote(remote().fetch(sites.clone())).handle();
    assert_eq!(one.add_issuer("https://new.example", remote()), Err(SourceError::OneIssuer));
    assert!(!one.remove_issuer("https://new.example"));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_of_one_issuer_is_followed_and_told_by_name() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 2));
    let mut events = source.handle().events();
    source.handle().ready().await.unwrap();
    sleep(SEC).await;
    sites.set("https://i1.example/keys", keys([1, 7]));
    assert_eq!(look_up(&source, "https://i1.example", "k7").await, Some(Answer::Changed));
    let mut told = Vec::new();
    while let Ok(Some((name, event))) = tokio::time::timeout(SEC, events.next_named()).await {
        told.push(format!("{name}: {event}"));
    }
    assert!(told.contains(&"https://i1.example: key set 2 is in force: 2 keys, 1 new, 0 gone".to_owned()), "{told:?}");
    let token = token(&json!({ "iss": "https://i1.example" }), "k7");
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(&token, 8192, &mut scratch).unwrap();
    // A bad signature makes that issuer's source look, and no other.
    sites.asked();
    let miss = Miss { generation: Some(2), kid: Some("k7"), algorithm: Algorithm::Ed25519, token: Some(&token) };
    source.signature_mismatch(miss);
    sleep(5 * SEC).await;
    assert_eq!(sites.asked(), ["https://i1.example/keys"]);
}

#[test]
fn without_a_runtime_nobody_panics_and_with_one_it_begins() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 1));
    assert!(!source.handle().is_ready());
    let answer = look(&source, "https://i0.example", "k0");
    assert!(matches!(answer, Some(Ask::Answered(Answer::Unavailable { .. }))), "{answer:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(look_up(&source, "https://i0.example", "k0")), Some(Answer::Changed));
    drop(runtime);
    // The next runtime takes over.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(look_up(&source, "https://i0.example", "k0").await.is_none_or(|answer| answer == Answer::Changed));
        assert_eq!(source.handle().status().state, KeyState::Ready);
    });
}

/// Who makes the source before the runtime and asks for nothing but readiness, as a probe does before it lets traffic in.
#[test]
fn asking_whether_it_is_ready_is_a_use_that_starts_it() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        assert!(!source.handle().is_ready());
        sleep(SEC).await;
        assert!(source.handle().is_ready());
    });
}

#[tokio::test(start_paused = true)]
async fn everything_ends_with_the_last_user() {
    let sites = Sites::default();
    let source = Keys::issuers(numbered(&sites, 5));
    let handle = source.handle();
    handle.ready().await.unwrap();
    sleep(SEC).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks() >= 5);
    drop((source, handle));
    sleep(DEFAULT_IDLE_AFTER).await;
    assert_eq!(tasks(), 0);
}
