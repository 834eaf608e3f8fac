//! The admin listener: liveness, readiness and metrics.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use sqlx::Connection;

use super::AppState;
use super::middleware::{method_not_allowed, unknown_path};
use super::problem::{Code, Problem};
use super::{metrics, wrap};
use crate::budget;
use crate::spool::Figures;
use crate::telemetry::{self, NotReady};

/// The routes of the admin listener. They need no credentials, so the listener must not be reachable from the internet.
pub fn routes(app: AppState) -> Router {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::render))
        .fallback(unknown_path)
        .method_not_allowed_fallback(method_not_allowed);
    wrap(routes, app)
}

/// Succeeds if the process can answer. It does not check the database, because restarting the service does not fix a
/// database.
async fn livez() -> &'static str {
    "ok\n"
}

/// Succeeds if the service can accept work: it is not draining, and either the database answers or the spool has room. While
/// deliveries still go to the spool, it must have room although the database answers.
/// Without the database nothing can be read, but a replica that is not ready would get no webhooks and could not store
/// them in its spool.
async fn readyz(State(app): State<AppState>) -> Result<String, Problem> {
    if app.draining.has_begun() {
        return Err(Problem::because(Code::Unavailable, "the service is shutting down"));
    }
    let waiting = app.spool.as_ref().map(|spool| waiting(&spool.figures())).unwrap_or_default();
    match (ask_database(&app).await, &app.spool) {
        (Ok(()), _) if app.ingest.is_blocked() => {
            telemetry::count_not_ready(NotReady::Spool, 1);
            let why = "deliveries go to the spool, which accepts none; see the log";
            Err(Problem::because(Code::Unavailable, why))
        }
        (Ok(()), _) => Ok(format!("ready{waiting}\n")),
        (Err(_), Some(spool)) if spool.accepts() => {
            Ok(format!("ready for webhooks only: the database is away{waiting}\n"))
        }
        (Err(problem), spool) => {
            let reason = if spool.is_some() { NotReady::Spool } else { NotReady::Database };
            telemetry::count_not_ready(reason, 1);
            Err(problem)
        }
    }
}

/// Describes the deliveries that wait in the spool; empty if there are none.
fn waiting(figures: &Figures) -> String {
    let Some(age) = metrics::age(figures) else { return String::new() };
    format!("; {} deliveries wait in the spool, the oldest for {age:.0} s", figures.deliveries)
}

async fn ask_database(app: &AppState) -> Result<(), Problem> {
    let asked = app.probe.run(async |connection| Ok(connection.ping().await?));
    match tokio::time::timeout(budget::READINESS, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "not ready: the database fails"
            );
            Err(Problem::because(Code::Unavailable, "the database failed; see the log"))
        }
        Err(_) => {
            tracing::warn!("not ready: the database does not answer");
            Err(Problem::because(Code::Unavailable, "the database does not answer"))
        }
    }
}
