//! Counts for operators: how many profiles are in which state, how many deliveries came on which day, how far profiles come, and
//! which seem stuck.
//!
//! Each part is read by itself, for a limited time: one that fails does not take the others with it.

use sqlx::types::time::Date;
use sqlx::{Connection, PgConnection};

use super::counts;
use super::error::StoreError;
use super::funnel::{self, DayFunnel};
use super::marks;
use crate::budget;
use crate::domain::{Iccid, Outcome, ProfileState, Timestamp};

/// What could be read; `None` for a part that could not, or that is not counted yet.
#[derive(Debug)]
pub struct Summary {
    /// Profiles by provider and state.
    pub states: Option<Vec<StateCount>>,
    /// Deliveries by day.
    pub days: Option<Days>,
    /// How far profiles come, by day.
    pub funnel: Option<Vec<DayFunnel>>,
    /// The profiles that have been stuck longest.
    pub stuck: Option<Vec<Stuck>>,
}

/// Profiles of one provider in one state.
#[derive(Debug)]
pub struct StateCount {
    /// The provider's slug.
    pub provider: String,
    /// The canonical state.
    pub state: ProfileState,
    /// The number of profiles.
    pub profiles: i64,
}

/// Deliveries by day.
#[derive(Debug)]
pub struct Days {
    /// The counts, by day, provider and outcome.
    pub counts: Vec<DayCount>,
    /// The first day of those asked for that has been counted, if earlier ones have not been counted yet.
    pub since: Option<Date>,
}

/// Deliveries of one provider on one day with one outcome.
#[derive(Debug)]
pub struct DayCount {
    /// The day in UTC, such as `2026-11-23`.
    pub day: String,
    /// The provider's slug.
    pub provider: String,
    /// Their outcome.
    pub outcome: Outcome,
    /// The number of deliveries.
    pub deliveries: i64,
}

/// A profile that seems stuck.
#[derive(Debug)]
pub struct Stuck {
    /// The profile.
    pub iccid: Iccid,
    /// Its provider.
    pub provider: String,
    /// The state it is stuck in.
    pub state: ProfileState,
    /// Since when.
    pub since: Timestamp,
}

/// Reads every part that can be read: deliveries and the funnel from the day of `since` on, and up to `max_stuck` profiles.
///
/// # Errors
/// [`StoreError`] if the connection fails, or no part can be read.
pub async fn read(
    connection: &mut PgConnection,
    since: Timestamp,
    now: Timestamp,
    max_stuck: i64,
) -> Result<Summary, StoreError> {
    let since = since.as_datetime().date();
    let states = alone(connection, count_states).await?;
    let days = alone(connection, async |connection| count_days(connection, since).await).await?;
    let funnel = alone(connection, async |it| funnel::read(it, since).await).await?;
    let stuck = async |connection: &mut _| list_stuck(connection, now, max_stuck).await;
    match (states, days, funnel, alone(connection, stuck).await?) {
        (Err(error), Err(_), Err(_), Err(_)) => Err(error),
        (states, days, funnel, stuck) => Ok(Summary {
            states: readable("states", states),
            days: readable("days", days).flatten(),
            funnel: readable("funnel", funnel),
            stuck: readable("stuck", stuck),
        }),
    }
}

/// Reads one part. The inner error is one that the server has reported, so the next part can be read.
async fn alone<T>(
    connection: &mut PgConnection,
    part: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
) -> Result<Result<T, StoreError>, StoreError> {
    let mut transaction = connection.begin().await?;
    let limit = budget::in_postgres(budget::SUMMARY_PART);
    sqlx::query!("SELECT set_config('statement_timeout', $1, true)", limit)
        .fetch_one(&mut *transaction)
        .await?;
    let read = part(&mut transaction).await;
    // It has only read. After an error, a rollback is all that the transaction accepts.
    transaction.rollback().await?;
    Ok(read)
}

fn readable<T>(part: &'static str, read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| {
        let error = error as &dyn std::error::Error;
        tracing::warn!(error, part, "a part of the summary could not be read");
    })
    .ok()
}

/// Counts profiles by provider and state.
async fn count_states(connection: &mut PgConnection) -> Result<Vec<StateCount>, StoreError> {
    if !counts::has_profiles(connection).await? {
        let counts = sqlx::query_as!(
            StateCount,
            r#"SELECT provider, state AS "state: ProfileState", count(*) AS "profiles!"
               FROM profiles GROUP BY provider, state ORDER BY provider, state"#
        );
        return Ok(counts.fetch_all(connection).await?);
    }
    let counts = sqlx::query_as!(
        StateCount,
        r#"SELECT provider AS "provider!", state AS "state!: ProfileState", sum(n)::bigint AS "profiles!"
           FROM (SELECT provider, state, profiles AS n FROM profile_counts
                 UNION ALL
                 SELECT provider, to_state, n FROM count_changes WHERE to_state IS NOT NULL
                 UNION ALL
                 SELECT provider, from_state, -n FROM count_changes WHERE from_state IS NOT NULL) AS counts
           GROUP BY provider, state HAVING sum(n) > 0 ORDER BY provider, state"#
    );
    Ok(counts.fetch_all(connection).await?)
}

/// Counts deliveries by day, provider and outcome. Returns `None` if no day has been counted yet.
async fn count_days(
    connection: &mut PgConnection,
    since: Date,
) -> Result<Option<Days>, StoreError> {
    // A day that is counted meanwhile is left out, not shown half.
    let Some(counted_from) = counts::days_from(connection).await? else { return Ok(None) };
    let counts = sqlx::query_as!(
        DayCount,
        r#"SELECT to_char(day, 'YYYY-MM-DD') AS "day!", provider AS "provider!", outcome AS "outcome!: Outcome",
                  sum(n)::bigint AS "deliveries!"
           FROM (SELECT day, provider, outcome, deliveries AS n FROM delivery_counts WHERE day >= $1
                 UNION ALL
                 SELECT day, provider, outcome, n FROM count_changes WHERE day >= $1) AS counts
           GROUP BY day, provider, outcome HAVING sum(n) > 0 ORDER BY day, provider, outcome"#,
        since.max(counted_from)
    );
    let counts = counts.fetch_all(connection).await?;
    Ok(Some(Days { counts, since: (counted_from > since).then_some(counted_from) }))
}

/// Lists the profiles that have been longest in a state that should pass: a failed install, downloaded for over an hour
/// without a confirmed install, or in preparation for over a day. A profile that was never installed is not stuck.
async fn list_stuck(
    connection: &mut PgConnection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Stuck>, StoreError> {
    if marks::read(connection).await?.rare_states {
        let stuck = sqlx::query_as!(
            Stuck,
            r#"SELECT iccid AS "iccid!: Iccid", provider AS "provider!", state AS "state!: ProfileState",
                      since AS "since!: Timestamp"
               FROM ((SELECT iccid, provider, state, since FROM profiles
                      WHERE rare_state = 'ERROR' ORDER BY rare_since LIMIT $2)
                     UNION ALL
                     (SELECT iccid, provider, state, since FROM profiles
                      WHERE rare_state = 'DOWNLOADED' AND rare_since < $1::timestamptz - interval '1 hour'
                      ORDER BY rare_since LIMIT $2)
                     UNION ALL
                     (SELECT iccid, provider, state, since FROM profiles
                      WHERE rare_state = 'PREPARING' AND rare_since < $1::timestamptz - interval '1 day'
                      ORDER BY rare_since LIMIT $2)) AS stuck
               ORDER BY since LIMIT $2"#,
            now.as_datetime(),
            limit
        );
        return Ok(stuck.fetch_all(connection).await?);
    }
    let stuck = sqlx::query_as!(
        Stuck,
        r#"SELECT iccid AS "iccid: Iccid", provider, state AS "state: ProfileState", since AS "since: Timestamp"
           FROM profiles
           WHERE state = 'ERROR'
              OR (state = 'DOWNLOADED' AND since < $1::timestamptz - interval '1 hour')
              OR (state = 'PREPARING' AND since < $1::timestamptz - interval '1 day')
           ORDER BY since LIMIT $2"#,
        now.as_datetime(),
        limit
    );
    Ok(stuck.fetch_all(connection).await?)
}
