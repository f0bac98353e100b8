//! What a policy accepts and what it refuses, claim by claim. Most tests are tables: claims as text, and the verdict.
//!
//! Tests are named after the requirement (`r6_…`) or the statement (`statement_41_…`) that they hold to.

mod common;

use std::time::Duration;

use common::at;
use countersign_claims::{ClaimError, ConfigError, DEFAULT_LEEWAY, MAX_LEEWAY, MAX_NUMERIC_DATE, Policy, UnixTime};
use proptest::prelude::*;
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example";

/// `accepted`, or the code of the refusal with the claim that it is about.
fn check(policy: &Policy, typ: Option<&str>, claims: impl AsRef<[u8]>, now: UnixTime) -> String {
    match common::judge(policy, typ, claims, now) {
        Ok(_) => "accepted".into(),
        Err(ClaimError::Missing(claim)) => format!("missing {claim}"),
        Err(ClaimError::Malformed(claim)) => format!("malformed {claim}"),
        Err(error) => error.code().into(),
    }
}

/// Checks claims against a policy at the time 0, one row after the other. `exp` is added where no row is about it.
#[track_caller]
fn check_rows(policy: &Policy, rows: &[(&str, &str)]) {
    for (members, expected) in rows {
        let claims = if members.is_empty() { r#"{"exp":1}"#.into() } else { format!(r#"{{"exp":1,{members}}}"#) };
        assert_eq!(check(policy, None, &claims, at(0)), *expected, "{claims}");
    }
}

/// A policy that demands nothing at all: what it refuses is refused by every other.
fn lax() -> Policy {
    Policy::new().dangerous_allow_missing_exp()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn nanos(secs: i64, nanos: u32) -> UnixTime {
    at(secs).saturating_add(Duration::from_nanos(nanos.into()))
}

// ---- Time ----

#[test]
fn statement_41_expired_at_the_boundary() {
    const LAST_NANO: u32 = 999_999_999;
    for (exp, leeway, now, expected) in [
        ("1000", secs(0), nanos(999, LAST_NANO), "accepted"),
        ("1000", secs(0), at(1000), "expired"),
        ("1000", secs(0), nanos(1000, 1), "expired"),
        ("1000", secs(30), nanos(1029, LAST_NANO), "accepted"),
        ("1000", secs(30), at(1030), "expired"),
        ("1000", MAX_LEEWAY, nanos(1299, LAST_NANO), "accepted"),
        ("1000", MAX_LEEWAY, at(1300), "expired"),
        ("1000", Duration::from_millis(1500), nanos(1001, 499_999_999), "accepted"),
        ("1000", Duration::from_millis(1500), nanos(1001, 500_000_000), "expired"),
        ("1000.5", secs(0), nanos(1000, 499_999_999), "accepted"),
        ("1000.5", secs(0), nanos(1000, 500_000_000), "expired"),
        ("1000.75", Duration::from_millis(250), nanos(1000, LAST_NANO), "accepted"),
        ("1000.75", Duration::from_millis(250), at(1001), "expired"),
        // The nearest floating-point number is later than this text.
        ("1700000000.123", secs(0), nanos(1_700_000_000, 122_999_999), "accepted"),
        ("1700000000.123", secs(0), nanos(1_700_000_000, 123_000_000), "expired"),
        ("1e3", secs(0), nanos(999, LAST_NANO), "accepted"),
        ("10.0E+2", secs(0), at(1000), "expired"),
        ("0", secs(0), at(0), "expired"),
        ("0", secs(0), at(-1), "accepted"),
        ("-0", secs(0), at(0), "expired"),
        ("253402300799", secs(0), at(MAX_NUMERIC_DATE - 1), "accepted"),
        ("253402300799", secs(300), at(i64::MAX), "expired"),
        ("253402300799.5", secs(0), at(MAX_NUMERIC_DATE), "accepted"),
        ("2.534023007995e11", secs(0), at(MAX_NUMERIC_DATE), "accepted"),
        ("2.534023007995e11", secs(0), at(MAX_NUMERIC_DATE + 1), "expired"),
        ("0", secs(300), at(i64::MIN), "accepted"),
    ] {
        let policy = Policy::new().leeway(leeway);
        let claims = format!(r#"{{"exp":{exp}}}"#);
        assert_eq!(check(&policy, None, &claims, now), expected, "{claims}, leeway {leeway:?}, at {now}");
    }
}

#[test]
fn statement_42_not_yet_valid_at_the_boundary() {
    const LAST_NANO: u32 = 999_999_999;
    for (nbf, leeway, now, expected) in [
        ("1000", secs(0), nanos(999, LAST_NANO), "not_yet_valid"),
        ("1000", secs(0), at(1000), "accepted"),
        ("1000", secs(30), nanos(969, LAST_NANO), "not_yet_valid"),
        ("1000", secs(30), at(970), "accepted"),
        ("1000", MAX_LEEWAY, nanos(699, LAST_NANO), "not_yet_valid"),
        ("1000", MAX_LEEWAY, at(700), "accepted"),
        ("1000.5", secs(0), nanos(1000, 499_999_999), "not_yet_valid"),
        ("1000.5", secs(0), nanos(1000, 500_000_000), "accepted"),
        ("1000.25", Duration::from_millis(500), nanos(999, 749_999_999), "not_yet_valid"),
        ("1000.25", Duration::from_millis(500), nanos(999, 750_000_000), "accepted"),
        ("0", secs(30), at(-30), "accepted"),
        ("0", secs(30), at(-31), "not_yet_valid"),
        ("0", secs(300), at(i64::MIN), "not_yet_valid"),
        ("253402300799", secs(0), at(1_700_000_000), "not_yet_valid"),
    ] {
        let policy = Policy::new().leeway(leeway);
        let claims = format!(r#"{{"exp":253402300799,"nbf":{nbf}}}"#);
        assert_eq!(check(&policy, None, &claims, now), expected, "{claims}, leeway {leeway:?}, at {now}");
        // `iat` in the future is refused at the same instant, under its own name.
        let claims = format!(r#"{{"exp":253402300799,"iat":{nbf}}}"#);
        let expected = if expected == "accepted" { expected } else { "issued_in_the_future" };
        assert_eq!(check(&policy, None, &claims, now), expected, "{claims}, leeway {leeway:?}, at {now}");
    }
}

#[test]
fn statement_43_numeric_dates_are_numbers_and_not_absurd() {
    for claim in ["exp", "nbf", "iat"] {
        for good in ["0", "5", "5.0", "5.25", "5e0", "5E+0", "500e-2", "0.5e1", "1e-400", "5.000000000000000000001"] {
            let claims = format!(r#"{{"{claim}":{good}}}"#);
            assert_eq!(check(&lax(), None, &claims, at(4)), "accepted", "{claims}");
        }
        for absurd in [
            "-1",
            "-0.000001",
            "-1e300",
            "253402300800",
            "253402300800.0",
            "1700000000000",
            "1.7e12",
            "1e309",
            "-1e309",
            "1e99999999999999999999",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "18446744073709551616",
            "340282366920938463463374607431768211456",
            "9223372036854775808.5",
            &"9".repeat(4000),
            r#""5""#,
            r#""NaN""#,
            r#""Infinity""#,
            r#""2026-11-20T00:00:00Z""#,
        ] {
            let claims = format!(r#"{{"{claim}":{absurd}}}"#);
            assert_eq!(check(&lax(), None, &claims, at(4)), format!("malformed {claim}"), "{claims}");
        }
        for not_json in ["NaN", "Infinity", "-Infinity", "0x5", "05", "+5", "5.", ".5", "1_000", "5e", "--5"] {
            let claims = format!(r#"{{"{claim}":{not_json}}}"#);
            assert_eq!(check(&lax(), None, &claims, at(4)), "payload_not_an_object", "{claims}");
        }
    }
}

#[test]
fn r7_time_is_checked_unless_something_else_is_asked_for() {
    for (claims, now, expected) in [
        // `exp` is required, and its default leeway is 30 s.
        (r#"{}"#, at(0), "missing exp"),
        (r#"{"iat":0,"nbf":0}"#, at(0), "missing exp"),
        (r#"{"EXP":1}"#, at(0), "missing exp"),
        (r#"{"exp ":1}"#, at(0), "missing exp"),
        (r#"{"x":{"exp":1}}"#, at(0), "missing exp"),
        (r#"{"exp":1000}"#, at(1029), "accepted"),
        (r#"{"exp":1000}"#, at(1030), "expired"),
        // `nbf` and `iat` are checked without being asked for.
        (r#"{"exp":9000,"nbf":1000}"#, at(970), "accepted"),
        (r#"{"exp":9000,"nbf":1000}"#, at(969), "not_yet_valid"),
        (r#"{"exp":9000,"iat":1000}"#, at(970), "accepted"),
        (r#"{"exp":9000,"iat":1000}"#, at(969), "issued_in_the_future"),
        // Never valid: `nbf` behind `exp`.
        (r#"{"exp":1000,"nbf":2000}"#, at(999), "not_yet_valid"),
        (r#"{"exp":1000,"nbf":2000}"#, at(2000), "expired"),
    ] {
        assert_eq!(check(&Policy::new(), None, claims, now), expected, "{claims} at {now}");
    }
    assert_eq!(DEFAULT_LEEWAY, secs(30));
}

#[test]
fn a_leave_to_omit_exp_lifts_nothing_else() {
    for (claims, now, expected) in [
        (r#"{}"#, at(i64::MAX), "accepted"),
        (r#"{"exp":1000}"#, at(1030), "expired"),
        (r#"{"exp":null}"#, at(0), "malformed exp"),
        (r#"{"exp":"never"}"#, at(0), "malformed exp"),
        (r#"{"nbf":1000}"#, at(969), "not_yet_valid"),
    ] {
        assert_eq!(check(&lax(), None, claims, now), expected, "{claims} at {now}");
    }
}

#[test]
fn a_leeway_above_the_cap_is_an_error_and_widens_nothing() {
    let policy = Policy::new().leeway(Duration::MAX);
    assert_eq!(policy.check(), Err(ConfigError::LeewayTooLong(Duration::MAX)));
    assert_eq!(check(&policy, None, r#"{"exp":1000}"#, at(1299)), "accepted");
    assert_eq!(check(&policy, None, r#"{"exp":1000}"#, at(1300)), "expired");
}

#[test]
fn maximum_age_counts_from_iat() {
    let policy = Policy::new().max_age(secs(60)).leeway(secs(10));
    for (claims, now, expected) in [
        (r#"{"exp":9000}"#, at(0), "missing iat"),
        (r#"{"exp":9000,"iat":"1000"}"#, at(1000), "malformed iat"),
        (r#"{"exp":9000,"iat":1000}"#, nanos(1069, 999_999_999), "accepted"),
        (r#"{"exp":9000,"iat":1000}"#, at(1070), "too_old"),
        (r#"{"exp":9000,"iat":1000.5}"#, nanos(1070, 499_999_999), "accepted"),
        (r#"{"exp":9000,"iat":1000.5}"#, nanos(1070, 500_000_000), "too_old"),
        (r#"{"exp":9000,"iat":1000}"#, at(989), "issued_in_the_future"),
        (r#"{"exp":1000,"iat":1000}"#, at(1070), "expired"),
    ] {
        assert_eq!(check(&policy, None, claims, now), expected, "{claims} at {now}");
    }
    let forever = Policy::new().max_age(Duration::MAX);
    assert_eq!(check(&forever, None, r#"{"exp":253402300799,"iat":0}"#, at(MAX_NUMERIC_DATE)), "accepted");
    let without_exp = lax().max_age(secs(60));
    assert_eq!(without_exp.check(), Ok(()));
    assert_eq!(check(&without_exp, None, r#"{"iat":1000}"#, at(1090)), "too_old");
}

#[test]
fn a_token_is_accepted_until_exp_or_its_age_whichever_is_first_and_the_leeway() {
    let aged = || lax().max_age(secs(60)).leeway(secs(10));
    for (policy, claims, until) in [
        (Policy::new(), r#"{"exp":1000.5}"#, Some(nanos(1030, 500_000_000))),
        (Policy::new().leeway(secs(0)), r#"{"exp":1000}"#, Some(at(1000))),
        (aged(), r#"{"exp":9000,"iat":900}"#, Some(at(970))),
        (aged(), r#"{"exp":950,"iat":900}"#, Some(at(960))),
        (aged(), r#"{"iat":900}"#, Some(at(970))),
        // Without a bound on the age, `iat` ends nothing.
        (lax(), r#"{"iat":900}"#, None),
        (lax(), "{}", None),
    ] {
        let verified = common::judge(&policy, None, claims, at(900)).expect("good claims");
        assert_eq!(verified.accepted_until(), until, "{claims}");
    }
}

#[test]
fn maximum_lifetime_counts_from_iat_to_exp_whatever_the_time() {
    let policy = Policy::new().max_lifetime(secs(3600)).leeway(secs(300));
    for (claims, expected) in [
        (r#"{"exp":4600}"#, "missing iat"),
        (r#"{"iat":1000}"#, "missing exp"),
        (r#"{"exp":4600,"iat":1000}"#, "accepted"),
        (r#"{"exp":4600.000000001,"iat":1000}"#, "lives_too_long"),
        (r#"{"exp":4601,"iat":1000}"#, "lives_too_long"),
        (r#"{"exp":253402300799,"iat":0}"#, "lives_too_long"),
    ] {
        assert_eq!(check(&policy, None, claims, at(1000)), expected, "{claims}");
    }
    let without_exp = lax().max_lifetime(secs(3600));
    assert_eq!(without_exp.check(), Err(ConfigError::LifetimeWithoutExpiry));
    assert_eq!(
        check(&without_exp, None, r#"{"iat":1000}"#, at(1000)),
        "missing exp",
        "an unchecked policy fails closed"
    );
}

proptest! {
    /// The rule in whole milliseconds, written down a second time.
    #[test]
    fn time_rules_are_exact(
        exp in 0_i64..2_000_000,
        nbf in proptest::option::of(0_i64..2_000_000),
        iat in proptest::option::of(0_i64..2_000_000),
        leeway in 0_i64..=300_000,
        near in 0_usize..4,
        offset in -2_i64..=2,
        base in prop_oneof![Just(0_i64), Just(1_700_000_000_000), Just(253_402_298_799_000)],
    ) {
        let (exp, nbf, iat) = (base + exp, nbf.map(|nbf| base + nbf), iat.map(|iat| base + iat));
        // The interesting instants are those next to a boundary.
        let now = offset + match near {
            0 => exp + leeway,
            1 => nbf.unwrap_or(exp) - leeway,
            2 => iat.unwrap_or(exp) - leeway,
            _ => exp,
        };
        let expected = if now >= exp + leeway {
            "expired"
        } else if nbf.is_some_and(|nbf| now < nbf - leeway) {
            "not_yet_valid"
        } else if iat.is_some_and(|iat| now < iat - leeway) {
            "issued_in_the_future"
        } else {
            "accepted"
        };
        let date = |millis: i64| format!("{}.{:03}", millis / 1000, millis % 1000);
        let mut claims = format!(r#"{{"exp":{}"#, date(exp));
        for (name, value) in [("nbf", nbf), ("iat", iat)] {
            if let Some(value) = value {
                claims += &format!(r#","{name}":{}"#, date(value));
            }
        }
        claims.push('}');
        let policy = Policy::new().leeway(Duration::from_millis(leeway.unsigned_abs()));
        let now = at(now.div_euclid(1000)).saturating_add(Duration::from_millis(now.rem_euclid(1000).unsigned_abs()));
        prop_assert_eq!(check(&policy, None, &claims, now), expected, "{} at {}, leeway {}", claims, now, leeway);
    }

    #[test]
    fn a_token_is_accepted_until_it_says_so_and_no_longer(
        exp in 1000_i64..3000, iat in proptest::option::of(0_i64..1000), age in proptest::option::of(1_u64..3000), leeway in 0_u64..300,
    ) {
        let mut policy = lax().leeway(secs(leeway));
        let mut claims = json!({ "exp": exp });
        if let Some(iat) = iat {
            claims["iat"] = json!(iat);
            if let Some(age) = age {
                policy = policy.max_age(secs(age));
            }
        }
        let claims = claims.to_string();
        if let Ok(verified) = common::judge(&policy, None, &claims, at(1000)) {
            let until = verified.accepted_until().expect("an end");
            let last = until.saturating_sub(Duration::from_nanos(1));
            prop_assert_eq!(check(&policy, None, &claims, last), "accepted", "{} at {}", claims, last);
            prop_assert_ne!(check(&policy, None, &claims, until), "accepted", "{} at {}", claims, until);
        }
    }

    #[test]
    fn no_time_and_no_claim_overflows(exp in any::<u64>(), nbf in any::<f64>(), now in any::<i64>(), age in any::<Duration>()) {
        let policy = Policy::new().max_age(age).max_lifetime(age).leeway(age);
        let nbf = if nbf.is_finite() { nbf } else { 1e308 };
        let claims = format!(r#"{{"exp":{exp},"iat":{exp},"nbf":{nbf:e}}}"#);
        let _ = check(&policy, None, &claims, at(now));
        let claims = format!(r#"{{"exp":{},"iat":0,"nbf":0}}"#, exp % 253_402_300_800);
        let _ = check(&policy, None, &claims, at(now));
    }
}

// ---- Types of claims ----

/// Whether a value is of the type that a claim has to have.
type IsRight = fn(&Value) -> bool;

/// The claims with a type of their own.
const TYPED: [(&str, IsRight); 10] = [
    ("iss", Value::is_string),
    ("sub", Value::is_string),
    ("jti", Value::is_string),
    ("client_id", Value::is_string),
    ("aud", |value| is_string_or_strings(value) && value.as_array().is_none_or(|members| !members.is_empty())),
    ("scope", is_string_or_names),
    ("scp", is_string_or_names),
    ("exp", is_numeric_date),
    ("nbf", is_numeric_date),
    ("iat", is_numeric_date),
];

fn is_string_or_strings(value: &Value) -> bool {
    value.is_string() || value.as_array().is_some_and(|members| members.iter().all(Value::is_string))
}

/// An element of an array is one name, so there is no space in it.
fn is_string_or_names(value: &Value) -> bool {
    let is_name = |member: &Value| member.as_str().is_some_and(|name| !name.contains(' '));
    value.is_string() || value.as_array().is_some_and(|members| members.iter().all(is_name))
}

fn is_numeric_date(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| (0.0..(MAX_NUMERIC_DATE + 1) as f64).contains(&number))
}

/// A claim of the wrong type is refused as such, by every policy; one of the right type never is.
fn check_type(claim: &str, is_right: IsRight, value: &Value) -> Result<(), TestCaseError> {
    let demanding = Policy::new().issuer(ISSUER).audience("api").access_token_profile().subject(|_| true);
    for policy in [lax(), lax().require_claim(claim), lax().accept_unbound_cnf(), demanding] {
        let claims = json!({ claim: value }).to_string();
        let verdict = check(&policy, Some("at+jwt"), &claims, at(1));
        prop_assert_eq!(verdict == format!("malformed {claim}"), !is_right(value), "{}: {}", claims, verdict);
    }
    Ok(())
}

#[test]
fn r6_a_malformed_claim_is_not_an_absent_one() {
    for (claim, is_right) in TYPED {
        for value in [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(1000),
            json!(-1),
            json!(1.5),
            json!(""),
            json!("x"),
            json!("1000"),
            json!([]),
            json!([[]]),
            json!([["api"]]),
            json!(["api"]),
            json!(["api", "b"]),
            json!(["api", null]),
            json!(["api", 7]),
            json!(["api", ["api"]]),
            json!([{ "api": 1 }]),
            json!([null]),
            json!([1000]),
            json!({}),
            json!({ "0": "api" }),
            json!({ "value": "api" }),
            json!({ "$numberLong": "1000" }),
            json!({ "$serde_json::private::Number": "1000" }),
            json!({ "$serde_json::private::RawValue": "1000" }),
        ] {
            check_type(claim, is_right, &value).unwrap();
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u64..3_000_000_000).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e13..1e13).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec("[a-z]{0,3}", 0..4).prop_map(Value::from),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,3}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn r6_whatever_the_value(at in 0..TYPED.len(), value in any_json()) {
        let (claim, is_right) = TYPED[at];
        check_type(claim, is_right, &value)?;
    }
}

#[test]
fn a_string_that_is_no_text_is_malformed() {
    // A lone surrogate is JSON by its grammar, and no sequence of code points.
    for claim in ["iss", "sub", "jti", "client_id", "aud", "scope", "scp"] {
        for value in [r#""\ud800""#, r#""\udc00\ud800""#, r#""\ud800\u0061""#] {
            let claims = format!(r#"{{"{claim}":{value}}}"#);
            assert_eq!(check(&lax(), None, &claims, at(0)), format!("malformed {claim}"), "{claims}");
        }
    }
    assert_eq!(check(&lax(), None, r#"{"aud":["api","\ud800"]}"#, at(0)), "malformed aud");
}

// ---- The JSON itself ----

#[test]
fn r5_one_object_without_duplicate_names() {
    for (claims, expected) in [
        (r#"{"exp":1}"#, "accepted"),
        (" \r\n\t{ \"exp\" : 1 } \n", "accepted"),
        // First wins, last wins, and both the same: refused all the same.
        (r#"{"exp":1,"exp":9}"#, "payload_duplicate_member"),
        (r#"{"exp":1,"exp":1}"#, "payload_duplicate_member"),
        (r#"{"exp":1,"\u0065xp":9}"#, "payload_duplicate_member"),
        (r#"{"exp":1,"aud":"api","aud":["other"]}"#, "payload_duplicate_member"),
        (r#"{"exp":1,"x":{"y":[{"z":1,"z":2}]}}"#, "payload_duplicate_member"),
        // A duplicate outweighs what is wrong with either of the two.
        (r#"{"exp":"never","exp":1}"#, "payload_duplicate_member"),
        (r#"{"exp":1,"exp":"never"}"#, "payload_duplicate_member"),
        (r#"{"exp":1,"Exp":2,"eXp":3}"#, "accepted"),
        ("", "payload_not_an_object"),
        (" ", "payload_not_an_object"),
        ("null", "payload_not_an_object"),
        ("7", "payload_not_an_object"),
        (r#""{\"exp\":1}""#, "payload_not_an_object"),
        (r#"[{"exp":1}]"#, "payload_not_an_object"),
        (r#"[["exp",1]]"#, "payload_not_an_object"),
        (r#"{"exp":1}{"exp":1}"#, "payload_not_an_object"),
        (r#"{"exp":1}x"#, "payload_not_an_object"),
        (r#"{"exp":1},"#, "payload_not_an_object"),
        ("{\"exp\":1}\0", "payload_not_an_object"),
        ("\u{feff}{\"exp\":1}", "payload_not_an_object"),
        (r#"{"exp":1,}"#, "payload_not_an_object"),
        (r#"{"exp":1 /* for ever */}"#, "payload_not_an_object"),
        (r#"{'exp':1}"#, "payload_not_an_object"),
        (r#"{exp:1}"#, "payload_not_an_object"),
        (r#"{"exp":1"#, "payload_not_an_object"),
        ("{\"exp\":1,\"x\":\"\n\"}", "payload_not_an_object"),
    ] {
        assert_eq!(check(&Policy::new(), None, claims, at(0)), expected, "{claims:?}");
    }
}

#[test]
fn r5_payloads_in_other_encodings_are_no_json() {
    let utf16 = |bytes: fn(u16) -> [u8; 2]| r#"{"exp":1}"#.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
    let payloads = [
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        b"{\"exp\":1,\"sub\":\"\xff\"}".to_vec(),
        b"{\"exp\":1,\"sub\":\"\xc0\xaf\"}".to_vec(),
        b"{\"exp\":1,\"sub\":\"\xed\xa0\x80\"}".to_vec(),
        b"{\"exp\":1,\"\xe4\":0}".to_vec(),
    ];
    for payload in payloads {
        assert_eq!(check(&Policy::new(), None, &payload, at(0)), "payload_not_an_object", "{payload:?}");
    }
}

#[test]
fn r5_deep_nesting_is_refused_without_recursion() {
    for depth in [100, 10_000, 1_000_000] {
        let arrays = format!(r#"{{"exp":1,"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let objects = format!(r#"{{"exp":1,"x":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
        for claims in [arrays, objects] {
            assert_eq!(check(&Policy::new(), None, &claims, at(0)), "payload_not_an_object", "{depth}");
        }
    }
}

// ---- Who from, who for ----

#[test]
fn r8_the_issuer_is_compared_exactly() {
    check_rows(
        &Policy::new().issuer(ISSUER),
        &[
            (r#""iss":"https://issuer.example""#, "accepted"),
            (r#""iss":"\u0068ttps:\/\/issuer.example""#, "accepted"),
            ("", "missing iss"),
            (r#""iss":"""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example/""#, "wrong_issuer"),
            (r#""iss":"https://issuer.exampl""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example.evil.test""#, "wrong_issuer"),
            (r#""iss":"https://evil.test/https://issuer.example""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example@evil.test""#, "wrong_issuer"),
            (r#""iss":"issuer.example""#, "wrong_issuer"),
            (r#""iss":"HTTPS://issuer.example""#, "wrong_issuer"),
            (r#""iss":"https://Issuer.example""#, "wrong_issuer"),
            (r#""iss":"http://issuer.example""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example:443""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example?""#, "wrong_issuer"),
            (r#""iss":"https://issuer%2eexample""#, "wrong_issuer"),
            (r#""iss":" https://issuer.example""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example ""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example\n""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example\u0000""#, "wrong_issuer"),
            (r#""iss":"https://issuer.example\u200b""#, "wrong_issuer"),
            // Cyrillic е, full-width i, soft hyphen.
            (r#""iss":"https://issuer.exampl\u0435""#, "wrong_issuer"),
            (r#""iss":"https://ｉssuer.example""#, "wrong_issuer"),
            (r#""iss":"https://iss\u00aduer.example""#, "wrong_issuer"),
            (r#""iss":["https://issuer.example"]"#, "malformed iss"),
            (r#""iss":["https://evil.test","https://issuer.example"]"#, "malformed iss"),
            (r#""iss":{"https://issuer.example":true}"#, "malformed iss"),
            (r#""iss":null"#, "malformed iss"),
            (r#""ISS":"https://issuer.example""#, "missing iss"),
            (r#""iss":"https://evil.test","iss ":"https://issuer.example""#, "wrong_issuer"),
        ],
    );
    // No normalisation: é as one code point and as two are two issuers.
    let composed = Policy::new().issuer("https://\u{e9}.example");
    check_rows(
        &composed,
        &[
            (r#""iss":"https://\u00e9.example""#, "accepted"),
            (r#""iss":"https://é.example""#, "accepted"),
            (r#""iss":"https://e\u0301.example""#, "wrong_issuer"),
            (r#""iss":"https://\u00c9.example""#, "wrong_issuer"),
        ],
    );
}

#[test]
fn statement_46_any_of_several_issuers_will_do_and_no_other() {
    let policy = Policy::new().issuer("a").issuer("b");
    assert!(!policy.accepts_any_issuer());
    check_rows(
        &policy,
        &[
            (r#""iss":"a""#, "accepted"),
            (r#""iss":"b""#, "accepted"),
            (r#""iss":"ab""#, "wrong_issuer"),
            (r#""iss":"a b""#, "wrong_issuer"),
            (r#""iss":"a,b""#, "wrong_issuer"),
            (r#""iss":"A""#, "wrong_issuer"),
            ("", "missing iss"),
        ],
    );
}

#[test]
fn statement_44_one_member_of_aud_equals_ours() {
    check_rows(
        &Policy::new().audience("api"),
        &[
            (r#""aud":"api""#, "accepted"),
            (r#""aud":"\u0061pi""#, "accepted"),
            (r#""aud":["api"]"#, "accepted"),
            (r#""aud":["other","api"]"#, "accepted"),
            (r#""aud":["other","\u0061pi","third"]"#, "accepted"),
            (r#""aud":["api","api"]"#, "accepted"),
            (r#""aud":"API""#, "wrong_audience"),
            (r#""aud":"api/""#, "wrong_audience"),
            (r#""aud":"ap""#, "wrong_audience"),
            (r#""aud":"apis""#, "wrong_audience"),
            (r#""aud":"other api""#, "wrong_audience"),
            (r#""aud":"other,api""#, "wrong_audience"),
            (r#""aud":"[\"api\"]""#, "wrong_audience"),
            (r#""aud":"*""#, "wrong_audience"),
            (r#""aud":"""#, "wrong_audience"),
            (r#""aud":["other"]"#, "wrong_audience"),
            (r#""aud":["other","API","apis"]"#, "wrong_audience"),
            (r#""aud":"аpi""#, "wrong_audience"),
            (r#""aud":[]"#, "malformed aud"),
            (r#""aud":["api",7]"#, "malformed aud"),
            (r#""aud":["api",null]"#, "malformed aud"),
            (r#""aud":[["api"]]"#, "malformed aud"),
            (r#""aud":{"api":true}"#, "malformed aud"),
            (r#""aud":null"#, "malformed aud"),
            (r#""aud":true"#, "malformed aud"),
        ],
    );
    let many: Vec<_> = (0..5000).map(|n| format!("\"other{n}\"")).collect();
    let with_many = |last: &str| format!(r#"{{"exp":1,"aud":[{},"{last}"]}}"#, many.join(","));
    assert_eq!(check(&Policy::new().audience("api"), None, with_many("api"), at(0)), "accepted");
    assert_eq!(check(&Policy::new().audience("api"), None, with_many("apl"), at(0)), "wrong_audience");
}

#[test]
fn statement_45_an_absent_audience_is_refused_once_one_is_configured() {
    let policy = Policy::new().audience("api").audience("legacy-api");
    check_rows(
        &policy,
        &[
            ("", "missing aud"),
            (r#""azp":"api""#, "missing aud"),
            (r#""client_id":"api","sub":"api""#, "missing aud"),
            (r#""aud":"legacy-api""#, "accepted"),
            (r#""aud":"third""#, "wrong_audience"),
        ],
    );
    // As long as none is configured, tokens for anybody pass, and `deny_unbound` makes that an error.
    assert!(Policy::new().accepts_any_audience());
    check_rows(&Policy::new(), &[("", "accepted"), (r#""aud":"other""#, "accepted"), (r#""aud":[]"#, "malformed aud")]);
    assert_eq!(Policy::new().issuer(ISSUER).deny_unbound().check(), Err(ConfigError::Unbound("audience")));
}

// ---- Required claims and the subject ----

#[test]
fn required_claims_have_to_be_there() {
    let policy = Policy::new().require_claim("tenant").require_claim("sub").require_claim("tenant");
    check_rows(
        &policy,
        &[
            (r#""tenant":"t1","sub":"ada""#, "accepted"),
            (r#""tenant":{},"sub":"""#, "accepted"),
            (r#""t\u0065nant":0,"sub":"ada""#, "accepted"),
            (r#""sub":"ada""#, "missing tenant"),
            (r#""tenant":"t1""#, "missing sub"),
            ("", "missing tenant"),
            (r#""TENANT":1,"sub":"ada""#, "missing tenant"),
            (r#""x":{"tenant":1},"sub":"ada""#, "missing tenant"),
            (r#""tenant":1,"sub":7"#, "malformed sub"),
        ],
    );
}

#[test]
fn as_many_claims_as_a_word_has_bits_can_be_required() {
    let names: Vec<_> = (0..64).map(|n| format!("claim{n}")).collect();
    let policy = names.iter().fold(Policy::new(), |policy, name| policy.require_claim(name.as_str()));
    assert_eq!(policy.check(), Ok(()));
    let members: Vec<_> = names.iter().map(|name| format!(r#""{name}":0"#)).collect();
    check_rows(&policy, &[(&members.join(","), "accepted"), (&members[..63].join(","), "missing claim63")]);
    check_rows(&policy, &[(&members[1..].join(","), "missing claim0")]);
    // One that is required already takes no further bit.
    assert_eq!(policy.clone().require_claim("claim7").check(), Ok(()));
    assert_eq!(policy.require_claim("claim64").check(), Err(ConfigError::TooManyRequiredClaims));
}

#[test]
fn the_subject_has_to_satisfy_the_rule() {
    let policy = Policy::new().subject(|sub| sub.starts_with("spiffe://prod/"));
    check_rows(
        &policy,
        &[
            (r#""sub":"spiffe://prod/orders""#, "accepted"),
            (r#""sub":"spiffe:\/\/prod\u002forders""#, "accepted"),
            (r#""sub":"spiffe://test/orders""#, "wrong_subject"),
            (r#""sub":"""#, "wrong_subject"),
            ("", "missing sub"),
            (r#""sub":["spiffe://prod/orders"]"#, "malformed sub"),
            (r#""sub":null"#, "malformed sub"),
        ],
    );
}

// ---- What kind of token ----

#[test]
fn r11_typ_is_compared_as_a_media_type() {
    let custom = Policy::new().accept_type("application/Example+JWT");
    let profile = || Policy::new().issuer(ISSUER).audience("api").access_token_profile();
    let claims = profile_claims().to_string();
    // For each `typ`: by default, with one more type, under the profile.
    for (typ, expected) in [
        (None, ["accepted", "accepted", "missing typ"]),
        (Some("at+jwt"), ["accepted", "accepted", "accepted"]),
        (Some("AT+JWT"), ["accepted", "accepted", "accepted"]),
        (Some("application/at+jwt"), ["accepted", "accepted", "accepted"]),
        (Some("APPLICATION/At+Jwt"), ["accepted", "accepted", "accepted"]),
        (Some("JWT"), ["accepted", "accepted", "wrong_type"]),
        (Some("jwt"), ["accepted", "accepted", "wrong_type"]),
        (Some("application/jwt"), ["accepted", "accepted", "wrong_type"]),
        (Some("example+jwt"), ["wrong_type", "accepted", "wrong_type"]),
        (Some("application/EXAMPLE+jwt"), ["wrong_type", "accepted", "wrong_type"]),
        (Some("text/example+jwt"), ["wrong_type"; 3]),
        (Some(""), ["wrong_type"; 3]),
        (Some("application/"), ["wrong_type"; 3]),
        (Some("application/application/at+jwt"), ["wrong_type"; 3]),
        (Some("at+jwt;x"), ["wrong_type"; 3]),
        (Some("at+jwt; charset=utf-8"), ["wrong_type"; 3]),
        (Some(" at+jwt"), ["wrong_type"; 3]),
        (Some("at+jwt "), ["wrong_type"; 3]),
        (Some("at+jwt\0"), ["wrong_type"; 3]),
        (Some("at+jwt,dpop+jwt"), ["wrong_type"; 3]),
        (Some("at jwt"), ["wrong_type"; 3]),
        (Some("text/at+jwt"), ["wrong_type"; 3]),
        (Some("applicatio\u{144}/at+jwt"), ["wrong_type"; 3]),
        (Some("аt+jwt"), ["wrong_type"; 3]),
        (Some("JWS"), ["wrong_type"; 3]),
        (Some("JOSE"), ["wrong_type"; 3]),
    ] {
        for (policy, expected) in [Policy::new(), custom.clone(), profile()].iter().zip(expected) {
            assert_eq!(check(policy, typ, &claims, at(1000)), expected, "{typ:?} with {policy:?}");
        }
    }
}

#[test]
fn statement_50_tokens_for_other_purposes_never_pass_as_access_tokens() {
    let claims = profile_claims().to_string();
    for typ in [
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "statuslist+jwt",
        "entity-statement+jwt",
        "oauth-authz-req+jwt",
        "token-introspection+jwt",
        "kb+jwt",
        "vc+sd-jwt",
        "dc+sd-jwt",
        "client-authentication+jwt",
        "trust-mark+jwt",
        "wallet-attestation+jwt",
        "oauth-client-attestation+jwt",
        "openid4vci-proof+jwt",
        "passport",
        "sip-passport",
        "rt+jwt",
        "id+jwt",
    ] {
        for typ in [typ.to_owned(), typ.to_uppercase(), format!("application/{typ}")] {
            for policy in [
                Policy::new(),
                lax().accept_unbound_cnf().accept_id_tokens().accept_type("example+jwt"),
                Policy::new().issuer(ISSUER).audience("api").access_token_profile(),
            ] {
                assert_eq!(check(&policy, Some(&typ), &claims, at(1000)), "wrong_type", "{typ}");
            }
        }
    }
}

#[test]
fn statement_50_id_tokens_and_events_are_known_by_their_claims() {
    for (members, expected) in [
        (r#""at_hash":"MTIzNDU2Nzg5MDEyMzQ1Ng""#, "id_token"),
        (r#""c_hash":"MTIzNDU2Nzg5MDEyMzQ1Ng""#, "id_token"),
        (r#""at_hash":null"#, "id_token"),
        (r#""\u0061t_hash":7"#, "id_token"),
        (r#""token_use":"id""#, "id_token"),
        (r#""token_use":"access""#, "accepted"),
        (r#""typ":"ID""#, "id_token"),
        (r#""typ":"Bearer""#, "accepted"),
        (r#""events":{"http://schemas.openid.net/event/backchannel-logout":{}}"#, "security_event"),
        (r#""events":{}"#, "security_event"),
        (r#""events":null"#, "security_event"),
    ] {
        for typ in [None, Some("JWT"), Some("at+jwt")] {
            let claims = format!(r#"{{"exp":1,{members}}}"#);
            assert_eq!(check(&Policy::new(), typ, &claims, at(0)), expected, "{claims}");
        }
    }
    // Whoever asks for such a type gets an error, and the tokens are refused all the same.
    let id_tokens = Policy::new().accept_id_tokens().accept_type("application/SecEvent+jwt");
    assert_eq!(id_tokens.check(), Err(ConfigError::ForeignType("SecEvent+jwt".into())));
    check_rows(&id_tokens, &[(r#""at_hash":"x","c_hash":"y""#, "accepted"), (r#""events":{}"#, "security_event")]);
    assert_eq!(check(&id_tokens, Some("secevent+jwt"), r#"{"exp":1,"events":{}}"#, at(0)), "wrong_type");
    assert_eq!(check(&id_tokens, Some("secevent+jwt"), r#"{"exp":1}"#, at(0)), "wrong_type");
}

fn profile_claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "api", "sub": "ada", "client_id": "web", "jti": "1", "iat": 1000, "exp": 2000,
    })
}

#[test]
fn statement_47_the_profile_demands_each_of_its_claims() {
    // The leave to omit `exp` does not reach into the profile.
    for policy in [Policy::new(), lax()] {
        let policy = policy.issuer(ISSUER).audience("api").access_token_profile();
        assert_eq!(policy.check(), Ok(()));
        assert_eq!(check(&policy, Some("at+jwt"), profile_claims().to_string(), at(1000)), "accepted");
        for claim in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
            let mut claims = profile_claims();
            claims.as_object_mut().unwrap().remove(claim);
            let verdict = check(&policy, Some("at+jwt"), claims.to_string(), at(1000));
            assert_eq!(verdict, format!("missing {claim}"));
            claims[claim] = Value::Null;
            let verdict = check(&policy, Some("at+jwt"), claims.to_string(), at(1000));
            assert_eq!(verdict, format!("malformed {claim}"));
        }
    }
}

#[test]
fn statement_48_the_profile_demands_its_type() {
    // Not even a type that is accepted otherwise.
    let policy = Policy::new().issuer(ISSUER).audience("api").access_token_profile().accept_type("JWT");
    for (typ, expected) in [
        (Some("at+jwt"), "accepted"),
        (Some("application/at+jwt"), "accepted"),
        (Some("JWT"), "wrong_type"),
        (None, "missing typ"),
    ] {
        assert_eq!(check(&policy, typ, profile_claims().to_string(), at(1000)), expected, "{typ:?}");
    }
}

#[test]
fn tokens_bound_to_a_key_are_refused_until_somebody_says_otherwise() {
    for cnf in
        [r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#, r#"{"x5t#S256":"x"}"#, "{}", "null", "7", "[]"]
    {
        for typ in [None, Some("at+jwt")] {
            let claims = format!(r#"{{"exp":1,"cnf":{cnf}}}"#);
            assert_eq!(check(&Policy::new(), typ, &claims, at(0)), "bound_to_key", "{claims}");
            assert_eq!(check(&Policy::new().accept_unbound_cnf(), typ, &claims, at(0)), "accepted", "{claims}");
        }
    }
    // Under another name or further down it binds nothing.
    check_rows(&Policy::new(), &[(r#""act":{"cnf":{}},"CNF":{}"#, "accepted")]);
}

// ---- All of it together ----

#[test]
fn the_first_fault_in_the_documented_order_is_reported() {
    let policy = Policy::new()
        .issuer(ISSUER)
        .audience("api")
        .max_age(secs(100))
        .max_lifetime(secs(1000))
        .require_claim("tenant")
        .subject(|sub| sub == "ada");
    let mut claims = json!({
        "exp": "never", "nbf": 9000, "iat": 9000, "iss": "x", "aud": "x", "sub": "eve", "cnf": {}, "events": {}, "at_hash": "x",
    });
    let mut typ = Some("dpop+jwt");
    let fixes: [(&str, Option<(&str, Value)>); 13] = [
        ("malformed exp", Some(("exp", json!(1000)))),
        ("wrong_type", None),
        ("id_token", Some(("at_hash", Value::Null))),
        ("security_event", Some(("events", Value::Null))),
        ("expired", Some(("exp", json!(5000)))),
        ("not_yet_valid", Some(("nbf", json!(0)))),
        ("issued_in_the_future", Some(("iat", json!(500)))),
        ("too_old", Some(("iat", json!(1900)))),
        ("lives_too_long", Some(("exp", json!(2900)))),
        ("wrong_issuer", Some(("iss", json!(ISSUER)))),
        ("wrong_audience", Some(("aud", json!(["api"])))),
        ("missing tenant", Some(("tenant", json!(1)))),
        ("wrong_subject", Some(("sub", json!("ada")))),
    ];
    for (expected, fix) in fixes {
        assert_eq!(check(&policy, typ, claims.to_string(), at(2000)), expected);
        match fix {
            None => typ = Some("at+jwt"),
            Some((claim, Value::Null)) => drop(claims.as_object_mut().unwrap().remove(claim)),
            Some((claim, value)) => claims[claim] = value,
        }
    }
    assert_eq!(check(&policy, typ, claims.to_string(), at(2000)), "bound_to_key");
    claims.as_object_mut().unwrap().remove("cnf");
    assert_eq!(check(&policy, typ, claims.to_string(), at(2000)), "accepted");
}

proptest! {
    /// An acceptance needs everything to hold, by rules that are written down here a second time over another parser.
    #[test]
    fn nothing_is_accepted_unless_everything_holds(
        typ in prop::sample::select(vec![None, Some("JWT"), Some("at+jwt"), Some("dpop+jwt"), Some("")]),
        chosen in (
            prop::sample::select(vec![None, Some("1000"), Some("1030.5"), Some("969"), Some("\"1e9\""), Some("null"), Some("1e9"), Some("1e300")]),
            prop::sample::select(vec![None, Some("1000"), Some("1031"), Some("1030"), Some("\"0\""), Some("[]"), Some("0.0")]),
            prop::sample::select(vec![None, Some("1000"), Some("1031"), Some("true"), Some("900")]),
            prop::sample::select(vec![None, Some(r#""i""#), Some(r#""I""#), Some(r#""ii""#), Some(r#"["i"]"#), Some("1"), Some(r#""\u0069""#)]),
            prop::sample::select(vec![None, Some(r#""a""#), Some(r#"["b","a"]"#), Some("[]"), Some(r#"["b"]"#), Some(r#"["a",1]"#), Some(r#""ab""#)]),
            prop::sample::select(vec![None, Some(r#""ada""#), Some(r#""eve""#), Some("7")]),
            prop::sample::select(vec![None, None, None, Some("{}"), Some("null")]),
            prop::sample::select(vec![None, None, None, Some("{}")]),
        ),
    ) {
        let policy = Policy::new().issuer("i").audience("a").subject(|sub| sub == "ada");
        let now = 1000;
        let (exp, nbf, iat, iss, aud, sub, cnf, events) = chosen;
        let members: Vec<_> = [
            ("aud", aud), ("cnf", cnf), ("events", events), ("exp", exp), ("iat", iat), ("iss", iss), ("nbf", nbf), ("sub", sub),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!(r#""{name}":{value}"#)))
        .collect();
        let claims = format!("{{{}}}", members.join(","));

        let object: Value = serde_json::from_str(&claims).unwrap();
        let date = |name: &str| object[name].as_f64().filter(|date| (0.0..1e11).contains(date));
        let good = typ.is_none_or(|typ| typ == "JWT" || typ == "at+jwt")
            && date("exp").is_some_and(|exp| f64::from(now) < exp + 30.0)
            && ["nbf", "iat"].iter().all(|name| {
                object.get(name).is_none() || date(name).is_some_and(|date| f64::from(now) >= date - 30.0)
            })
            && object["iss"] == "i"
            && (object["aud"] == "a" || object["aud"] == json!(["b", "a"]))
            && object["sub"] == "ada"
            && object.get("cnf").is_none()
            && object.get("events").is_none();
        prop_assert_eq!(check(&policy, typ, &claims, at(now.into())) == "accepted", good, "{}", claims);
    }

    #[test]
    fn r17_no_payload_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), now in any::<i64>()) {
        let policies = [lax(), Policy::new().issuer(ISSUER).audience("api").access_token_profile().subject(|_| true)];
        for policy in policies {
            if check(&policy, None, &bytes, at(now)) == "accepted" {
                prop_assert!(serde_json::from_slice::<serde_json::Map<_, _>>(&bytes).is_ok());
            }
        }
    }

    /// Octets that are almost claims reach further than random ones.
    #[test]
    fn r17_no_almost_good_payload_panics(at_byte in 0_usize..100, with in prop::collection::vec(any::<u8>(), 0..3), cut in 0_usize..3) {
        let mut bytes = profile_claims().to_string().into_bytes();
        let start = at_byte.min(bytes.len());
        let end = (start + cut).min(bytes.len());
        bytes.splice(start..end, with);
        if check(&lax(), None, &bytes, at(1000)) == "accepted" {
            prop_assert!(serde_json::from_slice::<serde_json::Map<_, _>>(&bytes).is_ok());
        }
    }
}

// ---- Configuration ----

#[test]
fn what_cannot_be_meant_is_a_configuration_error() {
    use ConfigError::*;
    let bound = || Policy::new().issuer(ISSUER).audience("api");
    let over_cap = MAX_LEEWAY + Duration::from_nanos(1);
    for (policy, expected) in [
        (Policy::new(), Ok(())),
        (bound().deny_unbound(), Ok(())),
        (bound().access_token_profile(), Ok(())),
        (Policy::new().leeway(MAX_LEEWAY), Ok(())),
        (Policy::new().leeway(Duration::ZERO), Ok(())),
        (lax().max_age(secs(1)), Ok(())),
        (Policy::new().leeway(over_cap), Err(LeewayTooLong(over_cap))),
        (Policy::new().issuer(""), Err(Empty("issuer"))),
        (bound().audience(""), Err(Empty("audience"))),
        (Policy::new().require_claim(""), Err(Empty("claim name"))),
        (Policy::new().accept_type(""), Err(Empty("type"))),
        (Policy::new().accept_type("Application/"), Err(Empty("type"))),
        (Policy::new().deny_unbound(), Err(Unbound("issuer"))),
        (Policy::new().audience("api").deny_unbound(), Err(Unbound("issuer"))),
        (Policy::new().deny_unbound().issuer(ISSUER), Err(Unbound("audience"))),
        (Policy::new().access_token_profile(), Err(ProfileNeeds("issuer"))),
        (Policy::new().issuer(ISSUER).access_token_profile(), Err(ProfileNeeds("audience"))),
        (lax().max_lifetime(secs(1)), Err(LifetimeWithoutExpiry)),
        // The first of several, and a later good value does not heal it.
        (Policy::new().issuer("").leeway(over_cap).issuer(ISSUER), Err(Empty("issuer"))),
        (Policy::new().leeway(over_cap).leeway(secs(1)), Err(LeewayTooLong(over_cap))),
    ] {
        assert_eq!(policy.check(), expected, "{policy:?}");
        if let Err(error) = expected {
            assert!(!error.to_string().is_empty());
        }
    }
}

// ---- What is said about it ----

#[test]
fn r16_errors_disturb_no_log_and_quote_no_more_than_they_must() {
    let policy = Policy::new().issuer(ISSUER).audience("api").subject(|_| false);
    let error = |typ, claims: String| common::judge(&policy, typ, claims, at(0)).unwrap_err();

    let hostile = r#"a\r\nb\u001b[31m\u0000\u202e\u2028\"`"#;
    let errors = [
        error(None, format!(r#"{{"exp":1,"iss":"{hostile}"}}"#)),
        error(None, format!(r#"{{"exp":1,"iss":"{ISSUER}","aud":["{hostile}"]}}"#)),
        error(Some("a\r\nb\u{1b}[31m\0\u{202e}\u{2028}\"`"), r#"{"exp":1}"#.into()),
    ];
    for error in errors {
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(shown.contains("31m"), "{shown:?}");
            let quiet = |c: char| !c.is_control() && !['\u{202e}', '\u{2028}'].contains(&c);
            assert!(shown.chars().all(quiet), "{shown:?}");
        }
    }

    // A long value is cut, between characters.
    let long = "ü".repeat(10_000);
    let shown = error(None, format!(r#"{{"exp":1,"iss":"{long}"}}"#)).to_string();
    assert_eq!(shown.matches('ü').count(), 64, "{shown}");

    // Who it is about is nobody's business.
    let error = error(None, format!(r#"{{"exp":1,"iss":"{ISSUER}","aud":"api","sub":"top-secret","x":"top-secret"}}"#));
    assert_eq!(error, ClaimError::WrongSubject);
    assert!(!format!("{error} {error:?}").contains("top-secret"));
}

#[test]
fn errors_say_which_claim_what_was_found_and_what_was_wanted() {
    for (policy, claims, expected) in [
        (Policy::new(), r#"{}"#, "`exp` is missing"),
        (Policy::new(), r#"{"exp":{}}"#, "`exp` has the wrong type or an absurd value"),
        (Policy::new(), r#"{"exp":1000.5}"#, "`exp` is 1000.500000000, the time is 5000"),
        (Policy::new(), r#"{"exp":9000,"nbf":7000}"#, "`nbf` is 7000, the time is 5000"),
        (Policy::new(), r#"{"exp":9000,"iat":7000}"#, "`iat` is 7000, the time is 5000"),
        (Policy::new().max_age(secs(60)), r#"{"exp":9000,"iat":1}"#, "`iat` is 1, the time is 5000: older than 60s"),
        (
            Policy::new().max_lifetime(secs(60)),
            r#"{"exp":9000,"iat":1}"#,
            "from `iat` 1 to `exp` 9000: longer than 60s",
        ),
        (
            Policy::new().audience("api"),
            r#"{"exp":9000,"aud":["b","c"]}"#,
            "`aud` is \"b\", wanted is one of [\"api\"]",
        ),
        (Policy::new().require_claim("tenant"), r#"{"exp":9000}"#, "`tenant` is missing"),
        (Policy::new(), r#"{"exp":9000,"exp":9000}"#, "the payload has a member name twice"),
    ] {
        let error = common::judge(&policy, None, claims, at(5000)).unwrap_err();
        assert_eq!(error.to_string(), expected, "{claims}");
    }
}

#[test]
fn the_profile_of_client_authentication_takes_its_own_tokens_and_no_others() {
    let policy = Policy::new().audience(ISSUER).client_authentication_profile();
    assert_eq!(policy.check(), Ok(()));
    let typ = Some("client-authentication+jwt");
    let claims = json!({ "iss": "web", "sub": "web", "aud": ISSUER, "exp": 1_300, "jti": "a" });
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    for (typ, claims, expected) in [
        (typ, claims.clone(), "accepted"),
        (Some("application/Client-Authentication+JWT"), claims.clone(), "accepted"),
        (typ, with("aud", json!([ISSUER])), "accepted"),
        (None, claims.clone(), "missing typ"),
        (Some("JWT"), claims.clone(), "wrong_type"),
        (Some("at+jwt"), claims.clone(), "wrong_type"),
        (Some("dpop+jwt"), claims.clone(), "wrong_type"),
        (typ, with("aud", json!("https://issuer.example/")), "wrong_audience"),
        (typ, with("aud", json!("https://issuer.example/v1/tokens")), "wrong_audience"),
        (typ, with("aud", json!([ISSUER, "https://other.example"])), "wrong_audience"),
        (typ, with("aud", json!(["https://other.example", ISSUER])), "wrong_audience"),
        (typ, with("aud", json!([ISSUER, ISSUER])), "wrong_audience"),
        (typ, with("aud", json!([])), "malformed aud"),
        (typ, with("sub", json!("other")), "wrong_subject"),
        (typ, with("exp", json!(900)), "expired"),
        (typ, without("iss"), "missing iss"),
        (typ, without("sub"), "missing sub"),
        (typ, without("aud"), "missing aud"),
        (typ, without("exp"), "missing exp"),
        (typ, without("jti"), "missing jti"),
    ] {
        assert_eq!(check(&policy, typ, claims.to_string(), at(1000)), expected, "{typ:?} {claims}");
    }
    let profile = || Policy::new().audience(ISSUER).client_authentication_profile();
    assert_eq!(Policy::new().client_authentication_profile().check(), Err(ConfigError::ProfileNeeds("audience")));
    for policy in [
        profile().issuer("web").access_token_profile(),
        profile().dangerous_allow_missing_exp(),
        profile().accept_type("JWT"),
    ] {
        assert!(matches!(policy.check(), Err(ConfigError::Other(_))), "{policy:?}");
    }
}
