//! RFC 8259 by recursive descent. Duplicates are kept, numbers stay text, and a string that is no Unicode (a lone
//! surrogate, which the grammar allows) is `None`.

/// Deeper than anything that may be accepted, and shallow enough for the stack.
const DEEPEST: usize = 500;

/// The deepest nesting that countersign documents, the outermost object included.
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    Null,
    Boolean(bool),
    Number(&'a str),
    String(Option<String>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Option<String>, Json<'a>)>),
}

/// Why there is no value.
#[derive(Debug, PartialEq, Eq)]
pub enum NoJson {
    /// It is not one JSON text in UTF-8.
    Malformed,
    /// Who knows.
    TooDeep,
}

/// The one value that `bytes` are.
pub fn parse(bytes: &[u8]) -> Result<Json<'_>, NoJson> {
    let text = std::str::from_utf8(bytes).map_err(|_| NoJson::Malformed)?;
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.white_space();
    if parser.at == text.len() { Ok(value) } else { Err(NoJson::Malformed) }
}

impl<'a> Json<'a> {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => text.as_deref(),
            _ => None,
        }
    }

    /// The strings of an array of nothing but strings.
    pub fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::Array(elements) => elements.iter().map(Json::text).collect(),
            _ => None,
        }
    }

    /// The members of an object in which no name, at any depth, stands twice or is no Unicode, and that is not nested too
    /// deeply.
    pub fn sound_members(&self) -> Option<Members<'_, 'a>> {
        match self {
            Self::Object(members) if self.is_sound(1) => Some(Members(members)),
            _ => None,
        }
    }

    /// The members of an object whose own names are sound, whatever is in its values.
    pub fn own_members(&self) -> Option<Members<'_, 'a>> {
        match self {
            Self::Object(members) if names_are_sound(members) => Some(Members(members)),
            _ => None,
        }
    }

    fn is_sound(&self, depth: usize) -> bool {
        match self {
            Self::Array(elements) => depth <= MAX_DEPTH && elements.iter().all(|element| element.is_sound(depth + 1)),
            Self::Object(members) => {
                depth <= MAX_DEPTH
                    && names_are_sound(members)
                    && members.iter().all(|(_, value)| value.is_sound(depth + 1))
            }
            _ => true,
        }
    }
}

fn names_are_sound(members: &[(Option<String>, Json<'_>)]) -> bool {
    let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.iter().all(|name| name.is_some()) && names.windows(2).all(|pair| pair[0] != pair[1])
}

/// The members of an object, each name of which is there once.
#[derive(Clone, Copy)]
pub struct Members<'v, 'a>(&'v [(Option<String>, Json<'a>)]);

impl<'v, 'a> Members<'v, 'a> {
    pub fn get(&self, name: &str) -> Option<&'v Json<'a>> {
        self.iter().find(|(member, _)| *member == name).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'v str, &'v Json<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_deref().unwrap_or_default(), value))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Json<'a>, NoJson> {
        if depth > DEEPEST {
            return Err(NoJson::TooDeep);
        }
        self.white_space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.eat("null") => Ok(Json::Null),
            _ if self.eat("true") => Ok(Json::Boolean(true)),
            _ if self.eat("false") => Ok(Json::Boolean(false)),
            _ => Err(NoJson::Malformed),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, NoJson> {
        let mut members = Vec::new();
        self.expect("{")?;
        self.white_space();
        if self.eat("}") {
            return Ok(Json::Object(members));
        }
        loop {
            self.white_space();
            let name = self.string()?;
            self.white_space();
            self.expect(":")?;
            members.push((name, self.value(depth + 1)?));
            self.white_space();
            if self.eat("}") {
                return Ok(Json::Object(members));
            }
            self.expect(",")?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, NoJson> {
        let mut elements = Vec::new();
        self.expect("[")?;
        self.white_space();
        if self.eat("]") {
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.white_space();
            if self.eat("]") {
                return Ok(Json::Array(elements));
            }
            self.expect(",")?;
        }
    }

    /// `None`: of the right shape, and no Unicode.
    fn string(&mut self) -> Result<Option<String>, NoJson> {
        self.expect("\"")?;
        // UTF-16, because that is what `\u` escapes count in.
        let mut units: Vec<u16> = Vec::new();
        loop {
            let next = self.text[self.at..].chars().next().ok_or(NoJson::Malformed)?;
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(String::from_utf16(&units).ok()),
                '\\' => units.push(self.escape()?),
                '\0'..='\x1f' => return Err(NoJson::Malformed),
                _ => units.extend_from_slice(next.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Result<u16, NoJson> {
        let kind = self.peek().ok_or(NoJson::Malformed)?;
        self.at += 1;
        Ok(match kind {
            b'"' | b'\\' | b'/' => u16::from(kind),
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'u' => {
                let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(NoJson::Malformed)?;
                self.at += 4;
                digits.iter().try_fold(0, |unit, digit| {
                    let digit = char::from(*digit).to_digit(16).ok_or(NoJson::Malformed)?;
                    Ok(unit << 4 | digit as u16)
                })?
            }
            _ => return Err(NoJson::Malformed),
        })
    }

    fn number(&mut self) -> Result<Json<'a>, NoJson> {
        let start = self.at;
        self.eat("-");
        if !self.eat("0") {
            self.digits()?;
        }
        if self.eat(".") {
            self.digits()?;
        }
        if self.eat("e") || self.eat("E") {
            let _ = self.eat("+") || self.eat("-");
            self.digits()?;
        }
        Ok(Json::Number(&self.text[start..self.at]))
    }

    /// One or more.
    fn digits(&mut self) -> Result<(), NoJson> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NoJson::Malformed) }
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, what: &str) -> bool {
        let there = self.text.as_bytes()[self.at..].starts_with(what.as_bytes());
        if there {
            self.at += what.len();
        }
        there
    }

    fn expect(&mut self, what: &str) -> Result<(), NoJson> {
        if self.eat(what) { Ok(()) } else { Err(NoJson::Malformed) }
    }
}
