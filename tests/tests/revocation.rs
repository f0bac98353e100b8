//! A service whose tokens are revoked, over real sockets, by whatever revokes them.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use countersign::revocation::{FileSink, Level, RevocationCheck, Revoker};
use countersign::{JwtAuth, Metrics, RevocationList, SnapshotFile, require_fresh};
use countersign_testkit::{IdentityProvider, Token};
use countersign_tests::Result;
use reqwest::Client;
use tokio::net::TcpListener;

/// Longer than any bound that is tried here, for slow machines.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service behind `auth`; the URL of its one route.
async fn serve(auth: JwtAuth) -> Result<String> {
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/payments", get(async || "paid").layer(require_fresh(Duration::from_secs(10))))
        .layer(auth);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

fn protected(idp: &IdentityProvider, check: impl Into<RevocationCheck>) -> JwtAuth {
    JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience("orders").revocation(check)
}

async fn status(url: &str, token: &str) -> Result<u16> {
    // Not over a proxy that the environment names.
    let client = Client::builder().no_proxy().build()?;
    Ok(client.get(url).bearer_auth(token).send().await?.status().as_u16())
}

#[tokio::test]
async fn each_kind_of_revocation_refuses_its_tokens_and_no_others() -> Result<()> {
    let idp = IdentityProvider::start();
    let list = RevocationList::new();
    let url = serve(protected(&idp, list.clone())).await?;
    let revoker = list.revoker(idp.issuer());
    let token =
        || idp.token("orders").subject("ada").client_id("app").claim("sid", "s").claim("tid", "t").claim("family", "f");
    let bystander =
        token().subject("grace").client_id("other").claim("sid", "x").claim("tid", "x").claim("family", "x");

    let one = token();
    let jti = one.claims()["jti"].as_str().ok_or("a jti")?.to_owned();
    let exp = countersign::UnixTime::from_secs(one.claims()["exp"].as_i64().ok_or("an exp")?);
    assert_eq!(status(&url, &one.sign()).await?, 200);
    assert_eq!(revoker.jwt_id(&jti, exp).await?.within, Duration::ZERO);
    assert_eq!(status(&url, &one.sign()).await?, 401);
    assert_eq!(status(&url, &token().sign()).await?, 200, "another token of the same");

    for level in [Level::Subject, Level::Client, Level::Session, Level::Tenant, Level::Family] {
        // Of somebody whom no cut-off before concerns.
        let name = format!("of-{level}");
        let token = match level {
            Level::Subject => bystander.clone().subject(&name),
            Level::Client => bystander.clone().client_id(&name),
            Level::Session => bystander.clone().claim("sid", name.as_str()),
            Level::Tenant => bystander.clone().claim("tid", name.as_str()),
            _ => bystander.clone().claim("family", name.as_str()),
        };
        assert_eq!(status(&url, &token.sign()).await?, 200, "{level}");
        let answer = match level {
            Level::Subject => revoker.subject(&name).await?,
            Level::Client => revoker.client(&name).await?,
            Level::Session => revoker.session(&name).await?,
            Level::Tenant => revoker.tenant(&name).await?,
            _ => revoker.family(&name).await?,
        };
        assert_eq!(status(&url, &token.sign()).await?, 401, "{level}");
        assert_eq!(status(&url, &bystander.sign()).await?, 200, "{level}");
        // A token of the time from which on new ones pass.
        let reissue = answer.reissue_from.ok_or("a time")?;
        let fresh = token.issued_at(reissue, Duration::from_secs(3600));
        assert_eq!(status(&url, &fresh.sign()).await?, 200, "{level}");
    }
    revoker.issuer().await?;
    assert_eq!(status(&url, &bystander.sign()).await?, 401);
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_revoked_verifies_nothing_under_whatever_name() -> Result<()> {
    let idp = IdentityProvider::start();
    let list = RevocationList::new();
    let url = serve(protected(&idp, list.clone())).await?;
    let token = idp.token("orders");
    let unnamed = token.clone().without_header("kid");
    for token in [&token, &unnamed] {
        assert_eq!(status(&url, &token.sign()).await?, 200);
    }
    let header = token.sign();
    let header: serde_json::Value = serde_json::from_slice(&B64.decode(header.split('.').next().ok_or("a header")?)?)?;
    list.revoker(idp.issuer()).key(header["kid"].as_str().ok_or("a kid")?).await?;
    // Issued after the revocation too: whoever has the key signs what they like.
    let later = countersign::UnixTime::from(std::time::SystemTime::now()).saturating_add(Duration::from_secs(10));
    for token in [&token, &unnamed, &token.clone().issued_at(later, Duration::from_secs(3600))] {
        assert_eq!(status(&url, &token.sign()).await?, 401);
    }
    idp.rotate();
    assert_eq!(status(&url, &idp.token("orders").sign()).await?, 200, "the next key");
    Ok(())
}

#[tokio::test]
async fn a_token_cannot_be_written_in_another_way_that_is_not_revoked() -> Result<()> {
    let idp = IdentityProvider::start();
    let list = RevocationList::new();
    let url = serve(protected(&idp, list.clone())).await?;
    let token = idp.token("orders");
    let signed = token.sign();
    let (input, signature) = signed.rsplit_once('.').ok_or("three parts")?;
    let mut signature = B64.decode(signature)?;
    assert_eq!(signature.len(), 64, "of ES256, whose signatures come in pairs: (r, s) and (r, n - s)");
    negate(&mut signature[32..]);
    let twin = format!("{input}.{}", B64.encode(signature));
    for token in [&signed, &twin] {
        assert_eq!(status(&url, token).await?, 200);
    }
    let claims = token.claims();
    let exp = countersign::UnixTime::from_secs(claims["exp"].as_i64().ok_or("an exp")?);
    list.revoker(idp.issuer()).jwt_id(claims["jti"].as_str().ok_or("a jti")?, exp).await?;
    for token in [&signed, &twin] {
        assert_eq!(status(&url, token).await?, 401);
    }
    Ok(())
}

/// `n - s`, n being the order of P-256 (SEC 2 §2.4.2); big-endian.
fn negate(s: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut borrow = false;
    for (s, n) in s.iter_mut().zip(ORDER).rev() {
        let (difference, one) = n.overflowing_sub(*s);
        let (difference, two) = difference.overflowing_sub(borrow.into());
        (*s, borrow) = (difference, one || two);
    }
}

/// A directory that is gone with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("countersign-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn what_one_process_publishes_in_a_file_many_refuse_within_the_bound() -> Result<()> {
    let idp = IdentityProvider::start();
    let directory = Directory::new("revocation")?;
    let path = directory.0.join("revoked.jsonl");
    let sink = FileSink::open(&path)?;
    let revoker = Revoker::new(sink, idp.issuer());
    // A publisher that has never revoked anything has nothing to say yet, and neither have its readers.
    let lists = [(); 3].map(|()| RevocationList::new().follow(SnapshotFile::new(&path)));
    let mut urls = Vec::new();
    for list in &lists {
        urls.push(serve(protected(&idp, list.clone())).await?);
    }
    let [ada, grace] = ["ada", "grace"].map(|sub| idp.token("orders").subject(sub).sign());
    for url in &urls {
        assert_eq!(status(url, &ada).await?, 200);
    }
    let answer = revoker.subject("ada").await?;
    assert!(answer.within > Duration::ZERO);
    let start = Instant::now();
    for (list, url) in lists.iter().zip(&urls) {
        tokio::time::timeout(PATIENCE, list.ready()).await?;
        while status(url, &ada).await? != 401 {
            assert!(start.elapsed() < PATIENCE, "not refused");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status(url, &grace).await?, 200);
    }
    assert!(start.elapsed() < answer.within, "{:?} is more than was promised", start.elapsed());
    Ok(())
}

#[tokio::test]
async fn without_news_requests_go_on_by_default_and_where_that_is_set_they_are_503() -> Result<()> {
    let idp = IdentityProvider::start();
    let list = || RevocationList::new().follow(SnapshotFile::new("/nowhere/revoked.jsonl"));
    let token = idp.token("orders").sign();

    let url = serve(protected(&idp, list())).await?;
    assert_eq!(status(&url, &token).await?, 200);
    assert_eq!(status(&format!("{url}payments"), &token).await?, 503, "one route wants to know");

    for check in [RevocationCheck::by(list()).refuse_stale(), RevocationCheck::by(list()).max_age(PATIENCE)] {
        let url = serve(protected(&idp, check)).await?;
        assert_eq!(status(&url, &token).await?, 503);
        assert_eq!(status(&url, &idp.token("invoices").sign()).await?, 401, "a bad token is bad all the same");
    }
    Ok(())
}

#[tokio::test]
async fn the_handle_and_the_metrics_say_how_much_is_known_and_how_old_it_is() -> Result<()> {
    let idp = IdentityProvider::start();
    let list = RevocationList::new();
    let metrics = Metrics::new("orders");
    let auth = protected(&idp, list.clone()).metrics(&metrics);
    let _service = tower::Layer::layer(&auth, Router::<()>::new());
    let revoker = list.revoker(idp.issuer());
    revoker.subject("ada").await?;
    revoker.key("k").await?;

    let now = countersign::UnixTime::from(std::time::SystemTime::now());
    let handle = auth.handle();
    let check = handle.revocation().ok_or("there is a check")?;
    assert_eq!(check.age(now), Some(Duration::ZERO));

    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    ::metrics::with_local_recorder(&recorder, || metrics.flush());
    let text = recorder.handle().render();
    for line in [
        r#"countersign_revocation_age_seconds{layer="orders"} 0"#,
        r#"countersign_revocations{layer="orders",kind="token"} 0"#,
        r#"countersign_revocations{layer="orders",kind="cut_off"} 1"#,
        r#"countersign_revocations{layer="orders",kind="key"} 1"#,
        r#"countersign_revocations_full{layer="orders"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in:\n{text}");
    }

    // A list that has never been told anything is infinitely old.
    let metrics = Metrics::new("stock");
    let unknown = RevocationList::new().follow(SnapshotFile::new("/nowhere/revoked.jsonl"));
    let auth = protected(&idp, unknown).metrics(&metrics);
    let _service = tower::Layer::layer(&auth, Router::<()>::new());
    ::metrics::with_local_recorder(&recorder, || metrics.flush());
    assert!(recorder.handle().render().contains(r#"countersign_revocation_age_seconds{layer="stock"} inf"#));
    Ok(())
}

#[tokio::test]
async fn clones_of_a_layer_share_what_is_revoked_and_other_layers_do_not() -> Result<()> {
    let idp = IdentityProvider::start();
    let list = RevocationList::new();
    let auth = protected(&idp, list.clone());
    let plain = JwtAuth::new(idp.jwks_url()).issuer(idp.issuer()).audience("orders");
    let token: Token = idp.token("orders").subject("ada");
    let [one, clone, other] =
        [serve(auth.clone()).await?, serve(auth.clone().realm("other")).await?, serve(plain).await?];
    list.revoker(idp.issuer()).subject("ada").await?;
    for (url, expected) in [(&one, 401), (&clone, 401), (&other, 200)] {
        assert_eq!(status(url, &token.sign()).await?, expected);
    }
    let verified = auth.verifier().verify_or_wait(&token.sign(), &countersign::SystemClock).await;
    assert_eq!(verified.unwrap_err().code(), "revoked_subject", "the check without HTTP is the same");
    Ok(())
}
