//! The tables `new_changes`, `changes` and `change_feed`: all changes of all profiles in one order.
//!
//! Each transaction that makes a change ([`ChangeKind`]) also appends to `new_changes`: [`super::batch_write`], and [`note`] for the rest.
//! [`number`] moves what is committed to `changes` and gives it the next positions, one transaction at a time. So a reader that has
//! come to a position has missed nothing before it, whatever commits later.
//!
//! For each profile that has changed, [`number`] takes the transitions from its history, from where `changes` ends. A transition
//! is therefore never there twice, and is found even if a writer has not noted it (one of the release before): with the next
//! change of its profile, or by a search.

mod numbering;

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

use super::error::StoreError;
use super::notify::wake_key;
use super::profiles::{self, StoredProfile};
use super::transitions;
use crate::domain::{ChangeKind, Iccid, Timestamp, Transition};
pub use numbering::{ERASED_KEPT, erase, note, number, number_all, run_upkeep};

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

/// A place in the order, to continue behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The position of a change, or 0.
    pub position: i64,
    /// What the change is known by: where the database was replaced by a backup, there is another change at the position.
    pub mark: Option<u32>,
}

impl Place {
    /// Before everything.
    pub const BEGINNING: Self = Self { position: 0, mark: None };

    fn of(position: i64, iccid: &Iccid) -> Self {
        Self { position, mark: Some(wake_key(iccid)) }
    }
}

impl Change {
    /// The place behind it.
    pub fn place(&self) -> Place {
        Place::of(self.position, &self.iccid)
    }
}

/// Some changes, and how far they go.
#[derive(Debug)]
pub struct Changes {
    /// The changes, in their order.
    pub items: Vec<Change>,
    /// The place up to which the reader has read with them.
    pub read_to: Place,
}

/// Lists the changes after a place, with the transitions and profiles that they are about. Changes of a profile that is being
/// erased are left out. Returns `None` if this database has not given out that place.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    after: Place,
    limit: i64,
) -> Result<Option<Changes>, StoreError> {
    let at_place = sqlx::query!(
        r#"SELECT last_position, (SELECT iccid FROM changes WHERE position = $1) AS "iccid: Iccid" FROM change_feed"#,
        after.position
    );
    let at_place = at_place.fetch_one(&mut *connection).await?;
    let is_another = |iccid: &Iccid| after.mark.is_some_and(|mark| mark != wake_key(iccid));
    if after.position > at_place.last_position || at_place.iccid.as_ref().is_some_and(is_another) {
        return Ok(None);
    }
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT position, iccid AS "iccid: Iccid", seq, kind AS "kind: ChangeKind", at AS "at: Timestamp"
           FROM changes WHERE position > $1 ORDER BY position LIMIT $2"#,
        after.position,
        limit
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut rows = rows;
    let items = loop {
        match complete(connection, rows.clone()).await {
            // What comes before it can be read. The next page begins with it.
            Err(StoreError::CorruptChange { position, .. })
                if rows.first().is_some_and(|first| first.position < position) =>
            {
                rows.retain(|row| row.position < position);
            }
            completed => break completed?,
        }
    };
    let read_to = rows.last().map_or(after, |row| Place::of(row.position, &row.iccid));
    Ok(Some(Changes { items, read_to }))
}

/// Lists the changes of some profiles, each from a position on, up to `to`: at most `limit` of each, in their order.
///
/// # Errors
/// [`StoreError`].
pub async fn of_profiles(
    connection: &mut PgConnection,
    from: &[(&Iccid, i64)],
    to: i64,
    limit: i64,
) -> Result<Vec<Change>, StoreError> {
    let iccids: Vec<_> = from.iter().map(|(iccid, _)| iccid.as_str().to_owned()).collect();
    let positions: Vec<_> = from.iter().map(|(_, position)| *position).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT c.position AS "position!", c.iccid AS "iccid!: Iccid", c.seq AS "seq!", c.kind AS "kind!: ChangeKind",
                  c.at AS "at!: Timestamp"
           FROM unnest($1::text[], $2::bigint[]) AS wanted (iccid, position)
           CROSS JOIN LATERAL (
               SELECT * FROM changes AS c
               WHERE c.iccid = wanted.iccid AND c.position BETWEEN wanted.position AND $3 ORDER BY c.position LIMIT $4
           ) AS c
           ORDER BY c.position"#,
        &iccids,
        &positions,
        to,
        limit
    )
    .fetch_all(&mut *connection)
    .await?;
    complete(connection, rows).await
}

/// A change without what it is about.
#[derive(Clone)]
struct Row {
    position: i64,
    iccid: Iccid,
    seq: i64,
    kind: ChangeKind,
    at: Timestamp,
}

/// Reads the transitions and profiles that changes are about. Leaves out changes of profiles that are being erased.
///
/// # Errors
/// [`StoreError::CorruptChange`] names the change that cannot be read.
async fn complete(
    connection: &mut PgConnection,
    rows: Vec<Row>,
) -> Result<Vec<Change>, StoreError> {
    let column = match complete_all(connection, rows.clone()).await {
        Err(StoreError::Corrupt { column }) => column,
        completed => return completed,
    };
    for row in rows {
        let position = row.position;
        if let Err(StoreError::Corrupt { column }) = complete_all(connection, vec![row]).await {
            return Err(StoreError::CorruptChange { position, column });
        }
    }
    Err(StoreError::Corrupt { column })
}

async fn complete_all(
    connection: &mut PgConnection,
    rows: Vec<Row>,
) -> Result<Vec<Change>, StoreError> {
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
        let Row { position, iccid, kind, at, .. } = row;
        is_whole.then_some(Change { position, iccid, kind, at, transition, profile })
    });
    Ok(items.collect())
}

/// The place before the first change that happened at `at` or later; `None` if there is none with a position.
///
/// # Errors
/// [`StoreError`].
pub async fn before(
    connection: &mut PgConnection,
    at: Timestamp,
) -> Result<Option<Place>, StoreError> {
    let found = sqlx::query!(
        // Without the sum, the changes would be read in the order of their positions until one is of that time: nearly all, if it
        // is recent.
        r#"SELECT first.position - 1 AS position,
                  (SELECT iccid FROM changes AS c WHERE c.position = first.position - 1) AS "iccid: Iccid"
           FROM (SELECT min(position + 0) AS position FROM changes WHERE at >= $1) AS first"#,
        at.as_datetime()
    );
    let found = found.fetch_one(connection).await?;
    let mark = found.iccid.as_ref().map(wake_key);
    Ok(found.position.map(|position| Place { position, mark }))
}

/// The place behind all that has a position.
///
/// # Errors
/// [`StoreError`].
pub async fn end(connection: &mut PgConnection) -> Result<Place, StoreError> {
    let last = sqlx::query!(
        r#"SELECT last_position, (SELECT iccid FROM changes WHERE position = last_position) AS "iccid: Iccid"
           FROM change_feed"#
    );
    let last = last.fetch_one(connection).await?;
    let mark = last.iccid.as_ref().map(wake_key);
    Ok(Place { position: last.last_position, mark })
}
