//! The table `orders`: what resellers say about the sale of profiles. Reads of profiles join it ([`super::profiles`]).

use sqlx::PgConnection;

use super::error::StoreError;
use crate::domain::{Day, Iccid, Order, Reference, Timestamp};

/// Saves an order. Members that it leaves out keep the value of an earlier registration. A profile cannot have been given out for
/// one that was erased and began anew after it: then nothing is said about that.
///
/// # Errors
/// [`StoreError`].
pub async fn save(
    connection: &mut PgConnection,
    iccid: &Iccid,
    order: &Order,
    replaces_none: bool,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let saved = sqlx::query!(
        "WITH replaced AS (
             SELECT $4::text AS iccid WHERE $4::text IS NOT NULL AND NOT EXISTS (
                 SELECT FROM profiles AS p WHERE p.iccid = $4
                    AND p.erased_at > (SELECT min(received_at) FROM transitions WHERE iccid = $1))
         )
         INSERT INTO orders AS o (iccid, reference, expected_from, replaces, replaced_at)
         SELECT $1, $2, $3, r.iccid, CASE WHEN r.iccid IS NOT NULL THEN $5::timestamptz END
         FROM (SELECT (SELECT iccid FROM replaced)) AS r
         ON CONFLICT (iccid) DO UPDATE
         SET reference = coalesce(EXCLUDED.reference, o.reference),
             expected_from = coalesce(EXCLUDED.expected_from, o.expected_from),
             replaces = CASE WHEN NOT $6 THEN coalesce(EXCLUDED.replaces, o.replaces) END,
             replaced_at = CASE WHEN $6 THEN NULL
                                WHEN EXCLUDED.replaces IS DISTINCT FROM o.replaces
                                THEN coalesce(EXCLUDED.replaced_at, o.replaced_at) ELSE o.replaced_at END
         WHERE (o.reference, o.expected_from, o.replaces) IS DISTINCT FROM
               (coalesce(EXCLUDED.reference, o.reference), coalesce(EXCLUDED.expected_from, o.expected_from),
                CASE WHEN NOT $6 THEN coalesce(EXCLUDED.replaces, o.replaces) END)",
        iccid.as_str(),
        order.reference.as_ref().map(Reference::as_str),
        order.expected_from.map(Day::as_date),
        order.replaces.as_ref().map(Iccid::as_str),
        at.as_datetime(),
        replaces_none
    )
    .execute(connection)
    .await?;
    Ok(saved.rows_affected() > 0)
}

/// Notes that no other profile was given out for this one, which begins anew.
///
/// # Errors
/// [`StoreError`].
pub async fn begin_anew(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE orders SET replaces = NULL, replaced_at = NULL WHERE replaces = $1",
        iccid.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The profile that this one was given out for.
///
/// # Errors
/// [`StoreError`].
pub async fn replaces(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Option<Iccid>, StoreError> {
    let replaced = sqlx::query_scalar!(
        r#"SELECT replaces AS "it: Iccid" FROM orders WHERE iccid = $1"#,
        iccid.as_str()
    );
    Ok(replaced.fetch_optional(connection).await?.flatten())
}

/// The profiles whose orders name this one or are named by its order.
///
/// # Errors
/// [`StoreError`].
pub async fn partners(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Vec<Iccid>, StoreError> {
    let partners = sqlx::query_scalar!(
        r#"SELECT iccid AS "it!: Iccid" FROM orders WHERE replaces = $1
           UNION SELECT replaces FROM orders WHERE iccid = $1 AND replaces IS NOT NULL"#,
        iccid.as_str()
    );
    Ok(partners.fetch_all(connection).await?)
}

/// The max number of profiles that replace each other in turn.
pub const LONGEST_CHAIN: i32 = 16;

/// Lists the profiles that have replaced this one: its own replacement, that one's, and so on. Of several that replace the
/// same profile, the one that was registered last counts.
///
/// # Errors
/// [`StoreError`].
pub async fn successors(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Vec<Iccid>, StoreError> {
    let chain = sqlx::query_scalar!(
        r#"WITH RECURSIVE chain (iccid, n) AS (
               SELECT $1::text COLLATE "C", 0
               UNION ALL
               SELECT (SELECT o.iccid FROM orders AS o WHERE o.replaces = c.iccid ORDER BY o.replaced_at DESC, o.iccid LIMIT 1), n + 1
               FROM chain AS c WHERE c.iccid IS NOT NULL AND n < $2
           )
           SELECT iccid AS "iccid!: Iccid" FROM chain WHERE iccid IS NOT NULL AND n > 0 ORDER BY n"#,
        iccid.as_str(),
        LONGEST_CHAIN
    );
    Ok(chain.fetch_all(connection).await?)
}

/// Deletes what is kept about the order of a profile, and that another one has replaced it.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn delete(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    begin_anew(&mut *connection, iccid).await?;
    sqlx::query!("DELETE FROM orders WHERE iccid = $1", iccid.as_str()).execute(connection).await?;
    Ok(())
}
