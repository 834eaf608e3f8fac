//! Reads profiles in order to change them: with the revision of each row, with or without a lock.

use sqlx::PgConnection;

use crate::domain::{
    Connections, Country, Device, Eid, Headway, Iccid, Imsi, Milestone, Profile, ProfileState,
    Timestamp,
};
use crate::store::error::StoreError;

/// The revision of a profile's row when it was read. Every write of the row raises it, so a row with the same revision is
/// unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision(pub i64);

/// Selects profiles with their revisions.
macro_rules! select_with_revision {
    ($rest:literal, $($argument:expr),+ $(,)?) => {
        select_profiles!("revision,", "", $rest, $($argument),+)
    };
}

/// Reads the profiles that exist, without a lock.
///
/// # Errors
/// [`StoreError`].
pub async fn read(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<(Profile, Revision)>, StoreError> {
    let rows = select_with_revision!("WHERE iccid = ANY($1)", iccids).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (profile!(row), Revision(row.revision))).collect())
}

/// Reads the revision of a profile, and when it was last erased, also if its row cannot be read otherwise. `None` if it does not exist.
///
/// # Errors
/// [`StoreError`].
pub async fn revision(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Option<(Revision, Option<Timestamp>)>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT revision, erased_at AS "erased_at: Timestamp" FROM profiles WHERE iccid = $1"#,
        iccid.as_str()
    );
    Ok(row.fetch_optional(connection).await?.map(|row| (Revision(row.revision), row.erased_at)))
}

/// Locks a profile and reads the `seq` of its last transition, also if its row cannot be read otherwise. Waits for another transaction
/// that holds it. `None` if it does not exist.
///
/// # Errors
/// [`StoreError`], also if the wait hits the statement timeout.
pub async fn lock_seq(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Option<i64>, StoreError> {
    let seq =
        sqlx::query_scalar!("SELECT seq FROM profiles WHERE iccid = $1 FOR UPDATE", iccid.as_str());
    Ok(seq.fetch_optional(connection).await?)
}

/// Locks and reads the profiles that exist and that no other transaction has locked. Never waits.
///
/// # Errors
/// [`StoreError`].
pub async fn try_lock(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<(Profile, Revision)>, StoreError> {
    let rows = select_with_revision!(
        "WHERE iccid = ANY($1) ORDER BY iccid FOR UPDATE SKIP LOCKED",
        iccids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (profile!(row), Revision(row.revision))).collect())
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
