//! The metrics of outgoing webhooks.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::domain::DisabledBecause;

const OUTGOING: &str = "esim_status_outgoing_total";
const BEHIND: &str = "esim_status_endpoint_behind_seconds";
const FAILING: &str = "esim_status_endpoint_failing_seconds";
const HELD: &str = "esim_status_endpoint_held_profiles";
const DISABLED: &str = "esim_status_endpoint_disabled";
const GIVEN_UP: &str = "esim_status_endpoint_given_up_changes";

/// Describes them.
pub(super) fn describe() {
    describe_counter!(OUTGOING, "Requests to endpoints, by result");
    describe_gauge!(BEHIND, "Age of the oldest change that an endpoint has not got");
    describe_gauge!(FAILING, "For how long an endpoint has accepted nothing");
    describe_gauge!(
        HELD,
        "Profiles whose changes an endpoint does not accept, while it accepts those of others"
    );
    describe_gauge!(DISABLED, "1 if the endpoint was disabled for this reason");
    describe_gauge!(
        GIVEN_UP,
        "Changes that an endpoint has never accepted, and that were given up"
    );
}

/// Counts requests to endpoints.
pub fn count_outgoing(result: &'static str, requests: usize) {
    counter!(OUTGOING, "result" => result).increment(requests as u64);
}

/// How an endpoint does.
#[derive(Debug, Clone, Copy, Default)]
pub struct EndpointGauges {
    /// Age of the oldest change that it has not got, in seconds.
    pub behind: f64,
    /// For how many seconds it has accepted nothing.
    pub failing: f64,
    /// The profiles whose changes it does not accept.
    pub held: i64,
    /// The changes that were given up.
    pub given_up: i64,
    /// Why nothing is delivered to it.
    pub disabled: Option<DisabledBecause>,
}

/// Sets the gauges of an endpoint. A backend can have 100 of them at a time.
pub fn set_endpoint(id: &str, gauges: EndpointGauges) {
    let labels = [("endpoint", id.to_owned())];
    gauge!(BEHIND, &labels).set(gauges.behind.max(0.0));
    gauge!(FAILING, &labels).set(gauges.failing.max(0.0));
    gauge!(HELD, &labels).set(super::exact(gauges.held));
    gauge!(GIVEN_UP, &labels).set(super::exact(gauges.given_up));
    for because in DisabledBecause::ALL {
        let is_it = u32::from(gauges.disabled == Some(because));
        gauge!(DISABLED, "endpoint" => id.to_owned(), "because" => because.as_str()).set(is_it);
    }
}
