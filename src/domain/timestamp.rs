//! One instant in UTC, to the microsecond, because that is what Postgres keeps: a time that was written reads back equal.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::format_description::{BorrowedFormatItem, well_known::Rfc3339};
use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};

/// An instant in UTC with microseconds. Its text form is RFC 3339 with six decimals and `Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

/// Fixed width, so that the text sorts as the instant does.
const SIX_DECIMALS: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// The text is not an RFC 3339 date and time with a zone.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an RFC 3339 date and time with a zone, such as 2026-11-23T10:20:30.123Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// Takes any zone and precision; keeps UTC and microseconds.
    pub fn from_datetime(instant: OffsetDateTime) -> Self {
        let utc = instant.to_offset(UtcOffset::UTC);
        let nanosecond = utc.nanosecond() / 1_000 * 1_000;
        Self(utc.replace_nanosecond(nanosecond).unwrap_or(utc))
    }

    /// Reads RFC 3339; a zone is required.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] for anything else, an impossible date included.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        OffsetDateTime::parse(text, &Rfc3339).map(Self::from_datetime).map_err(|_| InvalidTimestamp)
    }

    /// The instant as the `time` crate has it, for the database.
    pub fn as_datetime(self) -> OffsetDateTime {
        self.0
    }

    /// Seconds since 1970, rounded down.
    pub fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// The nanoseconds within the second.
    pub fn subsecond_nanos(self) -> u32 {
        self.0.nanosecond()
    }

    /// This instant and `seconds` more (or fewer); stops at the ends of the calendar.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(Duration::seconds(seconds)))
    }

    /// Seconds from `earlier` to this instant; negative when it is the later one.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0).as_seconds_f64()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(SIX_DECIMALS).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utc_with_six_decimals() {
        let at = Timestamp::parse("2026-11-23T11:20:30.1234567+01:00").unwrap();
        assert_eq!(at.to_string(), "2026-11-23T10:20:30.123456Z");
    }

    #[test]
    fn impossible_and_zoneless_times_are_refused() {
        for text in ["2026-02-30T00:00:00Z", "infinity", "2026-11-23T10:20:30", ""] {
            assert_eq!(Timestamp::parse(text), Err(InvalidTimestamp), "{text}");
        }
    }
}
