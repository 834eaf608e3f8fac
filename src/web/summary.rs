//! Counts of profiles and deliveries, and the profiles that seem stuck.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::callers::Backend;
use super::extract::Params;
use super::middleware::ReceivedAt;
use super::problem::{Problem, ProblemDocument};
use crate::domain::{Outcome, ProfileState, Timestamp};
use crate::store::summary::{self, DayCount, Days, StateCount, Stuck};

/// How many days of deliveries are counted by default.
const DAYS: i64 = 7;

/// The max stuck profiles that are listed.
const STUCK_SHOWN: i64 = 50;

/// Counts of profiles and deliveries.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Profiles by provider and state.
    #[serde(skip_serializing_if = "Option::is_none")]
    states: Option<Vec<StateView>>,
    /// Deliveries by day, provider and outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<Vec<DayView>>,
    /// The first day in `days` that has been counted. Only present after an upgrade, until the service has counted the
    /// earlier days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-11-23")]
    days_since: Option<String>,
    /// The profiles that have been stuck longest, at most 50. A profile is stuck if its install failed, if it has been
    /// downloaded for more than an hour, or if it has been in preparation for more than a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck: Option<Vec<StuckView>>,
    /// The parts (`states`, `days`, `stuck`) that could not be read and are left out. Only present if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<&'static str>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StateCount)]
#[serde(rename_all = "camelCase")]
struct StateView {
    provider: String,
    state: ProfileState,
    profiles: i64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DayCount)]
#[serde(rename_all = "camelCase")]
struct DayView {
    /// The day in UTC.
    #[schema(example = "2026-11-23")]
    day: String,
    provider: String,
    outcome: Outcome,
    deliveries: i64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StuckProfile)]
#[serde(rename_all = "camelCase")]
struct StuckView {
    iccid: String,
    provider: String,
    state: ProfileState,
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

impl From<StateCount> for StateView {
    fn from(count: StateCount) -> Self {
        Self { provider: count.provider, state: count.state, profiles: count.profiles }
    }
}

impl From<DayCount> for DayView {
    fn from(count: DayCount) -> Self {
        let DayCount { day, provider, outcome, deliveries } = count;
        Self { day, provider, outcome, deliveries }
    }
}

impl From<Stuck> for StuckView {
    fn from(stuck: Stuck) -> Self {
        let Stuck { iccid, provider, state, since } = stuck;
        Self { iccid: iccid.as_str().to_owned(), provider, state, since }
    }
}

/// Counts profiles by state and deliveries by day, each by provider, and lists the profiles that seem stuck.
#[utoipa::path(
    get, path = "/v1/summary", tag = "summary",
    security(("apiKey" = [])),
    params(("days" = Option<i64>, Query, minimum = 1, maximum = 90, description = "How many days of deliveries to count; default 7")),
    responses(
        (status = 200, body = Summary),
        (status = 400, body = ProblemDocument, description = "`invalid-parameter`"),
        (status = 401, body = ProblemDocument, description = "`unauthenticated`"),
        (status = 403, body = ProblemDocument, description = "`forbidden`"),
        (status = 503, body = ProblemDocument, description = "`unavailable`"),
    )
)]
pub async fn show(
    State(app): State<AppState>,
    _: Backend,
    ReceivedAt(now): ReceivedAt,
    mut params: Params,
) -> Result<Json<Summary>, Problem> {
    let days = params.take("days", |text| match text.parse() {
        Ok(days @ 1..=90) => Ok(days),
        _ => Err("must be a number from 1 to 90"),
    })?;
    params.finish()?;
    let since = now.plus_seconds(-86_400 * days.unwrap_or(DAYS));
    // While a table is locked, summaries take long, and must leave connections to the other reads.
    let read =
        app.scan(async |connection| summary::read(connection, since, now, STUCK_SHOWN).await);
    let summary::Summary { states, days, stuck } = read.await?;
    let missing =
        [("states", states.is_none()), ("days", days.is_none()), ("stuck", stuck.is_none())];
    let (days, days_since) = days.map(|Days { counts, since }| (counts, since)).unzip();
    Ok(Json(Summary {
        states: states.map(views),
        days: days.map(views),
        days_since: days_since.flatten().map(|day| day.to_string()),
        stuck: stuck.map(views),
        missing: missing.into_iter().filter(|(_, is)| *is).map(|(part, _)| part).collect(),
    }))
}

fn views<T, V: From<T>>(rows: Vec<T>) -> Vec<V> {
    rows.into_iter().map(Into::into).collect()
}
