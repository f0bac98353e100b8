//! Claims read into a type of the user's, out of the members that the judgement has found already.
//!
//! Nothing is read twice but numbers, objects, and strings with escapes, which `serde_json` reads. It reads the whole payload too
//! wherever this way leads to anything but a value: what fits a type, and what is said where nothing does, is its own affair.

use std::cell::Cell;
use std::fmt;

use countersign_token::json::{self, Elements, Members, Raw};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::de::StrRead;

/// `payload` as a `T`; `members` are its members.
pub(crate) fn read<T: DeserializeOwned>(payload: &str, members: &Members<'_>) -> serde_json::Result<T> {
    read_members(members).map_or_else(|| serde_json::from_str(payload), Ok)
}

/// The short way. A type may forgive what does not fit; what it takes in its place must not depend on the way.
fn read_members<T: DeserializeOwned>(members: &Members<'_>) -> Option<T> {
    let gave_up = Cell::new(false);
    T::deserialize(Claims(members, GaveUp(&gave_up))).ok().filter(|_| !gave_up.get())
}

/// The same where nobody has found the members yet.
pub(crate) fn read_payload<T: DeserializeOwned>(payload: &str) -> serde_json::Result<T> {
    let mut members = Members::new();
    match members.read(payload) {
        Ok(()) => read(payload, &members),
        Err(_) => serde_json::from_str(payload),
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

/// Where it is noted that something was not to be had this way, in case nobody passes it on.
#[derive(Clone, Copy)]
struct GaveUp<'g>(&'g Cell<bool>);

impl GaveUp<'_> {
    fn noted<T>(self, read: Result<T, Unfit>) -> Result<T, Unfit> {
        if read.is_err() {
            self.0.set(true);
        }
        read
    }

    fn unfit<T>(self) -> Result<T, Unfit> {
        self.noted(Err(Unfit))
    }
}

/// The methods that this way does not lead through: these forms are not what is read here.
macro_rules! give_up {
    ($($method:ident($($type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $type,)* _: V) -> Result<V::Value, Unfit> {
            self.1.unfit()
        }
    )*};
}

/// The whole object.
struct Claims<'m, 'de>(&'m Members<'de>, GaveUp<'m>);

impl<'de> Deserializer<'de> for Claims<'_, 'de> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let mut entries = Entries { members: self.0.iter(), value: None, gave_up: self.1 };
        let value = self.1.noted(visitor.visit_map(&mut entries))?;
        // Whoever leaves early has found something that it did not expect.
        if entries.members.next().is_some() || entries.value.is_some() { self.1.unfit() } else { Ok(value) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let gave_up = self.1;
        gave_up.noted(visitor.visit_some(self))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unfit> {
        let gave_up = self.1;
        if is_private(name) { gave_up.unfit() } else { gave_up.noted(visitor.visit_newtype_struct(self)) }
    }

    give_up! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_char() deserialize_str() deserialize_string()
        deserialize_bytes() deserialize_byte_buf() deserialize_unit() deserialize_unit_struct(&'static str)
        deserialize_seq() deserialize_tuple(usize) deserialize_tuple_struct(&'static str, usize)
        deserialize_identifier() deserialize_ignored_any() deserialize_enum(&'static str, &'static [&'static str])
    }

    forward_to_deserialize_any! { map struct }
}

struct Entries<'m, 'de, I> {
    members: I,
    /// Of the name that was handed out last.
    value: Option<Raw<'de>>,
    gave_up: GaveUp<'m>,
}

impl<'de, I: Iterator<Item = (json::Name<'de>, Raw<'de>)>> MapAccess<'de> for &mut Entries<'_, 'de, I> {
    type Error = Unfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Unfit> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Name(name, self.gave_up)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Unfit> {
        match self.value.take() {
            Some(value) => seed.deserialize(Value(value, self.gave_up)),
            None => self.gave_up.unfit(),
        }
    }
}

struct Name<'m, 'de>(json::Name<'de>, GaveUp<'m>);

impl<'de> Deserializer<'de> for Name<'_, 'de> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        self.1.noted(match self.0.plain() {
            Some(name) => visitor.visit_borrowed_str(name),
            None => visitor.visit_str(&self.0.text()),
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unfit> {
        let gave_up = self.1;
        if is_private(name) { gave_up.unfit() } else { gave_up.noted(visitor.visit_newtype_struct(self)) }
    }

    // Of what a name can be read as in JSON, only text.
    give_up! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_bytes() deserialize_byte_buf() deserialize_option()
        deserialize_enum(&'static str, &'static [&'static str])
    }

    forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Value<'m, 'de>(Raw<'de>, GaveUp<'m>);

impl<'m, 'de> Value<'m, 'de> {
    /// What `serde_json` reads; all of it, or it is nothing (an integer of 128 bits ends before a fraction).
    fn json<T>(
        &self,
        read: impl FnOnce(&mut serde_json::Deserializer<StrRead<'de>>) -> serde_json::Result<T>,
    ) -> Result<T, Unfit> {
        // A string with escapes that is to be anything but a string.
        let Some(text) = self.0.plain_text() else { return self.1.unfit() };
        let mut json = serde_json::Deserializer::from_str(text);
        let value = read(&mut json).and_then(|value| json.end().map(|()| value));
        self.1.noted(value.map_err(Unfit::from))
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
                Some(text) => self.1.noted(visitor.visit_borrowed_str(text)),
                None => match self.0.string() {
                    Some(text) => self.1.noted(visitor.visit_str(&text)),
                    None => self.json(|json| json.$method(visitor)),
                },
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Value<'_, 'de> {
    type Error = Unfit;

    take_strings! { deserialize_any deserialize_char deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let gave_up = self.1;
        gave_up.noted(if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Unfit> {
        if is_private(name) {
            return self.json(|json| json.deserialize_newtype_struct(name, visitor));
        }
        let gave_up = self.1;
        gave_up.noted(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let Some(elements) = self.0.elements() else { return self.1.unfit() };
        let mut elements = Array(elements, self.1);
        let value = self.1.noted(visitor.visit_seq(&mut elements))?;
        if elements.0.next().is_some() { self.1.unfit() } else { Ok(value) }
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

struct Array<'m, 'de>(Elements<'de>, GaveUp<'m>);

impl<'de> SeqAccess<'de> for &mut Array<'_, 'de> {
    type Error = Unfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Unfit> {
        self.0.next().map(|element| seed.deserialize(Value(element, self.1))).transpose()
    }
}

#[cfg(test)]
mod tests;
