//! Stores a delivery that cannot be applied, because the database rejects what it would write or fails at its profile: its row
//! alone, for support and for `esim-status reread`. Its profile stays as it is.

use sqlx::PgConnection;

use super::super::Submission;
use super::super::plan::Plan;
use super::{WriteError, delivery_rows};
use crate::store::batch_write::{BatchWrite, write_if_unchanged};
use crate::store::{ErasureKey, erasures, profiles};

/// How often this is tried, if a webhook changes the profile at the same moment.
const TRIES: u32 = 5;

/// Stores the delivery as `unrecognised` if it is a report or a connection, and without its content if its profile was erased.
/// Returns what was stored.
pub(in crate::ingest) async fn keep_unapplied(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    submission: &Submission,
) -> Result<Plan, WriteError> {
    let batch = [submission];
    for _ in 0..TRIES {
        let (mut unchanged, mut absent, mut is_erased) = (Vec::new(), Vec::new(), false);
        if let Some(iccid) = submission.iccid() {
            if let Some((revision, erased_at)) = profiles::revision(connection, iccid).await? {
                unchanged.push((iccid, revision));
                is_erased = submission.predates_erasure(erased_at);
            } else {
                is_erased = !erasures::find(connection, erasure_key, &[iccid]).await?.is_empty();
                absent.extend((!is_erased).then_some(iccid));
            }
        }
        let plan = Plan::unapplied(submission, is_erased);
        let write = BatchWrite {
            unchanged,
            absent,
            deliveries: delivery_rows(&batch, &plan),
            ..BatchWrite::default()
        };
        if write_if_unchanged(connection, erasure_key, &write).await? {
            return Ok(plan);
        }
    }
    // Another transaction has locked the profile, or changes it again and again.
    Err(WriteError::contended(submission.iccid().into_iter().cloned().collect()))
}
