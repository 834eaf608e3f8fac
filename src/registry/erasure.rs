//! Erases a profile: deletes everything that is kept about it, and prevents a late webhook from bringing it back.
//!
//! The erasure is first recorded and committed. No statement that begins after that creates the profile, or stores a body that
//! names one that does not exist. Then we wait for the statements that began earlier, and then delete. So a webhook that overlaps
//! with an erasure, in this replica or another, leaves nothing behind. Row locks could not guarantee that: an ICCID
//! without a profile has no row that both could lock.

use std::time::Duration;

use sqlx::types::time::OffsetDateTime;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::wake_all;
use crate::budget;
use crate::domain::{ChangeKind, Iccid, Timestamp};
use crate::spool::{Spool, SpoolError};
use crate::store::erasures::Erasure;
use crate::store::{ErasureKey, Pool, StoreError, backends, changes, erasures, orders, profiles};

/// The shortest and the longest pause between two checks whether earlier statements have ended.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(160)];

/// Why an erasure may be incomplete. Retrying is safe.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The database failed, or was too slow.
    #[error("the database did not erase a profile")]
    Store(#[from] StoreError),
    /// The spool failed.
    #[error("the spool did not erase a profile")]
    Spool(#[from] SpoolError),
}

/// Erases everything that is kept about a profile, and remembers only a keyed hash of its ICCID. Returns whether there
/// was anything to erase. The hash is kept in either case, because a webhook about the profile may still wait in a
/// spool.
///
/// # Errors
/// [`EraseError`]; the erasure may be incomplete, and retrying is safe.
pub async fn erase(
    pool: &Pool,
    spool: Option<&Spool>,
    erasure_key: &ErasureKey,
    iccid: &Iccid,
    now: Timestamp,
) -> Result<bool, EraseError> {
    let in_database = async {
        // Each step borrows its own session: erasures that wait for a frozen replica, or search many bodies, would otherwise hold
        // those of all registrations.
        let before = pool.run(async |connection| {
            let erasure = Erasure { at: now, last_seq: 0 };
            erasures::remember(connection, erasure_key, iccid, erasure).await?;
            backends::now(connection).await
        });
        wait_for_earlier(pool, before.await?).await?;
        // There may be more to delete than the time of a registration allows, for which the pool is made.
        let known = pool.run_within(budget::ERASURE, async |connection| {
            delete(connection, erasure_key, iccid, now).await
        });
        let known = known.await?;
        Ok(delete_unread(pool, iccid).await? || known)
    };
    let in_database =
        timeout(budget::ERASURE, in_database).await.unwrap_or(Err(StoreError::Busy))?;
    let in_spool = match spool {
        Some(spool) => erase_from_spool(spool, iccid).await?,
        None => false,
    };
    Ok(in_database || in_spool)
}

/// Waits until what writers of any replica began before this time of the database's clock has ended.
async fn wait_for_earlier(pool: &Pool, time: OffsetDateTime) -> Result<(), StoreError> {
    let (begun, mut pause) = (Instant::now(), PAUSES[0]);
    let is_busy = || pool.run(async |it| backends::is_a_writer_busy_since_before(it, time).await);
    // Registrations may need all sessions for a moment: that says nothing.
    while match is_busy().await {
        Err(StoreError::Crowded) => true,
        busy => busy?,
    } {
        if begun.elapsed() > budget::EARLIER_TRANSACTIONS {
            return Err(StoreError::Busy);
        }
        sleep(pause).await;
        pause = PAUSES[1].min(pause * 2);
    }
    Ok(())
}

/// Deletes the rows that name the profile by its ICCID.
async fn delete(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    iccid: &Iccid,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut transaction = connection.begin().await?;
    erasures::take_turn(&mut transaction, iccid).await?;
    // The whole row is not read: it may hold a value that only a newer release knows, and must be erased all the same.
    let last_seq = profiles::lock_seq(&mut transaction, iccid).await?;
    // Users who were led from this profile to another one have no access any more.
    wake_all(&mut transaction, iccid).await?;
    for partner in orders::partners(&mut transaction, iccid).await? {
        changes::note(&mut transaction, &partner, ChangeKind::Registered).await?;
    }
    let known = erasures::delete_all(&mut transaction, iccid).await?;
    // Remember it again: a registration in between may have lifted the erasure.
    let erasure = Erasure { at: now, last_seq: last_seq.unwrap_or_default() };
    erasures::remember(&mut transaction, erasure_key, iccid, erasure).await?;
    changes::erase(&mut transaction, iccid, last_seq).await?;
    transaction.commit().await?;
    Ok(known)
}

/// Deletes bodies that contain the ICCID where no adapter has found it, page by page, because there may be many: a provider may
/// change its format, or send other kinds of events to the same URL.
async fn delete_unread(pool: &Pool, iccid: &Iccid) -> Result<bool, StoreError> {
    let mut found = false;
    for outcome in erasures::UNREAD {
        let mut after = None;
        loop {
            let page =
                pool.run(async |it| erasures::delete_unread(it, iccid, outcome, after).await);
            let page = match page.await {
                Err(StoreError::Crowded) => {
                    sleep(PAUSES[1]).await;
                    continue;
                }
                page => page?,
            };
            found |= page.deleted;
            match page.last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    Ok(found)
}

/// Deletes the profile's refused deliveries from the spool. Deliveries that wait there are soon drained, since the
/// database answers, and are then written without their content.
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
