//! Strict JSON for webhook bodies: one object and nothing after it, no duplicate member at any depth, no NUL, bounded
//! depth.
//!
//! `serde_json` alone lets the last of duplicate members win silently, accepts an array for a struct, accepts `\u0000`
//! (which Postgres then refuses), and skips ignored members at any depth. So every value is visited here, and kept: an
//! adapter may need a nested member, or a number exactly as it was sent.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The max depth of nested values, including the outermost object.
const MAX_DEPTH: u8 = 32;

/// Up to this number of members, names are compared one by one.
const FEW: usize = 16;

/// The members of one JSON object, in the order in which they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object(Vec<(String, Value)>);

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as the text that was sent: a conversion could round it.
    Number(String),
    /// A string, with its escapes resolved.
    Text(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Object),
}

impl Object {
    /// Parses the bytes strictly.
    ///
    /// # Errors
    /// What is wrong, with line and column. The message contains nothing of the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Err("the body is empty; send one JSON object".to_owned());
        }
        if bytes.starts_with(b"\xEF\xBB\xBF") {
            return Err("the body begins with a byte order mark; send plain UTF-8".to_owned());
        }
        // serde_json would report what it found instead, and thereby show a number or a string.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err("the body is not one JSON object; it must begin with {".to_owned());
        }
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        (TopLevel { numbers: Numbers { rest: bytes } }.deserialize(&mut deserializer))
            .and_then(|object| deserializer.end().map(|()| object))
            .map_err(|error| format!("the body is not one strict JSON object: {error}"))
    }

    /// The member with this name; `None` if it is absent.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The object with this name; `None` if the member is absent or of another type.
    pub fn nested(&self, name: &str) -> Option<&Self> {
        match self.member(name) {
            Some(Value::Object(object)) => Some(object),
            _ => None,
        }
    }

    /// The number with this name, as it was sent; `None` if the member is absent or of another type.
    #[cfg_attr(not(test), expect(dead_code, reason = "for adapters of bodies with numbers"))]
    pub fn number(&self, name: &str) -> Option<&str> {
        match self.member(name) {
            Some(Value::Number(text)) => Some(text),
            _ => None,
        }
    }
}

/// Finds the numbers of a JSON text, in their order. `serde_json` converts a number before it passes it on, so the
/// visitor of a number reads its text from here. That works because every number of the text is visited, in this order.
struct Numbers<'a> {
    rest: &'a [u8],
}

impl Numbers<'_> {
    /// The text of the next number.
    fn next(&mut self) -> String {
        while let Some((first, rest)) = self.rest.split_first() {
            match first {
                b'"' => self.rest = after_string(rest),
                b'-' | b'0'..=b'9' => {
                    let is_part = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
                    let end = self.rest.iter().position(|b| !is_part(b)).unwrap_or(self.rest.len());
                    let (number, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    return number.iter().copied().map(char::from).collect();
                }
                _ => self.rest = rest,
            }
        }
        String::new()
    }
}

/// What follows a string whose opening quotation mark is already behind us.
fn after_string(mut rest: &[u8]) -> &[u8] {
    loop {
        match rest {
            [b'"', after @ ..] => return after,
            [b'\\', _, after @ ..] | [_, after @ ..] => rest = after,
            [] => return rest,
        }
    }
}

struct TopLevel<'a> {
    numbers: Numbers<'a>,
}

impl<'de> DeserializeSeed<'de> for TopLevel<'_> {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Object, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<Object, A::Error> {
        visit_members(map, 1, &mut self.numbers)
    }
}

fn visit_members<'de, A: MapAccess<'de>>(
    mut map: A,
    depth: u8,
    numbers: &mut Numbers<'_>,
) -> Result<Object, A::Error> {
    let mut members: Vec<(String, Value)> = Vec::new();
    let mut seen = HashSet::new();
    while let Some(key) = map.next_key::<String>()? {
        without_nul(&key)?;
        // For a few names, comparing is faster than hashing. For many, comparing each with all others would allow an
        // attack.
        let is_new = if members.len() < FEW {
            members.iter().all(|(other, _)| *other != key)
        } else {
            if seen.is_empty() {
                seen.extend(members.iter().map(|(key, _)| key.clone()));
            }
            seen.insert(key.clone())
        };
        if !is_new {
            return Err(A::Error::custom("a member is given twice"));
        }
        let value = map.next_value_seed(Nested { depth: depth + 1, numbers })?;
        members.push((key, value));
    }
    Ok(Object(members))
}

fn without_nul<E: Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("a text holds a NUL character")) } else { Ok(()) }
}

/// A nested value.
struct Nested<'n, 'a> {
    depth: u8,
    numbers: &'n mut Numbers<'a>,
}

impl Nested<'_, '_> {
    fn descend<E: Error>(&self) -> Result<(), E> {
        if self.depth > MAX_DEPTH {
            return Err(E::custom(format_args!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Nested<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Number(self.numbers.next()))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Number(self.numbers.next()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Number(self.numbers.next()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        without_nul(text)?;
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.descend()?;
        let mut items = Vec::new();
        let (depth, numbers) = (self.depth + 1, self.numbers);
        while let Some(item) = seq.next_element_seed(Nested { depth, numbers: &mut *numbers })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        self.descend()?;
        visit_members(map, self.depth, self.numbers).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
    }

    #[test]
    fn depth_is_bounded_also_in_members_that_nobody_reads() {
        assert!(Object::parse(nested(32).as_bytes()).is_ok());
        assert!(Object::parse(nested(33).as_bytes()).unwrap_err().contains("32 deep"));
        assert!(Object::parse(nested(30_000).as_bytes()).is_err());
    }

    #[test]
    fn a_member_given_twice_is_refused_at_any_depth_and_in_any_spelling() {
        for body in [
            r#"{"iccid":"1","iccid":"1"}"#,
            r#"{"iccid":"1","\u0069ccid":"1"}"#,
            r#"{"x":{"a":1,"a":1}}"#,
        ] {
            let error = Object::parse(body.as_bytes()).unwrap_err();
            assert!(error.contains("a member is given twice at line 1"), "{error}");
        }
        for (members, twice) in [(FEW, 0), (FEW, FEW - 1), (FEW + 1, FEW), (500, 3), (500, 499)] {
            let mut names: Vec<_> = (0..members).map(|n| format!("\"m{n}\":{n}")).collect();
            assert!(Object::parse(format!("{{{}}}", names.join(",")).as_bytes()).is_ok());
            names.push(format!("\"m{twice}\":0"));
            assert!(Object::parse(format!("{{{}}}", names.join(",")).as_bytes()).is_err());
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused_without_an_echo() {
        for body in [
            "",
            "  ",
            "[]",
            "1",
            "null",
            "true",
            "\"secret-text\"",
            "{}{}",
            "{} x",
            "\u{feff}{}",
            "{\"a\":1,}",
            r#"{"a":"\u0000"}"#,
            r#"{"\u0000":1}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\u{0}\"}",
            "{\"a\":",
        ] {
            let error = Object::parse(body.as_bytes()).unwrap_err();
            assert!(!error.contains("secret-text"), "{error}");
        }
        assert!(Object::parse(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn unknown_members_of_any_kind_are_fine() {
        let object =
            Object::parse(r#"{"a":null,"b":[1,{"c":-2.5e3}],"d":true,"e":{},"f":"ü"}"#.as_bytes());
        let object = object.unwrap();
        assert_eq!(object.member("f"), Some(&Value::Text("ü".to_owned())));
        let inner = Object(vec![("c".to_owned(), Value::Number("-2.5e3".to_owned()))]);
        let items = vec![Value::Number("1".to_owned()), Value::Object(inner)];
        assert_eq!(object.member("b"), Some(&Value::Array(items)));
        assert_eq!(object.member("d"), Some(&Value::Bool(true)));
        assert_eq!(object.member("x"), None);
    }

    #[test]
    fn a_nested_member_is_found_and_another_type_is_no_object() {
        let object = Object::parse(br#"{"a":{"b":{"c":113}},"d":[{}]}"#).unwrap();
        let inner = object.nested("a").and_then(|a| a.nested("b")).unwrap();
        assert_eq!(inner.number("c"), Some("113"));
        assert_eq!((object.nested("d"), object.nested("x")), (None, None));
        assert_eq!((object.number("a"), object.number("x")), (None, None));
    }

    #[test]
    fn numbers_keep_their_text_whatever_stands_around_them() {
        let sent = [
            "0",
            "-0",
            "1700000000",
            "1.50",
            "2E+3",
            "-2.5e-3",
            "89972123300991848961",
            "18446744073709551616",
            "0.1000000000000000055511151231257827",
        ];
        for between in ["", " ", "\n\t", r#""4 \" 5",true,"#, r#""\\",{"6":[-7,{"8\\\"9":1e1}]},"#]
        {
            let text: Vec<_> = sent.iter().map(|number| format!("{between}{number}")).collect();
            let body = format!("{{\"3\":\"12\",\"a\":[{}],\"z\":-1}}", text.join(","));
            let object = Object::parse(body.as_bytes()).unwrap();
            let Some(Value::Array(items)) = object.member("a") else { panic!("{body}") };
            let found: Vec<_> = (items.iter())
                .filter_map(
                    |it| if let Value::Number(text) = it { Some(text.as_str()) } else { None },
                )
                .collect();
            assert_eq!(found, sent, "{body}");
            assert_eq!(object.number("z"), Some("-1"));
        }
    }
}
