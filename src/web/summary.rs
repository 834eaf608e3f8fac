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
use crate::budget;
use crate::domain::{Outcome, ProfileState, Timestamp};
use crate::store::summary::{self, DayCount, StateCount, Stuck};

/// How many days of deliveries are counted by default.
const DAYS: i64 = 7;

/// The max stuck profiles that are listed.
const STUCK_SHOWN: i64 = 50;

/// Counts of profiles and deliveries.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Profiles by provider and state.
    states: Vec<StateView>,
    /// Deliveries by day, provider and outcome.
    days: Vec<DayView>,
    /// The first day that was counted. Only present if counting took too long; then older days are missing from `days`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-11-23")]
    days_since: Option<String>,
    /// The profiles that have been stuck longest, at most 50. A profile is stuck if its install failed, if it has been
    /// downloaded for more than an hour, or if it has been in preparation for more than a day.
    stuck: Vec<StuckView>,
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
    let counted = app.scan(async |connection| {
        let states = summary::count_states(connection).await?;
        let stuck = summary::list_stuck(connection, now, STUCK_SHOWN).await?;
        Ok((states, summary::count_days(connection, since, now, budget::COUNTING).await?, stuck))
    });
    let (states, days, stuck) = counted.await?;
    Ok(Json(Summary {
        states: states.into_iter().map(Into::into).collect(),
        days: days.counts.into_iter().map(Into::into).collect(),
        days_since: days.since.map(|since| since.as_datetime().date().to_string()),
        stuck: stuck.into_iter().map(Into::into).collect(),
    }))
}
