//! Reads profiles in order to change them: with the version of each row, with or without a lock.

use sqlx::PgConnection;

use crate::domain::{Eid, Iccid, Imsi, Profile, ProfileState, Timestamp};
use crate::store::error::StoreError;

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
fn xid(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Corrupt { column: "xmin" })
}

/// Selects profiles with their versions.
macro_rules! select_versioned {
    ($rest:literal, $($argument:expr),+ $(,)?) => {
        select_profiles!(
            r#"xmin::text::bigint AS "xmin!", ctid::text AS "ctid!","#,
            $rest,
            $($argument),+
        )
    };
}

/// The profile of a row of [`select_versioned`], and its version.
macro_rules! versioned {
    ($row:ident) => {{
        let (iccid, xmin) = ($row.iccid.as_str().to_owned(), xid($row.xmin)?);
        let version = Version { iccid, xmin, ctid: $row.ctid };
        Ok((profile!($row), version))
    }};
}

/// Reads the profiles that exist, without a lock.
///
/// # Errors
/// [`StoreError`].
pub async fn read(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<(Profile, Version)>, StoreError> {
    let rows = select_versioned!("WHERE iccid = ANY($1)", iccids).fetch_all(connection).await?;
    rows.into_iter().map(|row| versioned!(row)).collect()
}

/// Locks and reads the profiles that exist and that no other transaction has locked. Never waits.
///
/// # Errors
/// [`StoreError`].
pub async fn lock_free(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<(Profile, Version)>, StoreError> {
    let rows =
        select_versioned!("WHERE iccid = ANY($1) ORDER BY iccid FOR UPDATE SKIP LOCKED", iccids)
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(|row| versioned!(row)).collect()
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
