//! The metrics of the spool.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::exact;

const SPOOLED: &str = "esim_status_spooled_total";
const DRAINED: &str = "esim_status_spool_drained_total";
const ALREADY_WRITTEN: &str = "esim_status_spool_already_written_total";
const REFUSED: &str = "esim_status_spool_refused_total";
const DELIVERIES: &str = "esim_status_spool_deliveries";
const BYTES: &str = "esim_status_spool_bytes";
const LIMIT: &str = "esim_status_spool_limit_bytes";
const AGE: &str = "esim_status_spool_oldest_age_seconds";
const KEPT_REFUSED: &str = "esim_status_spool_refused_deliveries";
const SET_ASIDE: &str = "esim_status_spool_set_aside_files";

/// Describes them.
pub(super) fn describe() {
    describe_counter!(
        SPOOLED,
        "Deliveries written to the spool because the database was unavailable or the spool was not empty"
    );
    describe_counter!(DRAINED, "Deliveries written from the spool to the database");
    describe_counter!(
        ALREADY_WRITTEN,
        "Deliveries in the spool that were in the database already, and were skipped"
    );
    describe_counter!(REFUSED, "Deliveries in the spool that could not be written to the database");
    describe_gauge!(DELIVERIES, "Deliveries that wait in the spool");
    describe_gauge!(BYTES, "Bytes of the deliveries that wait in the spool");
    describe_gauge!(LIMIT, "Max bytes of deliveries that may wait in the spool");
    describe_gauge!(
        AGE,
        "Seconds since the oldest delivery in the spool was received; 0 if none waits"
    );
    describe_gauge!(KEPT_REFUSED, "Deliveries in the spool's table `refused`");
    describe_gauge!(SET_ASIDE, "Damaged files of the spool that were set aside");
}

/// Creates the counters with 0.
pub(super) fn begin() {
    for name in [SPOOLED, DRAINED, ALREADY_WRITTEN, REFUSED] {
        counter!(name).increment(0);
    }
}

/// Counts deliveries that were written to the spool instead of the database.
pub fn count_spooled(deliveries: usize) {
    counter!(SPOOLED).increment(deliveries as u64);
}

/// Counts deliveries from the spool that were committed to the database.
pub fn count_drained(deliveries: usize) {
    counter!(DRAINED).increment(deliveries as u64);
}

/// Counts deliveries from the spool that had been committed before.
pub fn count_already_written(deliveries: usize) {
    counter!(ALREADY_WRITTEN).increment(deliveries as u64);
}

/// Counts a delivery from the spool that cannot be written to the database.
pub fn count_spool_refused() {
    counter!(REFUSED).increment(1);
}

/// Sets the gauges of the spool. They exist only if there is a spool.
pub fn set_spool_gauges(deliveries: u64, bytes: u64, limit: u64, age: f64, refused: u64) {
    // Counts this small are exact in a float.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let float = |count: u64| count as f64;
    gauge!(DELIVERIES).set(float(deliveries));
    gauge!(BYTES).set(float(bytes));
    gauge!(LIMIT).set(float(limit));
    gauge!(AGE).set(age);
    gauge!(KEPT_REFUSED).set(float(refused));
}

/// Sets the number of damaged files that lie beside the spool.
pub fn set_spool_set_aside(files: usize) {
    gauge!(SET_ASIDE).set(exact(files));
}
