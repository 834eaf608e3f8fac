//! One batch, written as a whole or not at all.
//!
//! Nearly always in one stroke: read the profiles, judge, and write everything in one statement that does nothing if a profile
//! is not as it was read. Else, which is for events with an id and profiles that somebody else is at, in a transaction: lock,
//! claim event ids, judge, write, commit.

use std::collections::HashSet;

use sqlx::error::DatabaseError;
use sqlx::{Connection, PgConnection};

use super::claims::{claim_events, claims_event};
use super::plan::Plan;
use super::record::{count, kept, receipts};
use super::{Receipt, Submission};
use crate::domain::{Iccid, Profile};
use crate::providers::Reading;
use crate::store::profiles::Version;
use crate::store::stroke::{self, Stroke};
use crate::store::{ErasureKey, StoreError, erasures, profiles};

/// What to do about profiles that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locks {
    /// Leave them: [`WriteError::Contended`] names them.
    OnlyFree,
    /// Wait for them, as long as a statement may run.
    Wait,
}

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Somebody else holds these profiles, or is just creating them. Nothing was written.
    Contended(HashSet<Iccid>),
    /// A statement failed before the commit. Nothing was written.
    Failed(StoreError),
    /// The commit was sent and not confirmed. It may have happened.
    Unknown(sqlx::Error),
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Writes the batch and gives back one receipt for each submission, in their order.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    locks: Locks,
) -> Result<Vec<Receipt>, WriteError> {
    let plan = match locks {
        Locks::OnlyFree => write_in_one_stroke(connection, erasure_key, batch).await?,
        Locks::Wait => None,
    };
    let plan = match plan {
        Some(plan) => plan,
        None => write_in_transaction(connection, erasure_key, batch, locks).await?,
    };
    count(batch, &plan);
    Ok(receipts(batch, plan))
}

/// `None` where that cannot be, and nothing was written.
async fn write_in_one_stroke(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: &[Submission],
) -> Result<Option<Plan>, WriteError> {
    if batch.iter().any(|submission| claims_event(submission).is_some()) {
        return Ok(None);
    }
    let iccids = distinct(batch.iter().filter_map(Submission::iccid));
    let read =
        if iccids.is_empty() { Vec::new() } else { profiles::read(connection, &iccids).await? };
    let (known, versions): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    // Who is not there may have been erased.
    let erased = find_erased(connection, erasure_key, batch, &known).await?;
    let plan = Plan::of(batch, known, &vec![None; batch.len()], &erased);
    let stroke = Stroke { new: plan.new_profiles(), ..stroke(batch, &plan, &versions) };
    match stroke::write_if_unchanged(connection, &stroke).await {
        Ok(true) => Ok(Some(plan)),
        Ok(false) => Ok(None),
        // Somebody has made the same profile.
        Err(StoreError::Database(error))
            if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) =>
        {
            Ok(None)
        }
        // The server says that it failed, so it did; else nobody knows.
        Err(StoreError::Database(error)) if error.as_database_error().is_none() => {
            Err(WriteError::Unknown(error))
        }
        Err(error) => Err(WriteError::Failed(error)),
    }
}

/// `read` has a version of every profile that was known to the plan, in the same order.
fn stroke<'a>(batch: &'a [Submission], plan: &'a Plan, read: &'a [Version]) -> Stroke<'a> {
    let (mut changed, mut unchanged) = (Vec::with_capacity(read.len()), Vec::new());
    for (version, profile) in read.iter().zip(plan.known_profiles()) {
        match profile {
            Some(profile) => changed.push((profile, version)),
            None => unchanged.push(version),
        }
    }
    let appended = plan.transitions.iter().filter_map(|(index, transition)| {
        let submission = batch.get(*index)?;
        Some((submission.iccid()?, transition, Some(submission.delivery.id())))
    });
    Stroke {
        changed,
        unchanged,
        new: Vec::new(),
        transitions: appended.collect(),
        deliveries: kept(batch, plan),
    }
}

/// The order of the locks is the same everywhere: profiles by ICCID, event ids, new profiles by ICCID. Only who holds
/// nothing yet waits for profiles, so two batches cannot wait for each other in a circle.
async fn write_in_transaction(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    locks: Locks,
) -> Result<Plan, WriteError> {
    let mut transaction = connection.begin().await.map_err(StoreError::from)?;
    match execute(&mut transaction, erasure_key, batch, locks).await {
        Ok(plan) => {
            transaction.commit().await.map_err(WriteError::Unknown)?;
            Ok(plan)
        }
        Err(error) => {
            // Now, not when the connection is next used: until then, event ids claimed here would stay claimed, and whoever
            // tries this again on another connection would wait for them.
            drop(transaction.rollback().await);
            Err(error)
        }
    }
}

/// Everything between begin and commit.
async fn execute(
    transaction: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    locks: Locks,
) -> Result<Plan, WriteError> {
    let iccids = reported_iccids(batch);
    let mut read = Vec::new();
    if !iccids.is_empty() {
        if locks == Locks::Wait {
            profiles::wait_for_locks(transaction, &iccids).await?;
        }
        read = profiles::lock_free(transaction, &iccids).await?;
    }
    let (locked, versions): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    let erased = find_erased(transaction, erasure_key, batch, &locked).await?;
    let seen = claim_events(transaction, batch, &erased).await?;
    let plan = Plan::of(batch, locked, &seen, &erased);

    let new = plan.new_profiles();
    if !new.is_empty() {
        let inserted = profiles::insert(transaction, &new).await?;
        if inserted.len() < new.len() {
            // They are there after all: locked, or made since we looked.
            let mut contended: HashSet<_> = new.iter().map(|p| p.iccid.clone()).collect();
            contended.retain(|iccid| !inserted.iter().any(|done| done == iccid.as_str()));
            return Err(WriteError::Contended(contended));
        }
        // Where an erasure held the row, the insert waited for its end: what was looked up before it began is stale.
        let new: Vec<_> = new.iter().map(|profile| &profile.iccid).collect();
        let erased = erasures::find(transaction, erasure_key, &new).await?;
        if !erased.is_empty() {
            return Err(WriteError::Contended(erased.into_iter().cloned().collect()));
        }
    }
    // Their locks are held, so this does write; were it not so, the commit would acknowledge what is not there.
    if !stroke::write_if_unchanged(transaction, &stroke(batch, &plan, &versions)).await? {
        return Err(WriteError::Contended(
            batch.iter().filter_map(Submission::iccid).cloned().collect(),
        ));
    }
    Ok(plan)
}

fn reported_iccids(batch: &[Submission]) -> Vec<String> {
    distinct(batch.iter().filter_map(|submission| match &submission.parsed {
        Ok(Reading::Report(report)) => Some(&report.iccid),
        _ => None,
    }))
}

/// In their order.
fn distinct<'a>(iccids: impl Iterator<Item = &'a Iccid>) -> Vec<String> {
    let mut iccids: Vec<_> = iccids.map(|iccid| iccid.as_str().to_owned()).collect();
    iccids.sort_unstable();
    iccids.dedup();
    iccids
}

/// Looks up which of the profiles that are not there were erased. Most batches have none to look up.
async fn find_erased<'a>(
    connection: &mut PgConnection,
    key: &ErasureKey,
    batch: &'a [Submission],
    locked: &[Profile],
) -> Result<HashSet<&'a Iccid>, StoreError> {
    let known: HashSet<_> = locked.iter().map(|profile| &profile.iccid).collect();
    let absent: HashSet<_> =
        batch.iter().filter_map(Submission::iccid).filter(|iccid| !known.contains(iccid)).collect();
    if absent.is_empty() {
        return Ok(HashSet::new());
    }
    let absent: Vec<_> = absent.into_iter().collect();
    erasures::find(connection, key, &absent).await
}
