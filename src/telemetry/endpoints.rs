//! The metrics of outgoing webhooks.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const OUTGOING: &str = "esim_status_outgoing_total";
const BEHIND: &str = "esim_status_endpoint_behind_seconds";
const FAILING: &str = "esim_status_endpoint_failing_seconds";
const HELD: &str = "esim_status_endpoint_held_profiles";

/// Describes them.
pub(super) fn describe() {
    describe_counter!(OUTGOING, "Requests to endpoints, by result");
    describe_gauge!(
        BEHIND,
        "Age of the oldest change that an endpoint has not got; 0 on replicas that do not serve it"
    );
    describe_gauge!(FAILING, "For how long an endpoint has accepted nothing");
    describe_gauge!(
        HELD,
        "Profiles whose changes an endpoint does not accept, while it accepts those of others"
    );
}

/// Counts requests to endpoints.
pub fn count_outgoing(result: &'static str, requests: usize) {
    counter!(OUTGOING, "result" => result).increment(requests as u64);
}

/// Sets the gauges of an endpoint. A backend can have 100 of them at a time; those that it has deleted stay at 0 until the restart.
pub fn set_endpoint(id: &str, behind: f64, failing: f64, held: i64) {
    let labels = [("endpoint", id.to_owned())];
    gauge!(BEHIND, &labels).set(behind.max(0.0));
    gauge!(FAILING, &labels).set(failing.max(0.0));
    gauge!(HELD, &labels).set(super::exact(held));
}
