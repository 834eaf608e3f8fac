//! The table `install_credentials`: what installs a profile, sealed.

use sqlx::PgConnection;

use super::codec::{StoreError, parsed};
use super::vault::Sealed;
use crate::domain::{Iccid, Timestamp};

/// Saves the credentials of a profile whose lock is held.
///
/// # Errors
/// [`StoreError`].
pub async fn save(
    connection: &mut PgConnection,
    iccid: &Iccid,
    sealed: &Sealed,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"INSERT INTO install_credentials (iccid, key_id, sealed, updated_at) VALUES ($1, $2, $3, $4)
           ON CONFLICT (iccid) DO UPDATE
           SET key_id = EXCLUDED.key_id, sealed = EXCLUDED.sealed, updated_at = EXCLUDED.updated_at"#,
        iccid.as_str(),
        sealed.key_id.as_deref(),
        sealed.bytes,
        at.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Finds the credentials of a profile.
///
/// # Errors
/// [`StoreError`].
pub async fn find(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Option<Sealed>, StoreError> {
    let found = sqlx::query!(
        "SELECT key_id, sealed FROM install_credentials WHERE iccid = $1",
        iccid.as_str()
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|row| Sealed { key_id: row.key_id, bytes: row.sealed }))
}

/// Locks up to `limit` credentials, from behind `after`, that are not sealed with the key `current`.
///
/// # Errors
/// [`StoreError`].
pub async fn lock_stale(
    connection: &mut PgConnection,
    current: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<(Iccid, Sealed)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT iccid, key_id, sealed FROM install_credentials
           WHERE key_id IS DISTINCT FROM $1 AND iccid > $2 ORDER BY iccid LIMIT $3 FOR UPDATE"#,
        current,
        after,
        limit
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let iccid = parsed("iccid", &row.iccid, Iccid::parse)?;
            Ok((iccid, Sealed { key_id: row.key_id, bytes: row.sealed }))
        })
        .collect()
}
