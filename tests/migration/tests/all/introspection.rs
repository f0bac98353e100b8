//! Holds `INTROSPECTION.md` to what is so: what gets in at each of the deploys, and at each step back.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::services::serve;
use axum_08::Json;
use axum_08::extract::State;
use axum_08::http::StatusCode;
use axum_08::{Router, routing::post};
use countersign::{JwtAuth, SystemClock};
use countersign_migration::introspection::{self, Introspection, WouldBeRefused};
use countersign_testkit::{IdentityProvider, Token};
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../../../INTROSPECTION.md");

/// The service that is asked about every token: RFC 7662. It knows the tokens that it was told of.
#[derive(Clone, Default)]
struct Central {
    subjects: Arc<Mutex<HashMap<String, String>>>,
    is_down: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Central {
    fn issue(&self, token: &Token) -> String {
        let token = token.sign();
        self.subjects.lock().unwrap().insert(token.clone(), "alice".into());
        token
    }

    fn revoke(&self, token: &str) {
        self.subjects.lock().unwrap().remove(token);
    }

    async fn answer(State(central): State<Self>, body: String) -> Result<Json<Value>, StatusCode> {
        central.asked.fetch_add(1, Ordering::Relaxed);
        if central.is_down.load(Ordering::Relaxed) {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let subjects = central.subjects.lock().unwrap();
        let subject = body.strip_prefix("token=").and_then(|token| subjects.get(token));
        Ok(Json(subject.map_or(json!({ "active": false }), |subject| json!({ "active": true, "sub": subject }))))
    }
}

/// A fleet with one instance of each deploy, which trust the same provider and ask the same service.
struct Fleet {
    idp: IdentityProvider,
    central: Central,
    central_url: String,
    auth: JwtAuth,
    seen: Arc<WouldBeRefused>,
    urls: Vec<(&'static str, String)>,
}

impl Fleet {
    async fn start() -> Self {
        let idp = IdentityProvider::start();
        let central = Central::default();
        let url = serve(Router::new().route("/", post(Central::answer)).with_state(central.clone())).await;
        let asking = Introspection { client: reqwest::Client::new(), url: url.clone() };
        let seen = Arc::new(WouldBeRefused::default());
        let auth = introspection::auth(&idp.jwks_url(), idp.issuer(), Arc::clone(&seen));
        auth.handle().ready_within(Duration::from_secs(5)).await.unwrap();
        let mut urls = Vec::new();
        for (deploy, app) in [
            ("before", introspection::before(asking.clone())),
            ("1", introspection::first(&auth, asking.clone())),
            ("2", introspection::second(&auth, asking)),
            ("3", introspection::third(&auth)),
        ] {
            urls.push((deploy, serve(app).await));
        }
        Self { idp, central, central_url: url, auth, seen, urls }
    }

    /// The cells of a row: what reads and writes get at each deploy, and what was counted at the first.
    async fn cells(&self, token: Option<&str>) -> Vec<String> {
        let client = reqwest::Client::new();
        let mut cells = Vec::new();
        let mut counted = BTreeMap::new();
        for (deploy, url) in &self.urls {
            let mut statuses = Vec::new();
            for request in [client.get(format!("{url}orders")), client.post(format!("{url}orders/new"))] {
                let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
                statuses.push(request.send().await.unwrap().status().as_u16().to_string());
            }
            statuses.dedup();
            cells.push(statuses.join(", "));
            if *deploy == "1" {
                counted = self.seen.by_reason();
            }
        }
        cells.push(match counted.iter().next() {
            None => "–".to_owned(),
            // Once for each of the two requests.
            Some((reason, 2)) if counted.len() == 1 => format!("`{reason}`"),
            Some(_) => format!("{counted:?}"),
        });
        cells
    }
}

/// The rows of the table under a heading.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).expect("the section is there");
    let table = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn at_each_deploy_a_request_gets_what_the_page_says() {
    let mut found = Vec::new();
    for row in rows("What a request gets") {
        let fleet = Fleet::start().await;
        let good = fleet.idp.token("orders");
        let token = match row[0] {
            "a good token" => Some(fleet.central.issue(&good)),
            "no token" => None,
            "forged, with the name of a key that is known" => {
                let forged = IdentityProvider::start().token("orders").issuer(fleet.idp.issuer());
                Some(forged.header("kid", fleet.idp.key().kid()).sign())
            }
            "for another audience, and active" => Some(fleet.central.issue(&fleet.idp.token("invoices"))),
            "opaque, and active" => {
                let opaque = "2YotnFZFEjr1zCsicMWpAA".to_owned();
                fleet.central.subjects.lock().unwrap().insert(opaque.clone(), "alice".into());
                Some(opaque)
            }
            "expired" => Some(good.expired(Duration::from_secs(300)).sign()),
            "revoked, and not expired yet" => {
                let token = fleet.central.issue(&good);
                fleet.central.revoke(&token);
                Some(token)
            }
            "good, and introspection is down" => {
                let token = fleet.central.issue(&good);
                fleet.central.is_down.store(true, Ordering::Relaxed);
                Some(token)
            }
            "good, and the provider is down" => {
                fleet.idp.stop();
                Some(fleet.central.issue(&good))
            }
            situation => panic!("nobody can bring this about: {situation}"),
        };
        let mut cells = vec![row[0].to_owned()];
        cells.extend(fleet.cells(token.as_deref()).await);
        found.push((row, cells));
    }
    let wrong: Vec<_> = found.iter().filter(|(row, cells)| row != cells).collect();
    let table: String = found.iter().map(|(_, cells)| format!("| {} |\n", cells.join(" | "))).collect();
    assert!(wrong.is_empty() && !found.is_empty(), "it is:\n{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_passes_on_the_way_there_and_on_the_way_back() {
    let fleet = Fleet::start().await;
    let token = fleet.central.issue(&fleet.idp.token("orders"));
    let client = reqwest::Client::new();
    for (_, url) in fleet.urls.iter().chain(fleet.urls.iter().rev()) {
        assert_eq!(client.get(format!("{url}orders")).bearer_auth(&token).send().await.unwrap().status(), 200);
        assert_eq!(client.post(format!("{url}orders/new")).bearer_auth(&token).send().await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_refuses_nobody_and_counts_as_nothing_worse_than_undecided() {
    let fleet = Fleet::start().await;
    assert_eq!(fleet.cells(Some(&fleet.central.issue(&fleet.idp.token("orders")))).await[..4], ["200"; 4]);
    assert_eq!(fleet.idp.fetches(), 1, "one source for the layers of all deploys");
    fleet.idp.rotate();
    assert_eq!(fleet.cells(Some(&fleet.central.issue(&fleet.idp.token("orders")))).await[..4], ["200"; 4]);
    assert!(fleet.seen.by_reason().keys().all(|reason| *reason == "undecided"), "{:?}", fleet.seen.by_reason());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_deploy_asks_nobody_about_a_token() {
    let fleet = Fleet::start().await;
    let token = fleet.central.issue(&fleet.idp.token("orders"));
    let (_, third) = fleet.urls.last().unwrap();
    let answer = reqwest::Client::new().get(format!("{third}orders")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(fleet.central.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_a_token_that_is_refused_on_the_spot_costs_no_call() {
    let fleet = Fleet::start().await;
    let asking = Introspection { client: reqwest::Client::new(), url: fleet.central_url.clone() };
    let url = serve(introspection::both(&fleet.auth, asking)).await + "orders/new";
    let status = async |token: String| {
        reqwest::Client::new().post(&url).bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    let good = fleet.central.issue(&fleet.idp.token("orders"));
    assert_eq!(status(fleet.idp.token("orders").expired(Duration::from_secs(300)).sign()).await, 401);
    assert_eq!(fleet.central.asked.load(Ordering::Relaxed), 0);
    assert_eq!(status(good.clone()).await, 200);
    fleet.central.revoke(&good);
    assert_eq!(status(good).await, 401);
    assert_eq!(fleet.central.asked.load(Ordering::Relaxed), 2);
}

/// For each reason that the page explains, a token that is refused for it.
fn token_refused_for(reason: &str, idp: &IdentityProvider) -> Option<String> {
    let good = idp.token("orders");
    Some(match reason {
        "not_three_parts" => "2YotnFZFEjr1zCsicMWpAA".into(),
        "encrypted" => "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA".into(),
        "token_too_long" => good.claim("groups", "g".repeat(9000)).sign(),
        "alg_not_allowed" => good.sign(),
        "unknown_key" => IdentityProvider::start().token("orders").issuer(idp.issuer()).sign(),
        "bad_signature" => {
            let token = good.sign();
            let (signed, signature) = token.rsplit_once('.')?;
            let other = if signature.starts_with('A') { 'B' } else { 'A' };
            format!("{signed}.{other}{}", &signature[1..])
        }
        "signature_too_short" => cut(&good.sign(), 10),
        "not_base64url" => cut(&good.sign(), 13),
        "wrong_issuer" => good.issuer("https://login.example").sign(),
        "wrong_audience" => idp.token("invoices").sign(),
        "claim_missing" => good.without("aud").sign(),
        "claim_malformed" => good.claim("exp", "tomorrow").sign(),
        "expired" => good.expired(Duration::from_secs(45)).sign(),
        "wrong_type" => good.typ("logout+jwt").sign(),
        "id_token" => good.claim("at_hash", "MTIzNDU2Nzg5MDEyMzQ1Ng").sign(),
        "bound_to_key" => good.claim("cnf", json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" })).sign(),
        _ => return None,
    })
}

/// Without its end. Only where as many bits are left as octets have, it is base64url still.
fn cut(token: &str, characters: usize) -> String {
    token[..token.len() - characters].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_that_the_page_explains_is_one_that_occurs() {
    use countersign::{Algorithm, Refusal};

    let rows = rows("What each reason means");
    assert!(!rows.is_empty());
    for reason in rows.iter().flat_map(|row| row[0].split(", ")).map(|name| name.trim_matches('`')) {
        let fleet = Fleet::start().await;
        let auth = match reason {
            "alg_not_allowed" => fleet.auth.clone().algorithms(Algorithm::Rs256),
            _ => fleet.auth.clone(),
        };
        let found = match reason {
            "no_credentials" => Refusal::NoCredentials.code(),
            "malformed_credentials" => Refusal::MalformedCredentials.code(),
            "many_credentials" => Refusal::ManyCredentials.code(),
            "not_yet_valid" => {
                let now = countersign::claims::Clock::now(&SystemClock);
                let token = fleet.idp.token("orders").claim("nbf", now.as_secs() + 300).sign();
                auth.verifier().verify_or_wait(&token, &SystemClock).await.unwrap_err().code()
            }
            "keys_never_fetched" => {
                fleet.idp.stop();
                let auth = introspection::auth(&fleet.idp.jwks_url(), fleet.idp.issuer(), Arc::clone(&fleet.seen));
                auth.verifier()
                    .verify_or_wait(&fleet.idp.token("orders").sign(), &SystemClock)
                    .await
                    .unwrap_err()
                    .code()
            }
            "key_not_checked_yet" => {
                fleet.idp.stop();
                let token = fleet.idp.token("orders").header("kid", "new").sign();
                auth.verifier().verify_or_wait(&token, &SystemClock).await.unwrap_err().code()
            }
            _ => {
                let token = token_refused_for(reason, &fleet.idp).unwrap_or_else(|| panic!("no token for {reason}"));
                auth.verifier().verify_or_wait(&token, &SystemClock).await.unwrap_err().code()
            }
        };
        assert_eq!(found, reason);
    }
}
