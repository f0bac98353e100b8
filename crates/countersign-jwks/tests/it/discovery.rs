//! Issuers whose metadata says where their keys are, and places that stand in for others.

use std::time::Duration;

use crate::support::{Sites, Turn, document, look_up};
use countersign_jwks::{KeyEvent, KeyState, Keys, Remote, SourceError};
use countersign_token::{Answer, KeySource};
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);
const ISSUER: &str = "https://login.example/tenant";
const OIDC: &str = "https://login.example/tenant/.well-known/openid-configuration";
const OAUTH: &str = "https://login.example/.well-known/oauth-authorization-server/tenant";
const JWKS: &str = "https://keys.example/jwks";

fn discovered(sites: &Sites) -> Keys {
    Keys::remote(Remote::discover(ISSUER).unwrap().fetch(sites.clone()))
}

fn keys(indices: impl IntoIterator<Item = usize>) -> Turn {
    Turn::Keys(indices.into_iter().collect())
}

#[tokio::test(start_paused = true)]
async fn statement_38_the_metadata_is_at_either_well_known_place() {
    for (place, asked) in [(OIDC, vec![OIDC, JWKS]), (OAUTH, vec![OIDC, OAUTH, JWKS])] {
        let sites = Sites::default();
        sites.metadata(place, ISSUER, JWKS);
        sites.set(JWKS, keys([0]));
        let source = discovered(&sites);
        source.handle().ready().await.unwrap();
        assert_eq!(sites.asked(), asked);
        let set = source.snapshot().unwrap();
        assert_eq!(set.iter().next().unwrap().issuer(), Some(ISSUER), "each key is bound to the issuer");
    }
}

#[test]
fn statement_38_the_oidc_form_is_appended_and_that_of_rfc_8414_is_inserted() {
    // The URLs that a source with this issuer asks for show it.
    for (issuer, oidc, oauth) in [
        (
            "https://a.example",
            "https://a.example/.well-known/openid-configuration",
            "https://a.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://a.example/",
            "https://a.example/.well-known/openid-configuration",
            "https://a.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://a.example/x/",
            "https://a.example/x/.well-known/openid-configuration",
            "https://a.example/.well-known/oauth-authorization-server/x",
        ),
        (
            "https://a.example:8443/x/y",
            "https://a.example:8443/x/y/.well-known/openid-configuration",
            "https://a.example:8443/.well-known/oauth-authorization-server/x/y",
        ),
    ] {
        let sites = Sites::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let _source = Keys::remote(Remote::discover(issuer).unwrap().fetch(sites.clone()));
            sleep(SEC / 2).await;
        });
        assert_eq!(sites.asked(), [oidc, oauth], "{issuer}");
    }
}

#[tokio::test(start_paused = true)]
async fn statement_37_metadata_of_another_issuer_is_not_used() {
    for issuer in [
        "https://login.example/tenant/",
        "https://login.example/Tenant",
        "https://LOGIN.example/tenant",
        "https://evil.example",
        "http://login.example/tenant",
        "",
        "https://login.example/tenant\u{0}",
    ] {
        let sites = Sites::default();
        sites.metadata(OIDC, issuer, JWKS);
        sites.set(JWKS, keys([0]));
        let source = discovered(&sites);
        sleep(3 * SEC).await;
        assert!(source.snapshot().is_none(), "{issuer}");
        assert!(sites.asked().iter().all(|url| [OIDC, OAUTH].contains(&&**url)), "nobody is asked for keys");
        assert!(source.handle().status().last_error.unwrap().contains("issuer"), "{issuer}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_only_from_where_they_may_be() {
    for (jwks_uri, same_origin, allow_http, is_used) in [
        (JWKS, false, false, true),
        (JWKS, true, false, false),
        ("https://login.example/jwks", true, false, true),
        ("https://login.example:443/jwks", true, false, true),
        ("https://login.example:8443/jwks", true, false, false),
        ("http://keys.example/jwks", false, false, false),
        ("http://keys.example/jwks", false, true, true),
        ("http://127.0.0.1/jwks", false, false, false),
        ("http://localhost/jwks", false, false, false),
        ("https://user:password@keys.example/jwks", false, false, false),
        ("file:///etc/passwd", false, true, false),
        ("gopher://keys.example/", false, true, false),
        ("jwks", false, true, false),
        ("", false, true, false),
    ] {
        let sites = Sites::default();
        sites.metadata(OIDC, ISSUER, jwks_uri);
        for url in ["https://login.example/jwks", JWKS, jwks_uri] {
            sites.set(url, keys([0]));
        }
        sites.metadata(OIDC, ISSUER, jwks_uri);
        let mut remote = Remote::discover(ISSUER).unwrap().fetch(sites.clone());
        if same_origin {
            remote = remote.same_origin();
        }
        if allow_http {
            remote = remote.dangerous_allow_http();
        }
        let source = Keys::remote(remote);
        sleep(3 * SEC).await;
        assert_eq!(source.snapshot().is_some(), is_used, "{jwks_uri} {same_origin} {allow_http}");
        let others = sites.asked().iter().filter(|url| ![OIDC, OAUTH].contains(&&***url)).count();
        assert_eq!(others > 0, is_used, "{jwks_uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_metadata_is_refused_and_tried_again() {
    let long = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"https://k.example/{}"}}"#, "x".repeat(3000));
    let padded = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{JWKS}","x":"{}"}}"#, "x".repeat(200_000));
    for metadata in [
        "",
        "[]",
        "null",
        "<html>",
        "{",
        r#"{"issuer":1,"jwks_uri":2}"#,
        &format!(r#"{{"issuer":"{ISSUER}"}}"#),
        &format!(r#"{{"issuer":"{ISSUER}","issuer":"{ISSUER}","jwks_uri":"{JWKS}"}}"#),
        &format!(r#"{{"issuer":"https://evil.example","jwks_uri":"{JWKS}","issuer":"{ISSUER}"}}"#),
        &format!(r#"{{"issuer":"{ISSUER}","jwks_uri":["{JWKS}"]}}"#),
        &long,
        &padded,
    ] {
        let sites = Sites::default();
        sites.set(OIDC, Turn::Body(200, metadata.as_bytes().to_vec()));
        sites.set(JWKS, keys([0]));
        let source = discovered(&sites);
        sleep(SEC / 2).await;
        assert!(source.snapshot().is_none(), "{metadata}");
        assert_eq!(sites.asked(), [OIDC, OAUTH], "{metadata}");
        sites.metadata(OIDC, ISSUER, JWKS);
        sleep(2 * SEC).await;
        assert!(source.snapshot().is_some(), "{metadata}");
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_is_read_again_on_its_own_schedule_and_its_failure_costs_nothing() {
    let sites = Sites::default();
    sites.metadata(OIDC, ISSUER, JWKS);
    sites.set(JWKS, keys([0]));
    let source = discovered(&sites);
    source.handle().ready().await.unwrap();
    sites.asked();
    sleep(50 * 60 * SEC).await;
    let asked = sites.asked();
    assert!(asked.len() > 5 && asked.iter().all(|url| url == JWKS), "keys every few minutes, metadata once an hour");
    for failure in
        [Turn::Body(500, Vec::new()), Turn::Body(404, Vec::new()), Turn::Hang, Turn::Body(200, b"{}".to_vec())]
    {
        sites.set(OIDC, failure);
        sleep(65 * 60 * SEC).await;
        let asked = sites.asked();
        assert!(asked.iter().any(|url| url == OIDC), "it is tried");
        assert!(asked.iter().filter(|url| *url == OIDC).count() <= 2, "and not too often");
        assert_eq!(source.handle().status().state, KeyState::Ready);
    }
    assert_eq!(source.handle().status().last_error, None, "the keys were fetched where they were");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_moves_its_keys_is_followed_by_whoever_misses_one() {
    let sites = Sites::default();
    sites.metadata(OIDC, ISSUER, JWKS);
    sites.set(JWKS, keys([0]));
    let source = discovered(&sites);
    source.handle().ready().await.unwrap();
    sleep(70 * SEC).await;
    sites.metadata(OIDC, ISSUER, "https://elsewhere.example/jwks");
    sites.set("https://elsewhere.example/jwks", keys([0, 1]));
    assert_eq!(look_up(&source, "k1").await, Some(Answer::Changed));
    // Nor does the flood after it make anybody read metadata more than once a minute.
    sites.asked();
    for second in 0..30 {
        look_up(&source, &format!("made up {second}")).await;
        sleep(SEC).await;
    }
    assert!(sites.asked().iter().filter(|url| *url == OIDC).count() <= 1);
}

#[test]
fn the_name_of_an_issuer_is_a_plain_url() {
    for (issuer, error) in [
        ("https://a.example/?tenant=1", SourceError::NotAnIssuer),
        ("https://a.example/#x", SourceError::NotAnIssuer),
        ("a.example", SourceError::NotAUrl),
        ("ftp://a.example", SourceError::Scheme),
        ("https://u:p@a.example", SourceError::Credentials),
    ] {
        assert_eq!(Remote::discover(issuer).err(), Some(error), "{issuer}");
    }
    let sites = Sites::default();
    let plain = || Remote::discover("http://a.example").unwrap().fetch(sites.clone());
    assert_eq!(plain().check(), Err(SourceError::PlainHttp));
    assert_eq!(plain().dangerous_allow_http().check(), Ok(()));
}

const MIRROR: &str = "https://mirror.example/jwks";

fn with_mirror(sites: &Sites) -> Keys {
    let mirror = Remote::new(MIRROR).unwrap().fetch(sites.clone());
    Keys::remote(Remote::new(JWKS).unwrap().fetch(sites.clone()).or_else(mirror))
}

#[tokio::test(start_paused = true)]
async fn a_mirror_serves_when_the_first_place_does_not_and_only_then() {
    for failure in [Turn::Body(500, Vec::new()), Turn::Hang, Turn::Body(200, b"<html>".to_vec())] {
        let sites = Sites::default();
        sites.set(JWKS, failure);
        sites.set(MIRROR, keys([0]));
        let source = with_mirror(&sites);
        let begun = Instant::now();
        source.handle().ready().await.unwrap();
        assert!(begun.elapsed() <= 2 * SEC, "one that hangs leaves time for the next");
        assert_eq!(sites.asked(), [JWKS, MIRROR]);
        // The first place has other keys, and comes first again.
        sites.set(JWKS, keys([1]));
        source.handle().refresh().await.unwrap();
        assert_eq!(sites.asked(), [JWKS]);
        assert_eq!(look_up(&source, "k1").await, None);
    }
}

/// After an emergency rotation: whoever can stop the first place from answering must not get the old key back.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_lags_behind_brings_no_withdrawn_key_back_while_there_are_fresh_ones() {
    let sites = Sites::default();
    sites.set(JWKS, keys([1]));
    sites.set(MIRROR, keys([0, 1]));
    let source = with_mirror(&sites);
    source.handle().ready().await.unwrap();
    sites.asked();
    sites.set(JWKS, Turn::Body(503, Vec::new()));
    for _ in 0..5 {
        assert!(matches!(look_up(&source, "k0").await, Some(Answer::NotYet { .. })));
        sleep(6 * SEC).await;
    }
    assert!(sites.asked().iter().all(|url| url == JWKS));
    // Once its keys are stale, the mirror is better than nothing.
    let mut events = source.handle().events();
    sleep(400 * SEC).await;
    assert_eq!(look_up(&source, "k0").await, None);
    let mut seen = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(SEC, events.next()).await {
        seen.push(event);
    }
    assert!(seen.iter().any(|event| matches!(event, KeyEvent::Stale)), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn what_one_place_says_of_its_document_is_not_sent_to_another() {
    let sites = Sites::default();
    let tagged = |indices: Vec<usize>, etag: &str| {
        let mut fetched = countersign_token::Fetched::default();
        (fetched.status, fetched.body, fetched.etag) = (200, document(indices), Some(etag.into()));
        Turn::Answer(Box::new(fetched))
    };
    sites.set(JWKS, Turn::Body(500, Vec::new()));
    sites.set(MIRROR, tagged(vec![0], "\"1\""));
    let source = with_mirror(&sites);
    source.handle().ready().await.unwrap();
    // It would answer 304 to that.
    sites.set(JWKS, tagged(vec![1], "\"1\""));
    source.handle().refresh().await.unwrap();
    assert_eq!(sites.requests().last().unwrap().etag, None);
    source.handle().refresh().await.unwrap();
    assert_eq!(sites.requests().last().unwrap().etag.as_deref(), Some("\"1\""));
    // And an answer to a question that nobody put is none.
    let mut unasked = countersign_token::Fetched::default();
    unasked.status = 304;
    let sites = Sites::default();
    sites.set(JWKS, Turn::Answer(Box::new(unasked)));
    sites.set(MIRROR, keys([0]));
    let source = with_mirror(&sites);
    source.handle().ready().await.unwrap();
    assert_eq!(sites.asked(), [JWKS, MIRROR]);
}

#[tokio::test(start_paused = true)]
async fn when_every_place_fails_the_error_names_each() {
    let sites = Sites::default();
    sites.set(JWKS, Turn::Body(500, Vec::new()));
    sites.set(MIRROR, Turn::Body(418, Vec::new()));
    let source = with_mirror(&sites);
    sleep(SEC / 2).await;
    let error = source.handle().status().last_error.unwrap();
    assert!(error.contains("500") && error.contains("418"), "{error}");
}
