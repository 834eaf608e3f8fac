//! The deliveries that were kept and not applied, and may be applied by now.

use sqlx::PgConnection;
use uuid::Uuid;

use super::deliveries::{
    DeliveryRecord, REUSED_EVENT_ID, UNAPPLIED, UNPLACED, first_id, select_deliveries,
};
use super::error::StoreError;
use crate::domain::{Iccid, Outcome, Timestamp};

/// How many deliveries one statement of [`find_placeable`] passes.
const PASSED: i64 = 20_000;

/// Lists the deliveries of one hook that were kept and may be applied by now, received at `since` or later and after `after`, oldest
/// first: those that were not understood, that came under an event id that had come with other content, or about another provider's
/// profile.
///
/// # Errors
/// [`StoreError`].
pub async fn list_unread(
    connection: &mut PgConnection,
    hook: &str,
    since: Timestamp,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let found = select_deliveries!(
        // One branch for each outcome, so that each walks the index of what was not applied.
        "WHERE (id, received_at) IN (
             (SELECT id, received_at FROM deliveries
              WHERE outcome = 'unrecognised' AND hook = $1 AND id > $2 AND received_at >= $3 ORDER BY id LIMIT $4)
             UNION ALL
             (SELECT id, received_at FROM deliveries
              WHERE outcome = 'ignored' AND hook = $1 AND id > $2 AND received_at >= $3 ORDER BY id LIMIT $4)
             UNION ALL
             (SELECT id, received_at FROM deliveries
              WHERE outcome = 'malformed' AND hook = $1 AND id > $2 AND received_at >= $3 ORDER BY id LIMIT $4)
             UNION ALL
             (SELECT id, received_at FROM deliveries
              WHERE outcome = 'foreign' AND hook = $1 AND id > $2 AND received_at >= $3 ORDER BY id LIMIT $4)
             UNION ALL
             (SELECT id, received_at FROM deliveries
              WHERE outcome = 'duplicate' AND reason = $5 AND hook = $1 AND id > $2 AND received_at >= $3 ORDER BY id LIMIT $4))
         ORDER BY id LIMIT $4",
        hook,
        after.unwrap_or(first_id(since)),
        since.as_datetime(),
        limit,
        REUSED_EVENT_ID
    );
    Ok(found.fetch_all(connection).await?)
}

/// Notes what became of a delivery that was read again, unless another transaction has noted that. Returns whether it has.
///
/// # Errors
/// [`StoreError`].
pub async fn note_reread(
    connection: &mut PgConnection,
    record: &DeliveryRecord,
    outcome: Outcome,
    iccid: &Iccid,
) -> Result<bool, StoreError> {
    let noted = sqlx::query_scalar!(
        r#"WITH noted AS (
               UPDATE deliveries SET outcome = $4, iccid = $5,
                   reason = 'was ' || $3 || '; understood when it was read again at ' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
               WHERE id = $1 AND received_at = $2 AND outcome = $3
               RETURNING provider, (received_at AT TIME ZONE 'UTC')::date AS day
           ),
           counted AS (
               INSERT INTO count_changes (provider, day, outcome, n)
               SELECT provider, day, change.outcome, change.n
               FROM noted, (VALUES ($3, -1), ($4, 1)) AS change (outcome, n)
           )
           SELECT count(*) = 1 AS "noted!" FROM noted"#,
        record.id,
        record.received_at.as_datetime(),
        record.outcome.as_str(),
        outcome.as_str(),
        iccid.as_str()
    );
    Ok(noted.fetch_one(connection).await?)
}

/// How many of the newest deliveries of an outcome [`count_to_reread`] looks at.
const LOOKED_AT: i64 = 20_000;

/// How many deliveries of a provider wait for `esim-status reread`, for one reason.
#[derive(Debug)]
pub struct ToReread {
    /// The provider's slug.
    pub provider: String,
    /// [`UNAPPLIED`] or [`REUSED_EVENT_ID`].
    pub reason: String,
    /// How many they are, among the newest 20,000 with their outcome.
    pub deliveries: i64,
}

/// Counts the deliveries that were kept unapplied, or under the event id of others.
///
/// # Errors
/// [`StoreError`].
pub async fn count_to_reread(connection: &mut PgConnection) -> Result<Vec<ToReread>, StoreError> {
    let counts = sqlx::query_as!(
        ToReread,
        r#"SELECT provider AS "provider!", reason AS "reason!", count(*) AS "deliveries!"
           FROM ((SELECT provider, reason FROM deliveries WHERE outcome = 'unrecognised' ORDER BY id DESC LIMIT $3)
                 UNION ALL
                 (SELECT provider, reason FROM deliveries WHERE outcome = 'duplicate' ORDER BY id DESC LIMIT $3)) AS newest
           WHERE reason IN ($1, $2)
           GROUP BY provider, reason"#,
        UNAPPLIED,
        REUSED_EVENT_ID,
        LOOKED_AT
    );
    Ok(counts.fetch_all(connection).await?)
}

/// One page of [`find_placeable`].
#[derive(Debug)]
pub struct Placeable {
    /// Deliveries whose profile is known by now.
    pub records: Vec<DeliveryRecord>,
    /// The last delivery that the page has passed; `None` if there are no more.
    pub last: Option<Uuid>,
}

/// Finds connections that were ignored because their profile was not known, and whose profile is known by now: one page, of what was
/// received at `since` or later and after `after`, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn find_placeable(
    connection: &mut PgConnection,
    since: Timestamp,
    after: Option<Uuid>,
) -> Result<Placeable, StoreError> {
    let page = sqlx::query!(
        r#"WITH passed AS MATERIALIZED (
               SELECT id, iccid, reason FROM deliveries
               WHERE outcome = 'ignored' AND id > $1 AND received_at >= $2 ORDER BY id LIMIT $4
           )
           SELECT (SELECT id FROM passed ORDER BY id DESC LIMIT 1) AS last,
                  ARRAY(SELECT id FROM passed WHERE reason LIKE '%' || $3 AND EXISTS (SELECT FROM profiles WHERE iccid = passed.iccid))
                      AS "found!""#,
        after.unwrap_or(first_id(since)),
        since.as_datetime(),
        UNPLACED,
        PASSED
    );
    let page = page.fetch_one(&mut *connection).await?;
    if page.found.is_empty() {
        return Ok(Placeable { records: Vec::new(), last: page.last });
    }
    let records = select_deliveries!(
        "WHERE id = ANY($1) AND received_at >= $2 ORDER BY id",
        &page.found,
        since.as_datetime()
    );
    Ok(Placeable { records: records.fetch_all(connection).await?, last: page.last })
}
