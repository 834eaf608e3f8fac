//! The metrics of what is refused, or does not come, before a hook has it.

use metrics::{counter, describe_counter};

const UNKNOWN_HOOKS: &str = "esim_status_unknown_hooks_total";
const CONNECTIONS: &str = "esim_status_connections_refused_total";
const NOT_READY: &str = "esim_status_not_ready_total";

/// Why the service is not ready, other than that it shuts down.
#[derive(Debug, Clone, Copy)]
pub enum NotReady {
    /// The database fails or does not answer, and there is no spool.
    Database,
    /// The spool accepts nothing, and the database is away or deliveries still go to the spool.
    Spool,
}

/// Describes them.
pub(super) fn describe() {
    describe_counter!(CONNECTIONS, "Connections and requests refused before HTTP, by reason");
    describe_counter!(NOT_READY, "Answers 503 of /readyz, without those of a shutdown, by reason");
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

/// Creates the series of `/readyz` with 0.
pub(super) fn begin() {
    for reason in [NotReady::Database, NotReady::Spool] {
        count_not_ready(reason, 0);
    }
}

/// Counts an answer of `/readyz` that keeps webhooks away from this replica.
pub fn count_not_ready(reason: NotReady, number: u64) {
    let reason = match reason {
        NotReady::Database => "database",
        NotReady::Spool => "spool",
    };
    counter!(NOT_READY, "reason" => reason).increment(number);
}
