//! Keeps a delivery that the database does not let be applied: its row alone, for support and for `esim-status reread`. Its profile
//! stays as it is.

use sqlx::PgConnection;

use super::super::committed::deliveries;
use super::super::plan::Plan;
use super::super::{Receipt, Submission};
use super::{WriteError, written};
use crate::store::batch_write::{BatchWrite, write_if_unchanged};
use crate::store::{ErasureKey, StoreError, erasures, profiles};

/// How often this is tried, if a webhook changes the profile at the same moment.
const TRIES: u32 = 5;

/// Stores the delivery as `unrecognised`, or without its content if its profile was erased.
pub(in crate::ingest) async fn keep_unapplied(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    submission: &Submission,
) -> Result<Receipt, WriteError> {
    let batch = [submission];
    for _ in 0..TRIES {
        let (mut unchanged, mut absent, mut is_erased) = (Vec::new(), Vec::new(), false);
        if let Some(iccid) = submission.iccid() {
            if let Some((revision, erased_at)) = profiles::revision(connection, iccid).await? {
                unchanged.push((iccid, revision));
                is_erased = submission.is_from_before(erased_at);
            } else {
                is_erased = !erasures::find(connection, erasure_key, &[iccid]).await?.is_empty();
                absent.extend((!is_erased).then_some(iccid));
            }
        }
        let plan = Plan::unapplied(submission, is_erased);
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
    // Somebody else holds the profile, or is changing it.
    Err(WriteError::Contended(submission.iccid().into_iter().cloned().collect()))
}
