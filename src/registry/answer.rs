//! Applies what a provider's API answered about a profile.

use sqlx::{Connection, PgConnection};

use super::{count, lock};
use crate::domain::{Profile, Report, Transition};
use crate::store::batch_write::{BatchWrite, Changed, write_if_unchanged};
use crate::store::transitions::NewTransition;
use crate::store::{ErasureKey, StoreError, profiles};

/// What an answer did.
#[derive(Debug)]
pub enum Applied {
    /// It was applied: the profile as it is now, and what changed.
    Done(Box<Profile>, Option<Box<Transition>>),
    /// A webhook came meanwhile, which counts.
    Overtaken(Box<Profile>),
    /// The profile does not exist any more.
    Gone,
}

/// Applies an answer. `report` has as its time of receipt the moment at which the question was sent.
///
/// # Errors
/// [`StoreError`]; it is safe to retry.
pub async fn apply_answer(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    report: &Report,
) -> Result<Applied, StoreError> {
    let mut transaction = connection.begin().await?;
    let Some((known, revision)) = lock(&mut transaction, &report.iccid).await? else {
        // Now, and not when the connection is next used: locks would be kept until then.
        transaction.rollback().await?;
        return Ok(Applied::Gone);
    };
    let Some((profile, moved)) = known.answered(report) else {
        transaction.rollback().await?;
        return Ok(Applied::Overtaken(Box::new(known)));
    };
    let iccid = &profile.iccid;
    let new = |transition| NewTransition { iccid, transition, delivery_id: None };
    let write = BatchWrite {
        changed: vec![Changed { profile: &profile, revision, before: (&known).into() }],
        transitions: moved.as_ref().into_iter().map(new).collect(),
        ..BatchWrite::default()
    };
    if !write_if_unchanged(&mut transaction, erasure_key, &write).await? {
        // The row is locked, so nobody can have changed it.
        return Err(StoreError::Busy);
    }
    profiles::mark_unreported(&mut transaction, iccid).await?;
    transaction.commit().await?;
    count(report.provider, moved.as_ref(), Some(&known), &profile);
    Ok(Applied::Done(Box::new(profile), moved.map(Box::new)))
}
