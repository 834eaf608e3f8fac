//! The table `event_ids`: the events that were already received, of senders that use event ids.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::error::StoreError;
use crate::domain::{Iccid, Timestamp};

/// An event id to reserve.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// The path of the hook. Ids are unique within a hook.
    pub hook: &'a str,
    /// The sender's event id.
    pub event_id: &'a str,
    /// SHA-256 of the raw body.
    pub body_sha256: &'a [u8],
    /// The profile that the event names.
    pub iccid: Option<&'a Iccid>,
}

/// An event that was reserved before this transaction.
#[derive(Debug)]
pub struct EarlierEvent {
    /// The path of the hook.
    pub hook: String,
    /// The sender's event id.
    pub event_id: String,
    /// SHA-256 of the body that reserved it.
    pub body_sha256: Vec<u8>,
}

/// Reserves events for this transaction, and returns those that were claimed before, perhaps beside others. Waits for any other transaction that
/// is just claiming one of them. The time of a claim is the database's: a replica whose clock is wrong could cause a
/// claim to be forgotten too early.
///
/// # Errors
/// [`StoreError`].
pub async fn reserve(
    connection: &mut PgConnection,
    events: &[NewEvent<'_>],
) -> Result<Vec<EarlierEvent>, StoreError> {
    let each = || events.iter();
    let hook: Vec<_> = each().map(|e| e.hook).collect();
    let event_id: Vec<_> = each().map(|e| e.event_id).collect();
    let body_sha256: Vec<_> = each().map(|e| e.body_sha256).collect();
    let iccid: Vec<_> = each().map(|e| e.iccid.map(Iccid::as_str)).collect();
    let claimed = sqlx::query!(
        r#"INSERT INTO event_ids (hook, event_id, body_sha256, iccid, received_at)
           SELECT u.hook, u.event_id, u.body_sha256, u.iccid, now()
           FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::text[]) AS u (hook, event_id, body_sha256, iccid)
           -- The same order in every replica, so that two claiming the same events cannot deadlock.
           ORDER BY u.hook, u.event_id
           ON CONFLICT DO NOTHING
           RETURNING hook, event_id"#,
        &hook as &[&str],
        &event_id as &[&str],
        &body_sha256 as &[&[u8]],
        &iccid as &[Option<&str>],
    )
    .fetch_all(&mut *connection)
    .await?;
    let claimed: HashSet<_> =
        claimed.iter().map(|row| (row.hook.as_str(), row.event_id.as_str())).collect();
    let (mut hook, event_id): (Vec<_>, Vec<_>) =
        each().map(|e| (e.hook, e.event_id)).filter(|event| !claimed.contains(event)).unzip();
    if hook.is_empty() {
        return Ok(Vec::new());
    }
    // Each is combined with each id, so a hook is named once.
    hook.sort_unstable();
    hook.dedup();
    let seen = sqlx::query_as!(
        EarlierEvent,
        "SELECT hook, event_id, body_sha256 FROM event_ids WHERE hook = ANY($1) AND event_id = ANY($2)",
        &hook as &[&str],
        &event_id as &[&str],
    )
    .fetch_all(connection)
    .await?;
    Ok(seen)
}

/// Deletes up to `limit` events that were claimed before `before`, the oldest first. Returns how many.
///
/// # Errors
/// [`StoreError`].
pub async fn forget(
    connection: &mut PgConnection,
    before: Timestamp,
    limit: u64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        r#"DELETE FROM event_ids WHERE (hook, event_id) IN (
               SELECT hook, event_id FROM event_ids WHERE received_at < $1 ORDER BY received_at LIMIT $2
           )"#,
        before.as_datetime(),
        i64::try_from(limit).unwrap_or(i64::MAX)
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// The key of the advisory lock that lets one replica at a time build the index. The number is arbitrary and must not
/// change.
const LOCK: i64 = 0x6573_696d_6576_6964;

/// Builds the index that [`forget`] needs, if the table was too large for a migration to build it. Readers and writers
/// of the table do not wait for this. It may take minutes, and longer while other transactions stay open. Returns
/// whether the index can be used: not while another replica is building it.
///
/// # Errors
/// [`StoreError`]; the next call starts over.
pub async fn ensure_index(connection: &mut PgConnection) -> Result<bool, StoreError> {
    if is_index_valid(connection).await? == Some(true) {
        return Ok(true);
    }
    let locked = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "locked!""#, LOCK);
    if !locked.fetch_one(&mut *connection).await? {
        return Ok(false);
    }
    let built = build_index(connection).await;
    sqlx::query!("SELECT pg_advisory_unlock($1)", LOCK).fetch_one(connection).await?;
    built.map(|()| true)
}

async fn build_index(connection: &mut PgConnection) -> Result<(), StoreError> {
    // Another replica may have built it before we got the lock.
    let valid = is_index_valid(connection).await?;
    if valid == Some(true) {
        return Ok(());
    }
    let time_out = sqlx::query_scalar!(r#"SELECT current_setting('statement_timeout') AS "it!""#);
    let time_out = time_out.fetch_one(&mut *connection).await?;
    set_time_out(connection, "0").await?;
    let built = async {
        if valid.is_some() {
            // Left over from an interrupted build.
            sqlx::query("DROP INDEX CONCURRENTLY event_ids_age").execute(&mut *connection).await?;
        }
        tracing::info!(
            "building an index on the event ids: this may take minutes, and nothing waits for it"
        );
        for statement in [
            "CREATE INDEX CONCURRENTLY event_ids_age ON event_ids (received_at)",
            "DROP INDEX CONCURRENTLY IF EXISTS event_ids_received_at",
        ] {
            sqlx::query(statement).execute(&mut *connection).await?;
        }
        Ok(())
    };
    let built = built.await;
    set_time_out(connection, &time_out).await?;
    built
}

/// Returns `None` if the index does not exist.
async fn is_index_valid(connection: &mut PgConnection) -> Result<Option<bool>, StoreError> {
    let valid = sqlx::query_scalar!(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('event_ids_age')"
    );
    Ok(valid.fetch_optional(connection).await?)
}

async fn set_time_out(connection: &mut PgConnection, value: &str) -> Result<(), StoreError> {
    let set = sqlx::query!("SELECT set_config('statement_timeout', $1, false)", value);
    set.fetch_one(connection).await?;
    Ok(())
}
