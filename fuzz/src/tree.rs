//! A JSON text as it was sent, including duplicate members. The results of the strict reader are compared with it.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Any JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number, as the nearest one that a computer has.
    Number(f64),
    /// A string, with its escapes resolved.
    Text(String),
    /// An array.
    Array(Vec<Tree>),
    /// An object, with its members in the order in which they were sent.
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The depth of nesting: 0 for a scalar, 1 for `{}`.
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(_) | Self::Object(_) => {
                1 + self.children().map(Self::depth).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Whether any object in it has a duplicate member.
    pub fn has_duplicates(&self) -> bool {
        let mut names = HashSet::new();
        let here = match self {
            Self::Object(members) => members.iter().any(|(name, _)| !names.insert(name)),
            _ => false,
        };
        here || self.children().any(Self::has_duplicates)
    }

    /// Whether any name or string in it contains a NUL.
    pub fn has_nul(&self) -> bool {
        let here = match self {
            Self::Text(text) => text.contains('\0'),
            Self::Object(members) => members.iter().any(|(name, _)| name.contains('\0')),
            _ => false,
        };
        here || self.children().any(Self::has_nul)
    }

    /// The members, if it is an object.
    pub fn members(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The first member with that name, if it is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.members()?.iter().find(|(key, _)| key == name) {
            Some((_, Self::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// The first member with that name.
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.members()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        match self {
            Self::Array(items) => Box::new(items.iter()),
            Self::Object(members) => Box::new(members.iter().map(|(_, value)| value)),
            _ => Box::new(std::iter::empty()),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "the number nearest to it is what is compared")]
    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "the number nearest to it is what is compared")]
    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }
}
