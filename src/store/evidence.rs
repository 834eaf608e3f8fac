//! What is known about one profile and how it became known, for a dispute.

use sqlx::{Connection, PgConnection};

use super::deliveries::{self, Uneventful};
use super::error::StoreError;
use super::profiles::{self, StoredProfile};
use super::transitions::{self, Caused};
use crate::domain::Iccid;

/// The max number of transitions that are read: the last ones.
pub const MAX_TRANSITIONS: usize = 2_000;

/// The max number of deliveries without a transition that are read: the last ones.
pub const MAX_UNEVENTFUL: usize = 1_000;

/// A profile, its history, and the deliveries about it, all as of one moment.
#[derive(Debug)]
pub struct Evidence {
    /// The profile.
    pub stored: StoredProfile,
    /// Its history, oldest first.
    pub transitions: Cut<Caused>,
    /// The deliveries that caused no transition, oldest first, as far as they are kept.
    pub uneventful: Cut<Uneventful>,
}

/// The last rows of a list.
#[derive(Debug)]
pub struct Cut<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether there are no others.
    pub complete: bool,
}

impl<T> Cut<T> {
    /// The last `max` of up to `max + 1` rows.
    fn of(mut rows: Vec<T>, max: usize) -> Self {
        let surplus = rows.len().saturating_sub(max);
        rows.drain(..surplus);
        Self { rows, complete: surplus == 0 }
    }
}

/// Reads all of it in one snapshot; `None` if the profile does not exist.
///
/// # Errors
/// [`StoreError`].
pub async fn read(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Option<Evidence>, StoreError> {
    const ONE_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    let one_more = |max: usize| i64::try_from(max + 1).unwrap_or(i64::MAX);
    let mut transaction = connection.begin_with(ONE_SNAPSHOT).await?;
    let found = profiles::find(&mut transaction, &[iccid.as_str().to_owned()]).await?;
    let Some(stored) = found.into_iter().next() else { return Ok(None) };
    let limit = one_more(MAX_TRANSITIONS);
    let caused = transitions::list_caused(&mut transaction, iccid, limit).await?;
    let limit = one_more(MAX_UNEVENTFUL);
    let uneventful = deliveries::list_uneventful(&mut transaction, iccid, limit).await?;
    transaction.rollback().await?;
    Ok(Some(Evidence {
        stored,
        transitions: Cut::of(caused, MAX_TRANSITIONS),
        uneventful: Cut::of(uneventful, MAX_UNEVENTFUL),
    }))
}
