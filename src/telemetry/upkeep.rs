//! The metric of the upkeep of the tables.

use metrics::{describe_gauge, gauge};

use crate::domain::Timestamp;

const SUCCEEDED: &str = "esim_status_upkeep_success_timestamp_seconds";

/// Describes it.
pub(super) fn describe() {
    describe_gauge!(
        SUCCEEDED,
        "When an upkeep of the tables last succeeded, in seconds since 1970; the start before the first time"
    );
}

/// Sets when an upkeep has succeeded.
pub fn set_upkeep_success(upkeep: &'static str, at: Timestamp) {
    #[expect(clippy::cast_precision_loss, reason = "a time in seconds is far below 2^53")]
    gauge!(SUCCEEDED, "upkeep" => upkeep).set(at.unix_seconds() as f64);
}
