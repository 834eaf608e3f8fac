//! An instant in UTC, to the microsecond, because Postgres stores no more: a stored time reads back equal.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::format_description::{BorrowedFormatItem, well_known::Rfc3339};
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime, UtcOffset};

/// An instant in UTC with microseconds. Its text form is RFC 3339 with six decimals and `Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

/// Fixed width, so that the texts sort in the order of the instants.
const SIX_DECIMALS: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// The text is not an RFC 3339 date and time with a zone.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an RFC 3339 date and time with a zone, such as 2026-11-23T10:20:30.123Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// Converts from any zone and precision to UTC and microseconds. Saturates at the ends of the calendar.
    pub fn from_datetime(instant: OffsetDateTime) -> Self {
        let end = || {
            let before = instant.year() < 0;
            (if before { PrimitiveDateTime::MIN } else { PrimitiveDateTime::MAX }).assume_utc()
        };
        let utc = instant.checked_to_offset(UtcOffset::UTC).unwrap_or_else(end);
        let nanosecond = utc.nanosecond() / 1_000 * 1_000;
        Self(utc.replace_nanosecond(nanosecond).unwrap_or(utc))
    }

    /// Parses RFC 3339; a zone is required.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] for anything else, an impossible date included.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        // The zone may move an instant past the ends of the calendar.
        let utc = instant.checked_to_offset(UtcOffset::UTC).filter(|utc| utc.year() >= 0);
        utc.map(Self::from_datetime).ok_or(InvalidTimestamp)
    }

    /// The instant as a type of the `time` crate, for the database.
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

    /// This instant plus `seconds`, which may be negative. Saturates at the ends of the calendar.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(Duration::seconds(seconds)))
    }

    /// This instant plus a duration. Saturates at the end of the calendar.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let duration = Duration::try_from(duration).unwrap_or(Duration::MAX);
        Self(self.0.saturating_add(duration))
    }

    /// Microseconds since 1970, rounded down.
    pub fn unix_micros(self) -> i128 {
        self.0.unix_timestamp_nanos().div_euclid(1_000)
    }

    /// Seconds from `earlier` to this instant; negative if `earlier` is the later one.
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
    use proptest::prelude::*;

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
    #[test]
    fn the_ends_of_the_calendar_are_no_reason_to_panic() {
        for text in ["9999-12-31T23:59:59.999999999Z", "0000-01-01T00:00:00Z"] {
            let at = Timestamp::parse(text).unwrap();
            assert_eq!(Timestamp::parse(&at.to_string()), Ok(at), "{text}");
        }
        for text in ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59"] {
            assert_eq!(Timestamp::parse(text), Err(InvalidTimestamp), "{text}");
            let instant = OffsetDateTime::parse(text, &Rfc3339).unwrap();
            assert_eq!(Timestamp::from_datetime(instant).as_datetime().offset(), UtcOffset::UTC);
        }
        let now = Timestamp::parse("2026-11-23T10:20:30Z").unwrap();
        for seconds in [i64::MIN, i64::MAX] {
            let end = now.plus_seconds(seconds);
            assert_eq!(end > now, seconds > 0);
            assert!(end.seconds_since(now).is_finite());
        }
    }

    fn any_time() -> impl Strategy<Value = Timestamp> {
        // The years 1 to 9999, in nanoseconds.
        (-62_135_596_800_000_000_000i128..253_402_300_800_000_000_000).prop_map(|nanos| {
            Timestamp::from_datetime(OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap())
        })
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,40}|[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,12})?(Z|[+-][0-2][0-9]:[0-5][0-9])",
        ) {
            if let Ok(at) = Timestamp::parse(&text) {
                prop_assert_eq!(Timestamp::parse(&at.to_string()), Ok(at));
            }
        }

        #[test]
        fn text_and_json_read_back_equal(at in any_time()) {
            prop_assert_eq!(Timestamp::parse(&at.to_string()), Ok(at));
            let json = serde_json::to_string(&at).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
        }

        #[test]
        fn the_text_sorts_as_the_instant_does(one in any_time(), other in any_time()) {
            prop_assert_eq!(one.cmp(&other), one.to_string().cmp(&other.to_string()));
        }

        #[test]
        fn precision_is_that_of_the_database(at in any_time()) {
            prop_assert_eq!(at.as_datetime().nanosecond() % 1_000, 0);
            prop_assert_eq!(Timestamp::from_datetime(at.as_datetime()), at);
        }
    }
}
