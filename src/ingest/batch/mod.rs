//! Writes one batch, all or nothing, in the cheapest of three ways that works:
//!
//! 1. [`optimistic`]: read the profiles, and assume that none was erased. Write everything in one statement
//!    ([`crate::store::batch_write`]) that does nothing if any of that no longer holds.
//! 2. [`optimistic`] once more, with profiles and erasures read anew.
//! 3. [`locked`]: open a transaction, lock the profiles, look up erasures, reserve event ids, add a row to
//!    `customer_deliveries` for each delivery that names only a customer, judge, write, commit.
//!
//! Nearly every batch is written by the first. A batch with event ids, one in which a delivery names a customer and no profile, or
//! one of a lane, starts with the third.

mod optimistic;

mod locked;

mod unapplied;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::PgConnection;

pub(super) use unapplied::keep_unapplied;

use super::event_ids::has_event_id;
use super::pace::Pace;
use super::plan::Plan;
use super::{Arrival, Submission};
use crate::domain::{Iccid, Outcome, Profile, Timestamp};
use crate::store::batch_write::BatchWrite;
use crate::store::deliveries::NewDelivery;
use crate::store::profiles::Revision;
use crate::store::transitions::NewTransition;
use crate::store::{self, ErasureKey, StoreError, erasures};
use crate::telemetry::{self, Span};

/// Deliveries that are written together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub submissions: &'a [&'a Submission],
    pub role: Role<'a>,
    /// The parent of the spans of its statements.
    pub span: &'a Span,
}

/// Who writes a batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role<'a> {
    /// A writer, which never waits for a locked profile: the batch fails with [`WriteError::ProfilesLocked`].
    Writer(&'a Pace),
    /// A lane, which waits for locked profiles, up to the statement timeout.
    Lane,
    /// The drainer, which does not wait for locks either.
    Drainer,
}

impl<'a> Role<'a> {
    pub(super) fn is_lane(self) -> bool {
        matches!(self, Self::Lane)
    }

    /// What learns from the time that a batch takes.
    pub(super) fn pace(self) -> Option<&'a Pace> {
        match self {
            Self::Writer(pace) => Some(pace),
            Self::Lane | Self::Drainer => None,
        }
    }
}

/// Why one attempt to write a batch failed.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Another transaction has locked these profiles, or is just creating them. Nothing was written.
    ProfilesLocked(HashSet<Iccid>),
    /// Another transaction was just changing what this batch writes, and the batch names no profile that could be set aside.
    /// Nothing was written.
    Contended,
    /// A statement failed. Nothing was written, unless the batch is in doubt (see [`write`]).
    Failed(StoreError),
}

impl WriteError {
    fn contended(iccids: HashSet<Iccid>) -> Self {
        if iccids.is_empty() { Self::Contended } else { Self::ProfilesLocked(iccids) }
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Writes and commits the batch, and returns what it wrote.
///
/// `in_doubt` is `Some` from just before the committing message is sent until the server reports its result. If it is still `Some`
/// after a failure or a timeout, the batch may or may not be committed.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: Batch<'_>,
    in_doubt: &mut Option<Arc<Plan>>,
) -> Result<Arc<Plan>, WriteError> {
    let needs_transaction = |it: &&Submission| has_event_id(it) || it.uid().is_some();
    if !batch.role.is_lane()
        && !batch.submissions.iter().any(needs_transaction)
        && let Some(plan) = optimistic::write(connection, erasure_key, batch, in_doubt).await?
    {
        return Ok(plan);
    }
    locked::write(connection, erasure_key, batch, in_doubt).await
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
        StoreError::Busy | StoreError::KeyUnknown => "busy".into(),
        _ => "unreadable".into(),
    })
    .await
}

/// Whether the result shows if the commit has happened. An error of the connection does not: it may have happened or not.
fn is_decided<T>(result: &Result<T, StoreError>) -> bool {
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
    let absent = absent(batch, |iccid| plan.existed(iccid));
    BatchWrite {
        changed: plan.changed_profiles(),
        unchanged: plan.unchanged_profiles(),
        new: plan.new_profiles(),
        absent: absent.difference(erased).copied().collect(),
        transitions: transitions.collect(),
        connected: connected.collect(),
        deliveries: delivery_rows(batch, plan),
        traceparent: span.context().map(|context| context.traceparent()),
    }
}

/// The row of each delivery.
fn delivery_rows<'a>(batch: &'a [&'a Submission], plan: &'a Plan) -> Vec<NewDelivery<'a>> {
    batch
        .iter()
        .zip(&plan.judgements)
        .map(|(submission, judgement)| NewDelivery {
            id: submission.delivery.id(),
            received_at: submission.delivery.received_at(),
            hook: submission.delivery.hook_path(),
            provider: submission.provider,
            iccid: submission.iccid().filter(|_| !judgement.erased),
            outcome: judgement.outcome,
            reason: judgement.reason.as_deref(),
            event_id: submission
                .event_id()
                .filter(|id| !(judgement.erased && submission.iccid_occurs_in(id))),
            headers: Some(submission.delivery.kept_headers())
                .filter(|headers| !(judgement.erased && submission.iccid_occurs_in(headers)))
                .unwrap_or("{}"),
            body: if judgement.erased { b"" } else { submission.delivery.body() },
        })
        .collect()
}

/// Sorted, without duplicates.
fn distinct<'a>(iccids: impl Iterator<Item = &'a Iccid>) -> Vec<String> {
    let mut iccids: Vec<_> = iccids.map(|iccid| iccid.as_str().to_owned()).collect();
    iccids.sort_unstable();
    iccids.dedup();
    iccids
}

/// When each profile was last reported on, if that was after the earliest spooled report of this batch. The others are
/// missing. Call it after the profiles were read: a report that is applied in between then changes their revision. Batches that come
/// directly need no query.
async fn last_reports(
    connection: &mut PgConnection,
    batch: &[&Submission],
    read: &[(Profile, Revision)],
) -> Result<HashMap<Iccid, Timestamp>, StoreError> {
    let waited = batch.iter().filter(|it| it.arrival == Arrival::Delayed);
    let earliest = waited.filter_map(|it| Some(it.report()?.received_at)).min();
    let Some(earliest) = earliest.filter(|_| !read.is_empty()) else { return Ok(HashMap::new()) };
    let iccids: Vec<_> = read.iter().map(|(profile, _)| profile.iccid.as_str()).collect();
    store::last_reports::since(connection, &iccids, earliest).await
}

/// The profiles that the batch names and that do not exist.
fn absent<'a>(batch: &'a [&'a Submission], exists: impl Fn(&Iccid) -> bool) -> HashSet<&'a Iccid> {
    batch.iter().filter_map(|it| it.iccid()).filter(|iccid| !exists(iccid)).collect()
}

/// Finds which of the profiles that do not exist were erased. Most batches name only profiles that exist, and need no
/// query.
async fn find_erased<'a>(
    connection: &mut PgConnection,
    key: &ErasureKey,
    batch: &'a [&'a Submission],
    read: &[(Profile, Revision)],
) -> Result<HashSet<&'a Iccid>, StoreError> {
    let existing: HashSet<_> = read.iter().map(|(profile, _)| &profile.iccid).collect();
    let absent = absent(batch, |iccid| existing.contains(iccid));
    if absent.is_empty() {
        return Ok(HashSet::new());
    }
    let absent: Vec<_> = absent.into_iter().collect();
    erasures::find(connection, key, &absent).await
}
