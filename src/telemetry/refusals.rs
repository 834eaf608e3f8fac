//! The metrics of what is refused before a hook has it.

use metrics::{counter, describe_counter};

const CONNECTIONS: &str = "esim_status_connections_refused_total";

/// Describes them.
pub(super) fn describe() {
    describe_counter!(CONNECTIONS, "Connections and requests refused before HTTP, by reason");
}

/// Counts what the listener has refused before a request was complete.
pub fn count_connections_refused(reason: &'static str, number: u64) {
    counter!(CONNECTIONS, "reason" => reason).increment(number);
}
