use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use countersign_service::{ClientSecret, SecretKey};
use serde_json::{Value, json};

use crate::bench::{Bench, ISSUER, bearer, jwks, key, orders};

const TYPE: &str = "client-authentication+jwt";

async fn status(bench: &Bench, headers: &str) -> (u16, String) {
    let answer = bench.post("/v1/tokens", headers, &orders()).await;
    if answer.status == 200 { (200, String::new()) } else { answer.refusal() }
}

fn refused() -> (u16, String) {
    (401, "invalid_client".to_owned())
}

#[tokio::test]
async fn an_assertion_that_is_not_as_it_must_be_is_401() {
    let bench = Bench::new().await;
    let now = bench.now();
    let with = |name: &str, value: Value| {
        let mut claims = bench.claims();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = bench.claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let good = with("aud", json!([ISSUER]));
    assert_eq!(status(&bench, &bearer(&bench.key.sign_as(TYPE, &good).unwrap())).await.0, 200);
    // 5 s of leeway at its end.
    assert_eq!(status(&bench, &bearer(&bench.key.sign_as(TYPE, &with("exp", json!(now - 3))).unwrap())).await.0, 200);
    for (typ, claims) in [
        ("JWT", bench.claims()),
        ("at+jwt", bench.claims()),
        (TYPE, with("aud", json!("https://issuer.example/v1/tokens"))),
        (TYPE, with("aud", json!("https://issuer.example/"))),
        (TYPE, with("aud", json!([ISSUER, "https://other.example"]))),
        (TYPE, with("sub", json!("user:ada"))),
        (TYPE, with("iss", json!("other"))),
        (TYPE, with("iss", json!(ISSUER))),
        (TYPE, with("exp", json!(now + 400))),
        (TYPE, with("exp", json!(now - 6))),
        (TYPE, with("iat", json!(now - 250))),
        (TYPE, with("iat", json!(now + 100))),
        (TYPE, with("nbf", json!(now + 100))),
        (TYPE, without("jti")),
        (TYPE, without("aud")),
        (TYPE, without("exp")),
        (TYPE, without("sub")),
        (TYPE, without("iss")),
    ] {
        let token = bench.key.sign_as(typ, &claims).unwrap();
        assert_eq!(status(&bench, &bearer(&token)).await, refused(), "{typ} {claims}");
    }
    let stranger = key("c1").sign_as(TYPE, &bench.claims()).unwrap();
    assert_eq!(status(&bench, &bearer(&stranger)).await, refused());
    let unknown = key("c2").sign_as(TYPE, &bench.claims()).unwrap();
    assert_eq!(status(&bench, &bearer(&unknown)).await, refused());
    // A token of the service's own is no assertion.
    let own = bench.ask(&orders()).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(status(&bench, &bearer(&own)).await, refused());
}

#[tokio::test]
async fn whoever_shows_nothing_is_challenged_and_what_is_no_credential_is_400() {
    let bench = Bench::new().await;
    for (headers, code) in [
        (String::new(), 401),
        ("Authorization: Basic d2ViOng=\r\n".to_owned(), 401),
        ("Authorization: Negotiate x\r\n".to_owned(), 401),
        ("Authorization: Bearer \r\n".to_owned(), 400),
        (bearer("x"), 401),
        (bearer("a.b.c"), 401),
        (bearer(&"a".repeat(9_000)), 401),
        (bearer(&bench.assertion()) + &bearer(&bench.assertion()), 400),
        ("Authorization: Bearer \u{fc}\r\n".to_owned(), 400),
    ] {
        assert_eq!(status(&bench, &headers).await.0, code, "{headers}");
    }
    let answer = bench.post("/v1/tokens", "", &orders()).await;
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    let answer = bench.post("/v1/tokens", &bearer("x"), &orders()).await;
    assert_eq!(answer.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
}

#[tokio::test]
async fn an_assertion_is_good_for_one_request_even_for_two_at_once() {
    let bench = Bench::new().await;
    let headers = bearer(&bench.assertion());
    assert_eq!(status(&bench, &headers).await.0, 200);
    assert_eq!(status(&bench, &headers).await, refused());
    bench.advance(85);
    assert_eq!(status(&bench, &headers).await, refused());
    let headers = bearer(&bench.assertion());
    let (first, second) = tokio::join!(status(&bench, &headers), status(&bench, &headers));
    let mut both = [first.0, second.0];
    both.sort_unstable();
    assert_eq!(both, [200, 401]);
    // Another signature of the same claims is the same assertion.
    let claims = bench.claims();
    assert_eq!(status(&bench, &bearer(&bench.key.sign_as(TYPE, &claims).unwrap())).await.0, 200);
    assert_eq!(status(&bench, &bearer(&bench.key.sign_as(TYPE, &claims).unwrap())).await, refused());
}

#[tokio::test]
async fn what_a_process_before_this_one_may_have_accepted_is_refused() {
    let bench = Bench::new().await;
    let mut claims = bench.claims();
    claims["iat"] = json!(bench.now() - 3);
    assert_eq!(status(&bench, &bearer(&bench.key.sign_as(TYPE, &claims).unwrap())).await, refused());
    let mut claims = bench.claims();
    claims.as_object_mut().unwrap().remove("iat");
    assert_eq!(status(&bench, &bearer(&bench.key.sign_as(TYPE, &claims).unwrap())).await, refused());
    // It takes what a clock says that is ahead, and so has one before it, whose last second was the first of this one.
    bench.advance(-7);
    let mut claims = bench.claims();
    claims["iat"] = json!(bench.now() + 5);
    assert_eq!(status(&bench, &bearer(&bench.key.sign_as(TYPE, &claims).unwrap())).await, refused());
    bench.advance(7);
    for (ahead, expected) in [(5, 200), (6, 401)] {
        let mut claims = bench.claims();
        claims["iat"] = json!(bench.now() + ahead);
        let token = bench.key.sign_as(TYPE, &claims).unwrap();
        assert_eq!(status(&bench, &bearer(&token)).await.0, expected, "{ahead} s ahead");
    }
    bench.advance(340);
    let mut claims = bench.claims();
    claims.as_object_mut().unwrap().remove("iat");
    assert_eq!(status(&bench, &bearer(&bench.key.sign_as(TYPE, &claims).unwrap())).await.0, 200);
}

#[tokio::test]
async fn a_workload_is_the_one_client_whose_claims_it_has() {
    let cluster = key("cluster");
    let text = format!(
        "[workload_issuers.\"https://cluster.example\"]\njwks = '{}'\n\
         [clients.pod]\nworkloads = [{{ issuer = \"https://cluster.example\", claims = {{ sub = \"system:pod\", \"/k8s/ns\" = \"shop\", \"uid\" = 7 }} }}]\n\
         grants.g = {{ profiles = [\"access\"], subjects = {{ self = true }}, audiences = {{ exact = [\"orders\"] }} }}\n\
         [clients.any]\nworkloads = [{{ issuer = \"https://cluster.example\", claims = {{ both = \"yes\" }} }}]\n",
        jwks(&[&cluster])
    );
    let bench = Bench::with(|policy| policy + &text).await;
    let now = bench.now();
    let claims = json!({ "iss": "https://cluster.example", "sub": "system:pod", "aud": ISSUER, "exp": now + 3_600, "iat": now,
        "uid": 7, "k8s": { "ns": "shop" } });
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    // Such a token is good for as long as it says.
    for _ in 0..2 {
        let answer = bench.post("/v1/tokens", &bearer(&cluster.sign(&claims).unwrap()), &orders()).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
    }
    for claims in [
        with("aud", json!("https://api.example")),
        with("sub", json!("system:other")),
        with("k8s", json!({ "ns": "shop2" })),
        with("k8s", json!("shop")),
        with("uid", json!("7")),
        with("uid", Value::Null),
        with("exp", json!(now - 31)),
        with("iss", json!("https://cluster2.example")),
        with("both", json!("yes")),
    ] {
        assert_eq!(status(&bench, &bearer(&cluster.sign(&claims).unwrap())).await, refused(), "{claims}");
    }
    // Neither vouches for the other's.
    let assertion = cluster.sign_as(TYPE, &bench.claims()).unwrap();
    assert_eq!(status(&bench, &bearer(&assertion)).await, refused());
    assert_eq!(status(&bench, &bearer(&bench.key.sign(&claims).unwrap())).await, refused());
}

/// Tokens as they are issued by those whom `CONFIGURATION.md` has entries for; of what they say, all that is no number of the run.
#[tokio::test]
async fn workloads_of_kubernetes_spiffe_github_and_gitlab_are_known_as_is_documented() {
    let page = include_str!("../../../../CONFIGURATION.md");
    let documented = page.split_once("```toml workloads\n").unwrap().1.split_once("```").unwrap().0;
    let provider = key("provider");
    // Where their keys are is said here, and not asked for out there.
    let grants =
        "grants.g = { profiles = [\"access\"], subjects = { self = true }, audiences = { exact = [\"orders\"] } }\n";
    let lines = documented.lines().map(|line| match line {
        line if line.starts_with("[workload_issuers.") => format!("{line}\njwks = '{}'\n", jwks(&[&provider])),
        line if line.starts_with("workloads = ") => format!("{line}\n{grants}"),
        line => format!("{line}\n"),
    });
    let text: String = lines.collect();
    let bench = Bench::with(|policy| policy + &text).await;
    let now = bench.now();
    let pod = json!({
        "iss": "https://kubernetes.default.svc.cluster.local", "sub": "system:serviceaccount:shop:orders", "jti": "b0d7",
        "kubernetes.io": {
            "namespace": "shop", "node": { "name": "n1", "uid": "a3" }, "pod": { "name": "orders-7c9", "uid": "5e" },
            "serviceaccount": { "name": "orders", "uid": "c1" }, "warnafter": now + 3_607,
        },
    });
    let svid = json!({ "iss": "https://oidc.acme.example", "sub": "spiffe://acme.example/billing" });
    let action = json!({
        "iss": "https://token.actions.githubusercontent.com", "sub": "repo:acme/web:environment:production", "jti": "6f4",
        "environment": "production", "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "sha": "6dcb09b",
        "repository": "acme/web", "repository_id": "74", "repository_owner": "acme", "repository_owner_id": "65",
        "repository_visibility": "private", "actor": "ada", "actor_id": "12", "workflow": "deploy", "event_name": "push",
        "job_workflow_ref": "acme/web/.github/workflows/deploy.yml@refs/heads/main", "runner_environment": "github-hosted",
    });
    let job = json!({
        "iss": "https://gitlab.com", "sub": "project_path:acme/web:ref_type:branch:ref:main", "jti": "235b3a54",
        "namespace_id": "72", "namespace_path": "acme", "project_id": "22", "project_path": "acme/web", "user_login": "ada",
        "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true", "pipeline_source": "push",
        "environment": "production", "environment_protected": "true", "runner_id": 1, "sha": "714a629c", "ci_config_sha": "714a629c",
    });
    let ask = async |claims: &Value| {
        let mut claims = claims.clone();
        for (name, value) in
            [("aud", json!(ISSUER)), ("iat", json!(now)), ("nbf", json!(now)), ("exp", json!(now + 300))]
        {
            claims[name] = value;
        }
        bench.post("/v1/tokens", &bearer(&provider.sign_as("JWT", &claims).unwrap()), &orders()).await
    };
    for (claims, client, others) in [
        (&pod, "orders", ["sub=system:serviceaccount:shop:default", "sub=system:serviceaccount:evil:orders"]),
        (&svid, "billing", ["sub=spiffe://acme.example/billing/x", "sub=spiffe://evil.example/billing"]),
        (&action, "github", ["ref=refs/pull/7/merge", "repository_id=75"]),
        (&job, "gitlab", ["ref_protected=false", "ref_type=tag"]),
    ] {
        let answer = ask(claims).await.json();
        let payload = answer["token"].as_str().unwrap().split('.').nth(1).unwrap();
        let signed: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!((&signed["sub"], &signed["client_id"]), (&json!(client), &json!(client)));
        for other in others {
            let (name, value) = other.split_once('=').unwrap();
            let mut claims = claims.clone();
            claims[name] = json!(value);
            assert_eq!(ask(&claims).await.refusal(), refused(), "{client}: {other}");
        }
        let mut nobodys = claims.clone();
        nobodys.as_object_mut().unwrap().remove("iss");
        assert_eq!(ask(&nobodys).await.refusal(), refused(), "{client} without `iss`");
    }
}

#[tokio::test]
async fn secrets_are_taken_only_where_they_are_switched_on() {
    let key = SecretKey::new(&[7; 32]).unwrap();
    let secret = ClientSecret::generate("cron", &key).unwrap();
    assert!(SecretKey::new(&[7; 31]).is_none());
    assert!(!format!("{secret:?} {key:?}").contains(secret.secret()));
    let text = format!(
        "[clients.cron]\nsecrets = [\"{}\"]\n\
         grants.g = {{ profiles = [\"access\"], subjects = {{ self = true }}, audiences = {{ exact = [\"orders\"] }} }}\n",
        secret.hashed()
    );
    let bench =
        Bench::with(|policy| policy.replace("version = 1", "version = 1\nallow_client_secret_basic = true") + &text)
            .await;
    let basic = |name: &str, secret: &str| {
        format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{name}:{secret}")))
    };
    assert_eq!(status(&bench, &basic("cron", secret.secret())).await.0, 200);
    for (name, secret) in [
        ("cron", "x"),
        ("cron", ""),
        ("cron", secret.hashed()),
        ("web", secret.secret()),
        ("nobody", secret.secret()),
        ("CRON", secret.secret()),
    ] {
        let answer = bench.post("/v1/tokens", &basic(name, secret), &orders()).await;
        assert_eq!(answer.refusal(), refused(), "{name}");
        assert_eq!(answer.headers["www-authenticate"], "Basic realm=\"countersign\"");
    }
    assert_eq!(status(&bench, "Authorization: Basic %%%\r\n").await.0, 400);
    // The same without the switch is no policy at all.
    assert!(bench.service.reload(&("version = 1\n".to_owned() + &text)).is_err());
}

#[tokio::test]
async fn what_a_process_before_this_one_may_have_taken_is_401_to_the_end_of_the_leeway() {
    let bench = Bench::new().await;
    let began = bench.now();
    // Without `iat`: as long a life as one could have that was taken just before this process began, seven seconds ago.
    let mut claims = bench.claims();
    claims.as_object_mut().unwrap().remove("iat");
    claims["exp"] = json!(began - 7 + 305);
    let token = bench.key.sign_as(TYPE, &claims).unwrap();
    bench.advance(302);
    assert_eq!(status(&bench, &bearer(&token)).await, refused());
    claims["exp"] = json!(bench.now() + 300);
    bench.advance(10);
    let token = bench.key.sign_as(TYPE, &claims).unwrap();
    assert_eq!(status(&bench, &bearer(&token)).await.0, 200, "later than that none can have been taken");
}
