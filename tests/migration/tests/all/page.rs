//! Holds `MIGRATING.md` to what is so: its code is that of this package, and each cell of its tables is what a service answers.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::services::{self, Origin, Start};
use axum_08::{Router, routing::get};
use countersign_testkit::{Answer, IdentityProvider, Token};
use tower_oauth2_resource_server::{claims::DefaultClaims, server::OAuth2ResourceServer, tenant::TenantConfiguration};

const PAGE: &str = include_str!("../../../../MIGRATING.md");
const INTROSPECTION: &str = include_str!("../../../../INTROSPECTION.md");

/// What can be asked, and what the world is like then: the first column of the tables.
const SITUATIONS: [&str; 21] = [
    "a good token",
    "no token",
    "a header that is malformed",
    "two headers, each with a good token",
    "something that is no token",
    "expired 45 s ago",
    "expired 5 min ago",
    "valid only in 5 min (`nbf`)",
    "another audience",
    "no `aud`",
    "another issuer",
    "no `iss`",
    "no scope",
    "no `kid`",
    "a logout token (`typ`)",
    "bound to a key (`cnf`)",
    "`crit` in its header",
    "a key that the provider does not have",
    "a key that is new since the start",
    "good, and the provider has gone down",
    "good, and the provider was down at the start",
];

/// What a request gets, as the tables say it: the status, and what the challenge says, if there is one.
async fn answer(url: &str, authorization: &[String]) -> String {
    let mut request = reqwest::Client::new().get(url);
    for value in authorization {
        request = request.header("authorization", value);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let Some(challenge) = response.headers().get("www-authenticate") else { return status.to_string() };
    let challenge = challenge.to_str().unwrap();
    match challenge.split_once("error=\"").and_then(|(_, rest)| rest.split_once('"')) {
        Some((error, _)) => format!("{status} `{error}`"),
        None => format!("{status} `Bearer`"),
    }
}

/// Until the keys are there: some fetch them after they have started.
async fn warm_up(url: &str, idp: &IdentityProvider) {
    let good = bearer(&good(idp));
    for _ in 0..200 {
        if answer(url, std::slice::from_ref(&good)).await == "200" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no good token is let in");
}

fn good(idp: &IdentityProvider) -> Token {
    idp.token("orders").scope("orders:read")
}

fn bearer(token: &Token) -> String {
    format!("Bearer {}", token.sign())
}

/// The cell of a table: what a service that was started like this says to that.
async fn cell(start: Start, situation: &str) -> String {
    let idp = IdentityProvider::start();
    let at_the_start = situation == "good, and the provider was down at the start";
    if at_the_start {
        idp.stop();
    }
    let Some(url) = start(&idp).await else { return "does not start".into() };
    if !at_the_start {
        warm_up(&url, &idp).await;
    }
    let good = good(&idp);
    let token = match situation {
        "no token" => return answer(&url, &[]).await,
        "a header that is malformed" => return answer(&url, &["Bearer one two".into()]).await,
        "two headers, each with a good token" => return answer(&url, &[bearer(&good), bearer(&good)]).await,
        "something that is no token" => return answer(&url, &["Bearer abc".into()]).await,
        "a good token" | "good, and the provider was down at the start" => good,
        "expired 45 s ago" => good.expired(Duration::from_secs(45)),
        "expired 5 min ago" => good.expired(Duration::from_secs(300)),
        "valid only in 5 min (`nbf`)" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            good.claim("nbf", now + 300)
        }
        "another audience" => good.audience("invoices"),
        "no `aud`" => good.without("aud"),
        "another issuer" => good.issuer("https://login.example"),
        "no `iss`" => good.without("iss"),
        "no scope" => good.without("scope"),
        "no `kid`" => good.without_header("kid"),
        "a logout token (`typ`)" => good.typ("logout+jwt"),
        "bound to a key (`cnf`)" => {
            good.claim("cnf", serde_json::json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }))
        }
        "`crit` in its header" => good.header("crit", serde_json::json!(["example"])).header("example", true),
        "a key that the provider does not have" => good.header("kid", "made-up"),
        "a key that is new since the start" => {
            idp.rotate();
            self::good(&idp)
        }
        "good, and the provider has gone down" => {
            idp.stop();
            good
        }
        _ => panic!("the page has a situation that nobody can bring about: {situation}"),
    };
    answer(&url, &[bearer(&token)]).await
}

/// The section of the page about an origin.
fn section(heading: &str) -> &'static str {
    let (_, section) =
        PAGE.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section `{heading}`"));
    section.split("\n## ").next().unwrap()
}

/// The cells of each row of its table.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let table = section(heading).lines().skip_while(|line| !line.starts_with("| the request |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What the table says, and what is so; whatever differs is shown, so that the page can be mended from it.
async fn the_table_is_right(origin: Origin) {
    let rows = rows(origin.heading);
    let named: BTreeSet<_> = rows.iter().map(|row| row[0]).collect();
    let missing: Vec<_> = SITUATIONS.iter().filter(|situation| !named.contains(*situation)).collect();
    let mut wrong: Vec<String> = missing.iter().map(|situation| format!("no row: {situation}")).collect();
    let mut found = Vec::new();
    for situation in SITUATIONS {
        found.push([situation.to_owned(), cell(origin.before, situation).await, cell(origin.after, situation).await]);
    }
    for row in &rows {
        if !found.iter().any(|cells| cells == row.as_slice()) {
            wrong.push(format!("not so: {row:?}"));
        }
    }
    let table: String = found.iter().map(|cells| format!("| {} |\n", cells.join(" | "))).collect();
    assert!(wrong.is_empty(), "{}:\n{}\nIt is:\n{table}", origin.heading, wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_for_jwt_authorizer_is_right() {
    the_table_is_right(services::JWT_AUTHORIZER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_for_axum_jwt_auth_is_right() {
    the_table_is_right(services::AXUM_JWT_AUTH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_for_tower_oauth2_resource_server_is_right() {
    the_table_is_right(services::TOWER_OAUTH2_RESOURCE_SERVER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_for_hand_written_middleware_is_right() {
    the_table_is_right(services::HAND_WRITTEN).await;
}

/// Every file of code below `directory`.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
    found
}

fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("\n```rust\n").skip(1).map(|rest| rest.split("\n```").next().unwrap())
}

#[test]
fn each_block_of_code_is_found_word_for_word_in_a_file_that_is_compiled() {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert_eq!(blocks(PAGE).count(), 8, "a before and an after for each of four origins");
    assert!(blocks(INTROSPECTION).count() >= 5, "what is there before, and three deploys");
    for block in blocks(PAGE).chain(blocks(INTROSPECTION)) {
        assert!(files.iter().any(|file| file.contains(block)), "in no file:\n{block}");
    }
}

#[test]
fn an_hour_and_ten_minutes_are_what_the_page_says_they_are() {
    assert_eq!(axum_jwt_auth::RemoteJwksDecoderConfig::default().cache_duration, Duration::from_secs(3600));
    let refresh = jwt_authorizer::Refresh::default();
    assert_eq!(refresh.refresh_interval, Duration::from_secs(600));
    assert!(matches!(refresh.strategy, jwt_authorizer::RefreshStrategy::KeyNotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_name_that_nobody_has_verified_is_in_the_url_before_and_not_after() {
    for (start, is_there) in [(services::JWT_AUTHORIZER.before, true), (services::JWT_AUTHORIZER.after, false)] {
        let idp = IdentityProvider::start();
        let url = start(&idp).await.unwrap();
        answer(&url, &[bearer(&good(&idp).header("kid", "made-up"))]).await;
        assert_eq!(idp.requests().iter().any(|request| request.path.contains("made-up")), is_there);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_known_is_looked_for_after_and_not_before() {
    for origin in [
        services::JWT_AUTHORIZER,
        services::AXUM_JWT_AUTH,
        services::TOWER_OAUTH2_RESOURCE_SERVER,
        services::HAND_WRITTEN,
    ] {
        for (start, looks) in [(origin.before, 0), (origin.after, 1)] {
            let idp = IdentityProvider::start();
            let url = start(&idp).await.unwrap();
            warm_up(&url, &idp).await;
            let known = idp.fetches();
            idp.rotate();
            answer(&url, &[bearer(&good(&idp))]).await;
            assert_eq!(idp.fetches() - known, looks, "{}", origin.heading);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_request_waits_for_a_provider_that_hangs_before_and_gets_503_after() {
    for (start, expected) in [(services::JWT_AUTHORIZER.before, None), (services::JWT_AUTHORIZER.after, Some("503"))] {
        let idp = IdentityProvider::start();
        idp.set_answer(Answer::Stall);
        let url = start(&idp).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(6), answer(&url, &[bearer(&good(&idp))])).await;
        assert_eq!(answer.ok().as_deref(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tower_oauth2_with_a_jwks_url_lets_any_issuer_in() {
    let idp = IdentityProvider::start();
    let tenant = TenantConfiguration::builder(idp.issuer()).jwks_url(idp.jwks_url()).audiences(&["orders"]);
    let server = OAuth2ResourceServer::<DefaultClaims>::builder().add_tenant(tenant.build().await.unwrap());
    let layer = server.build().await.unwrap().into_layer();
    let url = services::serve(Router::new().route("/", get(async || "hello")).layer(layer)).await;
    warm_up(&url, &idp).await;
    assert_eq!(answer(&url, &[bearer(&good(&idp).issuer("https://login.example"))]).await, "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_can_look_on_outside_of_what_is_there_under_axum_0_7_too() {
    let idp = IdentityProvider::start();
    let auth = countersign::JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience("orders").shadow();
    let app = countersign_migration::jwt_authorizer::before::app(&idp.jwks_url(), idp.issuer()).await.unwrap();
    let url = services::serve_07(app.layer(auth)).await;
    assert_eq!(answer(&url, &[bearer(&good(&idp))]).await, "200");
    assert_eq!(answer(&url, &[bearer(&good(&idp).without("aud"))]).await, "200", "as it was before");
    assert_eq!(answer(&url, &[bearer(&good(&idp).audience("invoices"))]).await, "401 `invalid_token`");
}
