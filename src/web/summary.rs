//! Counts of profiles and deliveries, how far profiles come, and the profiles that seem stuck.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::callers::Backend;
use super::extract::Params;
use super::problem::{Problem, Refusals};
use crate::domain::{Milestone, Outcome, ProfileState, Timestamp, Took};
use crate::store::funnel::{self, DayFunnel};
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
    /// How far profiles come, by provider and the day in UTC on which they were ready to be installed. Profiles that were not
    /// reported as ready before they were on a device are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    funnel: Option<Vec<FunnelView>>,
    /// The profiles that have been stuck longest, at most 50. A profile is stuck if its install failed, if it has been
    /// downloaded for more than an hour, or if it has been in preparation for more than a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck: Option<Vec<StuckView>>,
    /// The parts (`states`, `days`, `funnel`, `stuck`) that could not be read and are left out. Only present if there are any.
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

/// How far the profiles of one provider have come that were ready on one day. Each number counts profiles once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DayFunnel)]
#[serde(rename_all = "camelCase")]
pub(super) struct FunnelView {
    /// The day in UTC.
    #[schema(example = "2026-11-23")]
    pub(super) day: String,
    pub(super) provider: String,
    /// How many could be installed.
    pub(super) ready: i64,
    /// How many users opened the page. A page that was opened before its profile was ready counts on the day on which it was
    /// opened.
    pub(super) opened: i64,
    /// How many users tapped the link that opens the phone's own setup.
    pub(super) link_tapped: i64,
    /// How many users were shown the QR code.
    pub(super) qr_shown: i64,
    /// How many a device has downloaded, as was reported or follows from an install.
    pub(super) downloaded: i64,
    /// How many were installed, as was reported or follows from a connection.
    pub(super) installed: i64,
    /// How many were connected to a mobile network.
    pub(super) connected: i64,
    /// How long it took from ready to installed; null if no install was reported.
    pub(super) seconds_to_install: Option<TimesView>,
}

/// How long installs took, in seconds, to within 5 %.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InstallTimes)]
pub(super) struct TimesView {
    /// Half of them took no longer.
    pub(super) p50: u64,
    /// Nine of ten took no longer.
    pub(super) p90: u64,
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

impl From<DayFunnel> for FunnelView {
    fn from(funnel: DayFunnel) -> Self {
        let DayFunnel { day, provider, reached, times } = funnel;
        let count = |milestone| {
            reached.iter().find(|(it, _)| *it == milestone).map_or(0, |(_, profiles)| *profiles)
        };
        let quantile = |share| Took::quantile(&times, share).map(whole_seconds);
        Self {
            day,
            provider,
            ready: count(Milestone::Ready),
            opened: count(Milestone::Opened),
            link_tapped: count(Milestone::LinkTapped),
            qr_shown: count(Milestone::QrShown),
            downloaded: count(Milestone::Downloaded),
            installed: count(Milestone::Installed),
            connected: count(Milestone::Connected),
            seconds_to_install: quantile(0.5)
                .zip(quantile(0.9))
                .map(|(p50, p90)| TimesView { p50, p90 }),
        }
    }
}

fn whole_seconds(took: Took) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "never negative, and a step is at most some decades"
    )]
    let seconds = took.seconds().round() as u64;
    seconds
}

impl From<Stuck> for StuckView {
    fn from(stuck: Stuck) -> Self {
        let Stuck { iccid, provider, state, since } = stuck;
        Self { iccid: iccid.as_str().to_owned(), provider, state, since }
    }
}

/// Counts profiles by state, deliveries by day, and how far profiles come, each by provider, and lists the profiles that seem stuck.
#[utoipa::path(
    get, path = "/v1/summary", tag = "summary",
    security(("apiKey" = [])),
    params(("days" = Option<i64>, Query, minimum = 1, maximum = 90, description = "How many days of deliveries, and of profiles that were ready, to count; default 7")),
    responses(
        (status = 200, body = Summary),
        Refusals,
    )
)]
pub async fn show(
    State(app): State<AppState>,
    Backend { received_at: now }: Backend,
    mut params: Params,
) -> Result<Json<Summary>, Problem> {
    let days = take_days(&mut params)?;
    params.finish()?;
    read(&app, days.unwrap_or(DAYS), now).await.map(Json)
}

/// Takes `days`: how many days are counted.
///
/// # Errors
/// A problem that names the parameter.
pub(super) fn take_days(params: &mut Params) -> Result<Option<i64>, Problem> {
    params.take("days", |text| match text.parse() {
        Ok(days @ 1..=90) => Ok(days),
        _ => Err("must be a number from 1 to 90"),
    })
}

/// Reads the counts of this many days.
///
/// # Errors
/// Those of a read.
pub(super) async fn read(app: &AppState, days: i64, now: Timestamp) -> Result<Summary, Problem> {
    let since = now.plus_seconds(-86_400 * days);
    // While a table is locked, summaries take long, and must leave connections to the other reads.
    let read =
        app.scan(async |connection| summary::read(connection, since, now, STUCK_SHOWN).await);
    let summary::Summary { states, days, funnel, stuck } = read.await?;
    let missing = [
        ("states", states.is_none()),
        ("days", days.is_none()),
        ("funnel", funnel.is_none()),
        ("stuck", stuck.is_none()),
    ];
    let (days, days_since) = days.map(|Days { counts, since }| (counts, since)).unzip();
    Ok(Summary {
        states: states.map(views),
        days: days.map(views),
        days_since: days_since.flatten().map(|day| day.to_string()),
        funnel: funnel.map(views),
        stuck: stuck.map(views),
        missing: missing.into_iter().filter(|(_, is)| *is).map(|(part, _)| part).collect(),
    })
}

/// Reads how far the profiles came that were ready in this many days.
///
/// # Errors
/// Those of a read.
pub(super) async fn read_funnel(
    app: &AppState,
    days: i64,
    now: Timestamp,
) -> Result<Vec<FunnelView>, Problem> {
    let since = now.plus_seconds(-86_400 * days).as_datetime().date();
    let read = app.scan(async |connection| funnel::read(connection, since).await);
    Ok(views(read.await?))
}

fn views<T, V: From<T>>(rows: Vec<T>) -> Vec<V> {
    rows.into_iter().map(Into::into).collect()
}
