//! The table `event_ids`: the events that were already received, of senders that use event ids.

use std::borrow::Cow;
use std::collections::HashSet;

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::error::StoreError;
use super::indexes::Index;
use crate::domain::{Iccid, Timestamp};

/// What is reserved for the event id of an event about this profile: the id, or a hash of it if the sender has made it of the ICCID.
/// Reservations outlive an erasure, which turns the ids that it finds into the same hashes.
pub fn reserved<'a>(event_id: &'a str, iccid: Option<&Iccid>) -> Cow<'a, str> {
    if iccid.is_some_and(|iccid| event_id.contains(iccid.as_str())) {
        hex::encode(Sha256::digest(event_id)).into()
    } else {
        event_id.into()
    }
}

/// An event id to reserve.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// The path of the hook. Ids are unique within a hook.
    pub hook: &'a str,
    /// What is [`reserved`] for the sender's event id.
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
    /// What is reserved for the sender's event id.
    pub event_id: String,
    /// SHA-256 of the body that reserved it.
    pub body_sha256: Vec<u8>,
}

/// Reserves events for this transaction, and returns those that were reserved before, perhaps beside others. Waits for any other
/// transaction that is just reserving one of them. The time of a reservation is the database's: a replica whose clock is wrong could
/// cause one to be forgotten too early.
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
    let reserved = sqlx::query!(
        r#"INSERT INTO event_ids (hook, event_id, body_sha256, iccid, received_at)
           SELECT u.hook, u.event_id, u.body_sha256, u.iccid, now()
           FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::text[]) AS u (hook, event_id, body_sha256, iccid)
           -- The same order in every replica, so that two that reserve the same events cannot deadlock.
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
    let reserved: HashSet<_> =
        reserved.iter().map(|row| (row.hook.as_str(), row.event_id.as_str())).collect();
    let (mut hook, event_id): (Vec<_>, Vec<_>) =
        each().map(|e| (e.hook, e.event_id)).filter(|event| !reserved.contains(event)).unzip();
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

/// Deletes up to `limit` events that were reserved before `before`, the oldest first. Returns how many.
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

/// The index that [`forget`] needs.
pub(super) const BY_AGE: Index = Index {
    name: "event_ids_age",
    create: "CREATE INDEX CONCURRENTLY event_ids_age ON event_ids (received_at)",
    drop: "DROP INDEX CONCURRENTLY event_ids_age",
    drop_former: Some("DROP INDEX CONCURRENTLY IF EXISTS event_ids_received_at"),
};
