//! Requirements: each rule, what is told to a client that does not satisfy one, and permits.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::needless_pass_by_value, reason = "helpers of tests take what reads best where they are called")]

mod common;

use std::time::Duration;

use common::at;
use countersign_claims::{
    ClaimError, ClaimPointer, ClaimValue, ConfigError, MAX_ACR_VALUES, MAX_RULES, Permission, Policy, Requirement,
    StepUp, Verified, acr, all, any, any_scope, authenticated_within, claim, client_id, client_id_in, permission,
    predicate, scope, scopes, subject,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The time at which everything here is judged.
const NOW: i64 = 100_000;

fn policy() -> Policy {
    Policy::new().dangerous_allow_missing_exp()
}

fn token(claims: impl ToString) -> Verified {
    token_of(&policy(), claims)
}

fn token_of(policy: &Policy, claims: impl ToString) -> Verified {
    common::judge(policy, None, claims.to_string(), at(NOW)).expect("good claims")
}

fn passes(requirement: &Requirement, claims: impl ToString) -> bool {
    requirement.check(&token(claims)).is_ok()
}

/// Neither the rule nor its negation holds.
fn cannot_be_told(requirement: &Requirement, claims: &str) -> bool {
    !passes(requirement, claims) && !passes(&requirement.clone().not(), claims)
}

/// What a client is told: the code, the scopes required and missing, and the authentication.
fn told(requirement: &Requirement, token: &Verified) -> (&'static str, String, String, Option<StepUp>) {
    let denied = requirement.check(token).expect_err("denied");
    let (required, missing) = (denied.required_scopes().to_owned(), denied.missing_scopes().to_owned());
    assert_eq!(denied.is_step_up(), denied.step_up().is_some());
    (denied.code(), required, missing, denied.step_up().cloned())
}

fn told_scopes(requirement: &Requirement, claims: impl ToString) -> String {
    told(requirement, &token(claims)).1
}

// ---- The statements ----

#[test]
fn statement_13_all_scopes_of_the_operation_are_named_at_once_and_never_offline_access() {
    let needed = scopes(["a", "b", "offline_access"]).and(any_scope(["c", "d"]));
    assert_eq!(needed.scopes_to_ask_for(), "a b c");
    let refused = told(&needed, &token(json!({ "scope": "b d offline_access" })));
    assert_eq!(refused, ("insufficient_scope", "a b d".into(), "a".into(), None), "those it has included");
    let denied = needed.check(&token(json!({ "scope": "a b c" }))).unwrap_err();
    assert_eq!((denied.code(), denied.required_scopes()), ("forbidden", ""), "nothing to name");
    assert!(!denied.is_mendable());
    assert_eq!(scope("offline_access").scopes_to_ask_for(), "");
}

#[test]
fn statement_14_a_wide_scope_satisfies_the_narrow_requirement_and_never_the_other_way() {
    let policy = policy()
        .scope_implies("write", ["read"])
        .scope_implies("admin", ["write", "audit"])
        .scope_implies("read", ["list"]);
    for (granted, has) in [
        ("admin", &["admin", "write", "audit", "read", "list"][..]),
        ("write", &["write", "read", "list"]),
        ("read", &["read", "list"]),
        ("list", &["list"]),
        ("Admin ADMIN admin: adm", &[]),
    ] {
        let verified = token_of(&policy, json!({ "scope": granted }));
        for scope_name in ["admin", "write", "audit", "read", "list"] {
            assert_eq!(verified.has_scope(scope_name), has.contains(&scope_name), "{granted}: {scope_name}");
            assert_eq!(scope(scope_name).check(&verified).is_ok(), has.contains(&scope_name));
        }
        assert_eq!(verified.scopes().collect::<Vec<_>>().join(" "), granted, "granted literally");
    }
}

#[test]
fn statement_15_weak_or_old_authentication_is_a_step_up_with_all_that_is_needed_of_it() {
    let needed = scope("pay").and(acr(["mfa", "hardware"])).and(authenticated_within(Duration::from_secs(60)));
    for lacking in [
        json!({ "scope": "pay", "acr": "password", "auth_time": NOW }),
        json!({ "scope": "pay", "acr": "mfa", "auth_time": NOW - 1000 }),
        json!({ "scope": "pay", "acr": "mfa" }),
        json!({ "scope": "pay" }),
    ] {
        let (code, required, missing, step_up) = told(&needed, &token(&lacking));
        assert_eq!((code, &*required, &*missing), ("insufficient_user_authentication", "", ""), "{lacking}");
        let step_up = step_up.unwrap();
        assert_eq!(step_up.acr_values(), Some("mfa hardware"), "{lacking}");
        assert_eq!(step_up.max_age(), Some(Duration::from_secs(60)), "{lacking}");
    }
    let (code, required, missing, _) = told(&needed, &token(json!({ "acr": "password" })));
    assert_eq!((code, &*required, &*missing), ("insufficient_user_authentication", "pay", "pay"), "beside it");
    // Logging in anew is of no use to somebody who may not do it whatever they do.
    let staff = needed.and(claim("staff").equals(true));
    assert_eq!(told(&staff, &token(json!({ "scope": "pay" }))).0, "forbidden");
    assert_eq!(told(&staff, &token(json!({}))), ("insufficient_scope", "pay".into(), "pay".into(), None));
}

#[test]
fn statement_51_scope_is_space_delimited_and_case_sensitive_and_scp_may_be_an_array() {
    let needed = scopes(["orders:read", "b"]);
    for good in
        [json!({ "scope": "b orders:read" }), json!({ "scp": ["orders:read", "b"] }), json!({ "scp": "orders:read b" })]
    {
        assert!(passes(&needed, &good), "{good}");
    }
    for bad in [
        json!({ "scope": "orders:read,b" }),
        json!({ "scope": "Orders:read b" }),
        json!({ "scope": "orders:reader b" }),
        json!({ "scopes": "orders:read b" }),
    ] {
        assert!(!passes(&needed, &bad), "{bad}");
    }
}

// ---- Claims ----

#[test]
fn equals_compares_strings_integers_and_booleans_and_nothing_with_another_type() {
    for (rule, yes, no, other) in [
        (
            claim("x").equals("1"),
            &[r#""1""#, r#""\u0031""#][..],
            &[r#""""#, r#""11""#, r#""\u0031\u0031""#][..],
            &["1", "[\"1\"]"][..],
        ),
        (
            claim("x").equals(1),
            &["1"],
            &["0", "-1", "11", "170141183460469231731687303715884105727"],
            &["1.0", "1e0", "\"1\"", "true", "1e999", "170141183460469231731687303715884105728"],
        ),
        (claim("x").equals(-1_i64), &["-1"], &["1"], &["-1.0"]),
        (
            claim("x").equals(u64::MAX),
            &["18446744073709551615"],
            &["-1", "18446744073709551616"],
            &["1.8446744073709551615e19"],
        ),
        (claim("x").equals(true), &["true"], &["false"], &["1", "\"true\"", "[true]", "{}"]),
        (
            claim("x").equals("é😀"),
            &[r#""é😀""#, r#""\u00e9\ud83d\uDE00""#],
            &[r#""é""#],
            &[r#""\ud83d""#, r#""é😀\ud83d""#, r#""\ude00\ud83d""#],
        ),
        (claim("x").equals("a\"\\/\u{8}\u{c}\n\r\t"), &[r#""a\"\\\/\b\f\n\r\t""#], &[r#""a""#], &[]),
    ] {
        for value in yes {
            assert!(passes(&rule, format!("{{\"x\":{value}}}")), "{rule} {value}");
        }
        for value in no {
            assert!(!passes(&rule, format!("{{\"x\":{value}}}")), "{rule} {value}");
            assert!(passes(&rule.clone().not(), format!("{{\"x\":{value}}}")), "not {rule} {value}");
        }
        for value in other.iter().chain(&["null"]) {
            assert!(cannot_be_told(&rule, &format!("{{\"x\":{value}}}")), "{rule} {value}");
        }
        assert!(!passes(&rule, "{}") && passes(&rule.not(), "{}"));
    }
}

#[test]
fn what_cannot_be_told_satisfies_neither_a_rule_nor_its_negation() {
    let not_blocked = claim("/blocked").equals(true).not();
    for claims in ["{}", r#"{"blocked":false}"#] {
        assert!(passes(&not_blocked, claims), "{claims}");
    }
    for value in ["true", "\"true\"", "1", "null", "[true]", "{}"] {
        assert!(!passes(&not_blocked, format!("{{\"blocked\":{value}}}")), "{value}");
    }
    // Nor through `and` and `or`, as far as they depend on it.
    let blocked = r#"{"blocked":"true","scope":"a"}"#;
    assert!(!passes(&scope("a").and(not_blocked.clone()), blocked));
    assert!(!passes(&scope("b").or(not_blocked.clone()), blocked));
    assert!(!passes(&scope("b").or(not_blocked.clone()).not(), blocked));
    assert!(!passes(&scope("a").and(not_blocked.clone()).not(), blocked));
    assert!(passes(&scope("a").or(not_blocked.clone()), blocked));
    assert!(passes(&scope("b").and(not_blocked.clone()).not(), blocked));
    let denied = not_blocked.check(&token(blocked)).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "the token does not satisfy not claim \"/blocked\" equals true (a claim of the wrong type)"
    );
}

#[test]
fn contains_looks_into_arrays_of_strings_and_at_strings() {
    let admin = claim("/roles").contains("admin");
    for value in [r#""admin""#, r#"["admin"]"#, r#"[ "a" , "\u0061dmin" ]"#] {
        assert!(passes(&admin, format!("{{\"roles\":{value}}}")), "{value}");
    }
    for value in [r#""""#, "[]", r#"["Admin"]"#, r#""user admin""#, r#"["user admin"]"#] {
        assert!(!passes(&admin, format!("{{\"roles\":{value}}}")), "{value}");
        assert!(passes(&admin.clone().not(), format!("{{\"roles\":{value}}}")), "{value}");
    }
    for value in
        ["1", "null", "{\"admin\":true}", r#"["admin",1]"#, r#"[["admin"]]"#, r#"[null]"#, r#"["admin","\ud800"]"#]
    {
        assert!(cannot_be_told(&admin, &format!("{{\"roles\":{value}}}")), "{value}");
    }
    let both = claim("roles").contains_all(["a", "b"]);
    assert!(passes(&both, json!({ "roles": ["b", "c", "a"] })));
    assert!(!passes(&both, json!({ "roles": ["a"] })) && !passes(&both, json!({ "roles": "a" })));
    let either = claim("roles").contains_any(["a", "b"]);
    assert!(passes(&either, json!({ "roles": ["b"] })) && !passes(&either, json!({ "roles": ["c"] })));
    assert!(!passes(&claim("roles").contains_any([""; 0]), json!({ "roles": ["b"] })));
    assert!(passes(&claim("roles").contains_all([""; 0]), json!({ "roles": ["b"] })));
    assert!(!passes(&claim("roles").contains_all([""; 0]), json!({})));
}

#[test]
fn exists_is_about_presence_and_null_is_neither() {
    let there = claim("/a/b").exists();
    for value in ["1", "false", "\"\"", "{}", "[]"] {
        assert!(passes(&there, format!("{{\"a\":{{\"b\":{value}}}}}")), "{value}");
    }
    for absent in ["{}", r#"{"a":{}}"#, r#"{"b":1}"#] {
        assert!(!passes(&there, absent) && passes(&there.clone().not(), absent), "{absent}");
    }
    for odd in [r#"{"a":{"b":null}}"#, r#"{"a":null}"#, r#"{"a":"b"}"#, r#"{"a":["b"]}"#, r#"{"a":1}"#] {
        assert!(cannot_be_told(&there, odd), "{odd}");
    }
}

#[test]
fn pointers_lead_into_objects_and_arrays_with_their_escapes() {
    let payload = r#"{"a":{"b":[10,{"c":"x"}],"":{"":1}},"m~n":1,"k/l":2,"/k":3,"0":4,"\u0061\"b":5,"https://x.example/r":6,
        "s":"\"}]{[,:","t":7 , "u" : [ [ ] , { } , "]" , 8 ],"00":{"0":9},"é":10}"#;
    let verified = token(payload);
    for (pointer, expected) in [
        ("/a/b/0", Some("10")),
        ("/a/b/1/c", Some("\"x\"")),
        ("/a/b/2", None),
        ("/a/b/-", None),
        ("/a/b/01", None),
        ("/a/b/+1", None),
        ("/a/b/18446744073709551616", None),
        ("/a//", Some("1")),
        ("/", None),
        ("/m~0n", Some("1")),
        ("m~n", Some("1")),
        ("/k~1l", Some("2")),
        ("k/l", Some("2")),
        ("/~1k", Some("3")),
        ("/k", None),
        ("0", Some("4")),
        ("/0", Some("4")),
        ("a\"b", Some("5")),
        ("https://x.example/r", Some("6")),
        ("t", Some("7")),
        ("/u/3", Some("8")),
        ("/u/2", Some("\"]\"")),
        ("/u/0", Some("[ ]")),
        ("/00/0", Some("9")),
        ("/é", Some("10")),
        ("/s/0", None),
        ("A", None),
        ("b", None),
        ("c", None),
    ] {
        let found = verified.claim(&ClaimPointer::parse(pointer).unwrap());
        assert_eq!(found.map(ClaimValue::json), expected, "{pointer}");
    }
}

#[test]
fn what_is_no_pointer_is_found_when_it_is_configured() {
    for text in ["", "/~", "/a~2", "/a/~"] {
        assert_eq!(ClaimPointer::parse(text), Err(ConfigError::NotAPointer(text.into())));
        assert!(std::panic::catch_unwind(|| claim(text)).is_err(), "{text:?}");
        assert_eq!(Policy::new().scope_claim(text).check(), Err(ConfigError::NotAPointer(text.into())));
    }
}

#[test]
fn absurd_payloads_are_walked_to_their_ends() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(63), "]".repeat(63));
    assert!(passes(&claim(&format!("/a{}", "/0".repeat(63))).equals(1), &deep));
    assert!(!passes(&claim(&format!("/a{}", "/0".repeat(64))).exists(), &deep));
    let objects = format!("{}1{}", "{\"a\":".repeat(64), "}".repeat(64));
    assert!(passes(&claim(&"/a".repeat(64)).equals(1), &objects));
    let mut roles = vec!["x"; 8192 / 4];
    roles.push("admin");
    let long = json!({ "first": 1, "roles": roles, "last": 2 });
    assert!(passes(&claim("roles").contains("admin").and(claim("/last").equals(2)), &long));
    assert!(passes(&claim("/roles/2048").equals("admin"), &long));
    let mut mixed = long.clone();
    mixed["roles"][0] = Value::Null;
    assert!(cannot_be_told(&claim("roles").contains("admin"), &mixed.to_string()));
    // A name that only looks like another, in a value, in another object, in other letters.
    let decoys = r#"{"x":"\"admin\":true,","y":{"admin":true},"z":["admin",true],"Admin":true,"admin ":true,"\u0061dmin":false}"#;
    assert!(passes(&claim("admin").equals(false), decoys) && !passes(&claim("admin").equals(true), decoys));
}

#[test]
fn a_claim_can_be_had_as_text() {
    let verified =
        token(r#"{"s":"a\u0062","p":"plain","i":-7,"f":1.50,"t":true,"n":null,"o":{},"a":[1],"h":"\ud800"}"#);
    for (name, expected) in [
        ("s", Some("ab")),
        ("p", Some("plain")),
        ("i", Some("-7")),
        ("f", Some("1.50")),
        ("t", Some("true")),
        ("n", None),
        ("o", None),
        ("a", None),
        ("h", None),
    ] {
        let value = verified.claim(&ClaimPointer::parse(name).unwrap()).unwrap();
        assert_eq!(value.plain_text().as_deref(), expected, "{name}");
        assert!(!format!("{value:?}").contains("plain"));
    }
}

// ---- Clients, subjects, authentication, predicates ----

#[test]
fn clients_and_subjects_are_compared_exactly() {
    assert!(passes(&client_id("cli"), json!({ "client_id": "cli" })));
    assert!(passes(&client_id_in(["web", "cli"]), json!({ "client_id": "cli" })));
    assert!(passes(&subject("ada"), json!({ "sub": "ada" })));
    for other in
        [json!({}), json!({ "client_id": "CLI", "sub": "Ada" }), json!({ "client_id": "", "azp": "cli", "sub": "" })]
    {
        assert!(!passes(&client_id("cli"), &other) && !passes(&subject("ada"), &other), "{other}");
        assert!(!passes(&client_id_in([""; 0]), &other));
    }
    assert_eq!(told(&client_id("cli"), &token("{}")).0, "forbidden");
}

#[test]
fn authentication_age_ends_at_the_boundary_with_the_policys_leeway() {
    let recent = authenticated_within(Duration::from_secs(60));
    let strict = policy().leeway(Duration::ZERO);
    for (policy, auth_time, expected) in [
        (policy(), NOW - 89, true),
        (policy(), NOW - 90, false),
        (policy(), NOW + 30, true),
        (policy(), NOW + 31, false),
        (strict.clone(), NOW - 59, true),
        (strict.clone(), NOW - 60, false),
        (strict.clone(), NOW, true),
        (strict.clone(), NOW + 1, false),
    ] {
        let verified = token_of(&policy, json!({ "auth_time": auth_time }));
        assert_eq!(recent.check(&verified).is_ok(), expected, "{auth_time}");
        assert_eq!((verified.judged_at(), verified.auth_time()), (at(NOW), Some(at(auth_time))));
    }
    let forever = authenticated_within(Duration::MAX);
    assert!(passes(&forever, json!({ "auth_time": 0 })));
    for claims in [r#"{"auth_time":"99999"}"#, r#"{"auth_time":null}"#, r#"{"auth_time":-1}"#, r#"{"auth_time":1e300}"#]
    {
        assert!(cannot_be_told(&forever, claims), "{claims}");
        assert_eq!(token(claims).auth_time(), None);
    }
    // An authentication in the future is not an old one either.
    assert!(cannot_be_told(&forever, &json!({ "auth_time": NOW + 31 }).to_string()));
}

#[test]
fn acr_is_a_string_out_of_the_list() {
    let strong = acr(["mfa", "hardware"]);
    assert!(passes(&strong, json!({ "acr": "hardware" })) && passes(&strong, r#"{"acr":"mf\u0061"}"#));
    assert!(!passes(&strong, json!({ "acr": "MFA" })) && !passes(&strong, json!({ "acr": "mfa hardware" })));
    assert!(cannot_be_told(&acr(["1"]), r#"{"acr":1}"#) && cannot_be_told(&acr(["1"]), r#"{"acr":["1"]}"#));
    assert_eq!(token(r#"{"acr":"mf\u0061"}"#).acr().as_deref(), Some("mfa"));
    assert_eq!((token(r#"{"acr":1}"#).acr(), token("{}").acr()), (None, None));
    for value in ["", "a b", "a\"", "é", "a\r\n"] {
        assert!(std::panic::catch_unwind(|| acr([value])).is_err(), "{value:?}");
    }
    // No authentication is of two contexts, and none is of no context.
    for impossible in [acr([""; 0]), acr(["a"]).and(acr(["b"]))] {
        assert_eq!(told(&impossible, &token("{}")).0, "forbidden", "{impossible}");
        assert!(!passes(&impossible, json!({ "acr": "a" })));
    }
    let overlap = acr(["a", "b", "c"]).and(acr(["c", "b"])).and(authenticated_within(Duration::from_secs(9)));
    let step_up = told(&overlap.and(authenticated_within(Duration::from_secs(5))), &token("{}")).3.unwrap();
    assert_eq!((step_up.acr_values(), step_up.max_age()), (Some("b c"), Some(Duration::from_secs(5))));
}

#[test]
fn a_predicate_decides_and_its_name_is_for_the_operator() {
    let even = predicate("an even number of audiences", |token| token.audiences().count() % 2 == 0);
    assert!(passes(&even, json!({ "aud": ["a", "b"] })));
    let denied = even.check(&token(json!({ "aud": "a" }))).unwrap_err();
    assert_eq!((denied.code(), denied.is_mendable()), ("forbidden", false));
    assert_eq!(denied.to_string(), "the token does not satisfy an even number of audiences");
}

// ---- What is told ----

#[test]
fn of_alternatives_the_cheapest_for_the_client_is_told() {
    let staff = claim("staff").equals(true);
    let strong = acr(["mfa"]);
    for (requirement, expected) in [
        (staff.clone().or(scopes(["a", "b"])), "a b"),
        (scopes(["a", "b"]).or(scope("c")), "c"),
        (scope("a").or(scope("b")), "a"),
        (strong.clone().and(scope("a")).or(scope("b")), "b"),
        (scope("a").and(staff.clone()).or(scopes(["b", "c", "d"])), "b c d"),
        (any([]).or(scope("a")), "a"),
    ] {
        assert_eq!(told_scopes(&requirement, "{}"), expected, "{requirement}");
        assert_eq!(requirement.scopes_to_ask_for(), expected, "{requirement}");
    }
    // What it has counts: one scope more is cheaper than two.
    assert_eq!(told_scopes(&scopes(["a", "b", "c"]).or(scopes(["d", "e"])), json!({ "scope": "a b" })), "a b c");
    // A log-in is cheaper than a scope that somebody has to grant.
    let either = scope("a").or(strong);
    assert_eq!(told(&either, &token("{}")).0, "insufficient_user_authentication");
    assert_eq!(either.step_up_to_ask_for().and_then(StepUp::acr_values), Some("mfa"));
    assert_eq!(staff.step_up_to_ask_for(), None);
}

#[test]
fn what_comes_with_a_scope_and_is_denied_cannot_be_mended_by_it() {
    let odd = scope("a").and(scope("b").not());
    assert!(odd.check(&token(json!({ "scope": "c" }))).unwrap_err().is_mendable());
    assert!(!odd.check(&token(json!({ "scope": "b" }))).unwrap_err().is_mendable());
    let impossible = scope("a").and(scope("a").not());
    assert!(!impossible.check(&token("{}")).unwrap_err().is_mendable());
    let by_implication = policy().scope_implies("a", ["b"]);
    assert!(!odd.check(&token_of(&by_implication, "{}")).unwrap_err().is_mendable());
}

#[test]
fn nothing_of_the_token_is_told() {
    let claims = json!({ "secret": "s3cr3t", "roles": ["s3cr3t"], "acr": "s3cr3t", "sub": "s3cr3t", "scope": "s3cr3t",
        "client_id": "s3cr3t" });
    let all_of_it = all([
        claim("secret").equals("x"),
        claim("secret").equals(1),
        claim("roles").contains("x"),
        acr(["x"]),
        subject("x"),
        scope("x"),
        client_id("x"),
    ]);
    let denied = all_of_it.check(&token(claims)).unwrap_err();
    assert!(!format!("{denied} {denied:?}").contains("s3cr3t"));
    assert_eq!(
        denied.to_string(),
        "the token does not satisfy (claim \"secret\" equals \"x\" and claim \"secret\" equals 1 (a claim of the wrong \
         type) and claim \"roles\" contains \"x\" and acr \"x\" and subject \"x\" and scope \"x\" and client_id \"x\")"
    );
}

#[test]
fn requirements_read_as_words() {
    let requirement = scope("a").and(claim("/r").contains_any(["x", "y"]).or(acr(["1", "2"]))).and(scope("b").not());
    let words = r#"(scope "a" and (claim "/r" contains any of ["x", "y"] or acr in ["1", "2"]) and not scope "b")"#;
    assert_eq!(requirement.to_string(), words);
    assert_eq!(format!("{requirement:?}"), format!("Requirement({words})"));
    assert_eq!((all([]).to_string(), any([]).to_string()), ("anything".into(), "what nothing satisfies".into()));
    assert_eq!(claim("a\n\"b").equals("\u{202e}").to_string(), r#"claim "a\n\"b" equals "\u{202e}""#);
    assert_eq!((!scope("a")).not().to_string(), r#"scope "a""#);
}

#[test]
fn of_none_all_demands_nothing_and_any_refuses_everybody() {
    assert!(passes(&all([]), "{}") && !passes(&any([]), "{}"));
    assert!(!passes(&all([]).not(), "{}") && passes(&any([]).not(), "{}"));
    assert_eq!(told(&any([]), &token("{}")).0, "forbidden");
}

#[test]
fn a_requirement_put_together_in_a_loop_is_not_deep() {
    let many = |join: fn(Requirement, Requirement) -> Requirement| {
        (1..100).fold(scope("s0"), |so_far, n| join(so_far, scope(format!("s{n}"))))
    };
    for (requirement, missing) in [(many(Requirement::and), 100), (many(Requirement::or), 1)] {
        assert_eq!(requirement.to_string().matches('(').count(), 1);
        assert_eq!(requirement.check(&token("{}")).unwrap_err().missing_scopes().split(' ').count(), missing);
    }
}

// ---- How a policy reads scopes ----

#[test]
fn scopes_are_taken_from_the_claims_that_the_policy_names_instead() {
    let granted = |policy: &Policy, claims: &str| {
        token_of(policy, claims).scopes().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let permissions = policy().scope_claim("permissions");
    let claims = r#"{"scope":"a","scp":["b"],"permissions":["c","\u0064"],"x":{"y":"e f"}}"#;
    assert_eq!(granted(&permissions, claims), "c d");
    assert_eq!(granted(&permissions.clone().scope_claim("scope").scope_claim("/x/y"), claims), "c d a e f");
    assert_eq!(granted(&policy(), claims), "a b");
    assert_eq!(granted(&permissions, r#"{"scope":"a"}"#), "");
    for value in ["1", "null", "{}", "[1]", r#"["a b"]"#, r#""\ud800""#, r#"["a",null]"#] {
        let judged = common::judge(&permissions, None, format!("{{\"permissions\":{value}}}"), at(NOW));
        let error = judged.unwrap_err();
        assert_eq!(error, ClaimError::MalformedScopes { claim: "permissions".into() }, "{value}");
        assert_eq!(error.code(), "claim_malformed");
    }
    let judged = common::judge(&policy().scope_claim("/x/y"), None, r#"{"x":"y"}"#, at(NOW));
    assert_eq!(judged.unwrap_err(), ClaimError::MalformedScopes { claim: "/x/y".into() });
}

#[test]
fn a_circle_of_scopes_makes_them_equal() {
    let policy = policy().scope_implies("a", ["b", "a"]).scope_implies("b", ["c"]).scope_implies("c", ["a"]);
    for granted in ["a", "b", "c"] {
        let verified = token_of(&policy, json!({ "scope": granted }));
        assert!(["a", "b", "c"].iter().all(|scope| verified.has_scope(scope)) && !verified.has_scope("d"));
    }
}

#[test]
fn what_is_no_scope_cannot_imply_or_be_implied() {
    for name in ["", "a b", "a\"", "é"] {
        let fault = Err(ConfigError::NotAScope(name.into()));
        assert_eq!(Policy::new().scope_implies("a", [name]).check(), fault);
        assert_eq!(Policy::new().scope_implies(name, ["a"]).check(), fault);
    }
}

// ---- Permissions ----

permission! {
    /// May change orders.
    pub WriteOrders = scope("orders:write");
    Never = any([]);
}

#[test]
fn a_permission_is_a_requirement_with_a_name() {
    let writer = token(json!({ "sub": "ada", "scope": "orders:write" }));
    assert_eq!(WriteOrders::requirement().check(&writer), Ok(()));
    let denied = WriteOrders::requirement().check(&token("{}")).unwrap_err();
    assert_eq!(denied.required_scopes(), "orders:write");
    assert!(Never::requirement().check(&writer).is_err());
    assert!(std::ptr::eq(WriteOrders::requirement(), WriteOrders::requirement()));
}

#[test]
fn a_context_stays_with_the_token_and_its_clones() {
    let verified = token("{}");
    assert!(verified.context().is_none());
    let with = verified.clone().with_context(std::sync::Arc::new(7_u8));
    assert_eq!(with.clone().context().and_then(|context| context.downcast_ref::<u8>()), Some(&7));
    assert!(verified.context().is_none());
}

// ---- Any requirement and any token ----

/// A requirement, as a naive evaluator reads it.
#[derive(Clone, Debug)]
enum Tree {
    Scope(&'static str),
    Role(&'static str),
    Level(i64),
    Acr(&'static str),
    Recent(u64),
    Flag,
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
}

const SCOPES: [&str; 5] = ["a", "b", "c", "d", "offline_access"];

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        4 => prop::sample::select(&SCOPES[..]).prop_map(Tree::Scope),
        1 => prop::sample::select(&["x", "y"][..]).prop_map(Tree::Role),
        1 => (0_i64..2).prop_map(Tree::Level),
        1 => prop::sample::select(&["1", "2"][..]).prop_map(Tree::Acr),
        1 => (1_u64..3).prop_map(|minutes| Tree::Recent(minutes * 60)),
        1 => Just(Tree::Flag),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::All),
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::Any),
            1 => inner.prop_map(|inner| Tree::Not(inner.into())),
        ]
    })
}

impl Tree {
    fn requirement(&self) -> Requirement {
        match self {
            Self::Scope(name) => scope(name),
            Self::Role(name) => claim("/realm/roles").contains(*name),
            Self::Level(level) => claim("level").equals(*level),
            Self::Acr(value) => acr([value]),
            Self::Recent(secs) => authenticated_within(Duration::from_secs(*secs)),
            Self::Flag => predicate("flag", |token| token.subject() == Some("flag")),
            Self::All(parts) => parts.iter().fold(all([]), |so_far, part| so_far.and(part.requirement())),
            Self::Any(parts) => parts.iter().fold(any([]), |so_far, part| so_far.or(part.requirement())),
            Self::Not(inner) => inner.requirement().not(),
        }
    }

    /// `None`: it cannot be told. By `serde_json`'s values, and with a set of scopes in which what is implied stands.
    fn naive(&self, claims: &Value, has: &impl Fn(&str) -> bool) -> Option<bool> {
        match self {
            Self::Scope(name) => Some(has(name)),
            Self::Role(name) => match claims.pointer("/realm/roles") {
                None => Some(false),
                Some(roles) => {
                    let roles: Option<Vec<_>> = roles.as_array()?.iter().map(Value::as_str).collect();
                    Some(roles?.contains(name))
                }
            },
            Self::Level(level) => claims.get("level").map_or(Some(false), |found| Some(found.as_i64()? == *level)),
            Self::Acr(value) => claims.get("acr").map_or(Some(false), |found| Some(found.as_str()? == *value)),
            Self::Recent(secs) => claims.get("auth_time").map_or(Some(false), |found| {
                let age = NOW - found.as_i64()?;
                (age >= -30).then_some(age < i64::try_from(*secs).unwrap() + 30)
            }),
            Self::Flag => Some(claims.get("sub") == Some(&"flag".into())),
            Self::All(parts) => {
                let found: Vec<_> = parts.iter().map(|part| part.naive(claims, has)).collect();
                if found.contains(&Some(false)) {
                    Some(false)
                } else {
                    found.iter().all(Option::is_some).then_some(true)
                }
            }
            Self::Any(parts) => {
                let found: Vec<_> = parts.iter().map(|part| part.naive(claims, has)).collect();
                if found.contains(&Some(true)) {
                    Some(true)
                } else {
                    found.iter().all(Option::is_some).then_some(false)
                }
            }
            Self::Not(inner) => inner.naive(claims, has).map(|held| !held),
        }
    }
}

fn claims() -> impl Strategy<Value = Value> {
    let member = |name: &'static str, values: Vec<Value>| {
        prop::option::of(prop::sample::select(values))
            .prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let members = (
        prop::sample::subsequence(SCOPES.to_vec(), 0..=SCOPES.len()),
        member(
            "realm",
            vec![json!({ "roles": ["x"] }), json!({ "roles": ["x", "y"] }), json!({}), json!({ "roles": [1] })],
        ),
        member("level", vec![json!(0), json!(1), json!("1"), json!(1.5), Value::Null]),
        member("acr", vec![json!("1"), json!("2"), json!(1)]),
        member("auth_time", vec![json!(NOW - 149), json!(NOW - 100), json!(NOW), json!(NOW + 31), json!("x")]),
        member("sub", vec![json!("flag"), json!("ada")]),
    );
    members.prop_map(|(scopes, a, b, c, d, e)| {
        let scope = Some(("scope".to_owned(), Value::from(scopes.join(" "))));
        Value::Object([scope, a, b, c, d, e].into_iter().flatten().collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The algebra is that of three values, whatever the tree; and what a client is told gets it in.
    #[test]
    fn any_requirement_is_judged_as_a_naive_evaluator_does_and_what_it_names_gets_the_client_in(
        tree in tree(), claims in claims(), implies in proptest::arbitrary::any::<bool>(),
    ) {
        let policy = if implies { policy().scope_implies("a", ["b"]) } else { policy() };
        let requirement = tree.requirement();
        let verified = token_of(&policy, &claims);
        let granted: Vec<_> = claims["scope"].as_str().unwrap().split(' ').collect();
        let has = |name: &str| granted.contains(&name) || (implies && name == "b" && granted.contains(&"a"));
        let outcome = requirement.check(&verified);
        prop_assert_eq!(outcome.is_ok(), tree.naive(&claims, &has) == Some(true));
        prop_assert_eq!(requirement.clone().not().check(&verified).is_ok(), tree.naive(&claims, &has) == Some(false));
        prop_assert_eq!(requirement.clone().not().not().check(&verified).is_ok(), outcome.is_ok());

        let named = [requirement.scopes_to_ask_for(), outcome.as_ref().err().map_or("", |denied| denied.required_scopes())];
        prop_assert!(named.iter().all(|scopes| scopes.split(' ').all(|name| name != "offline_access")));
        let Err(denied) = outcome else { return Ok(()) };
        let required: Vec<_> = denied.required_scopes().split(' ').filter(|name| !name.is_empty()).collect();
        let missing: Vec<_> = denied.missing_scopes().split(' ').filter(|name| !name.is_empty()).collect();
        prop_assert!(missing.iter().all(|name| required.contains(name) && !has(name)));
        prop_assert!(required.iter().all(|name| missing.contains(name) || has(name)));
        prop_assert_eq!(missing.is_empty(), required.is_empty());
        prop_assert!(!denied.is_step_up() || denied.is_mendable());
        prop_assert!(!denied.is_mendable() || !missing.is_empty() || denied.is_step_up());
        if !denied.is_mendable() {
            return Ok(());
        }
        // The client comes again, with what it was told to ask for, and that alone or on top of what it had.
        let mut renewed = claims.clone();
        if let Some(step_up) = denied.step_up() {
            if let Some(values) = step_up.acr_values() {
                renewed["acr"] = values.split(' ').next_back().into();
            }
            if step_up.max_age().is_some() {
                renewed["auth_time"] = NOW.into();
            }
        }
        if !missing.is_empty() {
            renewed["scope"] = denied.required_scopes().into();
            prop_assert_eq!(requirement.check(&token_of(&policy, &renewed)), Ok(()));
            renewed["scope"] = [&granted[..], &required].concat().join(" ").into();
        }
        prop_assert_eq!(requirement.check(&token_of(&policy, &renewed)), Ok(()));
    }

    /// One claim is where another parser finds it, however the JSON is written.
    #[test]
    fn a_pointer_finds_what_another_parser_finds(
        value in json_value(), pretty in proptest::arbitrary::any::<bool>(), pointer in "(/([abx~]|~0|~1|[0-3]|01|é|)){1,4}",
    ) {
        let payload = json!({ "a": value, "x": 1, "b": [value, { "a": value }] });
        let text = if pretty { serde_json::to_string_pretty(&payload) } else { serde_json::to_string(&payload) }.unwrap();
        let Ok(parsed) = ClaimPointer::parse(&pointer) else { return Ok(()) };
        let verified = token(text);
        let found = verified.claim(&parsed).map(|value| serde_json::from_str::<Value>(value.json()).unwrap());
        prop_assert_eq!(found.as_ref(), payload.pointer(&pointer));
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        proptest::arbitrary::any::<bool>().prop_map(Value::from),
        proptest::arbitrary::any::<i64>().prop_map(Value::from),
        "[ab\"\\\\{}\\[\\],:é\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abx~/é0-3]|", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

// ---- Limits ----

#[test]
fn a_requirement_has_an_end() {
    let names: Vec<_> = (0..=MAX_RULES).map(|n| format!("s{n}")).collect();
    let most = scopes(&names[1..]);
    assert!(passes(&most, json!({ "scope": names.join(" ") })));
    assert!(std::panic::catch_unwind(|| scopes(&names)).is_err());
    assert!(std::panic::catch_unwind(|| any_scope(&names)).is_err());
    let one_more = std::panic::AssertUnwindSafe(|| most.clone().or(scope("more")));
    assert!(std::panic::catch_unwind(one_more).is_err());
    assert!(std::panic::catch_unwind(|| acr(&names[..MAX_ACR_VALUES])).is_ok());
    assert!(std::panic::catch_unwind(|| acr(&names[..=MAX_ACR_VALUES])).is_err());
    // What is said of a denial has one too.
    let said = most.check(&token("{}")).unwrap_err().to_string();
    assert!(said.len() < 600 && said.ends_with('…'), "{said}");
}

#[test]
fn a_tab_or_a_line_break_separates_no_scopes_and_hides_none() {
    for scopes in ["x\tblocked", "x\nblocked", "blocked\u{7f}"] {
        for claims in [json!({ "scope": scopes }), json!({ "scp": [scopes] })] {
            assert!(common::judge(&policy(), None, claims.to_string(), at(NOW)).is_err(), "{scopes:?}");
        }
    }
}
