//! Counts for the people who run the service: how many profiles are where, and which seem stuck.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::codec::{StoreError, instant, parsed};
use crate::domain::{Iccid, Outcome, ProfileState, Timestamp};

/// Profiles of one provider in one state.
#[derive(Debug)]
pub struct StateCount {
    /// The provider's slug.
    pub provider: String,
    /// The canonical state.
    pub state: ProfileState,
    /// How many profiles.
    pub profiles: i64,
}

/// Deliveries of one provider on one day with one outcome.
#[derive(Debug)]
pub struct DayCount {
    /// The day in UTC, such as `2026-11-23`.
    pub day: String,
    /// The provider's slug.
    pub provider: String,
    /// What became of them.
    pub outcome: Outcome,
    /// How many deliveries.
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
    let rows = sqlx::query!(
        r#"SELECT provider, state, count(*) AS "profiles!" FROM profiles GROUP BY provider, state
           ORDER BY provider, state"#
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let state = parsed("state", &row.state, str::parse)?;
            Ok(StateCount { provider: row.provider, state, profiles: row.profiles })
        })
        .collect()
}

/// Counts deliveries by day, provider and outcome, from `since` on.
///
/// # Errors
/// [`StoreError`].
pub async fn count_days(
    connection: &mut PgConnection,
    since: Timestamp,
) -> Result<Vec<DayCount>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS "day!", provider, outcome,
                  count(*) AS "deliveries!"
           FROM deliveries WHERE received_at >= $1
           GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"#,
        since.as_datetime()
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let outcome = parsed("outcome", &row.outcome, str::parse)?;
            let (day, provider) = (row.day, row.provider);
            Ok(DayCount { day, provider, outcome, deliveries: row.deliveries })
        })
        .collect()
}

/// The profiles that have been longest in a state that should pass: the install failed, downloaded for over an hour
/// without a confirmed install, in preparation for over a day. Whoever has not installed yet is not stuck.
///
/// # Errors
/// [`StoreError`].
pub async fn list_stuck(
    connection: &mut PgConnection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Stuck>, StoreError> {
    struct Row {
        iccid: String,
        provider: String,
        state: String,
        since: OffsetDateTime,
    }
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT iccid, provider, state, since FROM profiles
           WHERE state = 'ERROR'
              OR (state = 'DOWNLOADED' AND since < $1::timestamptz - interval '1 hour')
              OR (state = 'PREPARING' AND since < $1::timestamptz - interval '1 day')
           ORDER BY since LIMIT $2"#,
        now.as_datetime(),
        limit
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Stuck {
                iccid: parsed("iccid", &row.iccid, Iccid::parse)?,
                provider: row.provider,
                state: parsed("state", &row.state, str::parse)?,
                since: instant(row.since),
            })
        })
        .collect()
}
