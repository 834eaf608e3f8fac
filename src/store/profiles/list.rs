//! Lists profiles for the API.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

use super::{RegistrationFacts, StoredProfile};
use crate::domain::{
    Connections, Country, Day, Device, Eid, Headway, Iccid, Imsi, Milestone, Order, OverdueReason,
    Profile, ProfileState, Reference, Timestamp,
};
use crate::store::decode::datetime_option;
use crate::store::deliveries::first_id;
use crate::store::error::StoreError;
use crate::store::marks;

/// The criteria of a search. All that are given must hold.
#[derive(Debug, Default)]
pub struct Filter {
    /// The canonical state.
    pub state: Option<ProfileState>,
    /// The provider's slug.
    pub provider: Option<String>,
    /// The customer's identifier at the provider.
    pub uid: Option<String>,
    /// The IMSI of the subscription.
    pub imsi: Option<Imsi>,
    /// The EID of the device.
    pub eid: Option<Eid>,
    /// The reseller's own number of the order.
    pub reference: Option<Reference>,
    /// Whether something should have happened by now and did not.
    pub overdue: bool,
    /// Changed, or named by a webhook, at or after this time.
    pub updated_since: Option<Timestamp>,
}

impl Filter {
    /// Whether an index finds the profiles of a page, whatever the values are. If not, a page may walk for a while.
    pub fn is_indexed(&self) -> bool {
        self.names_one() || self.overdue || self.is_empty()
    }

    /// Whether an index finds the few profiles that can match.
    fn names_one(&self) -> bool {
        self.uid.is_some() || self.imsi.is_some() || self.eid.is_some() || self.reference.is_some()
    }

    fn is_empty(&self) -> bool {
        !self.names_one()
            && !self.overdue
            && self.state.is_none()
            && self.provider.is_none()
            && self.updated_since.is_none()
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Listed {
    /// The profiles, in the order of their ICCIDs.
    pub profiles: Vec<StoredProfile>,
    /// The profile after which the next page begins; `None` on the last page.
    pub next: Option<Iccid>,
}

/// How many profiles the first step of a walk looks at, which suffices where many match, and how many a later one at most.
const FIRST_STEP: i64 = 200;
const MAX_STEP: i64 = 2_000;

/// How long a page may be looked for before it ends, filled or not.
const WALK: Duration = Duration::from_millis(25);

/// The max number of recent changes from which a page is made, and how many of their profiles one statement reads.
const MAX_RECENT: i64 = 10_000;
const RECENT_AT_ONCE: i64 = 500;

/// How much earlier than a change its delivery may have been received, or it is marked in `unreported_at`. The trigger has
/// the same two minutes.
const REPORTED_WITHIN_SECONDS: i64 = 120;

/// Lists the profiles after `after`, in the order of their ICCIDs. A page of a filter that no index serves looks at the
/// profiles one after the other for a limited time: it may have fewer than `limit` profiles, or none, and still have a
/// `next`.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    after: Option<&Iccid>,
    limit: i64,
) -> Result<Listed, StoreError> {
    let after = after.map_or("", Iccid::as_str);
    if filter.names_one() {
        let found = list_found(connection, filter, after, limit + 1).await?;
        return Ok(page(found, limit, None));
    }
    if filter.overdue {
        let found = list_overdue(connection, filter, after, limit + 1).await?;
        return Ok(page(found, limit, None));
    }
    if filter.is_empty() {
        let found = list_between(connection, filter, after, END, limit + 1).await?;
        return Ok(page(found, limit, None));
    }
    let begun = Instant::now();
    let marks = marks::read(connection).await?;
    if let Some(since) = filter.updated_since
        && marks.changes_from.is_some_and(|from| since >= from)
        && let Some(listed) = list_recent(connection, filter, since, after, limit, begun).await?
    {
        return Ok(listed);
    }
    let rare = filter.state.filter(|state| marks.rare_states && marks::is_rare(*state));
    walk(connection, filter, rare, after, limit, begun).await
}

/// Greater than every ICCID.
const END: &str = "~";

/// The page of up to `limit + 1` profiles. `next` is where to continue if there are no more than `limit`.
fn page(mut profiles: Vec<StoredProfile>, limit: i64, next: Option<Iccid>) -> Listed {
    let limit = usize::try_from(limit).unwrap_or_default();
    if profiles.len() <= limit {
        return Listed { profiles, next };
    }
    profiles.truncate(limit);
    let next = profiles.last().map(|last| last.profile.iccid.clone());
    Listed { profiles, next }
}

/// Looks at the profiles after `after`, or at those in the rare state, one after the other.
async fn walk(
    connection: &mut PgConnection,
    filter: &Filter,
    rare: Option<ProfileState>,
    after: &str,
    limit: i64,
    begun: Instant,
) -> Result<Listed, StoreError> {
    let (mut profiles, mut after, mut step) = (Vec::new(), after.to_owned(), FIRST_STEP);
    loop {
        let until = find_end_of_step(connection, rare, &after, step).await?;
        let end = until.as_ref().map_or(END, Iccid::as_str);
        let room = limit + 1 - i64::try_from(profiles.len()).unwrap_or(i64::MAX);
        profiles.extend(match rare {
            Some(_) => list_rare_between(connection, filter, &after, end, room).await?,
            None => list_between(connection, filter, &after, end, room).await?,
        });
        let is_full = i64::try_from(profiles.len()).is_ok_and(|found| found > limit);
        match until {
            Some(until) if !is_full && begun.elapsed() < WALK => {
                until.as_str().clone_into(&mut after);
                // Rows that come from the disk are slow: then the steps stay small, and the page ends in time.
                if begun.elapsed() < WALK / 4 {
                    step = MAX_STEP.min(step * 3);
                }
            }
            until => return Ok(page(profiles, limit, until)),
        }
    }
}

/// The last profile of the step after `after`; `None` if there are fewer.
async fn find_end_of_step(
    connection: &mut PgConnection,
    rare: Option<ProfileState>,
    after: &str,
    step: i64,
) -> Result<Option<Iccid>, StoreError> {
    let end = if let Some(state) = rare {
        let end = sqlx::query_scalar!(
            r#"SELECT iccid AS "iccid: Iccid" FROM profiles WHERE rare_state = $1 AND iccid > $2
               ORDER BY iccid OFFSET $3 LIMIT 1"#,
            state.as_str(),
            after,
            step
        );
        end.fetch_optional(connection).await?
    } else {
        let end = sqlx::query_scalar!(
            r#"SELECT iccid AS "iccid: Iccid" FROM profiles WHERE iccid > $1 ORDER BY iccid OFFSET $2 LIMIT 1"#,
            after,
            step
        );
        end.fetch_optional(connection).await?
    };
    Ok(end)
}

/// Lists the profiles that may have changed since `since` and match; `None` if these are too many to be looked through.
async fn list_recent(
    connection: &mut PgConnection,
    filter: &Filter,
    since: Timestamp,
    after: &str,
    limit: i64,
    begun: Instant,
) -> Result<Option<Listed>, StoreError> {
    let (mut profiles, mut after) = (Vec::new(), after.to_owned());
    loop {
        let Some(recent) = find_recent(connection, since, &after).await? else { return Ok(None) };
        let room = limit + 1 - i64::try_from(profiles.len()).unwrap_or(i64::MAX);
        profiles.extend(list_of(connection, filter, &recent, room).await?);
        let is_full = i64::try_from(profiles.len()).is_ok_and(|found| found > limit);
        let there_are_more = i64::try_from(recent.len()).is_ok_and(|it| it >= RECENT_AT_ONCE);
        match recent.into_iter().last().filter(|_| there_are_more) {
            Some(last) if !is_full && begun.elapsed() < WALK => after = last,
            last => {
                let last = last.map(|last| Iccid::parse(&last)).transpose();
                let last = last.map_err(|_| StoreError::Corrupt { column: "iccid" })?;
                return Ok(Some(page(profiles, limit, last)));
            }
        }
    }
}

/// Finds the next profiles after `after` that may have changed since `since`, sorted; `None` if all that may have are too
/// many.
///
/// A change was written together with a delivery that was received at most two minutes before, or is marked.
async fn find_recent(
    connection: &mut PgConnection,
    since: Timestamp,
    after: &str,
) -> Result<Option<Vec<String>>, StoreError> {
    let received_since = since.plus_seconds(-REPORTED_WITHIN_SECONDS);
    let found = sqlx::query_scalar!(
        r#"WITH recent AS MATERIALIZED (
               -- In the order of an index: few rows match, and they are the last ones of the table.
               (SELECT iccid FROM deliveries WHERE id >= $1 AND received_at >= $2 AND iccid IS NOT NULL
                ORDER BY id LIMIT $3)
               UNION ALL
               (SELECT iccid FROM profiles WHERE unreported_at >= $4 ORDER BY unreported_at LIMIT $3)
           )
           SELECT CASE WHEN (SELECT count(*) FROM recent) < $3
                       THEN ARRAY(SELECT DISTINCT iccid FROM recent WHERE iccid > $5 ORDER BY iccid LIMIT $6) END"#,
        first_id(received_since),
        received_since.as_datetime(),
        MAX_RECENT,
        since.as_datetime(),
        after,
        RECENT_AT_ONCE
    );
    Ok(found.fetch_one(connection).await?)
}

/// Lists those of these profiles that match.
async fn list_of(
    connection: &mut PgConnection,
    filter: &Filter,
    iccids: &[String],
    limit: i64,
) -> Result<Vec<StoredProfile>, StoreError> {
    fetch_stored!(
        connection,
        "WHERE iccid = ANY($1)
           AND ($2::text IS NULL OR state = $2)
           AND ($3::text IS NULL OR provider = $3)
           AND ($4::timestamptz IS NULL OR updated_at >= $4)
         ORDER BY iccid LIMIT $5",
        iccids,
        filter.state.map(ProfileState::as_str),
        filter.provider.as_deref(),
        datetime_option(filter.updated_since),
        limit
    )
}

/// Lists the profiles after `after` up to `until`.
async fn list_between(
    connection: &mut PgConnection,
    filter: &Filter,
    after: &str,
    until: &str,
    limit: i64,
) -> Result<Vec<StoredProfile>, StoreError> {
    fetch_stored!(
        connection,
        "WHERE iccid > $1 AND iccid <= $2
           AND ($3::text IS NULL OR state = $3)
           AND ($4::text IS NULL OR provider = $4)
           AND ($5::timestamptz IS NULL OR updated_at >= $5)
         ORDER BY iccid LIMIT $6",
        after,
        until,
        filter.state.map(ProfileState::as_str),
        filter.provider.as_deref(),
        datetime_option(filter.updated_since),
        limit
    )
}

/// The same of profiles in a rare state.
async fn list_rare_between(
    connection: &mut PgConnection,
    filter: &Filter,
    after: &str,
    until: &str,
    limit: i64,
) -> Result<Vec<StoredProfile>, StoreError> {
    fetch_stored!(
        connection,
        "WHERE rare_state = $3 AND iccid > $1 AND iccid <= $2
           AND ($4::text IS NULL OR provider = $4)
           AND ($5::timestamptz IS NULL OR updated_at >= $5)
         ORDER BY iccid LIMIT $6",
        after,
        until,
        filter.state.map(ProfileState::as_str),
        filter.provider.as_deref(),
        datetime_option(filter.updated_since),
        limit
    )
}

/// Lists the profiles after `after` by one of the identifiers that have an index.
async fn list_found(
    connection: &mut PgConnection,
    filter: &Filter,
    after: &str,
    limit: i64,
) -> Result<Vec<StoredProfile>, StoreError> {
    fetch_stored!(
        connection,
        "WHERE ($1::text IS NULL OR state = $1)
             AND ($2::text IS NULL OR provider = $2)
             AND ($3::text IS NULL OR uid = $3)
             AND ($4::text IS NULL OR imsi = $4)
             -- By itself: how many match is not estimated well, and the profiles must not be read in the order of the page.
             AND ($5::text IS NULL OR iccid = ANY(ARRAY(SELECT e.iccid FROM profiles AS e WHERE upper(e.eid) = upper($5))))
             AND ($6::timestamptz IS NULL OR updated_at >= $6)
             AND ($7::text IS NULL OR reference = $7)
             AND (NOT $8 OR EXISTS (SELECT FROM overdue_now AS o WHERE o.iccid = profiles.iccid))
             AND iccid > $9
           ORDER BY iccid
           LIMIT $10",
        filter.state.map(ProfileState::as_str),
        filter.provider.as_deref(),
        filter.uid.as_deref(),
        filter.imsi.as_ref().map(Imsi::as_str),
        filter.eid.as_ref().map(Eid::as_str),
        datetime_option(filter.updated_since),
        filter.reference.as_ref().map(Reference::as_str),
        filter.overdue,
        after,
        limit
    )
}

/// Lists the profiles after `after` that are overdue and match. What is no longer true is deleted soon, so most rows of the table
/// lead to such a profile.
async fn list_overdue(
    connection: &mut PgConnection,
    filter: &Filter,
    after: &str,
    limit: i64,
) -> Result<Vec<StoredProfile>, StoreError> {
    fetch_stored!(
        connection,
        "WHERE iccid = ANY(ARRAY(
             SELECT o.iccid FROM overdue_now AS o
             WHERE o.iccid > $1
               AND ($2::text IS NULL OR o.state = $2)
               AND ($3::text IS NULL OR o.provider = $3)
               AND ($4::timestamptz IS NULL OR o.updated_at >= $4)
             ORDER BY o.iccid LIMIT $5))
         ORDER BY iccid",
        after,
        filter.state.map(ProfileState::as_str),
        filter.provider.as_deref(),
        datetime_option(filter.updated_since),
        limit
    )
}
