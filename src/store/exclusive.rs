//! Advisory locks, which end with their session or transaction, and their keys: mostly of work that one replica at a time does.

use sqlx::PgConnection;
use tokio::time::timeout;

use super::error::StoreError;
use crate::budget;

/// The work, with the key of its lock. The numbers are arbitrary and must not change: replicas of other releases use them.
#[derive(Debug, Clone, Copy)]
#[repr(i64)]
pub enum Work {
    /// Builds an index.
    Index = 0x6573_696d_6576_6964,
    /// Adds up or counts.
    Counts = 0x6573_696d_636f_756e,
    /// Looks for what is overdue.
    Overdue = 0x6573_696d_6f76_6572,
    /// Asks providers.
    Inquiries = 0x6573_696d_6173_6b73,
}

impl Work {
    /// The key of the lock.
    pub(super) fn key(self) -> i64 {
        self as i64
    }
}

/// The key of the lock of the transaction that creates partitions. It is arbitrary and must not change.
pub(super) const PARTITIONS: i64 = 0x6573_696d_7061_7274;

/// The first half of the key of the lock that a replica holds while it serves an endpoint; the number of the endpoint is the other.
/// It is arbitrary and must not change.
pub(super) const ENDPOINT: i32 = 0x6573_696d;

/// With an ICCID, this makes the key of the lock of a transaction that registers or erases that profile: it is the second argument of
/// `hashtextextended`. It is arbitrary and must not change.
pub(super) const PROFILE: i64 = 7_305_809;

/// Has the server notice within a minute that this machine is lost. Without that, it would hold the locks of the session for hours, and
/// no other replica could take them.
///
/// # Errors
/// [`StoreError`].
pub async fn notice_loss(connection: &mut PgConnection) -> Result<(), StoreError> {
    let noticed = sqlx::query!(
        "SELECT set_config('tcp_keepalives_idle', '30', false) AS idle,
                set_config('tcp_keepalives_interval', '10', false) AS interval, set_config('tcp_keepalives_count', '3', false) AS count"
    );
    noticed.fetch_one(connection).await?;
    Ok(())
}

/// A connection whose session holds locks for as long as the service runs. If it is lost without an error, a statement would wait for
/// its answer for ever, so each piece of work has a limit.
#[derive(Debug)]
pub struct LockSession<'a>(&'a mut PgConnection);

impl<'a> LockSession<'a> {
    /// The session of this connection.
    pub fn new(connection: &'a mut PgConnection) -> Self {
        Self(connection)
    }

    /// Does a piece of work within [`budget::READ`]. After an error the connection may be unusable: connect again.
    ///
    /// # Errors
    /// That of the work; [`StoreError::Busy`] if there is no answer.
    pub async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        timeout(budget::READ, work(self.0)).await.unwrap_or(Err(StoreError::Busy))
    }
}

/// Takes the lock. Returns whether this session has it.
///
/// # Errors
/// [`StoreError`].
pub async fn begin(connection: &mut PgConnection, work: Work) -> Result<bool, StoreError> {
    let locked = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "locked!""#, work.key());
    Ok(locked.fetch_one(connection).await?)
}

/// Releases the lock.
///
/// # Errors
/// [`StoreError`].
pub async fn end(connection: &mut PgConnection, work: Work) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_advisory_unlock($1)", work.key()).fetch_one(connection).await?;
    Ok(())
}

/// Lets the next statements of the session take as long as they need. Returns the former timeout, for [`set_time_out`].
///
/// # Errors
/// [`StoreError`].
pub(super) async fn lift_time_out(connection: &mut PgConnection) -> Result<String, StoreError> {
    let former = sqlx::query_scalar!(r#"SELECT current_setting('statement_timeout') AS "it!""#);
    let former = former.fetch_one(&mut *connection).await?;
    set_time_out(connection, "0").await?;
    Ok(former)
}

/// Sets the statement timeout of the session.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn set_time_out(
    connection: &mut PgConnection,
    value: &str,
) -> Result<(), StoreError> {
    let set = sqlx::query!("SELECT set_config('statement_timeout', $1, false)", value);
    set.fetch_one(connection).await?;
    Ok(())
}
