//! The table `erasures`, and the deletion of everything that is kept about a profile.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;
use sqlx::PgConnection;
use uuid::Uuid;

use super::deliveries::delete_deliveries;
use super::error::StoreError;
use super::{backlogs, customer_deliveries, exclusive, funnel, inquiries, orders, overdue};
use crate::domain::{Iccid, Outcome, Timestamp};

/// The key under which erased ICCIDs are hashed. Empty until it is read from the database. Clones share it.
#[derive(Clone, Default)]
pub struct ErasureKey(Arc<OnceLock<Zeroizing<Vec<u8>>>>);

impl fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasureKey(…)")
    }
}

impl ErasureKey {
    /// Reads this database's key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let key = sqlx::query_scalar!("SELECT key FROM erasure_key").fetch_one(connection).await?;
        // The key never changes, so an earlier reader has set the same one.
        drop(self.0.set(Zeroizing::new(key)));
        Ok(())
    }

    /// Whether it has been read.
    pub fn is_known(&self) -> bool {
        self.0.get().is_some()
    }

    /// The hash that is kept of an erased profile instead of its ICCID.
    pub(super) fn hash(&self, iccid: &Iccid) -> Result<Vec<u8>, StoreError> {
        let key = self.0.get().ok_or(StoreError::KeyUnknown)?;
        let mac = Hmac::<Sha256>::new_from_slice(key);
        let mac = mac.map_err(|_| StoreError::Corrupt { column: "key" })?;
        Ok(mac.chain_update(iccid.as_str()).finalize().into_bytes().to_vec())
    }
}

/// Finds which of these profiles were erased and not registered since.
///
/// # Errors
/// [`StoreError`].
pub async fn find<'a>(
    connection: &mut PgConnection,
    key: &ErasureKey,
    iccids: &[&'a Iccid],
) -> Result<HashSet<&'a Iccid>, StoreError> {
    let hashes = iccids.iter().map(|iccid| key.hash(iccid)).collect::<Result<Vec<_>, _>>()?;
    let erased =
        sqlx::query_scalar!("SELECT iccid_hmac FROM erasures WHERE iccid_hmac = ANY($1)", &hashes)
            .fetch_all(connection)
            .await?;
    Ok(iccids
        .iter()
        .zip(hashes)
        .filter(|(_, hash)| erased.contains(hash))
        .map(|(iccid, _)| *iccid)
        .collect())
}

/// Waits until no other registration or erasure of this profile is under way, and keeps the next ones waiting until the end of
/// the transaction. Without that, a profile that is registered while another call deletes its tables one by one would keep a
/// part of them.
///
/// # Errors
/// [`StoreError`], also if the wait hits the statement timeout.
pub async fn take_turn(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    sqlx::query!(
        r#"SELECT 1 AS "done!" FROM pg_advisory_xact_lock(hashtextextended($1, $2))"#,
        iccid.as_str(),
        exclusive::PROFILE
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// What is kept about an erased profile.
#[derive(Debug, Clone, Copy)]
pub struct Erasure {
    /// When it was erased.
    pub at: Timestamp,
    /// The `seq` of its last transition.
    pub last_seq: i64,
}

/// Finds the erasure of a profile; `None` if it was not erased, or was registered since.
///
/// # Errors
/// [`StoreError`].
pub async fn recall(
    connection: &mut PgConnection,
    key: &ErasureKey,
    iccid: &Iccid,
) -> Result<Option<Erasure>, StoreError> {
    let erasure = sqlx::query_as!(
        Erasure,
        r#"SELECT erased_at AS "at: Timestamp", last_seq FROM erasures WHERE iccid_hmac = $1"#,
        key.hash(iccid)?
    );
    Ok(erasure.fetch_optional(connection).await?)
}

/// Records that a profile was erased.
///
/// # Errors
/// [`StoreError`].
pub async fn remember(
    connection: &mut PgConnection,
    key: &ErasureKey,
    iccid: &Iccid,
    erasure: Erasure,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO erasures AS e (iccid_hmac, erased_at, last_seq) VALUES ($1, $2, $3)
         ON CONFLICT (iccid_hmac) DO UPDATE
         SET erased_at = EXCLUDED.erased_at, last_seq = greatest(e.last_seq, EXCLUDED.last_seq)",
        key.hash(iccid)?,
        erasure.at.as_datetime(),
        erasure.last_seq
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the record of an erasure, because the profile was registered again.
///
/// # Errors
/// [`StoreError`].
pub async fn forget(
    connection: &mut PgConnection,
    key: &ErasureKey,
    iccid: &Iccid,
) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM erasures WHERE iccid_hmac = $1", key.hash(iccid)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes every row that names a profile by its ICCID, and every delivery that names its customer if that has no other profile. Returns whether there was a profile or a delivery.
///
/// # Errors
/// [`StoreError`].
pub async fn delete_all(
    connection: &mut PgConnection,
    profile: &Iccid,
) -> Result<bool, StoreError> {
    customer_deliveries::erase(connection, profile).await?;
    let iccid = profile.as_str();
    let profiles = sqlx::query_scalar!(
        r#"WITH gone AS (DELETE FROM profiles WHERE iccid = $1 RETURNING provider, state),
                counted AS (
                    INSERT INTO count_changes (provider, from_state, n) SELECT provider, state, 1 FROM gone
                )
           SELECT count(*) AS "gone!" FROM gone"#,
        iccid
    )
    .fetch_one(&mut *connection)
    .await?;
    let deliveries =
        delete_deliveries!("WHERE d.iccid = $1", iccid).fetch_one(&mut *connection).await?;
    sqlx::query!("DELETE FROM transitions WHERE iccid = $1", iccid)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM install_credentials WHERE iccid = $1", iccid)
        .execute(&mut *connection)
        .await?;
    orders::delete(connection, profile).await?;
    overdue::delete(connection, profile).await?;
    inquiries::delete(connection, profile).await?;
    funnel::delete(connection, profile).await?;
    backlogs::erase(connection, profile).await?;
    // The event ids stay, so that a retry is still recognized, but without the profile that they were about. An id that a sender has
    // made of the ICCID becomes the hash that `event_ids::reserved` makes of such an id, so a retry of it is recognized too.
    sqlx::query!(
        "UPDATE event_ids
         SET iccid = NULL,
             event_id = CASE WHEN strpos(event_id, $1) > 0 THEN encode(sha256(convert_to(event_id, 'UTF8')), 'hex')
                             ELSE event_id END
         WHERE iccid = $1",
        iccid
    )
    .execute(connection)
    .await?;
    Ok(profiles + deliveries > 0)
}

/// How many bodies one statement searches (usually a few megabytes, at most 64), and how many deliveries it passes.
const UNREAD_PAGE: i64 = 1_000;
const PASSED: i64 = 20_000;

/// The outcomes of deliveries whose bodies may name a profile where no adapter looks for it. An event that no adapter reads and that came
/// twice is a duplicate.
pub const UNREAD: [Outcome; 3] = [Outcome::Malformed, Outcome::Ignored, Outcome::Duplicate];

/// The result of one page of [`delete_unread`].
#[derive(Debug, Clone, Copy)]
pub struct UnreadPage {
    /// Whether something was deleted.
    pub deleted: bool,
    /// The last delivery of the page; `None` if there were no more.
    pub last: Option<Uuid>,
}

/// Deletes deliveries with this outcome that contain this ICCID and of which no profile is known. Nothing else tells which
/// profile such a body is about, because it could not be read, or is of a kind that names it elsewhere. Searches one page, after
/// `after`, in the order of receipt.
///
/// # Errors
/// [`StoreError`].
pub async fn delete_unread(
    connection: &mut PgConnection,
    iccid: &Iccid,
    outcome: Outcome,
    after: Option<Uuid>,
) -> Result<UnreadPage, StoreError> {
    let page = sqlx::query!(
        r#"WITH passed AS MATERIALIZED (
               SELECT id, received_at, iccid FROM deliveries
               WHERE outcome = $4 AND outcome NOT IN ('moved', 'repeated') AND id > $2
               ORDER BY id LIMIT $5
           ),
           page AS MATERIALIZED (
               SELECT id, received_at FROM passed WHERE iccid IS NULL ORDER BY id LIMIT $3
           ),
           gone AS (
               DELETE FROM deliveries AS d USING page AS p
               WHERE d.id = p.id AND d.received_at = p.received_at
                 AND (position(convert_to($1, 'UTF8') IN d.body) > 0 OR strpos(d.event_id, $1) > 0)
               RETURNING d.id, d.provider, d.received_at, d.outcome, d.hook, d.event_id
           ),
           named AS (
               DELETE FROM event_ids AS e USING gone
               WHERE e.hook = gone.hook AND e.event_id = gone.event_id AND strpos(e.event_id, $1) > 0
               RETURNING e.hook, e.event_id, e.body_sha256, e.iccid, e.received_at
           ),
           renamed AS (
               INSERT INTO event_ids (hook, event_id, body_sha256, iccid, received_at)
               SELECT hook, encode(sha256(convert_to(event_id, 'UTF8')), 'hex'), body_sha256, iccid, received_at FROM named
               -- An event that names the profile where it is read has reserved the hash.
               ON CONFLICT DO NOTHING
           ),
           counted AS (
               INSERT INTO count_changes (provider, day, outcome, n)
               SELECT provider, (received_at AT TIME ZONE 'UTC')::date, outcome, -count(*) FROM gone GROUP BY 1, 2, 3
           )
           SELECT CASE WHEN (SELECT count(*) FROM page) = $3 THEN (SELECT id FROM page ORDER BY id DESC LIMIT 1)
                       ELSE (SELECT id FROM passed ORDER BY id DESC LIMIT 1) END AS last,
                  EXISTS (SELECT FROM gone) AS "deleted!""#,
        iccid.as_str(),
        after.unwrap_or(Uuid::nil()),
        UNREAD_PAGE,
        outcome.as_str(),
        PASSED
    )
    .fetch_one(connection)
    .await?;
    Ok(UnreadPage { deleted: page.deleted, last: page.last })
}
