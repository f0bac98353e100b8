//! Claims read into a type of the user's, out of the members that the judgement has found already.
//!
//! Nothing is read twice but numbers, objects, and strings with escapes, which `serde_json` reads. It reads the whole payload too
//! wherever this way leads to anything but a value: what fits a type, and what is said where nothing does, is its own affair.

use std::borrow::Cow;
use std::fmt;

use countersign_token::json::{Elements, Members, Raw};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::de::StrRead;

/// `payload` as a `T`; `members` are its members.
pub(crate) fn read<T: DeserializeOwned>(payload: &[u8], members: &Members<'_>) -> serde_json::Result<T> {
    T::deserialize(Claims(members)).or_else(|Unfit| serde_json::from_slice(payload))
}

/// The same where nobody has found the members yet.
pub(crate) fn read_payload<T: DeserializeOwned>(payload: &[u8]) -> serde_json::Result<T> {
    let mut members = Members::new();
    match members.read(payload) {
        Ok(()) => read(payload, &members),
        Err(_) => serde_json::from_slice(payload),
    }
}

/// It does not lead anywhere from here. Why, is not asked.
#[derive(Debug)]
struct Unfit;

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unfit")
    }
}

impl std::error::Error for Unfit {}

impl de::Error for Unfit {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl From<serde_json::Error> for Unfit {
    fn from(_: serde_json::Error) -> Self {
        Self
    }
}

/// What serde and its formats say to each other in the names of types is for them alone.
fn is_private(type_name: &str) -> bool {
    type_name.starts_with('$')
}

/// The whole object.
struct Claims<'m, 'de>(&'m Members<'de>);

impl<'de> Deserializer<'de> for Claims<'_, 'de> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let mut entries = Entries { members: self.0.iter(), value: None };
        let value = visitor.visit_map(&mut entries)?;
        // Whoever leaves early has found something that it did not expect.
        if entries.members.next().is_some() || entries.value.is_some() { Err(Unfit) } else { Ok(value) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unfit> {
        if is_private(name) { Err(Unfit) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unfit> {
        Err(Unfit)
    }

    // Those of them that do not take an object say so.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

struct Entries<'de, I> {
    members: I,
    /// Of the name that was handed out last.
    value: Option<Raw<'de>>,
}

impl<'m, 'de: 'm, I: Iterator<Item = (&'m Cow<'de, str>, Raw<'de>)>> MapAccess<'de> for &mut Entries<'de, I> {
    type Error = Unfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unfit> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Name(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unfit> {
        seed.deserialize(Value(self.value.take().ok_or(Unfit)?))
    }
}

struct Name<'m, 'de>(&'m Cow<'de, str>);

impl<'de> Deserializer<'de> for Name<'_, 'de> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            Cow::Borrowed(name) => visitor.visit_borrowed_str(name),
            Cow::Owned(name) => visitor.visit_str(name),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unfit> {
        if is_private(name) { Err(Unfit) } else { visitor.visit_newtype_struct(self) }
    }

    // Of what a name can be read as in JSON, only text.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Unfit> {
        Err(Unfit)
    }

    fn deserialize_option<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unfit> {
        Err(Unfit)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unfit> {
        Err(Unfit)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Unfit> {
        Err(Unfit)
    }

    // Numbers and booleans say that they do not take text.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

struct Value<'de>(Raw<'de>);

impl<'de> Value<'de> {
    /// What `serde_json` reads; all of it, or it is nothing (an integer of 128 bits ends before a fraction).
    fn json<T>(
        &self,
        read: impl FnOnce(&mut serde_json::Deserializer<StrRead<'de>>) -> serde_json::Result<T>,
    ) -> Result<T, Unfit> {
        let mut json = serde_json::Deserializer::from_str(self.0.text());
        let value = read(&mut json)?;
        json.end()?;
        Ok(value)
    }

    fn seq<V: Visitor<'de>>(elements: Elements<'de>, visitor: V) -> Result<V::Value, Unfit> {
        let mut elements = Array(elements);
        let value = visitor.visit_seq(&mut elements)?;
        if elements.0.next().is_some() { Err(Unfit) } else { Ok(value) }
    }
}

/// The methods that are `serde_json`'s.
macro_rules! read_as_json {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Unfit> {
            self.json(|json| json.$method($($argument,)* visitor))
        }
    )*};
}

/// The same but for strings without escapes, which are there to be taken.
macro_rules! take_strings {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
            match self.0.plain_string() {
                Some(text) => visitor.visit_borrowed_str(text),
                None => self.json(|json| json.$method(visitor)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Unfit;

    take_strings! { deserialize_any deserialize_char deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unfit> {
        if is_private(name) {
            self.json(|json| json.deserialize_newtype_struct(name, visitor))
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        self.0.elements().map_or(Err(Unfit), |elements| Self::seq(elements, visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Unfit> {
        self.deserialize_seq(visitor)
    }

    /// Well formed it is.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_unit()
    }

    read_as_json! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_bytes() deserialize_byte_buf() deserialize_unit()
        deserialize_unit_struct(name: &'static str) deserialize_tuple_struct(name: &'static str, length: usize) deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }
}

struct Array<'de>(Elements<'de>);

impl<'de> SeqAccess<'de> for &mut Array<'de> {
    type Error = Unfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Unfit> {
        self.0.next().map(|element| seed.deserialize(Value(element))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::value::RawValue;
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
        let ours = shown(read_payload::<T>(json.as_bytes()));
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
        let string = prop::collection::vec(prop::sample::select(parts), 0..3)
            .prop_map(|parts| format!("\"{}\"", parts.concat()));
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

    #[test]
    fn what_is_common_is_read_only_once() {
        let json = br#"{"iss":"x","a":"text","b":["c","\u0064"],"n":{"m":[1e999]},"exp":1.5}"#;
        let mut members = countersign_token::json::Members::new();
        members.read(json).unwrap();
        assert!(Plain::deserialize(Claims(&members)).is_ok());
        assert!(Members::<Word>::deserialize(Claims(&members)).is_ok());
        assert!(<Option<BTreeMap<Word, de::IgnoredAny>>>::deserialize(Claims(&members)).is_ok());
    }
}
