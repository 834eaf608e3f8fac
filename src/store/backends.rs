//! The server processes behind our connections: whether one whose client has gone is still executing something.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::error::StoreError;

/// The server process behind a connection. Process ids are reused, so its start time belongs to its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    pid: i32,
    started: OffsetDateTime,
}

impl Backend {
    /// The process with this id that was started at this time, in microseconds since 1970; `None` if that is no time.
    pub(super) fn new(pid: i32, micros: i64) -> Option<Self> {
        let started = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
        Some(Self { pid, started })
    }
}

/// Terminates a process whose client has given up, unless it is still executing something, such as a commit. Returns whether
/// it is. One that only waits for that client is terminated because the message it waits for is lost, and the locks of its
/// open transaction would delay the next attempt. A process of another server cannot be seen, like one that has ended.
///
/// A process that is executing is never terminated: while a commit waits for its synchronous standby, terminating the
/// process would make the commit visible before the standby has it.
///
/// # Errors
/// [`StoreError`] where the connection fails.
pub async fn end_unless_executing(
    connection: &mut PgConnection,
    backend: &Backend,
) -> Result<bool, StoreError> {
    let found = sqlx::query!(
        r#"SELECT coalesce(state LIKE 'idle%' OR wait_event = 'ClientRead', false) AS "waits_for_its_client!"
           FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"#,
        backend.pid,
        backend.started,
    )
    .fetch_optional(&mut *connection)
    .await?;
    match found {
        Some(found) if found.waits_for_its_client => {
            let ended = sqlx::query_scalar!("SELECT pg_terminate_backend($1)", backend.pid)
                .fetch_one(connection)
                .await;
            match ended {
                // The server does not allow it. Nothing is being executed all the same.
                Ok(_) | Err(sqlx::Error::Database(_)) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
        found => Ok(found.is_some()),
    }
}

/// Whether a process will never again answer a client that waits for it: the process has ended, or it has itself waited
/// for that client for at least `after`. In the second case it is terminated, which releases its locks.
///
/// # Errors
/// [`StoreError`] where the connection fails.
pub async fn end_if_lost(
    connection: &mut PgConnection,
    backend: &Backend,
    after: Duration,
) -> Result<bool, StoreError> {
    let has_waited = sqlx::query_scalar!(
        r#"SELECT coalesce((state LIKE 'idle%' OR wait_event = 'ClientRead')
                           AND state_change < clock_timestamp() - make_interval(secs => $3), false) AS "it!"
           FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"#,
        backend.pid,
        backend.started,
        after.as_secs_f64(),
    )
    .fetch_optional(&mut *connection)
    .await?;
    match has_waited {
        Some(false) => Ok(false),
        Some(true) | None => Ok(!end_unless_executing(connection, backend).await?),
    }
}

/// The server's clock.
///
/// # Errors
/// [`StoreError`].
pub async fn now(connection: &mut PgConnection) -> Result<OffsetDateTime, StoreError> {
    let now = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(connection);
    Ok(now.await?)
}

/// Whether a writer of any replica is still busy with something that it began before this time, by the server's clock.
/// A process whose activity this role may not see counts as busy.
///
/// # Errors
/// [`StoreError`].
pub async fn is_a_writer_busy_since_before(
    connection: &mut PgConnection,
    time: OffsetDateTime,
) -> Result<bool, StoreError> {
    let busy = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()
                 AND application_name IN ('esim-status writer', 'esim-status lane')
                 AND state IS DISTINCT FROM 'idle' AND coalesce(xact_start < $1, state IS NULL)
           ) AS "busy!""#,
        time
    )
    .fetch_one(connection)
    .await?;
    Ok(busy)
}
