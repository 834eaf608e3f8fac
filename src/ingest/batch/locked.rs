//! Way 3: a transaction that holds the locks of its profiles.

use std::collections::HashSet;

use sqlx::{Connection, PgConnection};

use super::super::Submission;
use super::super::event_ids::reserve_event_ids;
use super::super::plan::Plan;
use super::{
    InDoubt, OnLocked, WriteError, distinct, find_erased, is_known, last_reports, traced,
    what_to_write,
};
use crate::domain::{Iccid, Profile};
use crate::store::batch_write::write_if_unchanged;
use crate::store::customer_deliveries::{self, NamesCustomer};
use crate::store::profiles::{self, Revision};
use crate::store::{ErasureKey, StoreError};
use crate::telemetry::Span;

/// Locks are taken in the same order everywhere: profiles by ICCID, event ids, new profiles by ICCID. Only a
/// transaction that holds no lock yet waits for profiles, so two batches cannot deadlock.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    (batch, on_locked, span): (&[&Submission], OnLocked, &Span),
    in_doubt: &mut InDoubt,
) -> Result<Plan, WriteError> {
    let mut transaction = connection.begin().await.map_err(StoreError::from)?;
    match execute(&mut transaction, erasure_key, (batch, on_locked, span)).await {
        Ok(plan) => {
            in_doubt.replace(plan);
            let committed = async { Ok(transaction.commit().await?) };
            let committed = traced(span, "COMMIT", None, committed).await;
            let plan = if is_known(&committed) { in_doubt.take() } else { None };
            committed?;
            plan.ok_or(WriteError::Failed(StoreError::Busy))
        }
        Err(error) => {
            // Roll back now, not when the connection is next used: an open transaction would keep its reserved event
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
    (batch, on_locked, span): (&[&Submission], OnLocked, &Span),
) -> Result<Plan, WriteError> {
    let iccids = distinct(batch.iter().filter_map(|it| it.iccid()));
    let mut read = Vec::new();
    if !iccids.is_empty() {
        if on_locked == OnLocked::Wait {
            let locked = profiles::wait_for_locks(transaction, &iccids);
            traced(span, "SELECT", "profiles", locked).await?;
        }
        let locked = profiles::lock_free(transaction, &iccids);
        read = traced(span, "SELECT", "profiles", locked).await?;
        // Check before inserting: an insert would wait for a transaction that has changed or deleted the row.
        let busy = find_locked(transaction, &iccids, &read).await?;
        if !busy.is_empty() {
            return Err(WriteError::Contended(busy));
        }
    }
    let erased = find_erased(transaction, erasure_key, batch, &read).await?;
    let seen = reserve_event_ids(transaction, batch, &erased).await?;
    customer_deliveries::note(transaction, &names_customer(batch)).await?;
    let last_reports = last_reports(transaction, batch, &read).await?;
    let plan = Plan::of(batch, read, &last_reports, &seen, &erased);

    let write = what_to_write(batch, &plan, &erased, span);
    let written = write_if_unchanged(transaction, erasure_key, &write);
    if traced(span, "INSERT", "deliveries", written).await? {
        return Ok(plan);
    }
    // We hold the locks of all profiles that existed. So one of the others was created, or its erasure was begun, since we
    // looked. Roll back: a commit would acknowledge deliveries that were not stored.
    Err(WriteError::Contended(match write.absent() {
        none if none.is_empty() => batch.iter().filter_map(|it| it.iccid()).cloned().collect(),
        absent => absent,
    }))
}

/// The deliveries that name a customer and no profile.
fn names_customer<'a>(batch: &[&'a Submission]) -> Vec<NamesCustomer<'a>> {
    let named = |it: &&'a Submission| {
        let (delivery_id, received_at) = it.key();
        Some(NamesCustomer { uid: it.uid()?, provider: it.provider, delivery_id, received_at })
    };
    batch.iter().filter_map(named).collect()
}

/// Finds the profiles that exist but could not be locked.
async fn find_locked(
    transaction: &mut PgConnection,
    iccids: &[String],
    locked: &[(Profile, Revision)],
) -> Result<HashSet<Iccid>, StoreError> {
    let locked: HashSet<_> = locked.iter().map(|(profile, _)| profile.iccid.as_str()).collect();
    let rest: Vec<_> = iccids.iter().filter(|it| !locked.contains(it.as_str())).cloned().collect();
    if rest.is_empty() {
        return Ok(HashSet::new());
    }
    let busy = profiles::read(transaction, &rest).await?;
    Ok(busy.into_iter().map(|(profile, _)| profile.iccid).collect())
}
