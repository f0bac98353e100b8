use crate::pointer::ClaimPointer;
use crate::requirement::facts::Truth;
use crate::requirement::{Node, Requirement};
use crate::value::{ClaimValue, Place};

/// Begins a rule about one claim: the name of one, or a JSON Pointer into one ([`ClaimPointer`]).
///
/// ```
/// use countersign_claims::claim;
///
/// let staff = claim("https://app.example/roles").contains_any(["clerk", "manager"]);
/// let domestic = claim("/address/country").equals("NZ");
/// let first = claim("level").equals(1);
/// ```
///
/// # Panics
/// If `pointer` is neither ([`ClaimPointer::parse`]).
#[track_caller]
pub fn claim(pointer: &str) -> ClaimRule {
    match ClaimPointer::parse(pointer) {
        Ok(pointer) => ClaimRule(pointer),
        Err(fault) => not_a_pointer(&fault.to_string()),
    }
}

/// A claim that is to be judged. Made by [`claim`].
#[derive(Clone, Debug)]
#[must_use = "a rule says what the claim must be"]
pub struct ClaimRule(ClaimPointer);

impl ClaimRule {
    /// It is this string, this integer or this boolean. A string is not a number, and `1.0` is not an integer.
    #[must_use]
    pub fn equals(self, value: impl Into<Scalar>) -> Requirement {
        self.must(Test::Equals(value.into()))
    }

    /// It is an array of strings with this one in it, or this string itself. A string of several names is one string.
    #[must_use]
    pub fn contains(self, member: impl Into<Box<str>>) -> Requirement {
        self.contains_any([member])
    }

    /// The same for any of these; of none: never.
    #[must_use]
    pub fn contains_any(self, members: impl IntoIterator<Item = impl Into<Box<str>>>) -> Requirement {
        self.must(Test::ContainsAny(members.into_iter().map(Into::into).collect()))
    }

    /// The same for all of these; of none: if the claim is there, and is a string or an array of strings.
    #[must_use]
    pub fn contains_all(self, members: impl IntoIterator<Item = impl Into<Box<str>>>) -> Requirement {
        self.must(Test::ContainsAll(members.into_iter().map(Into::into).collect()))
    }

    /// It is there. `null` is neither there nor absent.
    #[must_use]
    pub fn exists(self) -> Requirement {
        self.must(Test::Exists)
    }

    fn must(self, test: Test) -> Requirement {
        Requirement::new(Node::Claim(self.0, test))
    }
}

/// What a claim can [equal](ClaimRule::equals): a string, an integer or a boolean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar(pub(crate) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String(Box<str>),
    Integer(i128),
    Boolean(bool),
}

macro_rules! scalar_from {
    ($($from:ty => $kind:ident),* $(,)?) => {
        $(impl From<$from> for Scalar {
            fn from(value: $from) -> Self {
                Self(Kind::$kind(value.into()))
            }
        })*
    };
}

scalar_from!(&str => String, String => String, Box<str> => String, bool => Boolean);
scalar_from!(i8 => Integer, i16 => Integer, i32 => Integer, i64 => Integer);
scalar_from!(u8 => Integer, u16 => Integer, u32 => Integer, u64 => Integer);

pub(crate) enum Test {
    Equals(Scalar),
    ContainsAny(Box<[Box<str>]>),
    ContainsAll(Box<[Box<str>]>),
    Exists,
}

impl Test {
    pub(crate) fn holds(&self, place: Place<'_>) -> Truth {
        let value = match place {
            Place::Value(value) => value,
            Place::Absent => return Truth::No,
            Place::Unreachable => return Truth::CannotTell,
        };
        let held = match self {
            Self::Equals(Scalar(Kind::String(wanted))) => value.is_string(wanted),
            Self::Equals(Scalar(Kind::Integer(wanted))) => value.integer().map(|found| found == *wanted),
            Self::Equals(Scalar(Kind::Boolean(wanted))) => value.boolean().map(|found| found == *wanted),
            Self::ContainsAny(wanted) => value.has_string_of(wanted),
            Self::ContainsAll(wanted) => {
                is_listable(value).then(|| wanted.iter().all(|wanted| value.has_string(wanted) == Some(true)))
            }
            Self::Exists => (!value.is_null()).then_some(true),
        };
        held.map_or(Truth::CannotTell, Truth::from)
    }
}

/// Whether it is a string, or an array of nothing but strings.
fn is_listable(value: ClaimValue<'_>) -> bool {
    value.has_string("").is_some()
}

#[track_caller]
#[expect(clippy::panic, reason = "documented: a mistake in the service's own text, found when it starts")]
fn not_a_pointer(fault: &str) -> ! {
    panic!("{fault}")
}
