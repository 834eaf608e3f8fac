//! What is due at an endpoint: the changes after its place, and those of backlogs.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use super::due_profile::DueProfile;
use crate::domain::{Iccid, Timestamp};
use crate::store::backlogs::{self, Backlog};
use crate::store::changes::{self, Change, Place};
use crate::store::endpoints::Endpoint;
use crate::store::{Pool, StoreError};
use crate::web::AppState;
use crate::web::endpoint_event::message;

/// How many changes of one profile's backlog are read in one round.
const BACKLOG_PAGE: i64 = 20;

/// How many backlogs are read at least, if as many are due.
const MIN_BACKLOGS: i64 = 16;

/// How many profiles with a backlog an endpoint may have before it gets nothing else.
const MAX_BACKLOGS: i64 = 1_000;

/// What is due at an endpoint.
#[derive(Debug)]
pub(super) struct Due {
    pub profiles: Vec<DueProfile>,
    /// The first change after the endpoint's place of each profile that has a backlog. It must not overtake that.
    pub skipped: HashMap<Iccid, i64>,
    /// How far the changes go.
    pub read_to: Place,
}

/// Reads up to `limit` changes after the endpoint's place, and a quarter as many backlogs, but some at least. Returns `None` if the
/// database does not know that place.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn read(
    app: &AppState,
    pool: &Pool,
    endpoint: &Endpoint,
    limit: i64,
    now: Timestamp,
) -> Result<Option<Due>, StoreError> {
    let (items, read_to) = if endpoint.backlogs >= MAX_BACKLOGS {
        (Vec::new(), endpoint.place)
    } else {
        let Some((found, _)) = app.changes_after(pool, endpoint.place, limit).await? else {
            return Ok(None);
        };
        (found.items, found.read_to)
    };
    let (with_backlog, backlogs) = if endpoint.backlogs == 0 {
        (HashSet::new(), Vec::new())
    } else {
        let max = (limit / 4).max(MIN_BACKLOGS);
        pool.run(async |connection| read_backlogs(connection, endpoint, &items, max, now).await)
            .await?
    };
    let mut skipped = HashMap::new();
    let mut by_profile: HashMap<Iccid, usize> = HashMap::new();
    let mut profiles: Vec<DueProfile> = Vec::new();
    for item in items {
        if with_backlog.contains(&item.iccid) {
            skipped.entry(item.iccid.clone()).or_insert(item.position);
        } else if wants(endpoint, &item) {
            let index = *by_profile.entry(item.iccid.clone()).or_insert_with(|| {
                profiles.push(DueProfile::new(item.iccid.clone(), None));
                profiles.len() - 1
            });
            push(app, &mut profiles[index], item)?;
        }
    }
    for (backlog, found) in backlogs {
        let mut profile = DueProfile::new(backlog.iccid.clone(), Some(backlog));
        let is_whole = i64::try_from(found.len()).is_ok_and(|found| found < BACKLOG_PAGE);
        profile.more_from = found.last().filter(|_| !is_whole).map(|last| last.position + 1);
        for item in found.into_iter().filter(|item| wants(endpoint, item)) {
            push(app, &mut profile, item)?;
        }
        profiles.push(profile);
    }
    Ok(Some(Due { profiles, skipped, read_to }))
}

/// Which profiles of these changes have a backlog, and the backlogs that are due with their changes.
async fn read_backlogs(
    connection: &mut PgConnection,
    endpoint: &Endpoint,
    items: &[Change],
    max: i64,
    now: Timestamp,
) -> Result<(HashSet<Iccid>, Vec<(Backlog, Vec<Change>)>), StoreError> {
    let iccids: HashSet<_> = items.iter().map(|item| item.iccid.as_str().to_owned()).collect();
    let iccids: Vec<_> = iccids.into_iter().collect();
    let with_backlog = backlogs::with_backlog(connection, &endpoint.id, &iccids).await?;
    let due = backlogs::list_due(connection, &endpoint.id, now, max).await?;
    let from: Vec<_> = due.iter().map(|backlog| (&backlog.iccid, backlog.position)).collect();
    let to = endpoint.place.position;
    let found = changes::of_profiles(connection, &from, to, BACKLOG_PAGE).await?;
    let mut by_profile: HashMap<Iccid, Vec<Change>> = HashMap::new();
    for change in found {
        by_profile.entry(change.iccid.clone()).or_default().push(change);
    }
    let due = due.into_iter().map(|backlog| {
        let found = by_profile.remove(&backlog.iccid).unwrap_or_default();
        (backlog, found)
    });
    Ok((with_backlog, due.collect()))
}

fn push(app: &AppState, profile: &mut DueProfile, change: Change) -> Result<(), StoreError> {
    let position = change.position;
    // A view is always JSON.
    let message =
        message(change, &app.public_url).map_err(|_| StoreError::Corrupt { column: "changes" })?;
    profile.messages.push((position, message));
    Ok(())
}

fn wants(endpoint: &Endpoint, change: &Change) -> bool {
    let provider = change.profile.as_ref().map(|stored| stored.profile.provider.as_str());
    endpoint.definition.filter.wants(change.kind, provider)
}
