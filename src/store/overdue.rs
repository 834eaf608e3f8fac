//! The tables `overdue` and `overdue_scans`, and the view `overdue_now`: which profiles are overdue, and how far they have been looked for.

use sqlx::{Connection, PgConnection};

use super::changes;
use super::decode::datetime_option;
use super::deliveries::first_id;
use super::error::StoreError;
use super::exclusive;
use super::notify;
use super::profiles::StoredProfile;
use crate::domain::{ChangeKind, Iccid, OverdueReason, ProfileState, Timestamp, Transition};

/// The profiles that one look is about.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// What they are looked at for.
    pub reason: OverdueReason,
    /// Whose profiles.
    pub providers: Providers<'a>,
}

/// Some of the providers.
#[derive(Debug, Clone, Copy)]
pub enum Providers<'a> {
    /// All but these, which have a time of their own.
    AllBut(&'a [&'a str]),
    /// One that has.
    Only(&'a str),
}

impl Scan<'_> {
    /// The key in `overdue_scans`.
    fn key(&self) -> String {
        match self.providers {
            Providers::AllBut(_) => self.reason.as_str().to_owned(),
            Providers::Only(provider) => key_of(self.reason, provider),
        }
    }
}

fn key_of(reason: OverdueReason, provider: &str) -> String {
    format!("{}/{provider}", reason.as_str())
}

/// Leaves the profiles of providers that no longer have a time of their own to the common look, from where theirs ended. `own`
/// are those that have one.
///
/// # Errors
/// [`StoreError`].
pub async fn keep_scans_of(
    connection: &mut PgConnection,
    reason: OverdueReason,
    own: &[&str],
) -> Result<(), StoreError> {
    let kept: Vec<_> = own.iter().map(|provider| key_of(reason, provider)).collect();
    sqlx::query!(
        "WITH gone AS (
             DELETE FROM overdue_scans WHERE starts_with(reason, $1 || '/') AND reason <> ALL ($2::text[]) RETURNING until
         )
         UPDATE overdue_scans SET until = least(until, (SELECT min(until) FROM gone))
         WHERE reason = $1 AND EXISTS (SELECT FROM gone)",
        reason.as_str(),
        &kept
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The time before which all changes have been looked at. At first that is `otherwise`, or as far as the common look has come. It is
/// never after `end`, the time up to which changes are looked at now: the clock may have been ahead.
///
/// # Errors
/// [`StoreError`].
pub async fn scanned_until(
    connection: &mut PgConnection,
    scan: &Scan<'_>,
    otherwise: Timestamp,
    end: Timestamp,
) -> Result<Timestamp, StoreError> {
    let until = sqlx::query_scalar!(
        r#"INSERT INTO overdue_scans AS s (reason, until)
           VALUES ($1, least($2, (SELECT until FROM overdue_scans WHERE reason = $3)))
           ON CONFLICT (reason) DO UPDATE SET until = least(s.until, $4)
           RETURNING until AS "until: Timestamp""#,
        scan.key(),
        otherwise.as_datetime(),
        scan.reason.as_str(),
        end.as_datetime()
    );
    Ok(until.fetch_one(connection).await?)
}

/// Notes that all changes before `until` have been looked at.
///
/// # Errors
/// [`StoreError`].
pub async fn note_scanned(
    connection: &mut PgConnection,
    scan: &Scan<'_>,
    until: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE overdue_scans SET until = greatest(until, $2) WHERE reason = $1",
        scan.key(),
        until.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How much later than its receipt a delivery may be written, without being marked in `unreported_at`.
const WRITTEN_WITHIN_SECONDS: i64 = 120;

/// Finds the profiles that this can be true of, never connected and not known to be overdue, that changed from `from` until `until`, or
/// that are expected to be used from one of the days of that time on. This may take long.
///
/// # Errors
/// [`StoreError`].
pub async fn find_candidates(
    connection: &mut PgConnection,
    scan: &Scan<'_>,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let (all_but, only): (Vec<_>, _) = match scan.providers {
        Providers::AllBut(providers) => (providers.iter().map(ToString::to_string).collect(), None),
        Providers::Only(provider) => (Vec::new(), Some(provider)),
    };
    let received_from = from.plus_seconds(-WRITTEN_WITHIN_SECONDS);
    let time_out = exclusive::lift_time_out(connection).await?;
    let found = sqlx::query_scalar!(
        "SELECT p.iccid
         FROM (SELECT iccid FROM deliveries
               WHERE id >= $2 AND id < $3 AND received_at >= $4 AND received_at < $5
                 AND outcome = 'moved' AND iccid IS NOT NULL
               UNION
               SELECT iccid FROM profiles WHERE unreported_at >= $6 AND unreported_at < $5
               UNION
               SELECT iccid FROM orders WHERE expected_from > $7 AND expected_from <= $8) AS changed
         JOIN profiles AS p USING (iccid)
         WHERE p.state = $1 AND p.first_connected_at IS NULL
           AND p.provider <> ALL ($9::text[]) AND p.provider = coalesce($10, p.provider)
           AND NOT EXISTS (SELECT FROM overdue_now AS o WHERE o.iccid = p.iccid)
         ORDER BY p.iccid",
        scan.reason.state().as_str(),
        first_id(received_from),
        first_id(until),
        received_from.as_datetime(),
        until.as_datetime(),
        from.as_datetime(),
        from.plus_seconds(-1).as_datetime().date(),
        until.as_datetime().date(),
        &all_but,
        only
    );
    let found = found.fetch_all(&mut *connection).await;
    exclusive::set_time_out(connection, &time_out).await?;
    Ok(found?)
}

/// What became of the line that says that a profile is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It was written.
    Written,
    /// The profile has changed since it was read, was erased, or is held by another transaction: look again later.
    Missed,
}

/// Writes the line that says that a profile is overdue, unless the profile has changed since it was read.
///
/// # Errors
/// [`StoreError`].
pub async fn note(
    connection: &mut PgConnection,
    stored: &StoredProfile,
    line: &Transition,
) -> Result<Noted, StoreError> {
    let iccid = &stored.profile.iccid;
    let mut transaction = connection.begin().await?;
    let free = sqlx::query_scalar!(
        r#"SELECT seq = $2 AND first_connected_at IS NULL AS "unchanged!" FROM profiles WHERE iccid = $1 FOR UPDATE SKIP LOCKED"#,
        iccid.as_str(),
        stored.profile.seq
    );
    if free.fetch_optional(&mut *transaction).await? != Some(true) {
        return Ok(Noted::Missed);
    }
    let reason = line.reason.map(OverdueReason::as_str);
    sqlx::query!(
        "WITH raised AS (
             UPDATE profiles SET seq = $2, updated_at = now(), revision = revision + 1 WHERE iccid = $1
             RETURNING iccid, since
         ),
         appended AS (
             INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, reason, received_at, provider)
             SELECT iccid, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM raised
         )
         INSERT INTO overdue AS o (iccid, seq, reason, since) SELECT iccid, $2, $8, since FROM raised
         ON CONFLICT (iccid) DO UPDATE SET seq = EXCLUDED.seq, reason = EXCLUDED.reason, since = EXCLUDED.since",
        iccid.as_str(),
        line.seq,
        line.from_state.map(ProfileState::as_str),
        line.to_state.as_str(),
        line.enabled,
        line.raw_state,
        line.kind.as_str(),
        reason,
        line.received_at.as_datetime(),
        line.provider
    )
    .execute(&mut *transaction)
    .await?;
    changes::note(&mut transaction, iccid, ChangeKind::Transition).await?;
    notify::wake(&mut transaction, iccid).await?;
    transaction.commit().await?;
    Ok(Noted::Written)
}

/// A profile that is overdue.
#[derive(Debug)]
pub struct OverdueProfile {
    /// The profile.
    pub iccid: Iccid,
    /// Its provider.
    pub provider: String,
    /// Its state.
    pub state: ProfileState,
    /// Since when it has been in that state.
    pub since: Timestamp,
}

/// Lists the profiles that are overdue for this reason behind `after`, a time and an ICCID: those first that have not changed
/// for longest.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    reason: OverdueReason,
    after: Option<(Timestamp, &Iccid)>,
    limit: i64,
) -> Result<Vec<OverdueProfile>, StoreError> {
    let (since, iccid) = after.unzip();
    let found = sqlx::query_as!(
        OverdueProfile,
        r#"SELECT iccid AS "iccid!: Iccid", provider AS "provider!", state AS "state!: ProfileState", since AS "since!: Timestamp"
           FROM overdue_now
           WHERE reason = $1 AND ($2::timestamptz IS NULL OR (listed_since, iccid) > ($2, $3))
           ORDER BY listed_since, iccid LIMIT $4"#,
        reason.as_str(),
        datetime_option(since),
        iccid.map(Iccid::as_str),
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// Counts the profiles that are overdue, by reason. Also counts those that were until they changed, within the last minute or so.
///
/// # Errors
/// [`StoreError`].
pub async fn count(connection: &mut PgConnection) -> Result<Vec<(OverdueReason, i64)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT reason AS "reason: OverdueReason", count(*) AS "profiles!" FROM overdue GROUP BY reason"#
    );
    let rows = rows.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.reason, row.profiles)).collect())
}

/// The max number of rows that one statement looks at.
const PAGE: i64 = 2_000;

/// Deletes what is no longer true, page by page, and completes what is.
///
/// # Errors
/// [`StoreError`].
pub async fn forget(connection: &mut PgConnection) -> Result<(), StoreError> {
    // A replica of the release before this column leaves it as it was.
    sqlx::query!(
        "UPDATE overdue AS o SET since = p.since FROM profiles AS p WHERE p.iccid = o.iccid AND p.seq = o.seq AND o.since IS DISTINCT FROM p.since"
    )
    .execute(&mut *connection)
    .await?;
    let mut after = Some(String::new());
    while let Some(last) = after {
        after = sqlx::query_scalar!(
            "WITH page AS MATERIALIZED (SELECT iccid, seq FROM overdue WHERE iccid > $1 ORDER BY iccid LIMIT $2),
                  gone AS (
                      DELETE FROM overdue AS o USING page
                      WHERE o.iccid = page.iccid AND o.seq = page.seq
                        AND NOT EXISTS (SELECT FROM overdue_now AS n WHERE n.iccid = o.iccid)
                  )
             SELECT max(iccid) FROM page",
            last,
            PAGE
        )
        .fetch_one(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Deletes what is kept about a profile.
///
/// # Errors
/// [`StoreError`].
pub async fn delete(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM overdue WHERE iccid = $1", iccid.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
