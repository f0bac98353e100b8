use countersign::token::RsaBits;
use countersign_issuer::{RingConfig, Slot};

use super::*;

mod limits;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn ring() -> RingConfig {
    let rsa = Slot::rsa("rs256-4096", Algorithm::Rs256, RsaBits::B4096);
    let short = Slot::new("short", Algorithm::Ed25519).max_lifetime(Duration::from_secs(60));
    RingConfig::new([Slot::new("es256", Algorithm::Es256), rsa, short])
}

/// A public key, which a client with rights over the ring has to have.
const JWKS: &str =
    r#"jwks = '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"w1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'"#;

const POLICY: &str = r#"
version = 1
revision = "first"

[profiles.access]
slots = ["es256", "rs256-4096"]
lifetime = 300
max_lifetime = 900

[profiles.clamped]
slots = ["short"]
lifetime = 30
on_exceed = "clamp"
typ = "clamped+jwt"
max_token_bytes = 512

[clients.web.grants.orders]
profiles = ["access"]
subjects = { self = true, exact = ["ada"], prefixes = ["user:"] }
audiences = { exact = ["orders"], prefixes = ["https://api.example/"] }
scopes = ["orders:read", "orders:write"]
max_lifetime = 600
algorithms = ["ES256"]
max_nbf_delay = 60
claims.tenant = { type = "string", values = ["acme", "b\"c"], required = true }
claims.level = { type = "integer", values = [1, 2] }
claims.roles = { type = "strings", values = ["clerk"], max_bytes = 20 }
claims.extra = { type = "object", max_bytes = 20 }

[clients.web.grants.reports]
profiles = ["access", "clamped"]
subjects = { exact = ["report"] }
audiences = { exact = ["reports"] }
valid_from = 2027-01-01T00:00:00Z
valid_until = 2028-01-01T00:00:00+01:00

[clients.old]
valid_until = 2026-01-01T00:00:00Z
grants.any = { profiles = ["access"], subjects = { self = true }, audiences = { exact = ["a"] } }
"#;

fn orders() -> Request {
    Request::new("access").audience("orders").claim("tenant", "\"acme\"")
}

fn ask(request: &Request) -> Result<Granted, Denied> {
    decide(&Policy::parse(POLICY, &ring()).unwrap(), "web", request, NOW)
}

#[test]
fn what_fits_is_granted_as_the_profile_says() {
    let granted = ask(&orders()).unwrap();
    assert_eq!((granted.grant(), granted.slot(), granted.lifetime().as_secs()), ("orders", "es256", 300));
    assert_eq!(granted.max_token_bytes(), DEFAULT_MAX_TOKEN_BYTES);
    let full = orders()
        .subject("user:ada")
        .audience("https://api.example/v1")
        .scope("orders:read")
        .lifetime(Duration::from_secs(600))
        .algorithm(Algorithm::Es256)
        .claim("level", "2")
        .claim("roles", "[\"clerk\"]")
        .claim("extra", "{\"a\":[1]}");
    assert_eq!(ask(&full).unwrap().lifetime().as_secs(), 600);
    for spelling in ["\"acme\"", "\"\\u0061cme\"", "\"b\\\"c\""] {
        assert!(ask(&Request::new("access").audience("orders").claim("tenant", spelling)).is_ok(), "{spelling}");
    }
    let clamped = Request::new("clamped").subject("report").audience("reports").lifetime(Duration::from_secs(1_000));
    let granted = ask(&clamped).unwrap();
    assert_eq!((granted.lifetime().as_secs(), granted.max_token_bytes()), (60, 512));
}

#[test]
fn each_rule_refuses_with_a_code_of_its_own_and_names_the_nearest_grant() {
    let seconds = Duration::from_secs;
    let reports = || Request::new("access").subject("report").audience("reports");
    let tenant = |json: &str| Request::new("access").audience("orders").claim("tenant", json);
    for (request, code, grant) in [
        (Request::new("none"), "profile_not_permitted", None),
        (orders().subject("bob"), "subject_not_permitted", Some("orders")),
        (orders().subject("user:"), "subject_not_permitted", Some("orders")),
        (Request::new("access"), "audience_missing", Some("orders")),
        (orders().audience("reports"), "invalid_target", Some("orders")),
        (orders().audience("https://api.example"), "invalid_target", Some("orders")),
        (orders().scope("orders:admin"), "invalid_scope", Some("orders")),
        (orders().algorithm(Algorithm::Rs256), "alg_not_permitted", Some("orders")),
        (orders().rsa_bits(4_096), "key_size_not_permitted", Some("orders")),
        (reports().rsa_bits(2_048), "key_size_not_permitted", Some("reports")),
        (orders().lifetime(seconds(601)), "ttl_exceeds_policy", Some("orders")),
        (reports().lifetime(seconds(901)), "ttl_exceeds_policy", Some("reports")),
        (orders().not_before(seconds(61)), "nbf_delay_exceeds_policy", Some("orders")),
        (reports().not_before(seconds(1)), "nbf_delay_exceeds_policy", Some("reports")),
        (orders().confirmation(Confirmation::Key("k".into())), "cnf_not_permitted", Some("orders")),
        (orders().claim("admin", "true"), "claim_not_permitted", Some("orders")),
        (orders().claim("iss", "\"x\""), "claim_not_permitted", Some("orders")),
        (tenant("7"), "claim_type_not_permitted", Some("orders")),
        (orders().claim("level", "1.0"), "claim_type_not_permitted", Some("orders")),
        (orders().claim("level", "9007199254740992"), "claim_type_not_permitted", Some("orders")),
        (orders().claim("level", "\"1\""), "claim_type_not_permitted", Some("orders")),
        (orders().claim("roles", "[1]"), "claim_type_not_permitted", Some("orders")),
        (orders().claim("extra", "[]"), "claim_type_not_permitted", Some("orders")),
        (orders().claim("extra", "{}, \"sub\": 1"), "claim_type_not_permitted", Some("orders")),
        (orders().claim("extra", "{\"a\":1,\"a\":2}"), "claim_type_not_permitted", Some("orders")),
        (orders().claim("roles", "[\"clerk\",    \"clerk\"]"), "claim_too_large", Some("orders")),
        (orders().claim("roles", "[\"boss\"]"), "claim_value_not_permitted", Some("orders")),
        (tenant("\"evil\""), "claim_value_not_permitted", Some("orders")),
        (orders().claim("level", "3"), "claim_value_not_permitted", Some("orders")),
        (Request::new("access").audience("orders"), "claim_missing", Some("orders")),
    ] {
        let denied = ask(&request).unwrap_err();
        assert_eq!((denied.code(), denied.grant.as_deref()), (code, grant), "{denied}");
    }
}

#[test]
fn a_token_is_bound_as_its_grant_says_and_to_no_other_certificate_than_the_one_that_was_shown() {
    let certificate = |text: &str| Confirmation::Certificate(text.into());
    let jkt = || Confirmation::Key("k".into());
    let (none, odd) = (Err("cnf_missing"), Err("cnf_not_permitted"));
    // Asked for, shown, and what comes of it with each binding.
    for (asked, shown, outcomes) in [
        (None, None, [Ok(None), none.clone(), none.clone(), Ok(None)]),
        (None, Some("a"), [Ok(None), Ok(Some(certificate("a"))), none.clone(), Ok(None)]),
        (Some(certificate("a")), None, [odd.clone(), odd.clone(), odd.clone(), odd.clone()]),
        (Some(certificate("a")), Some("b"), [odd.clone(), odd.clone(), odd.clone(), odd.clone()]),
        (
            Some(certificate("a")),
            Some("a"),
            [odd.clone(), Ok(Some(certificate("a"))), odd.clone(), Ok(Some(certificate("a")))],
        ),
        (Some(jkt()), None, [odd.clone(), odd.clone(), Ok(Some(jkt())), Ok(Some(jkt()))]),
        (Some(jkt()), Some("a"), [odd.clone(), odd.clone(), Ok(Some(jkt())), Ok(Some(jkt()))]),
    ] {
        for (binding, outcome) in ["none", "certificate", "key", "any"].into_iter().zip(outcomes) {
            let text = POLICY.replacen("algorithms =", &format!("binding = \"{binding}\"\nalgorithms ="), 1);
            let mut request = orders();
            request = asked.clone().into_iter().fold(request, Request::confirmation);
            request = shown.into_iter().fold(request, Request::shown_certificate);
            let decided = decide(&Policy::parse(&text, &ring()).unwrap(), "web", &request, NOW);
            let decided = decided.map(|granted| granted.confirmation).map_err(|denied| denied.code());
            assert_eq!(decided, outcome, "{binding} {asked:?} {shown:?}");
        }
    }
}

#[test]
fn what_a_certificate_is_known_by_is_one_thing_and_one_clients() {
    let thumbprint = "0".repeat(43);
    let parse = |entries: &str, others: &str| {
        let text =
            format!("version = 1\n[clients.a]\ncertificates = [{entries}]\n[clients.b]\ncertificates = [{others}]");
        Policy::parse(&text, &ring()).map(drop).map_err(|error| error.to_string())
    };
    for entry in [
        "{ san_dns = \"web.internal\" }".to_owned(),
        "{ san_uri = \"spiffe://acme.example/web\" }".to_owned(),
        "{ subject = \"CN=web,O=Acme\" }".to_owned(),
        format!("{{ sha256 = \"{thumbprint}\" }}"),
    ] {
        assert_eq!(parse(&entry, ""), Ok(()));
        assert_eq!(parse(&format!("{entry}, {entry}"), ""), Ok(()));
        assert!(parse(&entry, &entry).unwrap_err().contains("clients.b: another client"), "{entry}");
    }
    assert!(parse("{ san_dns = \"web.internal\" }", "{ san_dns = \"WEB.internal\" }").is_err());
    for entry in [
        "{}",
        "{ san_dns = \"a\", san_uri = \"a:b\" }",
        "{ san_dns = \"*.internal\" }",
        "{ san_dns = \"\" }",
        "{ san_dns = \"a b\" }",
        "{ san_dns = \"https://a\" }",
        "{ san_uri = \"web\" }",
        "{ san_uri = \"spiffe://a b\" }",
        "{ subject = \"web\" }",
        "{ sha256 = \"AAAA\" }",
        "{ sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\" }",
        "{ issuer = \"CN=a\" }",
    ] {
        assert!(parse(entry, "").is_err(), "{entry}");
    }
    let many = "{ san_dns = \"a\" },".repeat(17);
    assert!(parse(&many, "").is_err());
    for (from, to) in [
        ("max_nbf_delay = 60", "max_nbf_delay = -1"),
        ("max_nbf_delay = 60", "binding = \"dpop\""),
        ("max_nbf_delay = 60", "rate = { per_second = 0, burst = 1 }"),
    ] {
        assert!(Policy::parse(&POLICY.replacen(from, to, 1), &ring()).is_err(), "{to}");
    }
}

#[test]
fn grants_are_not_added_up() {
    // Each of the two would do by itself.
    let both = orders().audience("reports");
    assert_eq!(ask(&both).unwrap_err().code(), "invalid_target");
    let other = Request::new("access").subject("report").audience("reports").scope("orders:read");
    assert_eq!(ask(&other).unwrap_err().code(), "invalid_scope");
    let policy = Policy::parse(POLICY, &ring()).unwrap();
    assert_eq!(decide(&policy, "nobody", &orders(), NOW).unwrap_err().code(), "unauthorized_client");
    assert_eq!(decide(&Policy::empty(), "web", &orders(), NOW).unwrap_err().code(), "unauthorized_client");
}

#[test]
fn clients_and_grants_have_their_time() {
    let policy = Policy::parse(POLICY, &ring()).unwrap();
    let reports = Request::new("clamped").subject("report").audience("reports");
    let at = |secs| decide(&policy, "web", &reports, UnixTime::from_secs(secs)).map_err(|denied| denied.code());
    // 2027-01-01T00:00:00Z and 2027-12-31T23:00:00Z.
    assert_eq!(at(1_798_761_599), Err("grant_not_valid"));
    assert!(at(1_798_761_600).is_ok());
    assert!(at(1_830_293_999).is_ok());
    assert_eq!(at(1_830_294_000), Err("grant_not_valid"));
    let old = |secs| decide(&policy, "old", &Request::new("access").audience("a"), UnixTime::from_secs(secs));
    assert!(old(1_767_225_599).is_ok());
    assert_eq!(old(1_767_225_600).unwrap_err().code(), "client_not_valid");
}

#[test]
fn rights_over_the_ring_are_those_that_stand_there_for_as_long_as_the_client_is_valid() {
    let rights = format!("[clients.old]\n{JWKS}\nadmin = [\"keys:read\", \"keys:revoke\"]\n");
    let policy = POLICY.replace("[clients.old]\n", &rights);
    let policy = Policy::parse(&policy, &ring()).unwrap();
    let at = |client, right, secs| decide_admin(&policy, client, right, UnixTime::from_secs(secs));
    let code = |client, right, secs| at(client, right, secs).unwrap_err().code();
    assert_eq!(at("old", AdminRight::ReadKeys, 1_767_225_599), Ok(()));
    assert_eq!(at("old", AdminRight::RevokeKeys, 1_767_225_599), Ok(()));
    assert_eq!(code("old", AdminRight::RotateKeys, 1_767_225_599), "admin_right_missing");
    assert_eq!(code("old", AdminRight::ReadKeys, 1_767_225_600), "client_not_valid");
    for right in AdminRight::ALL {
        assert_eq!(code("web", right, NOW.as_secs()), "admin_right_missing", "its grants give none");
        assert_eq!(code("nobody", right, NOW.as_secs()), "unauthorized_client");
        assert_eq!(AdminRight::from_name(right.name()), Some(right));
    }
    assert!(policy.admin_rights("old").eq([AdminRight::ReadKeys, AdminRight::RevokeKeys]));
    assert_eq!(policy.admin_rights("web").chain(policy.admin_rights("nobody")).count(), 0);
}

#[test]
fn a_document_with_a_fault_anywhere_is_refused_with_its_place() {
    for (from, to, text) in [
        ("version = 1\n", "version = 2\n", "`version` is 2; this program reads 1"),
        ("version = 1\n", "", "missing field `version`"),
        ("lifetime = 300", "lifetim = 300", "line 7: unknown field `lifetim`"),
        ("lifetime = 300", "lifetime = \"s3cret\"", "line 7: expected u32"),
        ("lifetime = 300", "lifetime = 0", "profiles.access: a lifetime of 0 seconds"),
        ("lifetime = 300", "lifetime = 901", "profiles.access: `lifetime` is longer"),
        ("max_lifetime = 900", "max_lifetime = 3601", "profiles.access: `max_lifetime` is longer"),
        ("lifetime = 30\n", "lifetime = 61\n", "profiles.clamped: `lifetime` is longer"),
        ("\"es256\"", "\"es257\"", "profiles.access: one of `slots` is no slot"),
        ("on_exceed = \"clamp\"", "on_exceed = \"s3cret\"", "line 13: expected"),
        ("\"clamped+jwt\"", "\"a b\"", "profiles.clamped: `typ`"),
        ("max_token_bytes = 512", "max_token_bytes = 0", "profiles.clamped: `max_token_bytes`"),
        ("[profiles.clamped]", "[profiles.\"cl amped\"]", "profiles.cl amped: a name is"),
        ("profiles = [\"access\"]\n", "profiles = [\"other\"]\n", "clients.web.grants.orders: one of `profiles`"),
        ("[\"user:\"]", "[\"user\"]", "clients.web.grants.orders: one of `prefixes`"),
        ("exact = [\"report\"]", "exact = []", "clients.web.grants.reports: `subjects` allows none"),
        ("\"orders:read\",", "\"orders read\",", "clients.web.grants.orders: one of `scopes`"),
        ("[\"ES256\"]", "[\"EdDSA\"]", "clients.web.grants.orders: one of `algorithms` is that of none"),
        ("[\"ES256\"]", "[\"none\"]", "clients.web.grants.orders: one of `algorithms` is not known"),
        ("[\"ES256\"]", "[\"ES256\"]\nrsa_bits = [1024]", "clients.web.grants.orders: one of `rsa_bits`"),
        ("claims.tenant", "claims.scp", "clients.web.grants.orders.claims.scp: no client may choose"),
        ("values = [1, 2]", "values = [1, \"2\"]", "clients.web.grants.orders.claims.level: one of `values`"),
        ("values = [1, 2]", "values = []", "clients.web.grants.orders.claims.level: `values` allows none"),
        ("2027-01-01T00:00:00Z", "2029-01-01T00:00:00Z", "clients.web.grants.reports: `valid_until`"),
        ("2027-01-01T00:00:00Z", "2027-01-01", "clients.web.grants.reports: a time needs"),
        ("[clients.old]", "[clients.web.grants.orders]", "line 37: duplicate key"),
        ("[clients.old]\n", "[clients.old]\nadmin = [\"keys:*\"]\n", "clients.old: one of `admin` is no right"),
        ("[clients.old]\n", "[clients.old]\nadmin = [\"Keys:read\"]\n", "clients.old: one of `admin` is no right"),
        ("[clients.old]\n", "[clients.old]\nadmin = \"keys:read\"\n", "line 38: expected"),
        (
            "[clients.old]\n",
            "[clients.old]\nadmin = [\"keys:read\", \"keys:read\"]\n",
            "clients.old: one of `admin` stands twice",
        ),
        (
            "[clients.old]\n",
            "[clients.old]\njwks_uri = \"http://old.example/keys\"\n",
            "clients.old: no URL from which keys may be fetched",
        ),
        (
            "[clients.old]\n",
            "[clients.old]\njwks = '{}'\njwks_uri = \"https://old.example/keys\"\n",
            "clients.old: `jwks` or `jwks_uri`, not both",
        ),
        // Known by something else, and never by what it has signed.
        (
            "[clients.old]\n",
            "[clients.old]\nadmin = [\"keys:read\"]\ncertificates = [{ san_dns = \"ops.internal\" }]\n",
            "clients.old: `admin` goes with `jwks` or `jwks_uri`",
        ),
    ] {
        assert!(POLICY.contains(from), "{from}");
        let error = Policy::parse(&POLICY.replacen(from, to, 1), &ring()).unwrap_err().to_string();
        assert!(error.contains(text), "{from} → {to}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
    assert_eq!(Policy::parse(&" ".repeat(MAX_POLICY_BYTES + 1), &ring()).unwrap_err(), PolicyError::TooLong);
}

#[test]
fn days_are_counted_as_everybody_counts_them() {
    for (text, secs) in [
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29T12:00:00+02:30", 951_816_600),
        ("2100-03-01T00:00:00Z", 4_107_542_400),
        ("1969-12-31T23:59:60Z", -1),
    ] {
        let policy = POLICY.replace("2026-01-01T00:00:00Z", text);
        let until = Policy::parse(&policy, &ring()).unwrap().clients["old"].window.until;
        assert_eq!(until, Some(UnixTime::from_secs(secs)), "{text}");
    }
}
