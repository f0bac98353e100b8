//! Each limit of a document: what is just within it is read, and one more is refused with its place.

use super::*;
use crate::limit::{Limited, Limits};
use crate::policy::claim::MAX_INTEGER;
use crate::policy::credentials::{DEFAULT_RATE, MAX_CREDENTIALS, Rate};
use crate::policy::denied::MAX_SHOWN;
use crate::policy::{
    MAX_CLAIM_BYTES, MAX_CLIENT_URLS, MAX_CLIENTS, MAX_ENTRIES, MAX_GRANTS, MAX_TEXT_BYTES, MAX_TOKEN_BYTES,
};

const PROFILE: &str = "slots = [\"es256\"]\nlifetime = 60\n";

const GRANT: &str =
    "profiles = [\"p\"]\nsubjects = { self = true, exact = SUBJECTS }\naudiences = { exact = [\"a\"] }\nscopes = []\n";

/// A document with one profile `p`, and more.
fn document(more: &str) -> String {
    format!("version = 1\n[profiles.p]\n{PROFILE}\n{more}")
}

/// With a grant of one client, in which that stands.
fn grant(more: &str) -> String {
    document(&format!("[clients.c.grants.g]\n{}{more}\n", GRANT.replace("SUBJECTS", "[]")))
}

/// So many, each made of its number.
fn many(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect()
}

/// An array of so many texts.
fn texts(count: usize) -> String {
    format!("[{}]", many(count, |n| format!("\"t{n}\",")))
}

#[track_caller]
fn holds(what: &str, most: usize, document: impl Fn(usize) -> String) {
    let read = |count| Policy::parse(&document(count), &ring());
    assert!(read(most).is_ok(), "{what}: {:?}", read(most).err());
    assert!(read(most + 1).is_err(), "{what}: {} are read", most + 1);
}

#[test]
fn a_document_has_so_many_profiles_issuers_clients_and_grants() {
    holds("profiles", MAX_GRANTS - 1, |n| document(&many(n, |n| format!("[profiles.q{n}]\n{PROFILE}"))));
    let issuer =
        |n: usize| format!("[workload_issuers.\"https://i{n}.example\"]\njwks_uri = \"https://i{n}.example/k\"\n");
    holds("workload issuers", MAX_GRANTS, |n| document(&many(n, issuer)));
    let far = |n: usize| format!("[clients.c{n}]\njwks_uri = \"https://c{n}.example/k\"\n");
    holds("clients whose keys are fetched", MAX_CLIENT_URLS, |n| document(&many(n, far)));
    holds("clients", MAX_CLIENTS, |n| document(&many(n, |n| format!("[clients.c{n}]\n"))));
    let grants = |n: usize| format!("[clients.c.grants.g{n}]\n{}", GRANT.replace("SUBJECTS", "[]"));
    holds("grants", MAX_GRANTS, |n| document(&many(n, grants)));
}

#[test]
fn a_list_has_so_many_entries() {
    let same = |count: usize, text: &str| format!("[{}]", vec![text; count].join(","));
    holds("slots", MAX_ENTRIES, |n| document("").replace("[\"es256\"]", &same(n, "\"es256\"")));
    holds("profiles of a grant", MAX_ENTRIES, |n| grant("").replace("[\"p\"]", &same(n, "\"p\"")));
    holds("subjects", MAX_ENTRIES, |n| grant("").replace("exact = []", &format!("exact = {}", texts(n))));
    holds("audiences", MAX_ENTRIES, |n| grant("").replace("[\"a\"]", &texts(n)));
    holds("scopes", MAX_ENTRIES, |n| grant("").replace("scopes = []", &format!("scopes = {}", texts(n))));
    holds("algorithms", MAX_ENTRIES, |n| grant(&format!("algorithms = {}", same(n, "\"ES256\""))));
    let sized = |n| grant(&format!("rsa_bits = {}", same(n, "4096"))).replace("\"es256\"", "\"rs256-4096\"");
    holds("sizes of RSA keys", MAX_ENTRIES, sized);
    holds("claims", MAX_ENTRIES, |n| grant(&many(n, |n| format!("claims.x{n} = {{ type = \"string\" }}\n"))));
    holds("values", MAX_ENTRIES, |n| grant(&format!("claims.x = {{ type = \"string\", values = {} }}", texts(n))));
    let workload = |n| {
        let claims = many(n, |n| format!("x{n} = \"v\","));
        let issuer = "[workload_issuers.\"https://i.example\"]\njwks_uri = \"https://i.example/k\"\n";
        document(&format!(
            "{issuer}[clients.c]\nworkloads = [{{ issuer = \"https://i.example\", claims = {{ {} }} }}]\n",
            claims.trim_end_matches(',')
        ))
    };
    holds("claims of a workload", MAX_ENTRIES, workload);
}

#[test]
fn a_client_has_so_many_workloads_certificates_and_secrets() {
    let issuer = "[workload_issuers.\"https://i.example\"]\njwks_uri = \"https://i.example/k\"\n";
    let workload = |n: usize| format!("{{ issuer = \"https://i.example\", claims = {{ sub = \"w{n}\" }} }},");
    let workloads = |n| document(&format!("{issuer}[clients.c]\nworkloads = [{}]\n", many(n, workload)));
    holds("workloads", MAX_CREDENTIALS, workloads);
    let certificate = |n: usize| format!("{{ san_dns = \"h{n}.example\" }},");
    let certificates = |n| document(&format!("[clients.c]\ncertificates = [{}]\n", many(n, certificate)));
    holds("certificates", MAX_CREDENTIALS, certificates);
    let secrets = |n| {
        let list = many(n, |_| format!("\"{}\",", "A".repeat(43)));
        let text = document(&format!("[clients.c]\nsecrets = [{list}]\n"));
        text.replace("version = 1\n", "version = 1\nallow_client_secret_basic = true\n")
    };
    holds("secrets", MAX_CREDENTIALS, secrets);
}

#[test]
fn names_texts_and_types_are_so_long() {
    holds("the name of a client", 128, |n| document(&format!("[clients.{}]\n", "c".repeat(n))));
    holds("the revision", 128, |n| {
        document("").replace("version = 1\n", &format!("version = 1\nrevision = \"{}\"\n", "r".repeat(n)))
    });
    holds("an audience", MAX_TEXT_BYTES, |n| grant("").replace("[\"a\"]", &format!("[\"{}\"]", "a".repeat(n))));
    holds("a value", MAX_TEXT_BYTES, |n| {
        grant(&format!("claims.x = {{ type = \"string\", values = [\"{}\"] }}", "v".repeat(n)))
    });
    let typ = |n| document("").replace("lifetime", &format!("typ = \"{}\"\nlifetime", "t".repeat(n)));
    holds("the type of a token", countersign_issuer::MAX_TYPE_BYTES, typ);
}

#[test]
fn what_a_policy_allows_in_bytes_is_bounded() {
    let token = |n| document("").replace("lifetime", &format!("max_token_bytes = {n}\nlifetime"));
    holds("a token", MAX_TOKEN_BYTES, token);
    let claim = |n| grant(&format!("claims.x = {{ type = \"object\", max_bytes = {n} }}"));
    holds("a claim", MAX_CLAIM_BYTES, claim);
    // And by default.
    let policy = Policy::parse(&grant("claims.x = { type = \"string\" }"), &ring()).unwrap();
    let ask = |length: usize| {
        let request = Request::new("p").audience("a").claim("x", format!("\"{}\"", "x".repeat(length - 2)));
        decide(&policy, "c", &request, NOW).map_err(|denied| denied.denial)
    };
    assert!(ask(DEFAULT_MAX_CLAIM_BYTES).is_ok());
    let too_large = ask(DEFAULT_MAX_CLAIM_BYTES + 1).unwrap_err();
    assert!(matches!(too_large, Denial::ClaimTooLarge(_, DEFAULT_MAX_CLAIM_BYTES)), "{too_large:?}");
}

#[test]
fn integers_are_those_that_every_reader_of_json_has() {
    let allows = |number: i64| {
        let text = grant(&format!("claims.x = {{ type = \"integer\", values = [{number}] }}"));
        Policy::parse(&text, &ring()).is_ok()
    };
    let policy = Policy::parse(&grant("claims.x = { type = \"integer\" }"), &ring()).unwrap();
    let asks = |number: i64| {
        decide(&policy, "c", &Request::new("p").audience("a").claim("x", number.to_string()), NOW).is_ok()
    };
    for number in [MAX_INTEGER, -MAX_INTEGER] {
        assert!(allows(number) && asks(number));
        assert!(!allows(number + number.signum()) && !asks(number + number.signum()));
    }
}

#[test]
fn of_a_name_that_is_not_allowed_so_much_is_shown() {
    let policy = Policy::parse(&grant(""), &ring()).unwrap();
    let shown = |name: &str| {
        let denied = decide(&policy, "c", &Request::new("p").audience("a").claim(name, "1"), NOW).unwrap_err();
        denied.to_string().split('`').nth(1).unwrap().to_owned()
    };
    let most = "x".repeat(MAX_SHOWN);
    assert_eq!((shown(&most), shown(&format!("{most}y"))), (most.clone(), most));
}

#[test]
fn a_client_without_a_rate_has_the_usual_one_which_is_no_more_than_is_counted() {
    let policy = Policy::parse(&document("[clients.c]\n"), &ring()).unwrap();
    let limits = Limits::new(&policy, None);
    let burst = DEFAULT_RATE.burst.get() as usize;
    assert!(matches!(limits.count_others("c", burst + 1), Err(Limited::Never)));
    assert!(limits.count("c").is_ok() && limits.count_others("c", burst).is_ok());
    // So soon there is no room for as many again.
    assert!(matches!(limits.count_others("c", burst), Err(Limited::For(_))));
    let rates: Vec<Rate> = policy.credentials().map(|(_, credentials)| credentials.rate).collect();
    assert_eq!(rates, [DEFAULT_RATE]);
}
