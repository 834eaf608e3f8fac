//! Writes one batch, all or nothing, in the cheapest of three ways that works:
//!
//! 1. [`optimistic`]: read the profiles, and assume that none was erased. Write everything in one statement
//!    ([`crate::store::batch_write`]) that does nothing if any of that no longer holds.
//! 2. [`optimistic`] once more, with profiles and erasures read anew.
//! 3. [`locked`]: open a transaction, lock the profiles, look up erasures, reserve event ids, note
//!    customers, judge, write, commit.
//!
//! Nearly every batch is written by the first. A batch with event ids, one in which a delivery names a customer and no profile, or
//! one that waits for locks ([`OnLocked::Wait`]), starts with the third.

mod optimistic;

mod locked;

mod unapplied;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;

pub(super) use unapplied::keep_unapplied;

use super::committed::{count, deliveries, receipts};
use super::event_ids::has_event_id;
use super::plan::Plan;
use super::{Arrival, Receipt, Submission};
use crate::domain::{Iccid, Outcome, Profile, Timestamp};
use crate::store::batch_write::BatchWrite;
use crate::store::profiles::Revision;
use crate::store::transitions::NewTransition;
use crate::store::{self, ErasureKey, StoreError, erasures};
use crate::telemetry::{self, Span};

/// What to do about profiles that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnLocked {
    /// Do not wait: fail with [`WriteError::Contended`], which names them.
    Skip,
    /// Wait for them, up to the statement timeout.
    Wait,
}

/// Why one attempt to write a batch failed.
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

/// Writes the batch and returns one receipt for each submission, in the same order. Its statements are children of the
/// span.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    (batch, on_locked, span): (&[&Submission], OnLocked, &Span),
    in_doubt: &mut InDoubt,
) -> Result<Vec<Receipt>, WriteError> {
    let needs_transaction = |it: &&Submission| has_event_id(it) || it.uid().is_some();
    let may_assume = on_locked == OnLocked::Skip && !batch.iter().any(needs_transaction);
    let mut plan = None;
    if may_assume {
        plan = optimistic::write(connection, erasure_key, (batch, span), in_doubt).await?;
    }
    let plan = match plan {
        Some(plan) => plan,
        None => locked::write(connection, erasure_key, (batch, on_locked, span), in_doubt).await?,
    };
    Ok(written(batch, plan))
}

/// Counts a committed batch and makes its receipts.
pub(super) fn written(batch: &[&Submission], plan: Plan) -> Vec<Receipt> {
    count(batch, &plan);
    receipts(batch, plan)
}

/// Runs a statement under a span of its own.
pub(super) async fn traced<T>(
    span: &Span,
    operation: &'static str,
    table: impl Into<Option<&'static str>>,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    telemetry::statement(span, operation, table.into(), work, |error| match error {
        StoreError::Database(sqlx::Error::Database(error)) => {
            error.code().map_or(Cow::Borrowed("database"), |code| code.into_owned().into())
        }
        StoreError::Database(_) => "connection".into(),
        StoreError::Busy => "busy".into(),
        _ => "unreadable".into(),
    })
    .await
}

/// Whether the result of a commit is known. If it is an error of the connection, the commit may still have happened.
fn is_known<T>(result: &Result<T, StoreError>) -> bool {
    match result {
        Err(StoreError::Database(error)) => store::ends_statement_only(error),
        // Success, or an error that was found before anything was sent.
        _ => true,
    }
}

/// What a plan writes.
fn what_to_write<'a>(
    batch: &'a [&'a Submission],
    plan: &'a Plan,
    erased: &HashSet<&'a Iccid>,
    span: &Span,
) -> BatchWrite<'a> {
    let transitions = plan.transitions.iter().filter_map(|(index, transition)| {
        let submission = batch.get(*index)?;
        let (iccid, delivery_id) = (submission.iccid()?, Some(submission.delivery.id()));
        Some(NewTransition { iccid, transition, delivery_id })
    });
    let judged = batch.iter().zip(&plan.judgements);
    let connected = judged.filter(|(_, judgement)| judgement.outcome == Outcome::Connected);
    let connected = connected.filter_map(|(submission, _)| submission.iccid());
    let absent = absent(batch, |iccid| plan.knows(iccid));
    BatchWrite {
        changed: plan.changed_profiles(),
        unchanged: plan.unchanged_profiles(),
        new: plan.new_profiles(),
        not_erased: absent.difference(erased).copied().collect(),
        transitions: transitions.collect(),
        connected: connected.collect(),
        deliveries: deliveries(batch, plan),
        traceparent: span.context().map(|context| context.traceparent()),
    }
}

/// Sorted, without duplicates.
fn distinct<'a>(iccids: impl Iterator<Item = &'a Iccid>) -> Vec<String> {
    let mut iccids: Vec<_> = iccids.map(|iccid| iccid.as_str().to_owned()).collect();
    iccids.sort_unstable();
    iccids.dedup();
    iccids
}

/// Finds when the states of these profiles were last reported, as far as that is later than the earliest report of the batch that
/// has waited. Call it after the profiles were read: a report that is applied in between then changes their revision. Batches that
/// come directly need no query.
async fn last_reports(
    connection: &mut PgConnection,
    batch: &[&Submission],
    known: &[(Profile, Revision)],
) -> Result<HashMap<Iccid, Timestamp>, StoreError> {
    let waited = batch.iter().filter(|it| it.arrival == Arrival::Delayed);
    let earliest = waited.filter_map(|it| Some(it.report()?.received_at)).min();
    let Some(earliest) = earliest.filter(|_| !known.is_empty()) else { return Ok(HashMap::new()) };
    let iccids: Vec<_> = known.iter().map(|(profile, _)| profile.iccid.as_str()).collect();
    store::last_reports::since(connection, &iccids, earliest).await
}

/// The profiles that the batch names and that are not known.
fn absent<'a>(
    batch: &'a [&'a Submission],
    is_known: impl Fn(&Iccid) -> bool,
) -> HashSet<&'a Iccid> {
    batch.iter().filter_map(|it| it.iccid()).filter(|iccid| !is_known(iccid)).collect()
}

/// Finds which of the profiles that do not exist were erased. Most batches name only profiles that exist, and need no
/// query.
async fn find_erased<'a>(
    connection: &mut PgConnection,
    key: &ErasureKey,
    batch: &'a [&'a Submission],
    known: &[(Profile, Revision)],
) -> Result<HashSet<&'a Iccid>, StoreError> {
    let known: HashSet<_> = known.iter().map(|(profile, _)| &profile.iccid).collect();
    let absent = absent(batch, |iccid| known.contains(iccid));
    if absent.is_empty() {
        return Ok(HashSet::new());
    }
    let absent: Vec<_> = absent.into_iter().collect();
    erasures::find(connection, key, &absent).await
}
