//! Logs, metrics and traces: the log subscriber, the name, labels and meaning of every metric in one place, and every span.
//!
//! No secret, IMSI, EID, activation code or complete ICCID is ever a field, a label or an attribute.

mod build;

mod log;

mod json;

mod endpoints;

mod refusals;

mod request;

mod requests;

mod otlp;

mod spans;

mod spool;

mod sampling;

mod trace_context;

mod delivery_trace;

mod seldom;

mod upkeep;

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use build::{begin_build_info, version};
pub use delivery_trace::DeliveryTrace;
pub use endpoints::{EndpointGauges, count_outgoing, set_endpoint};
pub use log::{LogFormat, log_to_stderr};
pub use otlp::{Exporting, export};
pub use refusals::{NotReady, count_connections_refused, count_not_ready, count_unknown_hook};
pub use request::RequestLabel;
pub use requests::{begin_requests, record_request};
pub use seldom::{INTERVAL, Seldom};
pub use spans::{Span, current_trace, statement};
pub use spool::{
    count_already_written, count_drained, count_spool_refused, count_spooled, set_spool_gauges,
    set_spool_set_aside,
};
pub use trace_context::TraceContext;
pub use upkeep::set_upkeep_success;

use crate::domain::{Advance, Milestone, Outcome, OverdueReason, ProfileState, TransitionKind};

const DELIVERIES: &str = "esim_status_deliveries_total";
const TRANSITIONS: &str = "esim_status_transitions_total";
const MILESTONES: &str = "esim_status_milestones_total";
const INSTALLS: &str = "esim_status_install_duration_seconds";
const OVERDUE: &str = "esim_status_overdue_total";
const HOOK_ACCEPTED: &str = "esim_status_hook_accepted";
const HOOK_REFUSED: &str = "esim_status_hook_refused";
const HOOK_USUAL: &str = "esim_status_hook_usual";
const SMDP_TRIED: &str = "esim_status_smdp_tried";
const SMDP_ARRIVED: &str = "esim_status_smdp_arrived";
const INQUIRIES: &str = "esim_status_inquiries_total";
const UNKNOWN_WORDS: &str = "esim_status_unknown_words_total";
const UNAPPLIED: &str = "esim_status_unapplied_total";
const REUSED_IDS: &str = "esim_status_reused_event_ids_total";
const TO_REREAD: &str = "esim_status_deliveries_to_reread";
const REFUSED: &str = "esim_status_not_authentic_total";
const PROBLEMS: &str = "esim_status_problems_total";
const BATCH_SIZE: &str = "esim_status_batch_deliveries";
const COMMITS: &str = "esim_status_commit_duration_seconds";
const QUEUE: &str = "esim_status_queue_deliveries";
const QUEUE_ROOM: &str = "esim_status_queue_room_deliveries";
const POOL: &str = "esim_status_pool_connections";
const STREAMS: &str = "esim_status_streams";
const NEWEST: &str = "esim_status_newest_delivery_age_seconds";
const GIVEN_UP: &str = "esim_status_connections_given_up_total";
const LOOKED_UP: &str = "esim_status_commits_looked_up_total";

const SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// From a minute to a month.
const INSTALL_SECONDS: [f64; 9] =
    [60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0];
const COUNTS: [f64; 8] = [1.0, 2.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0];

/// The handle that renders the metrics of this process. The first call starts collecting them.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(collect).clone()
}

fn collect() -> PrometheusHandle {
    let builder = PrometheusBuilder::new();
    let recorder = builder
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full(BATCH_SIZE.to_owned()), &COUNTS)
        })
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Full(INSTALLS.to_owned()), &INSTALL_SECONDS)
        })
        .map_or_else(
            |_| PrometheusBuilder::new().build_recorder(),
            PrometheusBuilder::build_recorder,
        );
    let handle = recorder.handle();
    // Another recorder exists only if this crate is part of another program, which then collects the metrics.
    drop(metrics::set_global_recorder(recorder));
    endpoints::describe();
    refusals::describe();
    requests::describe();
    spool::describe();
    upkeep::describe();
    describe_counter!(DELIVERIES, "Authentic deliveries committed, by provider and outcome");
    describe_counter!(TRANSITIONS, "Transitions appended, by provider, state and kind");
    describe_counter!(
        MILESTONES,
        "Profiles that came so far for the first time, by provider and milestone"
    );
    describe_histogram!(INSTALLS, "Time from ready to installed, by provider");
    describe_counter!(OVERDUE, "Profiles found to be overdue, by provider and reason");
    describe_gauge!(
        HOOK_ACCEPTED,
        "Webhooks of a hook that all replicas accepted since the hour before this one began"
    );
    describe_gauge!(HOOK_REFUSED, "Those that could not be authenticated");
    describe_gauge!(
        HOOK_USUAL,
        "Webhooks that the hook accepted in that hour of the last weeks on average; 0 if unknown"
    );
    describe_gauge!(
        SMDP_TRIED,
        "The last profiles, at most 20, that tried to install from an SM-DP+ within a day"
    );
    describe_gauge!(SMDP_ARRIVED, "Of these, those that are on a device");
    describe_counter!(INQUIRIES, "Questions to a provider's API, by provider and result");
    describe_counter!(UNKNOWN_WORDS, "State words that the provider's adapter does not know");
    describe_counter!(
        UNAPPLIED,
        "Webhooks kept without their profile, which cannot be read or written"
    );
    describe_counter!(REUSED_IDS, "Webhooks with an event id that came before with another body");
    describe_gauge!(TO_REREAD, "Webhooks that are kept and not applied until they are read again");
    describe_counter!(REFUSED, "Webhooks that could not be authenticated, by hook and reason");
    describe_counter!(PROBLEMS, "Answers with a problem document, by code");
    describe_histogram!(BATCH_SIZE, "Deliveries in one batch of a writer");
    describe_histogram!(COMMITS, "Duration of writing a batch, including its commit");
    describe_gauge!(QUEUE, "Deliveries that wait for a writer");
    describe_gauge!(QUEUE_ROOM, "Max deliveries that may wait, at the database's present speed");
    describe_gauge!(POOL, "Database connections, by pool and use");
    describe_gauge!(STREAMS, "Open live streams");
    describe_gauge!(
        NEWEST,
        "Seconds since the newest delivery of a hook, as far as this process knows"
    );
    describe_counter!(
        GIVEN_UP,
        "Connections of the writers that were given up, and whose last statement may still have run"
    );
    describe_counter!(
        LOOKED_UP,
        "Batches whose commit was not confirmed, but was found in the database"
    );
    handle
}

/// Creates the series of a provider with 0.
pub fn begin_provider(provider: &'static str) {
    for outcome in Outcome::ALL {
        count_deliveries(provider, outcome, 0);
    }
    for state in ProfileState::ALL {
        for kind in [TransitionKind::Normal, TransitionKind::Unexpected, TransitionKind::Late] {
            count_transitions(provider, state, kind, 0);
        }
    }
    for milestone in Milestone::ALL {
        count_milestone(provider, milestone, 0);
    }
    drop(histogram!(INSTALLS, "provider" => provider));
    for reason in OverdueReason::ALL {
        count_overdue(provider, reason, 0);
    }
    for result in INQUIRY_RESULTS {
        counter!(INQUIRIES, "provider" => provider, "result" => result).increment(0);
    }
    counter!(UNKNOWN_WORDS, "provider" => provider).increment(0);
    counter!(UNAPPLIED, "provider" => provider).increment(0);
    counter!(REUSED_IDS, "provider" => provider).increment(0);
    set_to_reread(provider, 0, 0);
}

/// Sets how many deliveries of a provider wait to be read again: those that could not be applied, and those under the event id of others.
pub fn set_to_reread(provider: &'static str, unapplied: i64, reused_ids: i64) {
    for (why, count) in [("unapplied", unapplied), ("reused-event-id", reused_ids)] {
        gauge!(TO_REREAD, "provider" => provider, "why" => why).set(exact(count));
    }
}

/// Creates the series of a hook and a reason with 0.
pub fn begin_not_authentic(hook: &str, reason: &'static str) {
    counter!(REFUSED, "hook" => hook.to_owned(), "reason" => reason).increment(0);
}

/// Creates the series of a problem with 0.
pub fn begin_problem(code: &'static str) {
    counter!(PROBLEMS, "code" => code).increment(0);
}

/// Creates the series without labels with 0.
pub fn begin_totals() {
    for name in [GIVEN_UP, LOOKED_UP] {
        counter!(name).increment(0);
    }
    gauge!(STREAMS).increment(0.0);
    drop((histogram!(BATCH_SIZE), histogram!(COMMITS)));
    otlp::begin_lost();
    refusals::begin();
    spool::begin();
}

/// Counts committed deliveries.
pub fn count_deliveries(provider: &'static str, outcome: Outcome, number: u64) {
    let outcome = outcome.as_str();
    counter!(DELIVERIES, "provider" => provider, "outcome" => outcome).increment(number);
}

/// Counts committed transitions.
pub fn count_transitions(
    provider: &'static str,
    state: ProfileState,
    kind: TransitionKind,
    number: u64,
) {
    let (state, kind) = (state.as_str(), kind.as_str());
    counter!(TRANSITIONS, "provider" => provider, "state" => state, "kind" => kind)
        .increment(number);
}

/// Counts what a profile has newly reached.
pub fn count_advance(provider: &str, advance: Advance) {
    for milestone in advance.milestones() {
        count_milestone(provider, milestone, 1);
    }
    if let Some(took) = advance.took {
        histogram!(INSTALLS, "provider" => provider.to_owned()).record(took.seconds());
    }
}

/// Counts profiles that have come so far for the first time.
pub fn count_milestone(provider: &str, milestone: Milestone, number: u64) {
    let labels = [("provider", provider.to_owned()), ("milestone", milestone.as_str().to_owned())];
    counter!(MILESTONES, &labels).increment(number);
}

/// Counts profiles that were found to be overdue.
pub fn count_overdue(provider: &str, reason: OverdueReason, number: u64) {
    counter!(OVERDUE, "provider" => provider.to_owned(), "reason" => reason.as_str())
        .increment(number);
}

/// What becomes of a question to a provider's API: `news` and `same` were applied, `overtaken` by a webhook, `unknown` to the
/// provider, `gone` since, and `failed` if there was no answer.
const INQUIRY_RESULTS: [&str; 6] = ["news", "same", "overtaken", "unknown", "gone", "failed"];

/// Counts a question to a provider's API.
pub fn count_inquiry(provider: &'static str, result: &'static str) {
    counter!(INQUIRIES, "provider" => provider, "result" => result).increment(1);
}

/// Counts a report that was kept and not applied: its word is not known, or else its profile cannot be read or written.
pub fn count_unrecognised(provider: &'static str, is_word_unknown: bool) {
    let name = if is_word_unknown { UNKNOWN_WORDS } else { UNAPPLIED };
    counter!(name, "provider" => provider).increment(1);
}

/// Counts a webhook that was kept and not applied, because its event id came before with another body.
pub fn count_reused_event_id(provider: &'static str) {
    counter!(REUSED_IDS, "provider" => provider).increment(1);
}

/// Counts a webhook that could not be authenticated. Only configured hooks are counted, so the label is bounded.
pub fn count_not_authentic(hook: &str, reason: &'static str) {
    counter!(REFUSED, "hook" => hook.to_owned(), "reason" => reason).increment(1);
}

/// Counts an answer that is a problem document.
pub fn count_problem(code: &'static str) {
    counter!(PROBLEMS, "code" => code).increment(1);
}

/// Records the number of deliveries in a writer's batch.
pub fn record_batch(deliveries: usize) {
    // Counts this small are exact in a float.
    histogram!(BATCH_SIZE).record(u32::try_from(deliveries).unwrap_or(u32::MAX));
}

/// Records how long a committed batch took.
pub fn record_commit(took: Duration) {
    histogram!(COMMITS).record(took);
}

/// Counts live streams: positive for opened ones, negative for ended ones.
pub fn count_stream(more: f64) {
    gauge!(STREAMS).increment(more);
}

/// Sets the gauges that are read for each scrape. Each pool has the numbers of its open connections and of those in
/// use.
pub fn set_gauges(queue: usize, room: usize, pools: &[(&'static str, (usize, usize))]) {
    gauge!(QUEUE).set(exact(queue));
    gauge!(QUEUE_ROOM).set(exact(room));
    for (pool, (open, busy)) in pools {
        gauge!(POOL, "pool" => *pool, "use" => "open").set(exact(*open));
        gauge!(POOL, "pool" => *pool, "use" => "idle").set(exact(open.saturating_sub(*busy)));
    }
}

/// A count as a gauge takes it: one that a float has exactly.
fn exact(count: impl TryInto<u32>) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}

/// Sets the age of the newest delivery of a hook. Only configured hooks have one, so the label is bounded.
pub fn set_newest_age(hook: &str, age: f64) {
    gauge!(NEWEST, "hook" => hook.to_owned()).set(age);
}

/// Sets what came by a hook since the hour before this one began, over all replicas, and what is usual in that hour.
pub fn set_hook(hook: &str, accepted: i64, refused: i64, usual: f64) {
    let labels = [("hook", hook.to_owned())];
    gauge!(HOOK_ACCEPTED, &labels).set(exact(accepted));
    gauge!(HOOK_REFUSED, &labels).set(exact(refused));
    gauge!(HOOK_USUAL, &labels).set(usual);
}

/// Sets what became of the last installs from an SM-DP+. The caller bounds the number of hosts.
pub fn set_smdp(host: &str, tried: i64, arrived: i64) {
    let labels = [("host", host.to_owned())];
    gauge!(SMDP_TRIED, &labels).set(exact(tried));
    gauge!(SMDP_ARRIVED, &labels).set(exact(arrived));
}

/// Counts a connection that a writer has given up because it failed or did not answer.
pub fn count_connection_given_up() {
    counter!(GIVEN_UP).increment(1);
}

/// Counts a commit that was not confirmed, but was found in the database.
pub fn count_commit_looked_up() {
    counter!(LOOKED_UP).increment(1);
}
