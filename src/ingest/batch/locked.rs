//! Way 3: a transaction that holds the locks of its profiles.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::{Connection, PgConnection};

use super::super::Submission;
use super::super::event_ids::reserve_event_ids;
use super::super::plan::Plan;
use super::{
    Batch, WriteError, distinct, find_erased, is_decided, last_reports, traced, what_to_write,
};
use crate::domain::{Iccid, Profile};
use crate::store::batch_write::write_if_unchanged;
use crate::store::customer_deliveries::{self, NamesCustomer};
use crate::store::profiles::{self, Revision};
use crate::store::{ErasureKey, StoreError};

/// Locks are taken in the same order everywhere: profiles by ICCID, event ids, new profiles by ICCID. Only a
/// transaction that holds no lock yet waits for profiles, so two batches cannot deadlock.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: Batch<'_>,
    in_doubt: &mut Option<Arc<Plan>>,
) -> Result<Arc<Plan>, WriteError> {
    let mut transaction = connection.begin().await.map_err(StoreError::from)?;
    match execute(&mut transaction, erasure_key, batch).await {
        Ok(plan) => {
            let plan = Arc::new(plan);
            *in_doubt = Some(plan.clone());
            let committed = async { Ok(transaction.commit().await?) };
            let committed = traced(batch.span, "COMMIT", None, committed).await;
            if is_decided(&committed) {
                *in_doubt = None;
            }
            committed?;
            Ok(plan)
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
    Batch { submissions, role, span }: Batch<'_>,
) -> Result<Plan, WriteError> {
    let iccids = distinct(submissions.iter().filter_map(|it| it.iccid()));
    let mut read = Vec::new();
    if !iccids.is_empty() {
        if role.is_lane() {
            let wait = profiles::wait_for_locks(transaction, &iccids);
            traced(span, "SELECT", "profiles", wait).await?;
        }
        let lock = profiles::try_lock(transaction, &iccids);
        read = traced(span, "SELECT", "profiles", lock).await?;
        // Check before inserting: an insert would wait for a transaction that has changed or deleted the row.
        let elsewhere = find_locked_elsewhere(transaction, &iccids, &read).await?;
        if !elsewhere.is_empty() {
            return Err(WriteError::ProfilesLocked(elsewhere));
        }
    }
    let erased = find_erased(transaction, erasure_key, submissions, &read).await?;
    let seen = reserve_event_ids(transaction, submissions, &erased).await?;
    customer_deliveries::insert(transaction, &names_customer(submissions)).await?;
    let last_reports = last_reports(transaction, submissions, &read).await?;
    let plan = Plan::of(submissions, read, &last_reports, &seen, &erased);

    let write = what_to_write(submissions, &plan, &erased, span);
    let written = write_if_unchanged(transaction, erasure_key, &write);
    if traced(span, "INSERT", "deliveries", written).await? {
        return Ok(plan);
    }
    // We hold the locks of all profiles that existed. So one of the others was created, or its erasure was begun, since we
    // looked. Roll back: a commit would acknowledge deliveries that were not stored.
    let mut changed: HashSet<_> = write.absent.iter().copied().cloned().collect();
    if changed.is_empty() {
        changed = submissions.iter().filter_map(|it| it.iccid()).cloned().collect();
    }
    Err(WriteError::contended(changed))
}

/// The deliveries that name a customer and no profile.
fn names_customer<'a>(batch: &[&'a Submission]) -> Vec<NamesCustomer<'a>> {
    let named = |it: &&'a Submission| {
        let (delivery_id, received_at) = it.key();
        Some(NamesCustomer { uid: it.uid()?, provider: it.provider, delivery_id, received_at })
    };
    batch.iter().filter_map(named).collect()
}

/// Finds the profiles that exist and are not among `ours`, so that another transaction has locked them.
async fn find_locked_elsewhere(
    transaction: &mut PgConnection,
    iccids: &[String],
    ours: &[(Profile, Revision)],
) -> Result<HashSet<Iccid>, StoreError> {
    let ours: HashSet<_> = ours.iter().map(|(profile, _)| profile.iccid.as_str()).collect();
    let rest: Vec<_> = iccids.iter().filter(|it| !ours.contains(it.as_str())).cloned().collect();
    if rest.is_empty() {
        return Ok(HashSet::new());
    }
    let elsewhere = profiles::read(transaction, &rest).await?;
    Ok(elsewhere.into_iter().map(|(profile, _)| profile.iccid).collect())
}
