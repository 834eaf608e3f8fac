//! The id that a sender gave to an event, by which an event that is sent again counts once.

use std::fmt;

/// A sender's id of an event: 1 to 256 visible ASCII characters, because it is indexed in the database.
#[derive(Clone, PartialEq, Eq)]
pub struct EventId(String);

impl EventId {
    /// The max length.
    pub const MAX_BYTES: usize = 256;

    /// Reads the id of an event; `None` if it does not have this form.
    pub fn parse(text: &str) -> Option<Self> {
        let is_sound = (1..=Self::MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_sound.then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The sender chooses the text, which may contain anything.
impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventId(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_visible_text_is_an_event_id() {
        for good in ["7d6a", "1", "a.b:c/d", &"x".repeat(256)] {
            assert_eq!(EventId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "a\0", "a\n", "é", &"x".repeat(257)] {
            assert_eq!(EventId::parse(bad), None, "{bad:?}");
        }
        assert_eq!(format!("{:?}", EventId::parse("7d6a").unwrap()), "EventId(…)");
    }
}
