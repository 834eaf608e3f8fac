//! `/metrics`: the series that exist from the start, and the gauges that are read for each scrape.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::extract::State;
use http::{HeaderName, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;

use super::AppState;
use super::catalogue::CATALOGUE;
use super::webhooks::ROUTES;
use crate::clock;
use crate::delivery::NotAuthentic;
use crate::domain::Timestamp;
use crate::hook::Hooks;
use crate::spool::Figures;
use crate::store::Session;
use crate::store::deliveries::Newest;
use crate::telemetry;

/// The statuses of answers to webhooks whose first occurrence must be visible.
const STATUSES: [u16; 4] = [200, 202, 500, 503];

/// Creates every series whose labels are known, with 0. `increase()` in Prometheus does not see the first event of a
/// series that begins with 1, and that event may be the only one. Returns the handle that renders the metrics.
pub fn begin(hooks: &Hooks) -> PrometheusHandle {
    let rendering = telemetry::metrics();
    for hook in hooks.values() {
        telemetry::begin_provider(hook.provider.slug());
        for refusal in NotAuthentic::ALL {
            telemetry::begin_not_authentic(&hook.path, refusal.as_str());
        }
    }
    for entry in &CATALOGUE {
        telemetry::begin_problem(entry.name);
    }
    for (route, status) in ROUTES.iter().flat_map(|route| STATUSES.map(|status| (*route, status))) {
        telemetry::begin_requests("POST", route, status);
    }
    telemetry::begin_totals();
    rendering
}

/// Renders the metrics in Prometheus's text format.
pub(super) async fn render(
    State(app): State<AppState>,
) -> (StatusCode, [(HeaderName, &'static str); 1], String) {
    let pools = [
        ("reads", app.connector.connections(&[Session::Lookup, Session::Reads])),
        ("writes", app.connector.connections(&[Session::Writer, Session::Lane])),
        ("registrations", app.connector.connections(&[Session::Registrations])),
    ];
    telemetry::set_gauges(app.ingest.depth(), &pools);
    for (hook, age) in app.newest.ages(clock::now()) {
        telemetry::set_newest_age(hook, age);
    }
    if let Some(spool) = &app.spool {
        let figures = spool.figures();
        let age = age(&figures).unwrap_or_default();
        let Figures { deliveries, bytes, refused, .. } = figures;
        telemetry::set_spool_gauges(deliveries, bytes, spool.max_bytes(), age, refused);
    }
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (StatusCode::OK, text, app.metrics.render())
}

/// How many seconds the oldest delivery has waited in the spool.
pub(super) fn age(figures: &Figures) -> Option<f64> {
    figures.oldest.map(|oldest| clock::now().seconds_since(oldest).max(0.0))
}

/// When each hook last received a delivery, from the database at the start and from what this process has accepted
/// since.
#[derive(Debug)]
pub struct NewestDeliveries {
    /// Seconds since 1970; 0 while unknown.
    by_hook: BTreeMap<Arc<str>, AtomicI64>,
    started: Timestamp,
}

impl NewestDeliveries {
    /// The state at the start: nothing is known about these hooks yet.
    pub fn of(hooks: &Hooks) -> Self {
        let by_hook = hooks.keys().map(|path| (path.clone(), AtomicI64::new(0))).collect();
        Self { by_hook, started: clock::now() }
    }

    /// Notes that a delivery that was received at that time was accepted.
    pub(super) fn note(&self, hook: &str, received_at: Timestamp) {
        if let Some(newest) = self.by_hook.get(hook) {
            newest.fetch_max(received_at.unix_seconds(), Ordering::Relaxed);
        }
    }

    /// Learns from the newest deliveries in the database. A hook that is not among them has had none since the oldest
    /// of them. If the database has no deliveries, the age counts from the start of this process.
    pub fn learn(&self, known: &Newest) {
        for path in self.by_hook.keys() {
            let newest = known.by_hook.get(&**path).copied();
            self.note(path, newest.or(known.back_to).unwrap_or(self.started));
        }
    }

    /// Seconds since the newest delivery of each hook for which it is known.
    fn ages(&self, now: Timestamp) -> impl Iterator<Item = (&str, f64)> {
        self.by_hook.iter().filter_map(move |(hook, newest)| {
            let newest = newest.load(Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "an age in seconds is far below 2^53")]
            (newest > 0).then(|| (&**hook, (now.unix_seconds() - newest).max(0) as f64))
        })
    }
}
