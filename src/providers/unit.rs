//! Event times in the units that providers use.

use serde::Deserialize;
use time::OffsetDateTime;

use super::json::Value;
use crate::domain::Timestamp;

/// How a provider writes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    /// `2026-11-23T10:20:30Z`; a zone is required.
    Rfc3339,
    /// Seconds since 1970, as a number or as text.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
}

/// The year before which no event can have happened, because there were no eSIMs that a user installs. A sender that
/// has no time writes 0, and one whose unit is another than declared is in 1970 too. Such a time must not order events:
/// all that come after it would be newer, and it would be older than all.
const FIRST_YEAR: i32 = 2010;

/// A number of more digits is no time in any unit.
const MAX_DIGITS: usize = 20;

impl Unit {
    /// Reads a time.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow on "it".
    pub(super) fn read(self, value: &Value) -> Result<Timestamp, &'static str> {
        let (Value::Text(text) | Value::Number(text)) = value else {
            return Err("is neither a text nor a number");
        };
        let at = match self {
            Self::Rfc3339 => Timestamp::parse(text)
                .map_err(|_| "is not an RFC 3339 date and time with a zone")?,
            Self::Seconds => since_1970(text, 1_000_000).ok_or("is no time in seconds")?,
            Self::Milliseconds => since_1970(text, 1_000).ok_or("is no time in milliseconds")?,
            Self::Microseconds => since_1970(text, 1).ok_or("is no time in microseconds")?,
        };
        if at.as_datetime().year() < FIRST_YEAR {
            return Err("is before there were eSIMs");
        }
        Ok(at)
    }

    /// Writes a time.
    pub(super) fn write(self, at: Timestamp) -> String {
        let nanoseconds = at.as_datetime().unix_timestamp_nanos();
        match self {
            Self::Rfc3339 => at.to_string(),
            Self::Seconds => at.unix_seconds().to_string(),
            Self::Milliseconds => (nanoseconds / 1_000_000).to_string(),
            Self::Microseconds => (nanoseconds / 1_000).to_string(),
        }
    }
}

/// Reads a count of units of this many microseconds. `None` if it is no plain decimal number, or beyond the calendar.
fn since_1970(text: &str, microseconds: i128) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| {
        (1..=MAX_DIGITS).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let millionths: i128 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    let whole: i128 = whole.parse().ok()?;
    let total = whole * microseconds + millionths * microseconds / 1_000_000;
    let instant = OffsetDateTime::from_unix_timestamp_nanos(total.checked_mul(1_000)?).ok()?;
    Some(Timestamp::from_datetime(instant))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNITS: [Unit; 4] = [Unit::Rfc3339, Unit::Seconds, Unit::Milliseconds, Unit::Microseconds];

    fn read(unit: Unit, text: &str) -> Result<String, &'static str> {
        let number = unit.read(&Value::Number(text.to_owned()));
        assert_eq!(number, unit.read(&Value::Text(text.to_owned())), "text and number differ");
        number.map(|at| at.to_string())
    }

    #[test]
    fn each_unit_is_read_as_text_and_as_a_number() {
        for (unit, text, at) in [
            (Unit::Rfc3339, "2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20.000000Z"),
            (Unit::Seconds, "1700000000", "2023-11-14T22:13:20.000000Z"),
            (Unit::Seconds, "1700000000.25", "2023-11-14T22:13:20.250000Z"),
            (Unit::Seconds, "1700000000.1234567", "2023-11-14T22:13:20.123456Z"),
            (Unit::Milliseconds, "1700000000250", "2023-11-14T22:13:20.250000Z"),
            (Unit::Milliseconds, "1700000000250.5", "2023-11-14T22:13:20.250500Z"),
            (Unit::Microseconds, "1700000000250001", "2023-11-14T22:13:20.250001Z"),
            (Unit::Microseconds, "1700000000250001.9", "2023-11-14T22:13:20.250001Z"),
        ] {
            assert_eq!(read(unit, text).as_deref(), Ok(at), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_or_can_be_none_of_an_event_is_refused() {
        for (unit, text) in [
            (Unit::Rfc3339, "2026-02-30T00:00:00Z"),
            (Unit::Rfc3339, "2026-11-23T10:20:30"),
            (Unit::Rfc3339, "infinity"),
            (Unit::Rfc3339, "1700000000"),
            (Unit::Rfc3339, "0001-01-01T00:00:00Z"),
            (Unit::Seconds, "0"),
            (Unit::Seconds, "-1700000000"),
            (Unit::Seconds, "+1700000000"),
            (Unit::Seconds, "1.7e9"),
            (Unit::Seconds, "1700000000."),
            (Unit::Seconds, ".5"),
            (Unit::Seconds, ""),
            (Unit::Seconds, " 1700000000"),
            (Unit::Seconds, "2026-11-23T10:20:30Z"),
            // Milliseconds: in seconds they are beyond the calendar.
            (Unit::Seconds, "1700000000000"),
            // Seconds: in milliseconds they are in 1970.
            (Unit::Milliseconds, "1700000000"),
            (Unit::Microseconds, "1700000000000"),
            (Unit::Seconds, "99999999999999999999"),
            (Unit::Seconds, "999999999999999999999999999999999999999999"),
        ] {
            assert!(read(unit, text).is_err(), "{unit:?} {text}");
        }
        for value in [Value::Null, Value::Bool(true), Value::Array(Vec::new())] {
            assert!(UNITS.iter().all(|unit| unit.read(&value).is_err()), "{value:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_in_the_precision_of_the_unit() {
        let at = Timestamp::parse("2026-11-23T10:20:30.123456Z").unwrap();
        for (unit, second) in [
            (Unit::Rfc3339, "30.123456"),
            (Unit::Seconds, "30.000000"),
            (Unit::Milliseconds, "30.123000"),
            (Unit::Microseconds, "30.123456"),
        ] {
            assert_eq!(read(unit, &unit.write(at)), Ok(format!("2026-11-23T10:20:{second}Z")));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9]{0,45}(\\.[0-9]{0,45})?|.{0,30}", unit in 0..4usize) {
            if let Ok(at) = read(UNITS[unit], &text) {
                prop_assert!(at.as_str() >= "2010");
            }
        }
    }
}
