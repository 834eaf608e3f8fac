//! Reads profiles in order to change them: with the version of each row, with or without a lock.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::{Row, StoredProfile};
use crate::domain::Profile;
use crate::store::codec::StoreError;

/// The version of a profile's row when it was read: where it was, and which transaction wrote it. Any change makes
/// another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The profile.
    pub iccid: String,
    /// The transaction that wrote the row (`xmin`).
    pub xmin: u32,
    /// Where the row is (`ctid`): found without a search, and verified by the other two.
    pub ctid: String,
}

/// A transaction number as rows store it. SQL has no unsigned type of that size.
pub(in crate::store) fn xid(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Corrupt { column: "xmin" })
}

/// The columns that webhooks read and change, with the version of the row.
struct VersionedRow {
    iccid: String,
    provider: String,
    state: String,
    enabled: Option<bool>,
    raw_state: String,
    imsi: Option<String>,
    eid: Option<String>,
    since: OffsetDateTime,
    seq: i64,
    installs_seen: i32,
    deliveries: i64,
    last_delivery_at: Option<OffsetDateTime>,
    last_occurred_at: Option<OffsetDateTime>,
    erased_at: Option<OffsetDateTime>,
    xmin: i64,
    ctid: String,
}

fn versioned(rows: Vec<VersionedRow>) -> Result<Vec<(Profile, Version)>, StoreError> {
    let one = |row: VersionedRow| {
        let version = Version { iccid: row.iccid.clone(), xmin: xid(row.xmin)?, ctid: row.ctid };
        let row = Row {
            iccid: row.iccid,
            provider: row.provider,
            state: row.state,
            enabled: row.enabled,
            raw_state: row.raw_state,
            imsi: row.imsi,
            eid: row.eid,
            since: row.since,
            seq: row.seq,
            installs_seen: row.installs_seen,
            deliveries: row.deliveries,
            last_delivery_at: row.last_delivery_at,
            last_occurred_at: row.last_occurred_at,
            erased_at: row.erased_at,
            tokens_from: None,
            registered_at: None,
            uid: None,
            activated_at: None,
            last_seen: None,
        };
        Ok((StoredProfile::try_from(row)?.profile, version))
    };
    rows.into_iter().map(one).collect()
}

/// Reads the profiles that exist, without a lock.
///
/// # Errors
/// [`StoreError`].
pub async fn read(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<(Profile, Version)>, StoreError> {
    let rows = sqlx::query_as!(
        VersionedRow,
        r#"SELECT iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries,
                  last_delivery_at, last_occurred_at, erased_at, xmin::text::bigint AS "xmin!", ctid::text AS "ctid!"
           FROM profiles WHERE iccid = ANY($1)"#,
        iccids
    )
    .fetch_all(connection)
    .await?;
    versioned(rows)
}

/// Locks and reads the profiles that exist and that no other transaction has locked. Never waits.
///
/// # Errors
/// [`StoreError`].
pub async fn lock_free(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<(Profile, Version)>, StoreError> {
    let rows = sqlx::query_as!(
        VersionedRow,
        r#"SELECT iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries,
                  last_delivery_at, last_occurred_at, erased_at, xmin::text::bigint AS "xmin!", ctid::text AS "ctid!"
           FROM profiles WHERE iccid = ANY($1) ORDER BY iccid FOR UPDATE SKIP LOCKED"#,
        iccids
    )
    .fetch_all(connection)
    .await?;
    versioned(rows)
}

/// Waits until it holds the locks of all the profiles that exist, taken in the order of their ICCIDs.
///
/// # Errors
/// [`StoreError`], also if the wait hits the statement timeout.
pub async fn wait_for_locks(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"SELECT 1 AS "locked!" FROM profiles WHERE iccid = ANY($1) ORDER BY iccid FOR UPDATE"#,
        iccids
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}
