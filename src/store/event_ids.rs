//! The table `event_ids`: which events of senders with ids were seen.

use std::collections::HashSet;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::codec::StoreError;
use crate::domain::{Iccid, Timestamp};

/// One event to claim.
#[derive(Debug, Clone, Copy)]
pub struct Claimed<'a> {
    /// The hook's path; ids are unique within one.
    pub hook: &'a str,
    /// The sender's id.
    pub event_id: &'a str,
    /// SHA-256 of the raw body.
    pub body_sha256: &'a [u8],
    /// The profile it speaks of.
    pub iccid: Option<&'a Iccid>,
    /// When it reached us.
    pub received_at: Timestamp,
}

/// An event that had been claimed before this transaction.
#[derive(Debug)]
pub struct Seen {
    /// The hook's path.
    pub hook: String,
    /// The sender's id.
    pub event_id: String,
    /// SHA-256 of the body that claimed it.
    pub body_sha256: Vec<u8>,
}

/// Claims events for this transaction and gives back those that were seen before. An event that another transaction is
/// claiming is waited for.
///
/// # Errors
/// [`StoreError`].
pub async fn claim(
    connection: &mut PgConnection,
    events: &[Claimed<'_>],
) -> Result<Vec<Seen>, StoreError> {
    let each = || events.iter();
    let hook: Vec<_> = each().map(|e| e.hook).collect();
    let event_id: Vec<_> = each().map(|e| e.event_id).collect();
    let body_sha256: Vec<_> = each().map(|e| e.body_sha256).collect();
    let iccid: Vec<_> = each().map(|e| e.iccid.map(Iccid::as_str)).collect();
    let received_at: Vec<_> = each().map(|e| e.received_at.as_datetime()).collect();
    let claimed = sqlx::query!(
        r#"INSERT INTO event_ids (hook, event_id, body_sha256, iccid, received_at)
           SELECT * FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::text[], $5::timestamptz[])
                AS u (hook, event_id, body_sha256, iccid, received_at)
           -- The same order in every replica, so that two claiming the same events cannot deadlock.
           ORDER BY u.hook, u.event_id
           ON CONFLICT DO NOTHING
           RETURNING hook, event_id"#,
        &hook as &[&str],
        &event_id as &[&str],
        &body_sha256 as &[&[u8]],
        &iccid as &[Option<&str>],
        &received_at as &[OffsetDateTime],
    )
    .fetch_all(&mut *connection)
    .await?;
    let claimed: HashSet<_> =
        claimed.iter().map(|row| (row.hook.as_str(), row.event_id.as_str())).collect();
    let (hook, event_id): (Vec<_>, Vec<_>) =
        each().map(|e| (e.hook, e.event_id)).filter(|event| !claimed.contains(event)).unzip();
    if hook.is_empty() {
        return Ok(Vec::new());
    }
    let seen = sqlx::query_as!(
        Seen,
        r#"SELECT e.hook, e.event_id, e.body_sha256
           FROM event_ids e
           JOIN UNNEST($1::text[], $2::text[]) AS u (hook, event_id)
             ON e.hook = u.hook AND e.event_id = u.event_id"#,
        &hook as &[&str],
        &event_id as &[&str],
    )
    .fetch_all(connection)
    .await?;
    Ok(seen)
}

/// Forgets up to `limit` events that were received before `before`; says how many.
///
/// # Errors
/// [`StoreError`].
pub async fn forget(
    connection: &mut PgConnection,
    before: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        r#"DELETE FROM event_ids WHERE (hook, event_id) IN (
               SELECT hook, event_id FROM event_ids WHERE received_at < $1 LIMIT $2
           )"#,
        before.as_datetime(),
        limit
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
