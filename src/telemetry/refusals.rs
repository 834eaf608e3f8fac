//! The metrics of what is refused before a hook has it.

use metrics::{counter, describe_counter};

const UNKNOWN_HOOKS: &str = "esim_status_unknown_hooks_total";
const CONNECTIONS: &str = "esim_status_connections_refused_total";

/// Describes them.
pub(super) fn describe() {
    describe_counter!(CONNECTIONS, "Connections and requests refused before HTTP, by reason");
    describe_counter!(UNKNOWN_HOOKS, "Webhooks of a known provider to a path without a hook");
}

/// Counts what the listener has refused before a request was complete.
pub fn count_connections_refused(reason: &'static str, number: u64) {
    counter!(CONNECTIONS, "reason" => reason).increment(number);
}

/// Counts a webhook to a path without a hook. Only known providers are counted, so the label is bounded.
pub fn count_unknown_hook(provider: &str, number: u64) {
    counter!(UNKNOWN_HOOKS, "provider" => provider.to_owned()).increment(number);
}
