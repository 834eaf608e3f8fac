//! The table `endpoint_backlogs`: profiles whose changes an endpoint does not accept, while it accepts those of others.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::PgConnection;

use super::changes::ERASED_KEPT;
use super::error::StoreError;
use crate::domain::{Iccid, Timestamp};

/// What an endpoint has not accepted of one profile: its changes from one position on, up to the place of the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The profile.
    pub iccid: Iccid,
    /// The position of the first of these changes.
    pub position: i64,
    /// Since when that one is not accepted.
    pub since: Timestamp,
    /// How often in a row.
    pub failures: u32,
    /// When the next attempt is due.
    pub retry_at: Timestamp,
}

struct Row {
    iccid: Iccid,
    position: i64,
    since: Timestamp,
    failures: i32,
    retry_at: Timestamp,
}

impl TryFrom<Row> for Backlog {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let failures = u32::try_from(row.failures);
        let failures = failures.map_err(|_| StoreError::Corrupt { column: "failures" })?;
        let Row { iccid, position, since, retry_at, .. } = row;
        Ok(Self { iccid, position, since, failures, retry_at })
    }
}

/// Lists the backlogs of an endpoint that are due, those first that have waited longest.
///
/// # Errors
/// [`StoreError`].
pub async fn list_due(
    connection: &mut PgConnection,
    endpoint: &str,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Backlog>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT iccid AS "iccid: Iccid", position, since AS "since: Timestamp", failures, retry_at AS "retry_at: Timestamp"
           FROM endpoint_backlogs WHERE endpoint = $1 AND retry_at <= $2 ORDER BY retry_at LIMIT $3"#,
        endpoint,
        now.as_datetime(),
        limit
    );
    rows.fetch_all(connection).await?.into_iter().map(Backlog::try_from).collect()
}

/// Lists the backlogs of an endpoint, those first that have waited longest.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    endpoint: &str,
    limit: i64,
) -> Result<Vec<Backlog>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT iccid AS "iccid: Iccid", position, since AS "since: Timestamp", failures, retry_at AS "retry_at: Timestamp"
           FROM endpoint_backlogs WHERE endpoint = $1 ORDER BY since, iccid LIMIT $2"#,
        endpoint,
        limit
    );
    rows.fetch_all(connection).await?.into_iter().map(Backlog::try_from).collect()
}

/// When the next backlog of an endpoint is due.
///
/// # Errors
/// [`StoreError`].
pub async fn next_due(
    connection: &mut PgConnection,
    endpoint: &str,
) -> Result<Option<Timestamp>, StoreError> {
    let next = sqlx::query_scalar!(
        r#"SELECT min(retry_at) AS "at: Timestamp" FROM endpoint_backlogs WHERE endpoint = $1"#,
        endpoint
    );
    Ok(next.fetch_one(connection).await?)
}

/// Which of these profiles have a backlog at an endpoint.
///
/// # Errors
/// [`StoreError`].
pub async fn with_backlog(
    connection: &mut PgConnection,
    endpoint: &str,
    iccids: &[String],
) -> Result<HashSet<Iccid>, StoreError> {
    let found = sqlx::query_scalar!(
        r#"SELECT iccid AS "iccid: Iccid" FROM endpoint_backlogs WHERE endpoint = $1 AND iccid = ANY($2)"#,
        endpoint,
        iccids
    );
    Ok(found.fetch_all(connection).await?.into_iter().collect())
}

/// Saves and deletes backlogs of an endpoint, in the transaction that saves its place.
///
/// # Errors
/// [`StoreError`].
pub async fn save(
    connection: &mut PgConnection,
    endpoint: &str,
    kept: &[Backlog],
    done: &[String],
) -> Result<(), StoreError> {
    let column = |of: fn(&Backlog) -> Timestamp| -> Vec<_> {
        kept.iter().map(|backlog| of(backlog).as_datetime()).collect()
    };
    let iccids: Vec<_> = kept.iter().map(|backlog| backlog.iccid.as_str().to_owned()).collect();
    let positions: Vec<_> = kept.iter().map(|backlog| backlog.position).collect();
    let failures = kept.iter().map(|backlog| i32::try_from(backlog.failures).unwrap_or(i32::MAX));
    let failures: Vec<_> = failures.collect();
    sqlx::query!(
        "WITH done AS (DELETE FROM endpoint_backlogs WHERE endpoint = $1 AND iccid = ANY($2))
         INSERT INTO endpoint_backlogs (endpoint, iccid, position, since, failures, retry_at)
         SELECT $1, * FROM unnest($3::text[], $4::bigint[], $5::timestamptz[], $6::int[], $7::timestamptz[])
         ON CONFLICT (iccid, endpoint) DO UPDATE
         SET position = EXCLUDED.position, since = EXCLUDED.since, failures = EXCLUDED.failures, retry_at = EXCLUDED.retry_at",
        endpoint,
        done,
        &iccids,
        &positions,
        &column(|backlog| backlog.since),
        &failures,
        &column(|backlog| backlog.retry_at)
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl Backlog {
    /// Leaves out the time in which the endpoint as a whole accepted nothing.
    pub fn without_outage(&mut self, failing_since: Timestamp, now: Timestamp) {
        let lasted = now.unix_micros() - failing_since.unix_micros();
        let lasted = u64::try_from(lasted).map_or(Duration::ZERO, Duration::from_micros);
        self.since = self.since.plus(lasted).min(now);
    }
}

/// Has all backlogs of an endpoint tried again, because it accepts something again. The time in which it accepted nothing does not
/// count for them: see [`Backlog::without_outage`].
///
/// # Errors
/// [`StoreError`].
pub async fn resume(
    connection: &mut PgConnection,
    endpoint: &str,
    failing_since: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE endpoint_backlogs SET retry_at = $3, since = least($3, since + greatest($3 - $2::timestamptz, '0'))
         WHERE endpoint = $1",
        endpoint,
        failing_since.as_datetime(),
        now.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Has all backlogs of an endpoint begin anew, because its owner has changed what may have kept it from accepting them.
///
/// # Errors
/// [`StoreError`].
pub async fn begin_anew(
    connection: &mut PgConnection,
    endpoint: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE endpoint_backlogs SET retry_at = $2, since = $2, failures = 0 WHERE endpoint = $1",
        endpoint,
        now.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes what is kept about a profile, in the transaction that erases it.
///
/// # Errors
/// [`StoreError`].
pub async fn erase(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM endpoint_backlogs WHERE iccid = $1", iccid.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes backlogs of erased profiles: a round that was under way during the erasure may have saved one again.
///
/// # Errors
/// [`StoreError`].
pub async fn forget(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM endpoint_backlogs AS b
         WHERE since < now() - make_interval(secs => $1)
           AND NOT EXISTS (SELECT FROM profiles AS p WHERE p.iccid = b.iccid)",
        ERASED_KEPT.as_secs_f64()
    )
    .execute(connection)
    .await?;
    Ok(())
}
