//! The one place that reads the clock.

use time::OffsetDateTime;

use crate::domain::Timestamp;

/// The time now.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock is read here, once per request, and handed down"
)]
pub fn now() -> Timestamp {
    Timestamp::from_datetime(OffsetDateTime::now_utc())
}
