//! Writes a batch of the spool: what is not in the database yet, in halves if need be, and leaves the rest in the spool.

use std::collections::HashMap;

use tokio::time::timeout;
use uuid::Uuid;

use super::super::Submission;
use super::super::attempt::{NotWritten, write_or_keep};
use super::super::batch::{Batch, Role};
use super::super::committed::count_found;
use super::super::recent_success::MAX_SUSPECTS;
use super::{Drainer, LIMITS, LOOK_LIMIT, Stuck, log_stuck};
use crate::store::StoreError;
use crate::store::lookup::{self, Found};
use crate::telemetry::{self, Span};

impl Drainer {
    /// Writes the deliveries that are not in the database yet. If a batch is not written, writes it in halves, down to single
    /// deliveries. Takes out of `removable` what must stay in the spool, and what it has moved to the table `refused`.
    pub(super) async fn write(
        &mut self,
        batch: Vec<Submission>,
        removable: &mut HashMap<Uuid, i64>,
    ) -> Result<(), Stuck> {
        let mut work = vec![batch];
        while let Some(batch) = work.pop() {
            let Some((mut batch, mut not_written)) = self.write_once(batch, removable).await?
            else {
                continue;
            };
            if batch.len() > 1 {
                let second = batch.split_off(batch.len() / 2);
                work.push(second);
                work.push(batch);
                continue;
            }
            if let NotWritten::Rejected(_) = not_written {
                // An earlier attempt may have committed between our lookup and our write. If so, the second lookup
                // finds it.
                let Some(again) = self.write_once(batch, removable).await? else { continue };
                (batch, not_written) = again;
            }
            let Some(only) = batch.pop() else { continue };
            match (not_written, removable.remove(&only.delivery.id())) {
                (NotWritten::Rejected(reason), Some(place)) => self.refuse(place, &reason).await?,
                (NotWritten::Suspect, _) => {
                    self.skipped.add(&only);
                    self.skipped.is_failing = true;
                    // A pause: perhaps the whole database fails.
                    if self.context.success.note_failure().is_multiple_of(MAX_SUSPECTS) {
                        return Err(Stuck);
                    }
                }
                _ => self.skipped.add(&only),
            }
        }
        Ok(())
    }

    /// Writes, as one batch, the deliveries that are not in the database yet and whose profiles are not locked. Returns the batch
    /// if the database rejects it or fails at it, or if something in it is locked and the error does not say what.
    async fn write_once(
        &mut self,
        mut batch: Vec<Submission>,
        removable: &mut HashMap<Uuid, i64>,
    ) -> Result<Option<(Vec<Submission>, NotWritten)>, Stuck> {
        loop {
            batch.retain(|submission| {
                let is_skipped = self.skipped.has(submission);
                if is_skipped {
                    removable.remove(&submission.delivery.id());
                }
                !is_skipped
            });
            let Some(found) = self.look_up(&batch).await? else {
                return Ok(Some((batch, NotWritten::Suspect)));
            };
            batch.retain(|submission| {
                let id = submission.delivery.id();
                let found = found.get(&id);
                if let Some(found) = found.filter(|_| self.counted.insert(id)) {
                    count_found(submission, found);
                }
                found.is_none()
            });
            telemetry::count_already_written(found.len());
            if batch.is_empty() {
                return Ok(None);
            }
            let (context, connection) = (&self.context, &mut self.connection);
            let refs: Vec<_> = batch.iter().collect();
            let span = Span::drained_batch(refs.len());
            let work = Batch { submissions: &refs, role: Role::Drainer, span: &span };
            match write_or_keep(context, connection, work, LIMITS).await {
                Ok(receipts) => {
                    self.counted.extend(receipts.iter().map(|it| it.delivery_id));
                    telemetry::count_drained(batch.len());
                    return Ok(None);
                }
                Err(NotWritten::ProfilesLocked(iccids)) => self.skipped.add_profiles(iccids),
                Err(
                    not_written @ (NotWritten::Rejected(_)
                    | NotWritten::RowLockTimeout
                    | NotWritten::Suspect),
                ) => return Ok(Some((batch, not_written))),
                Err(NotWritten::LaneTimeout | NotWritten::Unavailable) => return Err(Stuck),
            }
        }
    }

    /// Finds which of these are in the database already. `None` if the database fails at looking them up, also over a new
    /// connection, and the cause may be one of them.
    async fn look_up(
        &mut self,
        batch: &[Submission],
    ) -> Result<Option<HashMap<Uuid, Found>>, Stuck> {
        if batch.is_empty() {
            return Ok(Some(HashMap::new()));
        }
        let keys: Vec<_> = batch.iter().map(Submission::key).collect();
        let mut tries = 0;
        loop {
            tries += 1;
            let connection = self.reach_database().await?;
            let error = match timeout(LOOK_LIMIT, lookup::find(connection, &keys)).await {
                Ok(Ok(found)) => return Ok(Some(found)),
                Ok(Err(error)) => error,
                Err(_) => StoreError::Busy,
            };
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "deliveries could not be looked up"
            );
            self.connection.discard();
            match (error.may_be_one_row(), tries) {
                (true, 1) => {}
                (true, _) => return Ok(None),
                (false, _) => return Err(Stuck),
            }
        }
    }

    /// Moves a delivery to the spool's table `refused`.
    pub(super) async fn refuse(&self, place: i64, reason: &str) -> Result<(), Stuck> {
        tracing::error!(
            seq = place,
            reason,
            "a delivery in the spool cannot be written: it is kept in the spool's table `refused`"
        );
        telemetry::count_spool_refused();
        self.spooling.spool.refuse(place, reason).await.map_err(|error| log_stuck(&error))
    }
}
