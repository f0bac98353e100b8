//! What a revoker publishes, and what it says of that.
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a panic is the message")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_claims::revocation::{Entry, Level, Published, Publishing, RevocationSink, Revokes, SinkError};
use countersign_claims::{Policy, UnixTime, Verified};
use countersign_revocation::snapshot_file::MAX_NAME_BYTES;
use countersign_revocation::{Assurance, DEFAULT_MAX_LIFETIME, Revoker};
use countersign_token::{Algorithm, HeaderScratch, SigningKey, Thumbprint, UnverifiedToken};

const ISSUER: &str = "https://issuer.example";
const WITHIN: Duration = Duration::from_secs(3);
const DAY: i64 = 24 * 60 * 60;

/// Remembers, or refuses.
#[derive(Clone, Default)]
struct Sink {
    published: Arc<Mutex<Vec<Entry>>>,
    refuses: Option<SinkError>,
}

impl Sink {
    /// The one entry that has been published since.
    fn one(&self) -> Entry {
        let [entry] = <[Entry; 1]>::try_from(std::mem::take(&mut *self.published.lock().unwrap())).unwrap();
        entry
    }
}

impl RevocationSink for Sink {
    fn publish(&self, entries: Arc<[Entry]>) -> Publishing {
        let outcome = match &self.refuses {
            Some(error) => Err(error.clone()),
            None => {
                self.published.lock().unwrap().extend_from_slice(&entries);
                Ok(Published::within(WITHIN))
            }
        };
        Box::pin(std::future::ready(outcome))
    }
}

fn secs(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn millis(millis: u64) -> UnixTime {
    secs(0).saturating_add(Duration::from_millis(millis))
}

fn revoker(sink: &Sink, now: UnixTime) -> Revoker {
    Revoker::new(sink.clone(), ISSUER).clock(move || now)
}

/// What is guaranteed, in short: cut-off, first that passes, end.
fn times(assurance: Assurance) -> [Option<i64>; 3] {
    assert_eq!(assurance.within, WITHIN);
    [assurance.issued_until, assurance.reissue_from, assurance.until].map(|time| {
        time.map(|time| {
            assert_eq!(time, secs(time.as_secs()), "whole seconds");
            time.as_secs()
        })
    })
}

#[tokio::test]
async fn a_cut_off_takes_the_second_that_has_begun_and_lasts_as_long_as_the_longest_token() {
    let sink = Sink::default();
    for (now, clock_error, max_lifetime, expected) in [
        (100_000, 0, None, [100, 101, 101 + DAY]),
        (100_700, 0, None, [100, 101, 101 + DAY]),
        (100_999, 0, Some(900_000), [100, 101, 1001]),
        (101_000, 0, Some(900_000), [101, 102, 1002]),
        (100_700, 1, Some(900_000), [101, 102, 1002]),
        (100_700, 2000, Some(900_000), [102, 103, 1003]),
        (100_700, 2001, Some(899_001), [103, 104, 1004]),
        (100_700, 0, Some(0), [100, 101, 101]),
    ] {
        let mut revoker = revoker(&sink, millis(now)).clock_error(Duration::from_millis(clock_error));
        if let Some(max_lifetime) = max_lifetime {
            revoker = revoker.max_lifetime(Duration::from_millis(max_lifetime));
        }
        let assurance = revoker.subject("ada").await.unwrap();
        assert_eq!(times(assurance), expected.map(Some), "at {now}");
        let [issued_until, _, until] = expected.map(secs);
        let revokes = Revokes::CutOff { level: Level::Subject, name: "ada".into(), issued_until };
        assert_eq!(sink.one(), Entry { issuer: ISSUER.into(), revokes, until: Some(until) });
    }
    assert_eq!(DEFAULT_MAX_LIFETIME.as_secs(), DAY as u64);
    // Nothing overflows.
    let forever = revoker(&sink, secs(i64::MAX)).max_lifetime(Duration::MAX).clock_error(Duration::MAX);
    assert_eq!(times(forever.issuer().await.unwrap()), [Some(i64::MAX); 3]);
}

#[tokio::test]
async fn each_method_cuts_off_its_level() {
    let sink = Sink::default();
    let revoker = revoker(&sink, secs(100));
    for (assurance, level, expected) in [
        (revoker.subject("x").await, Level::Subject, "x"),
        (revoker.client("x").await, Level::Client, "x"),
        (revoker.session("x").await, Level::Session, "x"),
        (revoker.family("x").await, Level::Family, "x"),
        (revoker.tenant("x").await, Level::Tenant, "x"),
        (revoker.issuer().await, Level::Issuer, ""),
    ] {
        assert_eq!(times(assurance.unwrap()), [Some(100), Some(101), Some(101 + DAY)]);
        let revokes = sink.published.lock().unwrap().remove(0).revokes;
        let name = expected.into();
        assert_eq!(revokes, Revokes::CutOff { level, name, issued_until: secs(100) });
    }
}

#[tokio::test]
async fn a_key_is_revoked_for_good_and_a_jti_until_its_token_ends() {
    let sink = Sink::default();
    let revoker = revoker(&sink, secs(100));
    let entry = |revokes, until| Entry { issuer: ISSUER.into(), revokes, until };

    assert_eq!(times(revoker.key("k").await.unwrap()), [None; 3]);
    assert_eq!(sink.one(), entry(Revokes::Key { kid: "k".into() }, None));

    let thumbprint = Thumbprint::parse("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs").unwrap();
    assert_eq!(times(revoker.key_material(thumbprint).await.unwrap()), [None; 3]);
    assert_eq!(sink.one(), entry(Revokes::KeyMaterial { thumbprint }, None));

    assert_eq!(times(revoker.jwt_id("j", secs(200)).await.unwrap()), [None, None, Some(200)]);
    assert_eq!(sink.one(), entry(Revokes::Token { jwt_id: "j".into() }, Some(secs(200))));
}

fn verified(claims: &serde_json::Value) -> Verified {
    let signer = SigningKey::generate(Algorithm::Es256).unwrap();
    let raw = signer.sign(claims).unwrap();
    let key = Arc::new(signer.verifying_key().unwrap());
    let mut scratch = HeaderScratch::new();
    let token = UnverifiedToken::parse(&raw, 8192, &mut scratch).unwrap();
    let payload = token.verify(&key).unwrap();
    Policy::new().dangerous_allow_missing_exp().judge(payload, secs(100)).unwrap()
}

#[tokio::test]
async fn a_token_is_revoked_by_its_own_issuer_and_jti_until_its_own_end() {
    let sink = Sink::default();
    let revoker = revoker(&sink, secs(100));
    let revokes = Revokes::Token { jwt_id: "j".into() };

    let token = verified(&serde_json::json!({ "iss": "https://other.example", "jti": "j", "exp": 200 }));
    assert_eq!(times(revoker.token(&token).await.unwrap()), [None, None, Some(200)]);
    let expected = Entry { issuer: "https://other.example".into(), revokes: revokes.clone(), until: Some(secs(200)) };
    assert_eq!(sink.one(), expected);

    let token = verified(&serde_json::json!({ "jti": "j" }));
    assert_eq!(times(revoker.token(&token).await.unwrap()), [None; 3], "it never ends");
    assert_eq!(sink.one(), Entry { issuer: "".into(), revokes, until: None });

    let token = verified(&serde_json::json!({ "exp": 200 }));
    assert_eq!(revoker.token(&token).await, Err(SinkError::Unfit("the `jti`")));
}

#[tokio::test]
async fn a_name_that_is_empty_or_too_long_is_unfit_and_nothing_is_published() {
    let sink = Sink::default();
    let sound = revoker(&sink, secs(100));
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    for name in ["", &long] {
        for outcome in [
            sound.jwt_id(name, secs(200)).await,
            sound.key(name).await,
            sound.subject(name).await,
            sound.client(name).await,
            sound.session(name).await,
            sound.family(name).await,
            sound.tenant(name).await,
        ] {
            assert!(matches!(outcome, Err(SinkError::Unfit(_))), "{outcome:?}");
        }
    }
    let foreign = Revoker::new(sink.clone(), long);
    assert_eq!(foreign.issuer().await, Err(SinkError::Unfit("the issuer")));
    assert_eq!(foreign.subject("x").await, Err(SinkError::Unfit("the issuer")));
    // With a name it was meant for another level.
    let revokes = Revokes::CutOff { level: Level::Issuer, name: "x".into(), issued_until: secs(100) };
    let outcome = sound.publish([Entry { issuer: ISSUER.into(), revokes, until: None }]).await;
    assert!(matches!(outcome, Err(SinkError::Unfit(_))), "{outcome:?}");
    assert!(sink.published.lock().unwrap().is_empty());
    assert!(sound.subject(&"x".repeat(MAX_NAME_BYTES)).await.is_ok());
}

#[tokio::test]
async fn several_entries_are_published_together_and_the_answer_is_about_all_of_them() {
    let sink = Sink::default();
    let revoker = revoker(&sink, secs(100));
    let entry = |revokes, until: Option<i64>| Entry { issuer: ISSUER.into(), revokes, until: until.map(secs) };
    let cut_off = |at| Revokes::CutOff { level: Level::Session, name: "s".into(), issued_until: at };
    let token = Revokes::Token { jwt_id: "j".into() };

    let assurance = revoker
        .publish([
            entry(cut_off(millis(50_500)), Some(300)),
            entry(cut_off(secs(40)), Some(400)),
            entry(token.clone(), Some(200)),
        ])
        .await;
    assert_eq!(times(assurance.unwrap()), [Some(50), Some(51), Some(400)]);
    assert_eq!(sink.published.lock().unwrap().len(), 3);

    let assurance = revoker.publish([entry(token.clone(), Some(200)), entry(token.clone(), None)]).await;
    assert_eq!(times(assurance.unwrap()), [None; 3]);

    sink.published.lock().unwrap().clear();
    let unfit = Revokes::Key { kid: "".into() };
    let outcome = revoker.publish([entry(token, Some(200)), entry(unfit, None)]).await;
    assert_eq!(outcome, Err(SinkError::Unfit("the `kid`")));
    assert!(sink.published.lock().unwrap().is_empty(), "all or none");
}

#[tokio::test]
async fn what_the_sink_refuses_is_not_assured() {
    let full = SinkError::Full { capacity: 7 };
    let sink = Sink { refuses: Some(full.clone()), ..Sink::default() };
    assert_eq!(revoker(&sink, secs(100)).subject("ada").await, Err(full));
}
