//! Ways 1 and 2: one statement that writes everything, or nothing if a profile changed since it was read.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::super::Submission;
use super::super::plan::Plan;
use super::{
    InDoubt, WriteError, distinct, find_erased, is_known, last_reports, traced, what_to_write,
};
use crate::domain::{Iccid, Profile};
use crate::store::ErasureKey;
use crate::store::batch_write::write_if_unchanged;
use crate::store::profiles::{self, Revision};
use crate::telemetry::Span;

/// Returns `None`, with nothing written, if neither way worked.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    (batch, span): (&[&Submission], &Span),
    in_doubt: &mut InDoubt,
) -> Result<Option<Plan>, WriteError> {
    let iccids = distinct(batch.iter().filter_map(|it| it.iccid()));
    let known = traced(span, "SELECT", "profiles", profiles::read(connection, &iccids)).await?;
    // Assume that none was erased: the statement checks it.
    let none_erased = HashSet::new();
    let first = try_once(connection, erasure_key, (batch, span), known, &none_erased, in_doubt);
    if let Some(plan) = first.await? {
        return Ok(Some(plan));
    }
    let known = traced(span, "SELECT", "profiles", profiles::read(connection, &iccids)).await?;
    let erased = find_erased(connection, erasure_key, batch, &known);
    let erased = traced(span, "SELECT", "erasures", erased).await?;
    try_once(connection, erasure_key, (batch, span), known, &erased, in_doubt).await
}

/// Returns `None`, with nothing written, if a profile or an erasure is not as assumed.
async fn try_once(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    (batch, span): (&[&Submission], &Span),
    known: Vec<(Profile, Revision)>,
    erased: &HashSet<&Iccid>,
    in_doubt: &mut InDoubt,
) -> Result<Option<Plan>, WriteError> {
    let last_reports = last_reports(connection, batch, &known).await?;
    let plan = Plan::of(batch, known, &last_reports, &vec![None; batch.len()], erased);
    // The statement commits by itself, so the batch is in doubt from here on.
    let plan = in_doubt.insert(plan);
    let write = what_to_write(batch, plan, erased, span);
    let written = write_if_unchanged(connection, erasure_key, &write);
    let written = traced(span, "INSERT", "deliveries", written).await;
    let plan = if is_known(&written) { in_doubt.take() } else { None };
    Ok(if written? { plan } else { None })
}
