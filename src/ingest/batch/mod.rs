//! Writes one batch, all or nothing, in the cheapest of three ways that works:
//!
//! 1. Start from the profiles as this writer last wrote them ([`Recent`]), read the others, and assume that none was
//!    erased. Write everything in one statement ([`crate::store::stroke`]) that does nothing if any of that no longer
//!    holds.
//! 2. Read all profiles and erasures anew, and try the statement once more.
//! 3. Open a transaction: lock the profiles, claim event ids, judge, write, commit.
//!
//! Nearly every batch is written by the first. A batch with event ids, or one that waits for locks ([`Locks::Wait`]),
//! starts with the third.

use std::collections::HashSet;

use sqlx::error::DatabaseError;
use sqlx::{Connection, PgConnection};

use super::committed::{count, kept, receipts};
use super::event_ids::{claim_events, claims_event};
use super::plan::Plan;
use super::recent::Recent;
use super::{Receipt, Submission};
use crate::domain::{Iccid, Profile};
use crate::providers::Reading;
use crate::store::profiles::Version;
use crate::store::stroke::{self, Stroke};
use crate::store::{ErasureKey, StoreError, erasures, profiles};

/// What to do about profiles that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locks {
    /// Do not wait: fail with [`WriteError::Contended`], which names them.
    OnlyFree,
    /// Wait for them, up to the statement timeout.
    Wait,
}

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Another transaction holds these profiles, or is just creating them. Nothing was written.
    Contended(HashSet<Iccid>),
    /// A statement failed. Nothing was written, unless the batch is in doubt (see [`InDoubt`]).
    Failed(StoreError),
}

/// The plan of a batch whose commit is in doubt: `Some` from just before the committing message is sent until the
/// server reports its result. If it is still `Some` after a failure or a timeout, the batch may or may not be
/// committed.
pub(super) type InDoubt = Option<Plan>;

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Writes the batch and returns one receipt for each submission, in the same order.
pub(super) async fn write(
    connection: &mut PgConnection,
    recent: &mut Recent,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    locks: Locks,
    in_doubt: &mut InDoubt,
) -> Result<Vec<Receipt>, WriteError> {
    let plan = match locks {
        Locks::OnlyFree => {
            write_in_one_stroke(connection, recent, erasure_key, batch, in_doubt).await?
        }
        Locks::Wait => None,
    };
    let plan = match plan {
        Some(plan) => plan,
        None => write_in_transaction(connection, erasure_key, batch, locks, in_doubt).await?,
    };
    Ok(written(batch, plan))
}

/// Counts a committed batch and makes its receipts.
pub(super) fn written(batch: &[Submission], plan: Plan) -> Vec<Receipt> {
    count(batch, &plan);
    receipts(batch, plan)
}

/// Ways 1 and 2 of the three above. Returns `None`, with nothing written, if neither worked.
async fn write_in_one_stroke(
    connection: &mut PgConnection,
    recent: &mut Recent,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    in_doubt: &mut InDoubt,
) -> Result<Option<Plan>, WriteError> {
    if batch.iter().any(|submission| claims_event(submission).is_some()) {
        return Ok(None);
    }
    let iccids = distinct(batch.iter().filter_map(Submission::iccid));
    let mut known = recent.take(&iccids);
    if known.len() < iccids.len() {
        known.extend(read_missing(connection, &iccids, &known).await?);
    }
    // Assume that none was erased, too: the statement checks it.
    let nobody = HashSet::new();
    let first = try_stroke(connection, recent, erasure_key, batch, known, &nobody, in_doubt);
    if let Some(plan) = first.await? {
        return Ok(Some(plan));
    }
    let known = profiles::read(connection, &iccids).await?;
    let erased = find_erased(connection, erasure_key, batch, &known).await?;
    try_stroke(connection, recent, erasure_key, batch, known, &erased, in_doubt).await
}

async fn read_missing(
    connection: &mut PgConnection,
    iccids: &[String],
    known: &[(Profile, Version)],
) -> Result<Vec<(Profile, Version)>, StoreError> {
    let known: HashSet<_> = known.iter().map(|(profile, _)| profile.iccid.as_str()).collect();
    let missing: Vec<_> =
        iccids.iter().filter(|iccid| !known.contains(iccid.as_str())).cloned().collect();
    profiles::read(connection, &missing).await
}

/// Returns `None`, with nothing written, if a profile or an erasure is not as assumed.
async fn try_stroke(
    connection: &mut PgConnection,
    recent: &mut Recent,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    known: Vec<(Profile, Version)>,
    erased: &HashSet<&Iccid>,
    in_doubt: &mut InDoubt,
) -> Result<Option<Plan>, WriteError> {
    let (known, versions): (Vec<_>, Vec<_>) = known.into_iter().unzip();
    let plan = Plan::of(batch, known, &vec![None; batch.len()], erased);
    // The statement commits by itself, so the batch is in doubt from here on.
    let plan = in_doubt.insert(plan);
    let not_erased = absent(batch, versions.iter().map(|it| it.iccid.as_str()));
    let not_erased = not_erased.difference(erased).copied().collect();
    let new = plan.new_profiles();
    let stroke = Stroke { new, not_erased, ..stroke(batch, plan, &versions) };
    let written = stroke::write_if_unchanged(connection, erasure_key, &stroke).await;
    let plan = if is_said_by_the_server(&written) { in_doubt.take() } else { None };
    match (written, plan) {
        (Ok(Some(versions)), Some(mut plan)) => {
            recent.keep(plan.take_touched(), versions);
            Ok(Some(plan))
        }
        (Ok(_), _) => Ok(None),
        // Another transaction has created the same profile, or an earlier attempt has written this very delivery.
        (Err(StoreError::Database(error)), _)
            if error.as_database_error().is_some_and(DatabaseError::is_unique_violation) =>
        {
            Ok(None)
        }
        (Err(error), _) => Err(WriteError::Failed(error)),
    }
}

/// Whether the result of a commit is known. A database error is the server's own report. Any other `sqlx` error comes
/// from the connection, and the commit may still have happened.
fn is_said_by_the_server<T>(result: &Result<T, StoreError>) -> bool {
    match result {
        Err(StoreError::Database(error)) => error.as_database_error().is_some(),
        // Success, or an error that was found before anything was sent.
        _ => true,
    }
}

/// `read` has the versions of the profiles that the plan knew, in the same order.
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
        not_erased: Vec::new(),
        transitions: appended.collect(),
        deliveries: kept(batch, plan),
    }
}

/// Locks are taken in the same order everywhere: profiles by ICCID, event ids, new profiles by ICCID. Only a
/// transaction that holds no lock yet waits for profiles, so two batches cannot deadlock.
async fn write_in_transaction(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    locks: Locks,
    in_doubt: &mut InDoubt,
) -> Result<Plan, WriteError> {
    let mut transaction = connection.begin().await.map_err(StoreError::from)?;
    match execute(&mut transaction, erasure_key, batch, locks).await {
        Ok(plan) => {
            in_doubt.replace(plan);
            let committed = transaction.commit().await.map_err(StoreError::from);
            let plan = if is_said_by_the_server(&committed) { in_doubt.take() } else { None };
            committed?;
            plan.ok_or(WriteError::Failed(StoreError::Busy))
        }
        Err(error) => {
            // Roll back now, not when the connection is next used: an open transaction would keep its claimed event
            // ids, and a retry on another connection would wait for them.
            drop(transaction.rollback().await);
            Err(error)
        }
    }
}

/// Everything between `BEGIN` and `COMMIT`.
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
        // Check before inserting: an insert would wait for a transaction that has changed or deleted the row.
        let held = find_held(transaction, &iccids, &read).await?;
        if !held.is_empty() {
            return Err(WriteError::Contended(held));
        }
    }
    let erased = find_erased(transaction, erasure_key, batch, &read).await?;
    let (locked, versions): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    let seen = claim_events(transaction, batch, &erased).await?;
    let plan = Plan::of(batch, locked, &seen, &erased);

    let new = plan.new_profiles();
    if !new.is_empty() {
        let inserted = profiles::insert(transaction, &new).await?;
        if inserted.len() < new.len() {
            // They exist after all: another transaction has created them since we read.
            let mut contended: HashSet<_> = new.iter().map(|p| p.iccid.clone()).collect();
            contended.retain(|iccid| !inserted.iter().any(|done| done == iccid.as_str()));
            return Err(WriteError::Contended(contended));
        }
        // An insert waits for an erasure that holds the row. What we looked up before that wait is stale, so look
        // again.
        let new: Vec<_> = new.iter().map(|profile| &profile.iccid).collect();
        let erased = erasures::find(transaction, erasure_key, &new).await?;
        if !erased.is_empty() {
            return Err(WriteError::Contended(erased.into_iter().cloned().collect()));
        }
    }
    // We hold the locks, so this must write. If it ever does not, roll back: a commit would acknowledge deliveries that
    // were not stored.
    let stroke = stroke(batch, &plan, &versions);
    if stroke::write_if_unchanged(transaction, erasure_key, &stroke).await?.is_none() {
        return Err(WriteError::Contended(
            batch.iter().filter_map(Submission::iccid).cloned().collect(),
        ));
    }
    Ok(plan)
}

/// Finds the profiles that exist but could not be locked.
async fn find_held(
    transaction: &mut PgConnection,
    iccids: &[String],
    locked: &[(Profile, Version)],
) -> Result<HashSet<Iccid>, StoreError> {
    let locked: HashSet<_> = locked.iter().map(|(_, version)| version.iccid.as_str()).collect();
    let rest: Vec<_> = iccids.iter().filter(|it| !locked.contains(it.as_str())).cloned().collect();
    if rest.is_empty() {
        return Ok(HashSet::new());
    }
    let held = profiles::read(transaction, &rest).await?;
    Ok(held.into_iter().map(|(profile, _)| profile.iccid).collect())
}

fn reported_iccids(batch: &[Submission]) -> Vec<String> {
    distinct(batch.iter().filter_map(|submission| match &submission.parsed {
        Ok(Reading::Report(report)) => Some(&report.iccid),
        _ => None,
    }))
}

/// Sorted, without duplicates.
fn distinct<'a>(iccids: impl Iterator<Item = &'a Iccid>) -> Vec<String> {
    let mut iccids: Vec<_> = iccids.map(|iccid| iccid.as_str().to_owned()).collect();
    iccids.sort_unstable();
    iccids.dedup();
    iccids
}

/// The profiles that the batch names and that are not known.
fn absent<'a, 'k>(
    batch: &'a [Submission],
    known: impl Iterator<Item = &'k str>,
) -> HashSet<&'a Iccid> {
    let known: HashSet<_> = known.collect();
    let spoken_of = batch.iter().filter_map(Submission::iccid);
    spoken_of.filter(|iccid| !known.contains(iccid.as_str())).collect()
}

/// Finds which of the profiles that do not exist were erased. Most batches name only profiles that exist, and need no
/// query.
async fn find_erased<'a>(
    connection: &mut PgConnection,
    key: &ErasureKey,
    batch: &'a [Submission],
    known: &[(Profile, Version)],
) -> Result<HashSet<&'a Iccid>, StoreError> {
    let absent = absent(batch, known.iter().map(|(_, version)| version.iccid.as_str()));
    if absent.is_empty() {
        return Ok(HashSet::new());
    }
    let absent: Vec<_> = absent.into_iter().collect();
    erasures::find(connection, key, &absent).await
}
