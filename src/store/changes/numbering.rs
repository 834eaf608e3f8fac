//! Who has changed, and the positions of the changes: [`super::changes`] says how the order comes about.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::super::error::StoreError;
use super::super::fault::is_time_out;
use crate::budget;
use crate::domain::{ChangeKind, Iccid};

/// About how many changes one transaction numbers, and how many such transactions follow each other at most.
const MAX_NUMBERED: i64 = 5_000;
const MIN_NUMBERED: i64 = 50;
const MAX_ROUNDS: u32 = 100;

/// How many profiles one step of a search looks at.
const MAX_SEARCHED: i64 = 5_000;

/// How long it is kept that a profile was erased. It names the profile, so this is short.
pub const ERASED_KEPT: Duration = Duration::from_hours(7 * 24);

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
    sqlx::query!("DELETE FROM new_changes WHERE iccid = $1 AND kind <> 'erased'", iccid.as_str())
        .execute(&mut *connection)
        .await?;
    // The note stays, for an erasure that is repeated because its answer was lost.
    sqlx::query!("DELETE FROM changes WHERE iccid = $1 AND kind <> 'erased'", iccid.as_str())
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

/// Begins what is done under the lock often. No statement of it, and no pause, is longer than [`budget::NUMBERING`].
///
/// Planned without nested loops, but for keys (`LATERAL`): the planner takes a table that is emptied every minute for empty,
/// however many rows wait in it.
async fn begin(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, StoreError> {
    let mut transaction = connection.begin().await?;
    let limit = budget::in_postgres(budget::NUMBERING);
    let set = sqlx::query!(
        "SELECT set_config('statement_timeout', $1, true) AS statement,
                set_config('idle_in_transaction_session_timeout', $1, true) AS pause,
                set_config('enable_nestloop', 'off', true) AS loops, set_config('jit', 'off', true) AS jit",
        limit
    );
    set.fetch_one(&mut *transaction).await?;
    Ok(transaction)
}

/// Gives positions to new changes that are committed: at first to about [`MAX_NUMBERED`], and to fewer if the server is too slow
/// for that. Returns whether there are more.
///
/// # Errors
/// [`StoreError`].
pub async fn number(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let is_any = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM new_changes) AS "it!""#);
    if !is_any.fetch_one(&mut *connection).await? {
        return Ok(false);
    }
    let mut max = MAX_NUMBERED;
    loop {
        match number_some(connection, max).await {
            Err(StoreError::Database(error)) if is_time_out(&error) && max > MIN_NUMBERED => {
                max /= 10;
            }
            numbered => return numbered,
        }
    }
}

async fn number_some(connection: &mut PgConnection, max: i64) -> Result<bool, StoreError> {
    let mut transaction = begin(connection).await?;
    let last = lock(&mut transaction).await?;
    let are_more = sqlx::query_scalar!(
        r#"WITH noted AS MATERIALIZED (SELECT iccid FROM new_changes LIMIT $2),
           -- Each profile with the last seq of its history, and the last one that has a position.
           behind AS MATERIALIZED (
               SELECT iccid, (SELECT p.seq FROM profiles AS p WHERE p.iccid = f.iccid) AS now,
                      coalesce((SELECT max(c.seq) FROM changes AS c WHERE c.iccid = f.iccid), 0) AS seq
               FROM (SELECT DISTINCT iccid FROM noted) AS f
           ),
           -- As many profiles as fit, and one at least.
           chosen AS MATERIALIZED (
               SELECT iccid, seq, now IS NOT NULL AS exists
               FROM (SELECT *, sum(greatest(now - seq, 0) + 1) OVER (ORDER BY iccid) AS so_far,
                            row_number() OVER (ORDER BY iccid) AS n FROM behind) AS k
               WHERE so_far <= $2 OR n = 1
           ),
           -- All notes of a profile: in which order they lie in the table says nothing.
           taken AS MATERIALIZED (
               DELETE FROM new_changes WHERE iccid IN (SELECT iccid FROM chosen) RETURNING iccid, seq, kind, at
           ),
           -- The turn orders what has the same seq: a transition, a registration, evidence, and the erasure that ends the life.
           found AS MATERIALIZED (
               SELECT k.iccid, t.seq, CASE t.kind WHEN 'overdue' THEN 'overdue' ELSE 'transition' END AS kind,
                      t.received_at AS at, 1 AS turn
               FROM chosen AS k
               CROSS JOIN LATERAL (
                   SELECT seq, kind, received_at FROM transitions
                   WHERE iccid = k.iccid AND seq > k.seq ORDER BY seq LIMIT $2
               ) AS t
           ),
           -- Histories that are longer than a pass. The rest of them comes first in the next one.
           cut AS MATERIALIZED (SELECT iccid FROM found GROUP BY iccid HAVING count(*) = $2),
           -- An erasure belongs before the next life. Of what was noted about a profile that was erased meanwhile, only the
           -- erasure is true.
           without_transition AS (
               SELECT t.iccid, CASE t.kind WHEN 'erased' THEN t.seq ELSE greatest(t.seq, k.seq) END AS seq, t.kind,
                      max(t.at) AS at, CASE t.kind WHEN 'registered' THEN 2 WHEN 'evidence' THEN 3 ELSE 4 END AS turn
               FROM taken AS t JOIN chosen AS k ON k.iccid = t.iccid
               WHERE t.kind = 'erased'
                  OR t.kind <> 'transition' AND k.exists AND t.iccid NOT IN (SELECT iccid FROM cut)
               GROUP BY 1, 2, 3, 5
           ),
           -- By time, as far as that is the order of each profile: clocks go back.
           timed AS (
               SELECT *, max(at) OVER (PARTITION BY iccid ORDER BY seq, turn) AS not_before
               FROM (SELECT * FROM found UNION ALL SELECT * FROM without_transition) AS all_of_them
           ),
           placed AS (
               INSERT INTO changes (position, iccid, seq, kind, at)
               SELECT $1 + row_number() OVER (ORDER BY not_before, iccid, seq, turn), iccid, seq, kind, at FROM timed
               RETURNING position
           ),
           counted AS (
               UPDATE change_feed SET last_position = (SELECT max(position) FROM placed)
               WHERE EXISTS (SELECT FROM placed)
           ),
           left_over AS (
               INSERT INTO new_changes (iccid, seq, kind, at)
               SELECT iccid, seq, kind, at FROM taken
               WHERE kind <> 'erased' AND iccid IN (SELECT iccid FROM cut)
           )
           SELECT (SELECT count(*) FROM noted) = $2 OR (SELECT count(*) FROM behind) > (SELECT count(*) FROM chosen)
                  OR EXISTS (SELECT FROM cut) AS "are_more!""#,
        last,
        max
    );
    let are_more = are_more.fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(are_more)
}

/// Gives positions to all new changes that are committed now, unless there are very many.
///
/// # Errors
/// [`StoreError`]; what has a position keeps it.
pub async fn number_all(connection: &mut PgConnection) -> Result<(), StoreError> {
    for _ in 0..MAX_ROUNDS {
        if !number(connection).await? {
            break;
        }
    }
    Ok(())
}

/// Gives positions to what nobody has read, continues a search, and forgets who was erased long ago.
///
/// # Errors
/// [`StoreError`]; what was done before the error stays done.
pub async fn run_upkeep(connection: &mut PgConnection) -> Result<(), StoreError> {
    for _ in 0..MAX_ROUNDS {
        number_all(connection).await?;
        if !search(connection).await? {
            break;
        }
    }
    number_all(connection).await?;
    sqlx::query!(
        "DELETE FROM changes WHERE kind = 'erased' AND at < now() - make_interval(secs => $1)",
        ERASED_KEPT.as_secs_f64()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes one step of a search for transitions that nobody has noted, if one is under way or due. Returns whether there is more to
/// search.
async fn search(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let mut transaction = begin(connection).await?;
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
    if is_over == Some(true) {
        tracing::info!("all histories were searched for changes that /v1/changes lacks");
    }
    Ok(is_over == Some(false))
}
