//! The short way beside `serde_json`'s.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Deserialize)]
struct Plain {
    #[serde(rename = "a")]
    _a: String,
    #[serde(rename = "b")]
    _b: Option<Vec<String>>,
    #[serde(default, rename = "é")]
    _e: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    #[serde(default, rename = "a", alias = "b")]
    _a: Option<Word>,
}

#[derive(Debug, Deserialize)]
struct Word(String);

#[derive(Debug, Deserialize)]
struct Flat {
    #[serde(rename = "a")]
    _a: serde_json::Value,
    #[serde(flatten)]
    _inner: Inner,
    #[serde(flatten)]
    _rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Inner {
    #[serde(rename = "b")]
    _b: Option<f64>,
}

#[derive(Debug, Deserialize)]
enum External {
    #[serde(rename = "a")]
    A,
    #[serde(rename = "b")]
    B(#[expect(dead_code, reason = "shown")] u8, #[expect(dead_code, reason = "shown")] String),
    #[serde(rename = "é")]
    E {
        #[serde(rename = "a")]
        _a: bool,
    },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "a")]
enum Tagged {
    #[serde(rename = "a")]
    A,
    #[serde(rename = "b")]
    B {
        #[serde(rename = "b")]
        _b: serde_json::Value,
    },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Either {
    Text(#[expect(dead_code, reason = "shown")] BTreeMap<String, String>),
    Number(#[expect(dead_code, reason = "shown")] BTreeMap<String, i64>),
    All(#[expect(dead_code, reason = "shown")] serde_json::Value),
}

#[derive(Debug, Deserialize)]
struct Members<T> {
    #[serde(rename = "a")]
    _a: T,
}

#[derive(Debug, Deserialize)]
struct Wrapped(#[expect(dead_code, reason = "shown")] BTreeMap<Word, (String, Option<i8>)>);

// Names compare as they are shown.
impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Word {}
impl PartialOrd for Word {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Word {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Does not go to the end.
#[derive(Debug)]
struct FirstNameOnly(#[expect(dead_code, reason = "shown")] Option<String>);

impl<'de> Deserialize<'de> for FirstNameOnly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First;
        impl<'de> Visitor<'de> for First {
            type Value = FirstNameOnly;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FirstNameOnly, A::Error> {
                map.next_key().map(FirstNameOnly)
            }
        }
        deserializer.deserialize_map(First)
    }
}

/// Both ways lead to the same value, or to the same words about why there is none.
fn agree<T: DeserializeOwned + fmt::Debug>(json: &str) -> Result<(), TestCaseError> {
    let shown = |read: serde_json::Result<T>| match read {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{error} in column {}", error.column()),
    };
    let ours = shown(read_payload::<T>(json));
    prop_assert_eq!(ours, shown(serde_json::from_slice(json.as_bytes())), "{}", json);
    Ok(())
}

fn agree_on_all(json: &str) -> Result<(), TestCaseError> {
    agree::<Plain>(json)?;
    agree::<Option<Plain>>(json)?;
    agree::<Strict>(json)?;
    agree::<Flat>(json)?;
    agree::<External>(json)?;
    agree::<Tagged>(json)?;
    agree::<Either>(json)?;
    agree::<Wrapped>(json)?;
    agree::<FirstNameOnly>(json)?;
    agree::<()>(json)?;
    agree::<de::IgnoredAny>(json)?;
    agree::<serde_json::Value>(json)?;
    agree::<serde_json::Map<String, serde_json::Value>>(json)?;
    agree::<Box<RawValue>>(json)?;
    agree::<BTreeMap<String, Box<RawValue>>>(json)?;
    agree::<BTreeMap<i32, serde_json::Value>>(json)?;
    agree::<BTreeMap<char, de::IgnoredAny>>(json)?;
    agree::<BTreeMap<Option<String>, de::IgnoredAny>>(json)?;
    agree_on_member::<String>(json)?;
    agree_on_member::<Cow<'static, str>>(json)?;
    agree_on_member::<char>(json)?;
    agree_on_member::<bool>(json)?;
    agree_on_member::<i64>(json)?;
    agree_on_member::<u128>(json)?;
    agree_on_member::<f64>(json)?;
    agree_on_member::<serde_json::Number>(json)?;
    agree_on_member::<Box<RawValue>>(json)?;
    agree_on_member::<External>(json)?;
    agree_on_member::<Tagged>(json)?;
    agree_on_member::<Either>(json)?;
    agree_on_member::<Plain>(json)?;
    agree_on_member::<()>(json)?;
    agree_on_member::<(String, u8)>(json)?;
    agree_on_member::<[Option<Word>; 2]>(json)?;
    agree_on_member::<Vec<u8>>(json)?;
    agree_on_member::<Vec<serde_json::Value>>(json)?;
    agree_on_member::<Vec<Vec<Cow<'static, str>>>>(json)?;
    agree_on_member::<HashMap<Word2, Vec<Strict>>>(json)
}

fn agree_on_member<T: DeserializeOwned + fmt::Debug>(json: &str) -> Result<(), TestCaseError> {
    agree::<Members<T>>(json)?;
    agree::<Members<Option<T>>>(json)
}

/// A name that is no string in Rust.
#[derive(Debug, Deserialize, PartialEq, Eq, Hash)]
enum Word2 {
    #[serde(rename = "a")]
    A,
}

fn value() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", "", "", " "]);
    let parts = vec!["a", "b", "\\u0061", "\\\"", "é", "7", "-1", "\\ud834\\udd1e", "\\ud800"];
    let string =
        prop::collection::vec(prop::sample::select(parts), 0..3).prop_map(|parts| format!("\"{}\"", parts.concat()));
    let name = prop_oneof![
        4 => prop::sample::select(vec!["\"a\"".to_owned(), "\"b\"".into(), "\"é\"".into(), "\"\\u0061\"".into()]),
        1 => string.clone(),
    ];
    let number = r"-?(0|[1-9][0-9]{0,2}|[1-9][0-9]{17,20})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?";
    let word = prop::sample::select(vec!["true".to_owned(), "false".into(), "null".into()]);
    let leaf = prop_oneof![2 => string.clone(), 1 => number, 1 => word];
    leaf.prop_recursive(3, 20, 4, move |inner| {
        let element = (space.clone(), inner).prop_map(|(space, value)| format!("{space}{value}{space}"));
        let member = (name.clone(), element.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
        prop_oneof![
            prop::collection::vec(element, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_ways_lead_to_the_same(json in value(), a in value(), b in value()) {
        agree_on_all(&json)?;
        agree_on_all(&format!("{{\"a\":{a}}}"))?;
        agree_on_all(&format!("{{\"a\":{a},\"b\":{b}}}"))?;
        agree_on_all(&format!(" {{\"c\":{json},\"b\":{a},\"a\":{b}}} "))?;
    }
}

/// Says what it was handed.
#[derive(Debug)]
struct Handed<const HOW: u8>(#[expect(dead_code, reason = "shown")] &'static str);

impl<'de, const HOW: u8> Deserialize<'de> for Handed<HOW> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = &'static str;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok("bool")
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok("number")
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok("number")
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok("text")
            }
            fn visit_bytes<E>(self, _: &[u8]) -> Result<Self::Value, E> {
                Ok("bytes")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok("unit")
            }
            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok("none")
            }
            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
                de::IgnoredAny::deserialize(inner).map(|_| "some")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
                de::IgnoredAny::deserialize(inner).map(|_| "newtype")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok("seq")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
                Ok("map")
            }
        }
        match HOW {
            0 => deserializer.deserialize_any(Any),
            1 => deserializer.deserialize_bool(Any),
            2 => deserializer.deserialize_u64(Any),
            3 => deserializer.deserialize_str(Any),
            4 => deserializer.deserialize_bytes(Any),
            5 => deserializer.deserialize_unit(Any),
            6 => deserializer.deserialize_option(Any),
            7 => deserializer.deserialize_newtype_struct("Name", Any),
            8 => deserializer.deserialize_seq(Any),
            9 => deserializer.deserialize_map(Any),
            10 => deserializer.deserialize_ignored_any(Any),
            11 => deserializer.deserialize_tuple(2, Any),
            12 => deserializer.deserialize_struct("Name", &[], Any),
            13 => deserializer.deserialize_identifier(Any),
            14 => deserializer.deserialize_char(Any),
            15 => deserializer.deserialize_tuple_struct("Name", 2, Any),
            16 => deserializer.deserialize_unit_struct("Name", Any),
            _ => deserializer.deserialize_i64(Any),
        }
        .map(Self)
    }
}

impl<const HOW: u8> PartialEq for Handed<HOW> {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl<const HOW: u8> Eq for Handed<HOW> {}

impl<const HOW: u8> PartialOrd for Handed<HOW> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const HOW: u8> Ord for Handed<HOW> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Less
    }
}

const VALUES: [&str; 13] =
    ["null", "true", "5", "-5", "1.5", "\"\"", "\"5\"", "\"\\u0061\"", "\"true\"", "[]", "[1,2]", "{}", "{\"a\":1}"];

fn handed_the_same<const HOW: u8>(wrong: &mut Vec<String>) {
    let mut agree_on =
        |outcome: Result<(), TestCaseError>| wrong.extend(outcome.err().map(|error| format!("{HOW}: {error}")));
    for value in VALUES {
        agree_on(agree::<Members<Handed<HOW>>>(&format!("{{\"a\":{value},\"c\":[1]}}")));
        agree_on(agree::<Handed<HOW>>(value));
        agree_on(agree::<Handed<HOW>>(&format!("{{\"a\":{value}}}")));
    }
    for name in ["", "a", "5", "-5", "true", "null", "\\u0061"] {
        agree_on(agree::<BTreeMap<Handed<HOW>, u8>>(&format!("{{\"{name}\":1}}")));
    }
}

macro_rules! each {
    ($wrong:ident: $($how:literal)*) => { $(handed_the_same::<$how>(&mut $wrong);)* };
}

#[test]
fn a_type_that_takes_anything_is_handed_the_same_both_ways() {
    let mut wrong = Vec::new();
    each! { wrong: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Takes what does not fit for nothing.
#[derive(Debug)]
struct Lenient<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer).ok()))
    }
}

impl<T: std::hash::Hash> std::hash::Hash for Lenient<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T: PartialEq> PartialEq for Lenient<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Eq> Eq for Lenient<T> {}

impl<T: Ord> PartialOrd for Lenient<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> Ord for Lenient<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[test]
fn a_type_that_forgives_gets_the_same_both_ways() {
    let mut wrong = Vec::new();
    let mut agree_on = |outcome: Result<(), TestCaseError>| wrong.extend(outcome.err().map(|error| error.to_string()));
    for name in ["a", "5", "true", "x"] {
        let json = format!("{{\"{name}\":1}}");
        agree_on(agree::<BTreeMap<Lenient<u64>, u8>>(&json));
        agree_on(agree::<BTreeMap<Lenient<bool>, u8>>(&json));
        agree_on(agree::<BTreeMap<Lenient<Option<String>>, u8>>(&json));
        agree_on(agree::<HashMap<Lenient<Word2>, u8>>(&json));
    }
    agree_on(agree::<Lenient<External>>("{\"a\":null}"));
    for value in ["[1,2,3]", "[\"x\",1]", "{\"a\":[1]}", "\"x\"", "1.5", "[[1],2]"] {
        let json = format!("{{\"a\":{value},\"b\":2}}");
        agree_on(agree::<Members<Lenient<[u8; 2]>>>(&json));
        agree_on(agree::<Members<Lenient<Vec<String>>>>(&json));
        agree_on(agree::<Members<Lenient<Strict>>>(&json));
        agree_on(agree::<Members<Lenient<u128>>>(&json));
        agree_on(agree::<Members<Vec<Lenient<u8>>>>(&json));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_common_is_read_only_once() {
    let json = r#"{"iss":"x","a":"text","b":["c","\u0064"],"n":{"m":[1e999]},"exp":1.5}"#;
    let mut members = json::Members::new();
    members.read(json).unwrap();
    assert!(read_members::<Plain>(&members).is_some());
    assert!(read_members::<Members<Word>>(&members).is_some());
    assert!(read_members::<Option<BTreeMap<Word, de::IgnoredAny>>>(&members).is_some());
}
