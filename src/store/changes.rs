//! The tables `new_changes`, `changes` and `change_feed`: all changes of all profiles in one order.
//!
//! Whoever changes a profile appends to `new_changes`, in the same transaction: [`super::batch_write`], and [`note`] for the rest.
//! [`number`] moves what is committed to `changes` and gives it the next positions, one transaction at a time. So a reader that has
//! come to a position has missed nothing before it, whatever commits later.
//!
//! For each profile that has changed, [`number`] takes the transitions from its history, from where `changes` ends. A transition
//! is therefore never missing or there twice, even if a writer has not noted it: one of the release before.

use std::collections::{HashMap, HashSet};

use sqlx::{Connection, PgConnection};

use super::error::StoreError;
use super::profiles::{self, StoredProfile};
use super::transitions;
use crate::domain::{ChangeKind, Iccid, Timestamp, Transition};

/// How many new changes one transaction numbers, and how many such transactions one upkeep makes.
const MAX_NUMBERED: i64 = 10_000;
const MAX_ROUNDS: u32 = 100;

/// How many profiles one step of a search looks at.
const MAX_SEARCHED: i64 = 5_000;

/// How long it is kept that a profile was erased. It names the profile, so this is short.
const ERASED_KEPT_SECONDS: i64 = 7 * 86_400;

/// One change.
#[derive(Debug)]
pub struct Change {
    /// Its place in the order, from 1.
    pub position: i64,
    /// The profile.
    pub iccid: Iccid,
    /// What changed.
    pub kind: ChangeKind,
    /// When, by the clock of the service or of the database.
    pub at: Timestamp,
    /// The transition, for the kinds that have one.
    pub transition: Option<Transition>,
    /// The profile as it is now; `None` if it was erased.
    pub profile: Option<StoredProfile>,
}

/// Some changes, and how far there are any.
#[derive(Debug)]
pub struct Changes {
    /// The changes, in their order.
    pub items: Vec<Change>,
    /// The position up to which the reader has read with them.
    pub read_to: i64,
    /// The last position that was given.
    pub last: i64,
}

/// Notes that a profile has changed, in the transaction that changes it.
///
/// # Errors
/// [`StoreError`].
pub async fn note(
    connection: &mut PgConnection,
    iccid: &Iccid,
    kind: ChangeKind,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO new_changes (iccid, seq, kind, at) SELECT iccid, seq, $2, now() FROM profiles WHERE iccid = $1",
        iccid.as_str(),
        kind.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes what is kept about a profile, in the transaction that erases it. With the last `seq` of a profile that existed, notes
/// that it was erased.
///
/// # Errors
/// [`StoreError`].
pub async fn erase(
    connection: &mut PgConnection,
    iccid: &Iccid,
    last_seq: Option<i64>,
) -> Result<(), StoreError> {
    // Otherwise a transaction that is giving positions could add changes of this profile after they were deleted.
    lock(connection).await?;
    sqlx::query!("DELETE FROM new_changes WHERE iccid = $1", iccid.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM changes WHERE iccid = $1", iccid.as_str())
        .execute(&mut *connection)
        .await?;
    if let Some(seq) = last_seq {
        sqlx::query!(
            "INSERT INTO new_changes (iccid, seq, kind, at) VALUES ($1, $2, $3, now())",
            iccid.as_str(),
            seq,
            ChangeKind::Erased.as_str()
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Waits for the lock of those who give positions, and returns the last position. What they have committed is visible to the next
/// statement.
async fn lock(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let last = sqlx::query_scalar!("SELECT last_position FROM change_feed FOR UPDATE");
    Ok(last.fetch_one(connection).await?)
}

/// Gives positions to new changes that are committed, at most [`MAX_NUMBERED`] notes of them. Returns how many notes there were.
///
/// # Errors
/// [`StoreError`].
pub async fn number(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let is_any = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM new_changes) AS "it!""#);
    if !is_any.fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    let mut transaction = connection.begin().await?;
    let last = lock(&mut transaction).await?;
    let noted = sqlx::query_scalar!(
        r#"WITH taken AS MATERIALIZED (
               DELETE FROM new_changes WHERE ctid = ANY(ARRAY(SELECT ctid FROM new_changes LIMIT $2))
               RETURNING iccid, seq, kind, at
           ),
           known AS MATERIALIZED (
               SELECT iccid, coalesce((SELECT max(c.seq) FROM changes AS c WHERE c.iccid = t.iccid), 0) AS seq
               FROM (SELECT DISTINCT iccid FROM taken) AS t
           ),
           found AS (
               SELECT k.iccid, t.seq, CASE t.kind WHEN 'overdue' THEN 'overdue' ELSE 'transition' END AS kind,
                      t.received_at AS at, 1 AS turn
               FROM known AS k
               -- The limit keeps this from becoming another join, that would read the table through.
               CROSS JOIN LATERAL (
                   SELECT seq, kind, received_at FROM transitions
                   WHERE iccid = k.iccid AND seq > k.seq ORDER BY seq LIMIT 1000000
               ) AS t
               UNION ALL
               SELECT iccid, seq, kind, max(at), CASE kind WHEN 'registered' THEN 2 WHEN 'evidence' THEN 3 ELSE 4 END
               FROM taken WHERE kind <> 'transition' GROUP BY iccid, seq, kind
           ),
           -- By time, as far as that is the order of each profile: clocks go back.
           timed AS (
               SELECT *, max(at) OVER (PARTITION BY iccid ORDER BY seq, turn) AS not_before FROM found
           ),
           placed AS (
               INSERT INTO changes (position, iccid, seq, kind, at)
               SELECT $1 + row_number() OVER (ORDER BY not_before, iccid, seq, turn), iccid, seq, kind, at FROM timed
               RETURNING position
           ),
           counted AS (
               UPDATE change_feed SET last_position = last_position + (SELECT count(*) FROM placed)
           )
           SELECT count(*) AS "noted!" FROM taken"#,
        last,
        MAX_NUMBERED
    );
    let noted = noted.fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(noted)
}

/// Lists the changes after a position, with the transitions and profiles that they are about. Changes of a profile that is being
/// erased are left out.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    after: i64,
    limit: i64,
) -> Result<Changes, StoreError> {
    let last = last(connection).await?;
    let rows = sqlx::query!(
        r#"SELECT position, iccid AS "iccid: Iccid", seq, kind AS "kind: ChangeKind", at AS "at: Timestamp"
           FROM changes WHERE position > $1 ORDER BY position LIMIT $2"#,
        after,
        limit
    )
    .fetch_all(&mut *connection)
    .await?;
    let read_to = rows.last().map_or(after, |row| row.position);
    let has_transition =
        |kind: ChangeKind| matches!(kind, ChangeKind::Transition | ChangeKind::Overdue);
    let wanted = rows.iter().filter(|row| has_transition(row.kind));
    let wanted: Vec<_> = wanted.map(|row| (&row.iccid, row.seq)).collect();
    let mut moved = transitions::find_each(connection, &wanted).await?;
    let iccids: HashSet<_> = rows.iter().map(|row| row.iccid.as_str().to_owned()).collect();
    let iccids: Vec<_> = iccids.into_iter().collect();
    let found = profiles::find(connection, &iccids).await?;
    let found: HashMap<_, _> = found.into_iter().map(|it| (it.profile.iccid.clone(), it)).collect();
    let items = rows.into_iter().filter_map(|row| {
        let profile = found.get(&row.iccid).cloned();
        let transition = has_transition(row.kind).then(|| (row.iccid.clone(), row.seq));
        let transition = transition.and_then(|it| moved.remove(&it));
        let is_whole = match row.kind {
            ChangeKind::Transition | ChangeKind::Overdue => {
                transition.is_some() && profile.is_some()
            }
            ChangeKind::Evidence | ChangeKind::Registered => profile.is_some(),
            ChangeKind::Erased => true,
        };
        let profile = profile.filter(|_| row.kind != ChangeKind::Erased);
        let (position, iccid, kind, at) = (row.position, row.iccid, row.kind, row.at);
        is_whole.then_some(Change { position, iccid, kind, at, transition, profile })
    });
    Ok(Changes { items: items.collect(), read_to, last })
}

/// The last position that was given; 0 if none was.
///
/// # Errors
/// [`StoreError`].
pub async fn last(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let last = sqlx::query_scalar!("SELECT last_position FROM change_feed");
    Ok(last.fetch_one(connection).await?)
}

/// Gives positions to what nobody has read, continues a search, and forgets who was erased long ago.
///
/// # Errors
/// [`StoreError`]; what was done before the error stays done.
pub async fn look_after(connection: &mut PgConnection) -> Result<(), StoreError> {
    for _ in 0..MAX_ROUNDS {
        let is_searching = search(connection).await?;
        if number(connection).await? < MAX_NUMBERED && !is_searching {
            break;
        }
    }
    sqlx::query!(
        "DELETE FROM changes WHERE kind = 'erased' AND at < now() - make_interval(secs => $1)",
        f64::from(i32::try_from(ERASED_KEPT_SECONDS).unwrap_or(i32::MAX))
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes one step of a search for transitions that nobody has noted, if one is under way or due. Returns whether there is more to
/// search.
async fn search(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let mut transaction = connection.begin().await?;
    lock(&mut transaction).await?;
    let is_over = sqlx::query_scalar!(
        r#"WITH feed AS (
               SELECT coalesce(searched_to, '') AS searched_to FROM change_feed
               WHERE searched_to IS NOT NULL OR searches_left > 0 AND search_at <= now()
           ),
           page AS MATERIALIZED (
               SELECT p.iccid, p.seq FROM feed
               CROSS JOIN LATERAL (
                   SELECT iccid, seq FROM profiles WHERE iccid > feed.searched_to ORDER BY iccid LIMIT $1
               ) AS p
           ),
           noted AS (
               INSERT INTO new_changes (iccid, seq, kind, at)
               SELECT iccid, seq, 'transition', now() FROM page
               WHERE seq > coalesce((SELECT max(c.seq) FROM changes AS c WHERE c.iccid = page.iccid), 0)
           ),
           step AS (
               SELECT (SELECT max(iccid) FROM page) AS last, (SELECT count(*) FROM page) < $1 AS is_over FROM feed
           ),
           saved AS (
               UPDATE change_feed
               SET searched_to = CASE WHEN step.is_over THEN NULL ELSE step.last END,
                   searches_left = searches_left - CASE WHEN step.is_over THEN 1 ELSE 0 END,
                   search_at = CASE WHEN step.is_over THEN now() + interval '1 day' ELSE search_at END
               FROM step
           )
           SELECT is_over FROM step"#,
        MAX_SEARCHED
    );
    let is_over = is_over.fetch_optional(&mut *transaction).await?.flatten();
    transaction.commit().await?;
    Ok(is_over == Some(false))
}
