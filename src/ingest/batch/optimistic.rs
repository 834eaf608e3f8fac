//! Ways 1 and 2: one statement that writes everything, or nothing if a profile changed since it was read.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::PgConnection;

use super::super::plan::Plan;
use super::{
    Batch, WriteError, distinct, find_erased, is_decided, last_reports, traced, what_to_write,
};
use crate::domain::{Iccid, Profile};
use crate::store::ErasureKey;
use crate::store::batch_write::write_if_unchanged;
use crate::store::profiles::{self, Revision};

/// Returns `None`, with nothing written, if neither way worked.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: Batch<'_>,
    in_doubt: &mut Option<Arc<Plan>>,
) -> Result<Option<Arc<Plan>>, WriteError> {
    let Batch { submissions, span, .. } = batch;
    let iccids = distinct(submissions.iter().filter_map(|it| it.iccid()));
    let read = traced(span, "SELECT", "profiles", profiles::read(connection, &iccids)).await?;
    // Assume that none was erased: the statement checks it.
    let none_erased = HashSet::new();
    let first = write_assuming(connection, erasure_key, batch, read, &none_erased, in_doubt);
    if let Some(plan) = first.await? {
        return Ok(Some(plan));
    }
    let read = traced(span, "SELECT", "profiles", profiles::read(connection, &iccids)).await?;
    let erased = find_erased(connection, erasure_key, submissions, &read);
    let erased = traced(span, "SELECT", "erasures", erased).await?;
    write_assuming(connection, erasure_key, batch, read, &erased, in_doubt).await
}

/// Returns `None`, with nothing written, if a profile or an erasure is not as assumed.
async fn write_assuming(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    Batch { submissions, span, .. }: Batch<'_>,
    read: Vec<(Profile, Revision)>,
    erased: &HashSet<&Iccid>,
    in_doubt: &mut Option<Arc<Plan>>,
) -> Result<Option<Arc<Plan>>, WriteError> {
    let last_reports = last_reports(connection, submissions, &read).await?;
    let no_event_ids = vec![None; submissions.len()];
    let plan = Arc::new(Plan::of(submissions, read, &last_reports, &no_event_ids, erased));
    let write = what_to_write(submissions, &plan, erased, span);
    // The statement commits by itself, so the batch is in doubt from here on.
    *in_doubt = Some(plan.clone());
    let written = write_if_unchanged(connection, erasure_key, &write);
    let written = traced(span, "INSERT", "deliveries", written).await;
    if is_decided(&written) {
        *in_doubt = None;
    }
    Ok(written?.then_some(plan))
}
