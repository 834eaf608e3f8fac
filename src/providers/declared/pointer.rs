//! Where a member is in a body: a JSON Pointer (RFC 6901), or a list of them of which the first that is present counts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use super::super::json::{Object, Value};
use super::one_or_many::OneOrMany;

/// A JSON Pointer below the whole body.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pointer {
    text: String,
    steps: Vec<String>,
}

/// One place, or alternatives of it. A provider that has changed the shape of its bodies has a member at either place.
#[derive(Debug)]
pub(super) struct Places(Vec<Pointer>);

/// Two alternatives of one member say different things, so the body may be about two profiles.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction;

impl FromStr for Pointer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "a JSON Pointer begins with a slash, such as /data/iccid; in it ~1 stands for a slash and ~0 for a tilde";
        let steps = text.strip_prefix('/').ok_or(SHAPE)?;
        let steps = steps.split('/').map(|step| {
            let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
            let is_sound = step.split('~').skip(1).all(is_escaped);
            is_sound.then(|| step.replace("~1", "/").replace("~0", "~")).ok_or(SHAPE)
        });
        Ok(Self { text: text.to_owned(), steps: steps.collect::<Result<_, _>>()? })
    }
}

impl Pointer {
    /// The value at this place. Absent and null are the same.
    pub(super) fn find<'a>(&self, body: &'a Object) -> Option<&'a Value> {
        let (first, rest) = self.steps.split_first()?;
        let found = rest.iter().try_fold(body.member(first)?, |value, step| match value {
            Value::Object(object) => object.member(step),
            Value::Array(items) => items.get(index(step)?),
            _ => None,
        });
        found.filter(|value| **value != Value::Null)
    }
}

/// The index of an item: digits without a leading zero.
fn index(step: &str) -> Option<usize> {
    let is_index = step == "0" || !step.starts_with(['0', '+']);
    step.parse().ok().filter(|_| is_index)
}

impl Places {
    /// The first value that is present.
    pub(super) fn find<'a>(&self, body: &'a Object) -> Option<&'a Value> {
        self.all(body).next()
    }

    /// The same, if all alternatives that are present say the same.
    ///
    /// # Errors
    /// [`Contradiction`] otherwise.
    pub(super) fn find_agreed<'a>(
        &self,
        body: &'a Object,
    ) -> Result<Option<&'a Value>, Contradiction> {
        let mut all = self.all(body);
        let first = all.next();
        if all.all(|other| Some(other) == first) { Ok(first) } else { Err(Contradiction) }
    }

    /// The pointers, as they are written.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pointer| pointer.text.as_str())
    }

    /// The values of all alternatives that are present.
    pub(super) fn all<'a>(&self, body: &'a Object) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter_map(|pointer| pointer.find(body))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join(" or "))
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OneOrMany::deserialize(deserializer).map(|OneOrMany(pointers)| Self(pointers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(pointer: &str, body: &'a Object) -> Option<&'a str> {
        match pointer.parse::<Pointer>().unwrap().find(body) {
            Some(Value::Text(text) | Value::Number(text)) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn a_pointer_finds_members_and_items_at_any_depth() {
        let body = br#"{"a":{"b":["x",{"c":"deep"}]},"":"empty","a/b":"slash","m~n":"tilde","~1":"both","0":"zero","n":null}"#;
        let body = Object::parse(body).unwrap();
        for (pointer, found) in [
            ("/a/b/0", Some("x")),
            ("/a/b/1/c", Some("deep")),
            ("/", Some("empty")),
            ("/a~1b", Some("slash")),
            ("/m~0n", Some("tilde")),
            ("/~01", Some("both")),
            ("/0", Some("zero")),
            ("/a/b/2", None),
            ("/a/b/00", None),
            ("/a/b/+1", None),
            ("/a/b/-", None),
            ("/a/b/99999999999999999999999", None),
            ("/a/b", None),
            ("/n", None),
            ("/n/x", None),
            ("/a/b/0/x", None),
            ("/x", None),
        ] {
            assert_eq!(find(pointer, &body), found, "{pointer}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for text in ["", "iccid", "data/iccid", "$.iccid", "#/iccid", "/a~", "/a~2", "/~~1"] {
            assert!(text.parse::<Pointer>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_alternative_that_is_present_counts_and_two_may_contradict_each_other() {
        let places = Places(["/a", "/b/a"].map(|text| text.parse().unwrap()).into());
        let text = |text: &str| Value::Text(text.to_owned());
        for (body, found, agreed) in [
            (r#"{"a":"1","b":{"a":"1"}}"#, Some("1"), Ok(Some("1"))),
            (r#"{"a":"1","b":{"a":"2"}}"#, Some("1"), Err(Contradiction)),
            (r#"{"a":"1","b":{"a":1}}"#, Some("1"), Err(Contradiction)),
            (r#"{"a":null,"b":{"a":"2"}}"#, Some("2"), Ok(Some("2"))),
            (r#"{"b":{"a":"2"}}"#, Some("2"), Ok(Some("2"))),
            (r#"{"b":"a"}"#, None, Ok(None)),
        ] {
            let body = Object::parse(body.as_bytes()).unwrap();
            assert_eq!(places.find(&body), found.map(text).as_ref());
            assert_eq!(
                places.find_agreed(&body).map(Option::<&Value>::cloned),
                agreed.map(|it| it.map(text))
            );
        }
        assert_eq!(places.to_string(), "/a or /b/a");
    }
}
