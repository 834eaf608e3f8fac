//! Keeps a delivery that the database does not let be applied: its row alone, for support and for `esim-status reread`. Its profile
//! stays as it is.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::super::Submission;
use super::super::committed::deliveries;
use super::super::plan::Plan;
use super::{WriteError, written};
use crate::ingest::Receipt;
use crate::store::batch_write::{BatchWrite, write_if_unchanged};
use crate::store::{ErasureKey, StoreError, erasures, profiles};

/// How often this is tried, if a webhook changes the profile at the same moment.
const TRIES: u32 = 5;

/// Stores the delivery as `unrecognised`, or without its content if its profile was erased.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    submission: &Submission,
) -> Result<Receipt, WriteError> {
    let batch = [submission];
    for _ in 0..TRIES {
        let (mut unchanged, mut absent, mut erased) = (Vec::new(), Vec::new(), HashSet::new());
        if let Some(iccid) = submission.iccid() {
            if let Some(revision) = profiles::revision(connection, iccid).await? {
                unchanged.push((iccid, revision));
            } else {
                erased = erasures::find(connection, erasure_key, &[iccid]).await?;
                absent.extend((!erased.contains(iccid)).then_some(iccid));
            }
        }
        let plan = Plan::unapplied(submission, &erased);
        let write = BatchWrite {
            unchanged,
            not_erased: absent,
            deliveries: deliveries(&batch, &plan),
            ..BatchWrite::default()
        };
        if write_if_unchanged(connection, erasure_key, &write).await? {
            let receipt = written(&batch, plan).pop();
            return receipt.ok_or(WriteError::Failed(StoreError::Busy));
        }
    }
    Err(WriteError::Failed(StoreError::Busy))
}
