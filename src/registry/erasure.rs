//! The erasure of a profile: everything that is kept of it goes, and a late webhook does not bring it back.
//!
//! First it is remembered, and committed. From then on no statement that begins creates the profile or keeps a body that names it.
//! Those that began before are waited for; then all is deleted. So whatever crosses an erasure, of this replica or another, leaves
//! nothing behind. Nothing else would do for an ICCID without a profile: there is no row that both could lock.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::lock;
use crate::budget;
use crate::domain::{Iccid, Timestamp};
use crate::spool::{Spool, SpoolError};
use crate::store::erasures::Erasure;
use crate::store::{ErasureKey, Pool, StoreError, backends, erasures, notify};

/// How often to look whether they have ended.
const PAUSE: Duration = Duration::from_millis(10);

/// Why an erasure is not complete. It can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The database failed, or was too slow.
    #[error("the database did not erase a profile")]
    Store(#[from] StoreError),
    /// The spool failed.
    #[error("the spool did not erase a profile")]
    Spool(#[from] SpoolError),
}

/// Erases all that is kept of a profile, and remembers only a keyed hash of its number. Says whether there was anything; what was
/// erased is remembered in either case, because a webhook about it may still wait in a spool.
///
/// # Errors
/// [`EraseError`]; the erasure is then perhaps not complete. Repeating is safe.
pub async fn erase(
    pool: &Pool,
    spool: Option<&Spool>,
    erasure_key: &ErasureKey,
    iccid: &Iccid,
    now: Timestamp,
) -> Result<bool, EraseError> {
    let erased = pool.run(async |connection| {
        let erasure = Erasure { at: now, last_seq: 0 };
        erasures::remember(connection, erasure_key, iccid, erasure).await?;
        wait_for_earlier(connection).await?;
        let known = delete(connection, erasure_key, iccid, now).await?;
        let unread = delete_unread(connection, iccid).await?;
        Ok(known || unread)
    });
    let in_database = timeout(budget::ERASURE, erased).await.unwrap_or(Err(StoreError::Busy))?;
    let in_spool = match spool {
        Some(spool) => erase_from_spool(spool, iccid).await?,
        None => false,
    };
    Ok(in_database || in_spool)
}

async fn wait_for_earlier(connection: &mut PgConnection) -> Result<(), StoreError> {
    let now = backends::now(connection).await?;
    let begun = Instant::now();
    while backends::is_a_writer_busy_since_before(connection, now).await? {
        if begun.elapsed() > budget::EARLIER_TRANSACTIONS {
            return Err(StoreError::Busy);
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// What names the profile by its ICCID.
async fn delete(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    iccid: &Iccid,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut transaction = connection.begin().await?;
    let last_seq = lock(&mut transaction, iccid).await?.map_or(0, |profile| profile.seq);
    let known = erasures::delete_all(&mut transaction, iccid).await?;
    // Once more: a registration that came between has lifted it.
    let erasure = Erasure { at: now, last_seq };
    erasures::remember(&mut transaction, erasure_key, iccid, erasure).await?;
    notify::wake(&mut transaction, iccid).await?;
    transaction.commit().await?;
    Ok(known)
}

/// Bodies that could not be read, by what they hold: page by page, since a provider whose bodies turn malformed leaves many.
async fn delete_unread(connection: &mut PgConnection, iccid: &Iccid) -> Result<bool, StoreError> {
    let (mut after, mut found) = (None, false);
    loop {
        let page = erasures::delete_unread(connection, iccid, after).await?;
        found |= page.deleted;
        match page.last {
            Some(last) => after = Some(last),
            None => return Ok(found),
        }
    }
}

/// What waits in the spool is written without its content when it is drained, which is soon, because the database answers. What
/// was refused stays, and is deleted here.
async fn erase_from_spool(spool: &Spool, iccid: &Iccid) -> Result<bool, SpoolError> {
    let files = spool.set_aside();
    if !files.is_empty() {
        tracing::warn!(
            ?files,
            ?iccid,
            "a profile was erased, and damaged spool files that were set aside may still name it: delete them once they are examined"
        );
    }
    spool.erase_refused(iccid.as_str()).await
}
