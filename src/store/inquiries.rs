//! The tables `inquiries` and `inquiry_scans`: profiles whose provider is to be asked, and how far changes have been looked through for
//! them.

use sqlx::PgConnection;

use super::decode::datetime_option;
use super::error::StoreError;
use super::exclusive::{self, Work};
use crate::domain::{Iccid, Profile, Timestamp};

/// A profile whose provider is to be asked.
#[derive(Debug)]
pub struct Inquiry {
    /// The profile.
    pub iccid: Iccid,
    /// The `seq` of its last transition when this was wanted.
    pub seq: i64,
    /// When this was first wanted.
    pub wanted_at: Timestamp,
    /// How often the provider was asked.
    pub attempts: i32,
}

/// How soon an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Support waits for it: at once, and from the beginning if the provider was asked before.
    AtOnce,
    /// A user looks at the page.
    Soon,
    /// Nobody waits.
    Sometime,
}

/// An inquiry that is not done with.
#[derive(Debug)]
pub struct Pending {
    /// When this was first wanted.
    pub wanted_at: Timestamp,
    /// How often the provider was asked.
    pub attempts: i32,
    /// When it is asked next; `None` if it was asked long enough.
    pub due_at: Option<Timestamp>,
}

/// Finds what the provider of this profile is still to be asked, or was asked without an end.
///
/// # Errors
/// [`StoreError`].
pub async fn find(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Option<Pending>, StoreError> {
    let found = sqlx::query_as!(
        Pending,
        r#"SELECT wanted_at AS "wanted_at: Timestamp", attempts, due_at AS "due_at: Timestamp" FROM inquiries WHERE iccid = $1"#,
        iccid.as_str()
    );
    Ok(found.fetch_optional(connection).await?)
}

/// Takes the lock that lets one replica at a time ask. Returns whether this session has it.
///
/// # Errors
/// [`StoreError`].
pub async fn begin(connection: &mut PgConnection) -> Result<bool, StoreError> {
    exclusive::notice_loss(connection).await?;
    exclusive::begin(connection, Work::Inquiries).await
}

/// Notes that the provider is to be asked about a profile at `due_at`. If that is noted already, and the profile has not
/// changed since, only [`Urgency::AtOnce`] changes it. Nothing is noted of a profile that has been erased.
///
/// With [`Urgency::Soon`], neither is anything if another transaction holds the profile: a webhook is being written, and a page must not
/// wait. The other urgencies wait for it.
///
/// # Errors
/// [`StoreError`].
pub async fn want(
    connection: &mut PgConnection,
    profile: &Profile,
    urgency: Urgency,
    due_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    // The lock makes an erasure wait, which then deletes this.
    macro_rules! noted {
        ($locked:literal) => {
            sqlx::query!(
                "WITH profile AS (
                     SELECT iccid, provider FROM profiles
                     WHERE iccid = $1 AND ($6 OR NOT EXISTS (SELECT FROM inquiries WHERE iccid = $1 AND seq = $2))
                     FOR KEY SHARE " + $locked + "
                 )
                 INSERT INTO inquiries AS i (iccid, provider, seq, urgent, wanted_at, due_at)
                 SELECT iccid, provider, $2, $3, $4, $5 FROM profile
                 ON CONFLICT (iccid) DO UPDATE
                 SET provider = EXCLUDED.provider, seq = EXCLUDED.seq, urgent = EXCLUDED.urgent, wanted_at = EXCLUDED.wanted_at,
                     due_at = EXCLUDED.due_at, attempts = 0
                 WHERE $6 OR i.seq <> EXCLUDED.seq",
                profile.iccid.as_str(),
                profile.seq,
                urgency != Urgency::Sometime,
                now.as_datetime(),
                due_at.as_datetime(),
                urgency == Urgency::AtOnce
            )
        };
    }
    let noted = if urgency == Urgency::Soon { noted!("SKIP LOCKED") } else { noted!("") };
    noted.execute(connection).await?;
    Ok(())
}

/// How many changes one statement looks at.
const CHANGES: i64 = 2_000;

/// Notes that the provider is to be asked about its profiles whose last change is a move that nobody expected, from a webhook that was
/// received at `since` or later. Looks at the next changes in the order of [`super::changes`], which a delivery that was spooled joins
/// when it is written; at first from the present end. Leaves the first profile that another transaction has locked, and all that
/// changed after it, to the next call: a wait for it would keep the webhooks of those waiting that are locked here by then. Returns
/// whether there may be more.
///
/// # Errors
/// [`StoreError`]; the same changes are looked at again.
pub async fn want_jumped(
    connection: &mut PgConnection,
    provider: &str,
    since: Timestamp,
) -> Result<bool, StoreError> {
    sqlx::query!(
        "INSERT INTO inquiry_scans (provider, position) SELECT $1, last_position FROM change_feed
         ON CONFLICT (provider) DO NOTHING",
        provider
    )
    .execute(&mut *connection)
    .await?;
    let are_more = sqlx::query_scalar!(
        r#"WITH page AS MATERIALIZED (
               SELECT position, iccid, seq, kind, at FROM changes
               WHERE position > (SELECT position FROM inquiry_scans WHERE provider = $1) ORDER BY position LIMIT $3
           ),
           moved AS MATERIALIZED (
               SELECT iccid, seq, min(position) AS position FROM page WHERE kind = 'transition' AND at >= $2 GROUP BY iccid, seq
           ),
           -- A jump in an answer was just asked about.
           jumped AS MATERIALIZED (
               SELECT p.iccid, p.seq, m.position FROM moved AS m
               JOIN transitions AS t ON t.iccid = m.iccid AND t.seq = m.seq AND t.kind = 'unexpected'
                                    AND t.source IS DISTINCT FROM 'provider-api'
               JOIN profiles AS p ON p.iccid = m.iccid AND p.seq = m.seq AND p.provider = $1
           ),
           -- The lock makes an erasure wait, which then deletes what is noted.
           locked AS MATERIALIZED (
               SELECT p.iccid, p.provider, p.seq, j.position FROM jumped AS j
               JOIN profiles AS p ON p.iccid = j.iccid AND p.seq = j.seq
               FOR KEY SHARE OF p SKIP LOCKED
           ),
           skipped AS (SELECT min(position) AS position FROM jumped WHERE iccid NOT IN (SELECT iccid FROM locked)),
           noted AS (
               INSERT INTO inquiries AS i (iccid, provider, seq, urgent, wanted_at, due_at)
               SELECT iccid, provider, seq, false, now(), now() FROM locked, skipped
               WHERE skipped.position IS NULL OR locked.position < skipped.position
               ON CONFLICT (iccid) DO UPDATE
               SET provider = EXCLUDED.provider, seq = EXCLUDED.seq, urgent = false, wanted_at = now(), due_at = now(), attempts = 0
               WHERE i.seq <> EXCLUDED.seq
           ),
           saved AS (
               UPDATE inquiry_scans AS s SET position = coalesce(skipped.position - 1, page.last)
               FROM skipped, (SELECT max(position) AS last FROM page) AS page
               WHERE s.provider = $1 AND page.last IS NOT NULL
           )
           SELECT count(*) = $3 AND (SELECT position FROM skipped) IS NULL AS "are_more!" FROM page"#,
        provider,
        since.as_datetime(),
        CHANGES
    );
    Ok(are_more.fetch_one(connection).await?)
}

/// How many profiles one statement looks at. It locks those that are under way.
const PROFILES: i64 = 500;

/// Notes that the provider is to be asked about all its profiles that are under way and changed at `since` or later. Returns
/// how many, and those that another transaction has locked, about which nothing was noted.
///
/// # Errors
/// [`StoreError`]; what was noted before stays noted.
pub async fn want_under_way(
    connection: &mut PgConnection,
    provider: &str,
    since: Timestamp,
) -> Result<(u64, Vec<String>), StoreError> {
    let (mut after, mut wanted, mut skipped) = (Some(String::new()), 0, Vec::new());
    while let Some(last) = after {
        let page = sqlx::query!(
            r#"WITH page AS MATERIALIZED (
                   SELECT iccid FROM profiles WHERE iccid > $1 ORDER BY iccid LIMIT $4
               ),
               under_way AS MATERIALIZED (
                   SELECT p.iccid FROM page JOIN profiles AS p ON p.iccid = page.iccid
                   WHERE p.provider = $2 AND p.since >= $3
                     AND (p.state IN ('PREPARING', 'DOWNLOADED', 'ERROR') OR p.state = 'RELEASED' AND p.installs_seen = 0)
               ),
               -- The lock makes an erasure wait, which then deletes what is noted. A wait for one of them would keep the webhooks
               -- of those waiting that are locked by then.
               locked AS MATERIALIZED (
                   SELECT p.iccid, p.provider, p.seq FROM under_way JOIN profiles AS p ON p.iccid = under_way.iccid
                   FOR KEY SHARE OF p SKIP LOCKED
               ),
               wanted AS (
                   INSERT INTO inquiries (iccid, provider, seq, urgent, wanted_at, due_at)
                   SELECT iccid, provider, seq, false, now(), now() FROM locked
                   ON CONFLICT (iccid) DO UPDATE
                   SET provider = EXCLUDED.provider, seq = EXCLUDED.seq, urgent = false, wanted_at = now(), due_at = now(), attempts = 0
                   RETURNING 1
               )
               SELECT (SELECT max(iccid) FROM page) AS last, (SELECT count(*) FROM wanted) AS "wanted!",
                      ARRAY(SELECT iccid FROM under_way WHERE iccid NOT IN (SELECT iccid FROM locked)) AS "skipped!""#,
            last,
            provider,
            since.as_datetime(),
            PROFILES
        )
        .fetch_one(&mut *connection)
        .await?;
        wanted += u64::try_from(page.wanted).unwrap_or_default();
        skipped.extend(page.skipped);
        after = page.last;
    }
    Ok((wanted, skipped))
}

/// The profile to ask this provider about next, if one is due: those first for which somebody waits.
///
/// # Errors
/// [`StoreError`].
pub async fn next_due(
    connection: &mut PgConnection,
    provider: &str,
    now: Timestamp,
) -> Result<Option<Inquiry>, StoreError> {
    let next = sqlx::query_as!(
        Inquiry,
        r#"SELECT iccid AS "iccid: Iccid", seq, wanted_at AS "wanted_at: Timestamp", attempts
           FROM inquiries WHERE due_at <= $1 AND provider = $2
           ORDER BY urgent DESC, due_at LIMIT 1"#,
        now.as_datetime(),
        provider
    );
    Ok(next.fetch_optional(connection).await?)
}

/// Puts an inquiry off until then, or for ever, and notes how many attempts were made.
///
/// # Errors
/// [`StoreError`].
pub async fn put_off(
    connection: &mut PgConnection,
    inquiry: &Inquiry,
    attempts: i32,
    until: Option<Timestamp>,
) -> Result<(), StoreError> {
    // Support may have asked for another one meanwhile.
    sqlx::query!(
        "UPDATE inquiries SET attempts = $3, due_at = $4 WHERE iccid = $1 AND wanted_at = $2",
        inquiry.iccid.as_str(),
        inquiry.wanted_at.as_datetime(),
        attempts,
        datetime_option(until)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes an inquiry, because there is nothing more to ask; not if it was wanted anew meanwhile.
///
/// # Errors
/// [`StoreError`].
pub async fn end(connection: &mut PgConnection, inquiry: &Inquiry) -> Result<(), StoreError> {
    sqlx::query!(
        "DELETE FROM inquiries WHERE iccid = $1 AND wanted_at = $2",
        inquiry.iccid.as_str(),
        inquiry.wanted_at.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes what is kept about a profile.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn delete(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM inquiries WHERE iccid = $1", iccid.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
