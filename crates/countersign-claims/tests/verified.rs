//! What a verified token says about itself, and how its claims are read into a type of the user's.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use common::at;
use countersign_claims::{Policy, UnixTime, Verified, scope};
use countersign_token::Algorithm;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

fn verified(claims: impl AsRef<[u8]>) -> Verified {
    let policy = Policy::new().dangerous_allow_missing_exp().accept_unbound_cnf().accept_id_tokens();
    common::judge(&policy, Some("at+jwt"), claims, at(1000)).expect("good claims")
}

fn scopes(claims: &str) -> Vec<String> {
    verified(claims).scopes().map(str::to_owned).collect()
}

#[derive(Debug, Deserialize, PartialEq)]
struct Tenant {
    tenant: String,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Level {
    level: u8,
}

// ---- Accessors ----

#[test]
fn accessors_give_what_stands_there() {
    let claims = r#"{"iss":"https://issuer.example","sub":"ada","aud":["api","b"],"jti":"1","client_id":"web",
        "exp":2000.5,"nbf":900,"iat":1e3,"scope":"a b","x":[{"y":1}]}"#;
    let verified = verified(claims);
    assert_eq!(verified.issuer(), Some("https://issuer.example"));
    assert_eq!(verified.subject(), Some("ada"));
    assert_eq!(verified.audiences().collect::<Vec<_>>(), ["api", "b"]);
    assert_eq!(verified.jwt_id(), Some("1"));
    assert_eq!(verified.client_id(), Some("web"));
    assert_eq!(verified.expires_at().unwrap().to_string(), "2000.500000000");
    assert_eq!(verified.not_before(), Some(at(900)));
    assert_eq!(verified.issued_at(), Some(at(1000)));
    assert_eq!(verified.scopes().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(verified.algorithm(), Algorithm::Hs256);
    assert_eq!(verified.key().algorithms(), Algorithm::Hs256.into());
    assert_eq!(verified.payload(), claims.as_bytes());
}

#[test]
fn an_absent_claim_is_none() {
    let verified = verified("{}");
    for claim in [verified.issuer(), verified.subject(), verified.jwt_id(), verified.client_id()] {
        assert_eq!(claim, None);
    }
    for date in [verified.expires_at(), verified.not_before(), verified.issued_at()] {
        assert_eq!(date, None);
    }
    assert_eq!(verified.audiences().count() + verified.scopes().count(), 0);
}

#[test]
fn an_empty_string_is_not_an_absent_claim() {
    let verified = verified(r#"{"iss":"","sub":"","aud":"","jti":"","client_id":"","scope":""}"#);
    for claim in [verified.issuer(), verified.subject(), verified.jwt_id(), verified.client_id()] {
        assert_eq!(claim, Some(""));
    }
    assert_eq!(verified.audiences().collect::<Vec<_>>(), [""]);
    assert_eq!(verified.scopes().count(), 0);
}

#[test]
fn escapes_are_resolved_wherever_they_stand() {
    let verified = verified(
        r#"{"\u0073ub":"\u0061d\u0061\/\"\\\n\ud83d\ude00é","aud":["\u0061pi","pl\u0061in","none"],"scope":"\u0061dmin\u0020re\u0061d","scp":["wr\u0069te"]}"#,
    );
    assert_eq!(verified.subject(), Some("ada/\"\\\n😀é"));
    assert_eq!(verified.audiences().collect::<Vec<_>>(), ["api", "plain", "none"]);
    assert_eq!(verified.scopes().collect::<Vec<_>>(), ["admin", "read", "write"]);
}

/// The text with every character escaped that `mask` says.
fn json_string(text: &str, mask: u64) -> String {
    let mut quoted = String::from("\"");
    for (position, unit) in text.chars().enumerate() {
        if mask >> (position % 64) & 1 == 1 {
            for unit in unit.encode_utf16(&mut [0; 2]) {
                quoted += &format!("\\u{unit:04X}");
            }
        } else {
            let plain = Value::from(unit.to_string()).to_string();
            quoted += &plain[1..plain.len() - 1];
        }
    }
    quoted + "\""
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[!#-\\[\\]-~é]{1,6}", 0..6)
}

proptest! {
    /// Whatever the claims and however their strings are escaped: the accessors say what another parser says.
    #[test]
    fn accessors_agree_with_serde_json(
        texts in prop::collection::btree_map(prop::sample::select(vec!["iss", "sub", "jti", "client_id"]), "\\PC{0,12}", 0..5),
        dates in prop::collection::btree_map(prop::sample::select(vec!["exp", "nbf", "iat"]), 0_i64..1000, 0..4),
        aud in prop::option::of((any::<bool>(), prop::collection::vec("\\PC{0,6}", 1..5))),
        scope in prop::option::of((any::<bool>(), words())),
        scp in prop::option::of((any::<bool>(), words())),
        extra in prop::collection::btree_map("x[a-z]{1,4}", "\\PC{0,9}", 0..30),
        mask in prop_oneof![Just(0), any::<u64>()],
        gap in "[ \t\r\n]{0,2}",
    ) {
        let array = |texts: &[String]| {
            let texts: Vec<_> = texts.iter().map(|text| json_string(text, mask)).collect();
            format!("[{gap}{}{gap}]", texts.join(&format!("{gap},{gap}")))
        };
        let mut members = BTreeMap::new();
        for (name, text) in &texts {
            members.insert((*name).to_owned(), json_string(text, mask));
        }
        for (name, text) in &extra {
            members.insert(name.clone(), json_string(text, mask));
        }
        for (name, date) in &dates {
            // In the future of 1000 - 30 s or the past of it, as it has to be.
            let date = if *name == "exp" { 1000 + date } else { *date };
            members.insert((*name).to_owned(), date.to_string());
        }
        if let Some((single, aud)) = &aud {
            members.insert("aud".into(), if *single { json_string(&aud[0], mask) } else { array(aud) });
        }
        for (name, granted) in [("scope", &scope), ("scp", &scp)] {
            if let Some((joined, names)) = granted {
                members.insert(name.into(), if *joined { json_string(&names.join(" "), mask) } else { array(names) });
            }
        }
        let members: Vec<_> =
            members.iter().map(|(name, value)| format!("{gap}{}{gap}:{gap}{value}", json_string(name, mask))).collect();
        let claims = format!("{gap}{{{}{gap}}}{gap}", members.join(","));

        let object: Map<String, Value> = serde_json::from_str(&claims).unwrap();
        let verified = verified(&claims);
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        prop_assert_eq!(verified.issuer(), text("iss"));
        prop_assert_eq!(verified.subject(), text("sub"));
        prop_assert_eq!(verified.jwt_id(), text("jti"));
        prop_assert_eq!(verified.client_id(), text("client_id"));
        let date = |name: &str| object.get(name).and_then(Value::as_i64);
        prop_assert_eq!(verified.expires_at().map(UnixTime::as_secs), date("exp"));
        prop_assert_eq!(verified.not_before().map(UnixTime::as_secs), date("nbf"));
        prop_assert_eq!(verified.issued_at().map(UnixTime::as_secs), date("iat"));
        let strings = |name: &str| match object.get(name) {
            Some(Value::Array(members)) => members.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
            Some(Value::String(text)) => vec![text.as_str()],
            _ => vec![],
        };
        prop_assert_eq!(verified.audiences().collect::<Vec<_>>(), strings("aud"));
        // `scope` and `scp` come in the order of the payload, which is nobody's business here.
        let mut ours: Vec<_> = verified.scopes().collect();
        let mut theirs: Vec<_> = [strings("scope"), strings("scp")].concat();
        theirs = theirs.into_iter().flat_map(|text| text.split(' ')).filter(|name| !name.is_empty()).collect();
        prop_assert!(theirs.iter().all(|name| verified.has_scope(name)));
        ours.sort_unstable();
        theirs.sort_unstable();
        prop_assert_eq!(ours, theirs);
        prop_assert_eq!(&*verified.claims::<Map<String, Value>>().unwrap(), &object);
        prop_assert_eq!(verified.payload(), claims.as_bytes());
    }
}

// ---- Scopes ----

#[test]
fn statement_51_scopes_come_from_scope_and_scp() {
    for (claims, expected) in [
        (r#"{"scope":"a b:c https://api.example/d"}"#, vec!["a", "b:c", "https://api.example/d"]),
        (r#"{"scope":"  a   b "}"#, vec!["a", "b"]),
        (r#"{"scope":""}"#, vec![]),
        (r#"{"scope":" "}"#, vec![]),
        (r#"{"scp":"a b"}"#, vec!["a", "b"]),
        (r#"{"scp":["a","b"]}"#, vec!["a", "b"]),
        (r#"{"scp":[]}"#, vec![]),
        (r#"{"scp":["","a"]}"#, vec!["a"]),
        (r#"{"scope":"a","scp":["b"]}"#, vec!["a", "b"]),
        (r#"{"scp":["b"],"scope":"a"}"#, vec!["b", "a"]),
        (r#"{"scope":"a","scp":"a"}"#, vec!["a", "a"]),
        // Only a space separates; a comma belongs to the name, which then is nobody's.
        (r#"{"scope":"a,b"}"#, vec!["a,b"]),
        // Claims that look like scopes and are none.
        (r#"{"scopes":"a","SCOPE":"a","permissions":["a"],"x":{"scope":"a"}}"#, vec![]),
    ] {
        assert_eq!(scopes(claims), expected, "{claims}");
    }
    // An element of an array is one name; one with a space in it would become two.
    for claims in [r#"{"exp":2000,"scp":["a b"]}"#, r#"{"exp":2000,"scope":["admin read"]}"#] {
        let refusal = common::judge(&Policy::new(), None, claims, at(1000)).unwrap_err();
        assert_eq!(refusal.code(), "claim_malformed", "{claims}");
    }
}

#[test]
fn statement_51_a_scope_is_its_whole_name_and_case_sensitive() {
    for claims in [r#"{"scope":"orders:read admin-ui"}"#, r#"{"scp":["orders:read","admin-ui"]}"#] {
        let verified = verified(claims);
        assert!(verified.has_scope("orders:read") && verified.has_scope("admin-ui"));
        for other in [
            "",
            " ",
            "orders",
            "orders:",
            "read",
            "orders:rea",
            "orders:read ",
            "orders:reads",
            "Orders:read",
            "ORDERS:READ",
            "admin",
            "ui",
            "orders:read admin-ui",
            "admin-ui orders:read",
            "orders:read,admin-ui",
            "*",
            "orders:*",
            "оrders:read",
        ] {
            assert!(!verified.has_scope(other), "{other:?}");
        }
    }
}

#[test]
fn a_requirement_needs_all_its_scopes() {
    let both = scope("a").and(scope("b"));
    assert_eq!(both.check(&verified(r#"{"scope":"b c a"}"#)), Ok(()));
    assert_eq!(both.check(&verified(r#"{"scope":"a","scp":["b"]}"#)), Ok(()));
    for lacking in [r#"{}"#, r#"{"scope":"a"}"#, r#"{"scope":"ab"}"#, r#"{"scope":"A B"}"#, r#"{"scope":"a,b"}"#] {
        let error = both.check(&verified(lacking)).unwrap_err();
        assert_eq!(error.required_scopes(), "a b", "{lacking}");
    }
}

#[test]
fn what_is_no_scope_cannot_be_demanded() {
    for name in ["", "a b", "a\tb", "a\"", "a\\", "é", "a\n"] {
        assert!(std::panic::catch_unwind(|| scope(name)).is_err(), "{name:?}");
        assert!(std::panic::catch_unwind(|| countersign_claims::scopes(["a", name])).is_err(), "{name:?}");
    }
}

// ---- Claims as a type of the user's ----

#[test]
fn the_first_type_is_read_once_and_shared() {
    let verified = verified(r#"{"tenant":"t1","level":3}"#);
    let clone = verified.clone();
    let first = verified.claims::<Tenant>().unwrap();
    assert_eq!(first.tenant, "t1");
    assert!(Arc::ptr_eq(&first, &verified.claims::<Tenant>().unwrap()));
    assert!(Arc::ptr_eq(&first, &clone.claims::<Tenant>().unwrap()), "clones share it");

    let second = verified.claims::<Level>().unwrap();
    assert_eq!(*second, Level { level: 3 });
    assert!(!Arc::ptr_eq(&second, &verified.claims::<Level>().unwrap()), "a second type is read anew");
    assert!(Arc::ptr_eq(&first, &verified.claims::<Tenant>().unwrap()), "and does not displace the first");

    drop((verified, clone));
    assert_eq!(first.tenant, "t1", "outlives the token");
}

#[test]
fn a_type_that_does_not_fit_leaves_room_for_one_that_does() {
    let verified = verified(r#"{"tenant":"t1","level":"three"}"#);
    for _ in 0..2 {
        assert_eq!(
            verified.claims::<Level>().unwrap_err().to_string(),
            "the claims do not fit the type of claims at column 30"
        );
    }
    let tenant = verified.claims::<Tenant>().unwrap();
    assert!(verified.claims::<Level>().is_err());
    assert!(Arc::ptr_eq(&tenant, &verified.claims::<Tenant>().unwrap()));
}

#[test]
fn all_threads_end_with_one_value() {
    let verified = verified(r#"{"tenant":"t1"}"#);
    let start = Barrier::new(8);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                start.wait();
                assert_eq!(verified.claims::<Tenant>().unwrap().tenant, "t1");
            });
        }
    });
    let settled = verified.claims::<Tenant>().unwrap();
    assert!(Arc::ptr_eq(&settled, &verified.claims::<Tenant>().unwrap()));
    assert_eq!(Arc::strong_count(&settled), 2, "this one and the token's own; nobody keeps another");
}

#[test]
fn r16_a_type_error_names_the_field_and_quotes_nothing() {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Plan {
        Free,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape is asked for")]
    struct Strict {
        #[serde(default)]
        level: Option<u8>,
        #[serde(default)]
        plan: Option<Plan>,
    }
    for claims in [
        r#"{"level":"top-secret"}"#,
        r#"{"plan":"top-secret"}"#,
        r#"{"top-secret":1}"#,
        r#"{"level":["top-secret"]}"#,
        r#"{"plan":{"top-secret":1}}"#,
        r#"{"plan":"missing field `top-secret`"}"#,
        r#"{"missing field `top-secret`":1}"#,
    ] {
        let error = verified(claims).claims::<Strict>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("top-secret"), "{error}");
        assert!(error.to_string().starts_with("the claims do not fit the type of claims at column "), "{error}");
    }
    let error = verified(r#"{"x":"top-secret"}"#).claims::<Tenant>().unwrap_err();
    assert_eq!(error.to_string(), "the claims lack `tenant`, which the type of claims needs");
}

#[test]
fn what_serde_cannot_read_is_an_error_and_no_panic() {
    // Claims that are not registered are only known to be well-formed JSON.
    for claims in [r#"{"x":"\ud800"}"#, r#"{"tenant":"\udc00"}"#] {
        assert!(verified(claims).claims::<Value>().is_err(), "{claims}");
    }
    assert!(verified("{}").claims::<Vec<u8>>().is_err());
    assert!(verified("{}").claims::<String>().is_err());
    assert!(verified(r#"{"x":1e999}"#).claims::<BTreeMap<String, f32>>().is_err());
}

#[test]
fn r16_debug_shows_no_payload() {
    let verified = verified(r#"{"sub":"ada","email":"ada@private.example","exp":2000,"scope":"confidential"}"#);
    let _ = verified.claims::<Value>().unwrap();
    let shown = format!("{verified:?} {verified:#?}");
    assert!(shown.contains("ada") && shown.contains("2000"));
    for hidden in ["private.example", "confidential", "email", "payload"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
    // Nor anything that could disturb a log.
    let hostile = self::verified(r#"{"sub":"a\r\nb\u001b[31m"}"#);
    assert!(!format!("{hostile:?}").contains(char::is_control));
}

// ---- Sizes ----

#[test]
fn big_payloads_are_read_as_small_ones_are() {
    let filler: Vec<_> = (0..50_000).map(|n| format!(r#""claim{n}":{n}"#)).collect();
    let claims = format!(r#"{{{},"sub":"ada","x":"{}","scp":["last"]}}"#, filler.join(","), "y".repeat(5_000_000));
    let verified = verified(&claims);
    assert_eq!(verified.subject(), Some("ada"));
    assert!(verified.has_scope("last"));
    assert_eq!(verified.claims::<Map<String, Value>>().unwrap().len(), filler.len() + 3);

    let long = "z".repeat(3_000_000);
    let many: Vec<_> = (0..100_000).map(|n| format!("s{n}")).collect();
    let verified = self::verified(json!({ "sub": long, "scope": many.join(" "), "aud": many }).to_string());
    assert_eq!(verified.subject(), Some(&*long));
    assert!(verified.has_scope("s99999") && !verified.has_scope("s100000"));
    assert_eq!(verified.audiences().last(), Some("s99999"));
}
