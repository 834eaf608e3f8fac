//! Counts for operators: how many profiles are in which state, and which seem stuck.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use time::Time;
use tokio::time::Instant;

use super::decode::datetime_option;
use super::error::StoreError;
use super::pool::is_time_out;
use crate::budget;
use crate::domain::{Iccid, Outcome, ProfileState, Timestamp};

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

/// Counts profiles by provider and state.
///
/// # Errors
/// [`StoreError`].
pub async fn count_states(connection: &mut PgConnection) -> Result<Vec<StateCount>, StoreError> {
    let counts = sqlx::query_as!(
        StateCount,
        r#"SELECT provider, state AS "state: ProfileState", count(*) AS "profiles!"
           FROM profiles GROUP BY provider, state ORDER BY provider, state"#
    );
    Ok(counts.fetch_all(connection).await?)
}

/// Deliveries by day, as far as they could be counted.
#[derive(Debug)]
pub struct Days {
    /// The counts, by day, provider and outcome.
    pub counts: Vec<DayCount>,
    /// If counting took too long: only deliveries from this time on are counted, and older days are missing.
    pub since: Option<Timestamp>,
}

/// Counts deliveries from `since` on, by day, provider and outcome. Counts the newest day first, and older ones as long
/// as `patience` lasts: if a table is too large to be counted in time, the newest days are better than none.
///
/// # Errors
/// [`StoreError`]. A day that takes too long is not an error.
pub async fn count_days(
    connection: &mut PgConnection,
    since: Timestamp,
    now: Timestamp,
    patience: Duration,
) -> Result<Days, StoreError> {
    let begun = Instant::now();
    let mut transaction = connection.begin().await?;
    let time_out = budget::in_postgres(budget::COUNTING_STATEMENT);
    sqlx::query!("SELECT set_config('statement_timeout', $1, true)", time_out)
        .fetch_one(&mut *transaction)
        .await?;
    let (mut days, mut until) = (Vec::new(), None);
    let mut from = midnight(now).max(since);
    loop {
        match count_day(&mut transaction, from, until).await {
            Ok(day) => days.push(day),
            Err(StoreError::Database(error)) if is_time_out(&error) => break,
            Err(error) => return Err(error),
        }
        until = Some(from);
        if from <= since || begun.elapsed() > patience {
            break;
        }
        from = from.plus_seconds(-86_400).max(since);
    }
    // The transaction has only read. After a timeout, a rollback is all it accepts.
    transaction.rollback().await?;
    let counted_from = until.unwrap_or(now);
    Ok(Days {
        counts: days.into_iter().rev().flatten().collect(),
        since: (counted_from > since).then_some(counted_from),
    })
}

fn midnight(at: Timestamp) -> Timestamp {
    Timestamp::from_datetime(at.as_datetime().replace_time(Time::MIDNIGHT))
}

/// Without `until`, also counts deliveries that were received by a clock that is ahead.
async fn count_day(
    connection: &mut PgConnection,
    from: Timestamp,
    until: Option<Timestamp>,
) -> Result<Vec<DayCount>, StoreError> {
    let counts = sqlx::query_as!(
        DayCount,
        r#"SELECT to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS "day!", provider,
                  outcome AS "outcome: Outcome", count(*) AS "deliveries!"
           FROM deliveries WHERE received_at >= $1 AND received_at < coalesce($2::timestamptz, 'infinity')
           GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"#,
        from.as_datetime(),
        datetime_option(until)
    );
    Ok(counts.fetch_all(connection).await?)
}

/// Lists the profiles that have been longest in a state that should pass: a failed install, downloaded for over an hour
/// without a confirmed install, or in preparation for over a day. A profile that was never installed is not stuck.
///
/// # Errors
/// [`StoreError`].
pub async fn list_stuck(
    connection: &mut PgConnection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Stuck>, StoreError> {
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
