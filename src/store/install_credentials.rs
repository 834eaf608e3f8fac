//! The table `install_credentials`: the sealed credentials that install a profile.

use sqlx::PgConnection;

use super::error::StoreError;
use super::vault::{Sealed, Vault};
use crate::domain::{Iccid, Timestamp};

/// Saves the credentials of a profile whose lock is held, and the SM-DP+ address of its activation code, which is no secret.
///
/// # Errors
/// [`StoreError`].
pub async fn save(
    connection: &mut PgConnection,
    iccid: &Iccid,
    sealed: &Sealed,
    host: Option<&str>,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"INSERT INTO install_credentials (iccid, key_id, sealed, updated_at, host) VALUES ($1, $2, $3, $4, lower($5))
           ON CONFLICT (iccid) DO UPDATE
           SET key_id = EXCLUDED.key_id, sealed = EXCLUDED.sealed, updated_at = EXCLUDED.updated_at, host = EXCLUDED.host"#,
        iccid.as_str(),
        sealed.key_id.as_deref(),
        sealed.bytes,
        at.as_datetime(),
        host
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

/// The ids of the data keys that stored credentials need and that a vault does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// All credentials can be opened.
    None,
    /// Some cannot be opened.
    Some(Vec<String>),
    /// Some are sealed, and none of those can be opened: the keys were lost from the settings.
    All(Vec<String>),
}

/// Compares the keys that stored credentials and secrets of endpoints need with those of the vault.
///
/// # Errors
/// [`StoreError`].
pub async fn missing_keys(
    connection: &mut PgConnection,
    vault: &Vault,
) -> Result<Missing, StoreError> {
    let needed = sqlx::query_scalar!(
        r#"SELECT key_id AS "key_id!" FROM install_credentials WHERE key_id IS NOT NULL
           UNION SELECT key_id FROM endpoints WHERE key_id IS NOT NULL ORDER BY 1"#
    )
    .fetch_all(connection)
    .await?;
    let (live, missing): (Vec<_>, Vec<_>) = needed.into_iter().partition(|id| vault.opens(id));
    Ok(match (missing.is_empty(), live.is_empty()) {
        (true, _) => Missing::None,
        (false, false) => Missing::Some(missing),
        (false, true) => Missing::All(missing),
    })
}

/// Locks up to `limit` credentials, after `after`, that are not sealed with the key `current`.
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
        r#"SELECT iccid AS "iccid: Iccid", key_id, sealed FROM install_credentials
           WHERE key_id IS DISTINCT FROM $1 AND iccid > $2 ORDER BY iccid LIMIT $3 FOR UPDATE"#,
        current,
        after,
        limit
    )
    .fetch_all(connection)
    .await?;
    let sealed = |key_id, bytes| Sealed { key_id, bytes };
    Ok(rows.into_iter().map(|row| (row.iccid, sealed(row.key_id, row.sealed))).collect())
}
