//! `/metrics`: the series that exist from the start, and the gauges that are read for each scrape.

use axum::extract::State;
use http::{HeaderName, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;

use super::AppState;
use super::catalogue::CATALOGUE;
use super::webhooks::ROUTES;
use crate::clock;
use crate::delivery::NotAuthentic;
use crate::hook::Hooks;
use crate::providers::Providers;
use crate::spool::Figures;
use crate::store::Session;
use crate::telemetry;

/// The statuses of answers to webhooks whose first occurrence must be visible.
const STATUSES: [u16; 7] = [200, 202, 408, 413, 415, 500, 503];

/// Creates every series whose labels are known, with 0. `increase()` in Prometheus does not see the first event of a
/// series that begins with 1, and that event may be the only one. Returns the handle that renders the metrics.
pub fn begin(hooks: &Hooks, providers: &Providers) -> PrometheusHandle {
    let rendering = telemetry::metrics();
    for hook in hooks.values() {
        telemetry::begin_provider(hook.provider.slug());
        telemetry::set_hook(&hook.path, 0, 0, 0.0);
        for refusal in NotAuthentic::ALL {
            telemetry::begin_not_authentic(&hook.path, refusal.as_str());
        }
    }
    for provider in providers.slugs() {
        telemetry::count_unknown_hook(provider, 0);
    }
    for entry in &CATALOGUE {
        telemetry::begin_problem(entry.name);
    }
    for (route, status) in ROUTES.iter().flat_map(|route| STATUSES.map(|status| (*route, status))) {
        telemetry::begin_requests("POST", route, status);
    }
    for result in ["accepted", "failed"] {
        telemetry::count_outgoing(result, 0);
    }
    telemetry::begin_totals();
    telemetry::begin_build_info();
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
        ("outgoing", app.connector.connections(&[Session::Outgoing])),
    ];
    telemetry::set_gauges(app.ingest.depth(), app.ingest.room(), &pools);
    for (hook, age) in app.tallies.ages(clock::now()) {
        telemetry::set_newest_age(hook, age);
    }
    if let Some(spool) = &app.spool {
        let figures = spool.figures();
        let age = age(&figures).unwrap_or_default();
        let Figures { deliveries, bytes, refused, .. } = figures;
        telemetry::set_spool_gauges(deliveries, bytes, spool.max_bytes(), age, refused);
        // Reads the folder, each time because an operator removes the files. The disk may be slow.
        let spool = spool.clone();
        let set_aside = tokio::task::spawn_blocking(move || spool.set_aside().len());
        telemetry::set_spool_set_aside(set_aside.await.unwrap_or_default());
    }
    let text = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (StatusCode::OK, text, app.metrics.render())
}

/// How many seconds the oldest delivery has waited in the spool.
pub(super) fn age(figures: &Figures) -> Option<f64> {
    figures.oldest.map(|oldest| clock::now().seconds_since(oldest).max(0.0))
}
