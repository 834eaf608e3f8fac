//! What a reseller says about the sale of a profile, beside the provider's own object.

use std::fmt;

use time::Date;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

use super::{Iccid, Timestamp};

/// What a reseller says about the sale of a profile. All of it is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// The reseller's own number of the order.
    pub reference: Option<Reference>,
    /// The day of travel: the first on which the profile is expected to be used.
    pub expected_from: Option<Day>,
    /// The profile that this one was given out for.
    pub replaces: Option<Iccid>,
}

/// The reseller's own number of an order: 1 to 64 characters. It leads to a customer, so `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Reference(String);

/// A day of the calendar, without a zone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(Date);

/// The text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a text of 1 to 64 characters without control characters or space around it")]
pub struct InvalidReference;

/// The text is not a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a day such as 2026-11-23")]
pub struct InvalidDay;

const YEAR_MONTH_DAY: StaticFormatDescription = format_description!("[year]-[month]-[day]");

impl Reference {
    /// Parses a reference.
    ///
    /// # Errors
    /// [`InvalidReference`].
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let is_short = (1..=64).contains(&text.chars().count());
        if is_short && text.trim() == text && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReference)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reference(…)")
    }
}

impl Day {
    /// Parses `2026-11-23`.
    ///
    /// # Errors
    /// [`InvalidDay`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidDay> {
        // The format also reads a sign before the year.
        let is_plain = text.len() == 10;
        let day = is_plain.then(|| Date::parse(text, YEAR_MONTH_DAY).ok()).flatten();
        day.map(Self).ok_or(InvalidDay)
    }

    /// The day of a type of the `time` crate, from the database.
    pub fn from_date(date: Date) -> Self {
        Self(date)
    }

    /// The first moment of the day in UTC.
    pub fn begins(self) -> Timestamp {
        Timestamp::from_datetime(self.0.midnight().assume_utc())
    }

    /// The day as a type of the `time` crate, for the database.
    pub fn as_date(self) -> Date {
        self.0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(YEAR_MONTH_DAY).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_up_to_64_characters_and_nothing_that_cannot_be_seen() {
        for text in ["1", "Order #4711/ł", &"ł".repeat(64)] {
            assert_eq!(Reference::parse(text).unwrap().as_str(), text);
        }
        for text in ["", " ", " 1", "1\n", "a\u{0}b", &"1".repeat(65)] {
            assert_eq!(Reference::parse(text), Err(InvalidReference), "{text:?}");
        }
        assert!(!format!("{:?}", Reference::parse("4711")).contains("4711"));
    }

    #[test]
    fn a_day_is_written_as_it_was_read() {
        assert_eq!(Day::parse("2028-02-29").unwrap().to_string(), "2028-02-29");
        for text in
            ["", "2027-02-29", "2026-11-2", "26-11-23", "+2026-11-2", "2026-11-23Z", "23.11.2026"]
        {
            assert_eq!(Day::parse(text), Err(InvalidDay), "{text}");
        }
    }
}
