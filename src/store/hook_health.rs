//! The tables `hook_hours` and `hook_health`: what came by which hook, over all replicas and restarts.

use sqlx::PgConnection;

use super::decode::datetime_option;
use super::error::StoreError;
use super::smdp::{self, Arrivals};
use crate::domain::Timestamp;

/// What came by a hook since this was last added.
#[derive(Debug, Clone, Default)]
pub struct Came {
    /// The hook's path.
    pub hook: String,
    /// How many webhooks were accepted.
    pub accepted: u64,
    /// How many could not be authenticated.
    pub refused: u64,
    /// When one was last accepted.
    pub accepted_at: Option<Timestamp>,
    /// When one could last not be authenticated, and why.
    pub refusal: Option<(Timestamp, &'static str)>,
}

/// How a hook does.
#[derive(Debug)]
pub struct HookFigures {
    /// The hook's path.
    pub hook: String,
    /// When a webhook was last accepted.
    pub accepted_at: Option<Timestamp>,
    /// When one could last not be authenticated.
    pub refused_at: Option<Timestamp>,
    /// Why not.
    pub refusal: Option<String>,
    /// How many were accepted since the hour before this one began.
    pub accepted: i64,
    /// How many could not be authenticated since then.
    pub refused: i64,
    /// How many were accepted in that hour of the last four weeks on average; `None` before two weeks are known.
    pub usual: Option<f64>,
}

/// How the hooks do, and the servers that install profiles.
#[derive(Debug)]
pub struct Known {
    /// The hooks of which anything is known.
    pub hooks: Vec<HookFigures>,
    /// The servers from which a profile was tried within a day.
    pub arrivals: Vec<Arrivals>,
}

/// Adds what came, and reads how all do. What is added is taken from `came`.
///
/// # Errors
/// [`StoreError`].
pub async fn keep(
    connection: &mut PgConnection,
    came: &mut Vec<Came>,
    now: Timestamp,
) -> Result<Known, StoreError> {
    while let Some(next) = came.last() {
        add(connection, next, now).await?;
        came.pop();
    }
    let (hooks, arrivals) = (read(connection, now).await?, smdp::read(connection, now).await?);
    Ok(Known { hooks, arrivals })
}

/// Adds what came, in the hour of `now`.
async fn add(connection: &mut PgConnection, came: &Came, now: Timestamp) -> Result<(), StoreError> {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    sqlx::query!(
        "WITH hour AS (
             INSERT INTO hook_hours AS h (hook, hour, accepted, refused)
             SELECT $1, date_trunc('hour', least($2::timestamptz, now()), 'UTC'), $3, $4
             ON CONFLICT (hook, hour) DO UPDATE
             SET accepted = h.accepted + EXCLUDED.accepted, refused = h.refused + EXCLUDED.refused
         )
         INSERT INTO hook_health AS h (hook, accepted_at, refused_at, refusal) VALUES ($1, $5, $6, $7)
         ON CONFLICT (hook) DO UPDATE
         SET accepted_at = greatest(h.accepted_at, EXCLUDED.accepted_at),
             refusal = CASE WHEN EXCLUDED.refused_at >= coalesce(h.refused_at, '-infinity')
                            THEN EXCLUDED.refusal ELSE h.refusal END,
             refused_at = greatest(h.refused_at, EXCLUDED.refused_at)",
        came.hook,
        now.as_datetime(),
        count(came.accepted),
        count(came.refused),
        datetime_option(came.accepted_at),
        datetime_option(came.refusal.map(|(at, _)| at)),
        came.refusal.map(|(_, reason)| reason)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads how all hooks do of which anything is known.
async fn read(
    connection: &mut PgConnection,
    now: Timestamp,
) -> Result<Vec<HookFigures>, StoreError> {
    let figures = sqlx::query_as!(
        HookFigures,
        r#"WITH now AS (SELECT date_trunc('hour', least($1::timestamptz, now()), 'UTC') - interval '1 hour' AS before),
                counts AS (
                    SELECT h.hook,
                           coalesce(sum(accepted) FILTER (WHERE hour >= before), 0)::bigint AS accepted,
                           coalesce(sum(refused) FILTER (WHERE hour >= before), 0)::bigint AS refused,
                           coalesce(sum(accepted) FILTER (WHERE hour = ANY(ARRAY[
                               before - interval '7 d', before - interval '14 d', before - interval '21 d', before - interval '28 d'
                           ])), 0)::float8 AS in_these_weeks,
                           least(4, floor(extract(epoch FROM before - min(hour)) / 604800))::float8 AS weeks
                    FROM hook_hours AS h, now GROUP BY h.hook, before
                )
           SELECT hook AS "hook!", accepted_at AS "accepted_at: Timestamp", refused_at AS "refused_at: Timestamp", refusal,
                  coalesce(accepted, 0) AS "accepted!", coalesce(refused, 0) AS "refused!",
                  CASE WHEN weeks >= 2 THEN in_these_weeks / weeks END AS usual
           FROM hook_health LEFT JOIN counts USING (hook) ORDER BY hook"#,
        now.as_datetime()
    );
    Ok(figures.fetch_all(connection).await?)
}

/// Forgets hours that are no longer compared with.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn forget(
    connection: &mut PgConnection,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM hook_hours WHERE hour < $1::timestamptz - interval '35 d'",
        now.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}
