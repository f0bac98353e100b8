//! `countersign policy` and `countersign config`.

use std::path::Path;

use crate::{GOOD, REFUSED, UNAVAILABLE, USAGE, directory, run, run_with_input};

const POLICY: &str = r#"
version = 1
revision = "7"

[profiles.access]
slots = ["es256"]
lifetime = 300
max_lifetime = 900

[clients.web.grants.orders]
profiles = ["access"]
subjects = { self = true }
audiences = { exact = ["orders"] }
scopes = ["orders:read"]
valid_until = 2030-01-01T00:00:00Z
"#;

const JWKS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"w1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn written(place: &Path, name: &str, text: &str) -> String {
    let file = place.join(name);
    std::fs::write(&file, text).unwrap();
    set_mode(&file, 0o600);
    file.to_str().unwrap().to_owned()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_policy_is_good_as_a_whole_or_not_at_all() {
    let place = directory("policy-check");
    let good = written(&place, "good.toml", POLICY);
    assert_eq!(run(&["policy", "check", &good]).ends(GOOD).out, "good: 1 clients, revision 7\n");
    let document = run(&["--json", "policy", "check", &good]).ends(GOOD).json();
    assert_eq!((&document["good"], &document["clients"][0]), (&true.into(), &"web".into()));
    // Of a slot that the service does not have.
    let config = written(&place, "config.toml", "slots = [\"rs256=RS256\"]");
    let ran = run(&["policy", "check", &good, "--config", &config]).ends(REFUSED);
    assert!(ran.err.contains("slots"), "{}", ran.err);
    let bad = written(&place, "bad.toml", &POLICY.replace("audiences", "audience"));
    let document = run(&["--json", "policy", "check", &bad]).ends(REFUSED).json();
    assert_eq!(document["error"], "policy_invalid");
    run(&["policy", "check", place.join("none.toml").to_str().unwrap()]).ends(UNAVAILABLE);
    run(&["policy", "check"]).ends(USAGE);
}

#[test]
fn whatever_a_service_would_refuse_a_policy_for_is_said_before_there_is_one() {
    let place = directory("policy-serve");
    let data = place.join("data");
    let policy = written(&place, "policy.toml", POLICY);
    let config = |more: &str| {
        let text = format!(
            "listen = '127.0.0.1:0'\nissuer = 'https://issuer.example'\ndirectory = '{}'\npolicy_file = '{policy}'\n{more}\n",
            data.display()
        );
        written(&place, "config.toml", &text)
    };
    // Both say it, and the one that would serve makes no ring first.
    let both = |config: &str, code: i32, said: &str| {
        let checked = run(&["policy", "check", &policy, "--config", config]).ends(code);
        let served = run(&["serve", "--config", config]).ends(UNAVAILABLE);
        for ran in [checked, served] {
            assert!(ran.err.contains(said), "{said}: {}", ran.err);
        }
        assert!(!data.join("ring/state.json").exists(), "{said}");
    };
    let text = |more: &str| drop(written(&place, "policy.toml", &format!("{more}{POLICY}")));
    let key = written(&place, "secret-key", "0123456789abcdef0123456789abcdef\n");
    let with_key = format!("secret_key_file = '{key}'");
    text("allow_client_secret_basic = true\n");
    both(&config(""), REFUSED, "secret_key_file");
    run(&["policy", "check", &policy, "--config", &config(&with_key)]).ends(GOOD);
    set_mode(Path::new(&key), 0o640);
    both(&config(&with_key), UNAVAILABLE, "chmod go=");
    written(&place, "secret-key", "0123456789abcdef0123456789abcde\n");
    both(&config(&with_key), UNAVAILABLE, "less than 32 octets");
    let with_key = format!("secret_key_file = '{}'", place.join("none").display());
    both(&config(&with_key), UNAVAILABLE, "none");

    let issuers = "[workload_issuers.'https://build.example']\njwks_uri = 'http://build.example/jwks'\n";
    written(&place, "policy.toml", &(POLICY.to_owned() + issuers));
    both(&config(""), REFUSED, "no URL from which keys may be fetched");
    text("");
    set_mode(Path::new(&policy), 0o664);
    both(&config(""), UNAVAILABLE, "chmod go-w");
    set_mode(Path::new(&policy), 0o600);
    set_mode(&place, 0o777);
    let ran = run(&["policy", "check", &policy]).ends(UNAVAILABLE);
    assert!(ran.err.contains("chmod go-w"), "{}", ran.err);
    set_mode(&place, 0o700);
    text(&"#".repeat(4 * 1024 * 1024));
    both(&config(""), UNAVAILABLE, "more than 4194304 bytes");
    let ran = run(&["policy", "check", place.to_str().unwrap()]).ends(UNAVAILABLE);
    assert!(ran.err.contains("no regular file"), "{}", ran.err);
}

#[test]
fn what_a_client_would_be_answered_is_told_with_the_grant_and_the_rule() {
    let place = directory("policy-explain");
    let file = written(&place, "policy.toml", POLICY);
    let ask = |client: &str, now: &str, request: &str| {
        let arguments = ["--json", "policy", "explain", &file, "--client", client, "--now", now];
        run_with_input(&arguments, request.as_bytes())
    };
    let good = r#"{"profile":"access","aud":"orders","scope":"orders:read","ttl":600}"#;
    let granted = ask("web", "1800000000", good).ends(GOOD).json();
    assert_eq!(
        (&granted["grant"], &granted["slot"], &granted["alg"], &granted["lifetime_seconds"]),
        (&"orders".into(), &"es256".into(), &"ES256".into(), &600.into())
    );
    for (client, now, request, error, grant) in [
        ("web", "1900000000", good.to_owned(), "grant_not_valid", Some("orders")),
        ("app", "1800000000", good.to_owned(), "unauthorized_client", None),
        ("web", "1800000000", good.replace("600", "901"), "ttl_exceeds_policy", Some("orders")),
        ("web", "1800000000", good.replace("\"orders\"", "\"billing\""), "invalid_target", Some("orders")),
    ] {
        let denied = ask(client, now, &request).ends(REFUSED).json();
        assert_eq!((&denied["granted"], denied["error"].as_str()), (&false.into(), Some(error)));
        assert_eq!(denied["grant"].as_str(), grant);
    }
    let malformed = ask("web", "1800000000", r#"{"profile":"access","kid":"x"}"#).ends(REFUSED).json();
    assert_eq!(malformed["error"], "invalid_request");
    let arguments = ["policy", "explain", &file, "--client", "web", "--now", "1800000000"];
    let ran = run_with_input(&arguments, good.as_bytes()).ends(GOOD);
    assert_eq!(ran.out, "granted by orders: ES256 of slot es256, for 600 s, at most 4096 bytes\n");
    let bound = written(&place, "bound.toml", &POLICY.replace("audiences", "binding = \"certificate\"\naudiences"));
    let shows = ["policy", "explain", &bound, "--client", "web", "--now", "1800000000", "--certificate", "x"];
    let ran = run_with_input(&shows, good.as_bytes()).ends(GOOD);
    assert!(ran.out.ends_with("at most 4096 bytes, bound to the certificate\n"), "{}", ran.out);
    let ran = run_with_input(&shows[..7], good.as_bytes()).ends(REFUSED);
    assert!(ran.out.contains("denied: cnf_missing"), "{}", ran.out);
    let ran = run_with_input(&arguments, good.replace("600", "901").as_bytes()).ends(REFUSED);
    assert!(ran.out.contains("denied: ttl_exceeds_policy: `ttl` may be 900 at most"), "{}", ran.out);
}

#[test]
fn rights_over_the_ring_are_listed_and_explained() {
    let place = directory("policy-admin");
    let keyless = POLICY.to_owned() + "[clients.ops]\nadmin = [\"keys:revoke\", \"keys:read\"]\n";
    let file = written(&place, "keyless.toml", &keyless);
    assert!(run(&["policy", "check", &file]).ends(REFUSED).err.contains("clients.ops: `admin` goes with `jwks`"));
    let text = format!("{keyless}jwks = '{JWKS}'\n");
    let file = written(&place, "policy.toml", &text);
    let checked = run(&["policy", "check", &file]).ends(GOOD).out;
    assert_eq!(checked, "good: 2 clients, revision 7\n  ops: keys:read, keys:revoke\n");
    let document = run(&["--json", "policy", "check", &file]).ends(GOOD).json();
    assert_eq!(document["admin"], serde_json::json!({ "ops": ["keys:read", "keys:revoke"] }));
    let ask =
        |client: &str, right: &str| run(&["--json", "policy", "explain", &file, "--client", client, "--admin", right]);
    assert_eq!(ask("ops", "keys:read").ends(GOOD).json()["granted"], true);
    assert_eq!(ask("ops", "keys:rotate").ends(REFUSED).json()["error"], "admin_right_missing");
    assert_eq!(ask("web", "keys:read").ends(REFUSED).json()["error"], "admin_right_missing");
    assert_eq!(ask("app", "keys:read").ends(REFUSED).json()["error"], "unauthorized_client");
    ask("ops", "keys:all").ends(USAGE);
}

#[test]
fn settings_are_shown_as_a_file_that_says_the_same() {
    let place = directory("config-show");
    let file =
        written(&place, "config.toml", "issuer = \"https://issuer.example\"\nslots = [\"RS256:4096\", \"ES256\"]\n");
    let shown = run(&["config", "show", "--config", &file]).ends(GOOD).out;
    for line in ["issuer = \"https://issuer.example\"", "max_age = 300", "# secret_key_file: none"] {
        assert!(shown.lines().any(|said| said == line), "{line}\n{shown}");
    }
    let again = written(&place, "again.toml", &shown);
    assert_eq!(run(&["config", "show", "--config", &again]).ends(GOOD).out, shown);
    let document = run(&["--json", "config", "show", "--config", &again]).ends(GOOD).json();
    assert_eq!((&document["slots"][0], &document["connections"]), (&"RS256:4096".into(), &1024.into()));
}

#[test]
fn settings_are_checked_together_with_the_arithmetic_of_the_ring() {
    let place = directory("config-check");
    let file = written(&place, "config.toml", "max_age = 60\n");
    assert_eq!(run(&["config", "check", "--config", &file]).ends(GOOD).out.lines().last(), Some("good"));
    let file = written(&place, "short.toml", "max_age = 59\n");
    let said = run(&["config", "check", "--config", &file]).ends(GOOD).out;
    assert!(said.starts_with("warning: max_age is 59 s, and countersign's verifiers keep a set for 60 s"), "{said}");
    let file = written(&place, "long.toml", "max_lifetime = 86400\n");
    let ran = run(&["config", "check", "--config", &file]).ends(REFUSED);
    assert!(ran.err.contains("86400 s < 30 s + 86400 s + 60 s + 60 s = 86550 s"), "{}", ran.err);
    assert_eq!(run(&["--json", "config", "check", "--config", &file]).ends(REFUSED).json()["error"], "config_invalid");
    run(&["config", "check", "--config", place.join("none.toml").to_str().unwrap()]).ends(UNAVAILABLE);
}
