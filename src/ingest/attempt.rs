//! Writes one batch: retries until it is written, rejected, or out of time. After a failure that leaves the commit in
//! doubt, asks the database whether the batch was written before writing it again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::error::DatabaseError;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::batch::{self, Batch, WriteError};
use super::committed::acknowledge;
use super::connection::IngestConnection;
use super::plan::Plan;
use super::{IngestContext, Receipt, Submission};
use crate::domain::Iccid;
use crate::store::{
    Fault, StoreError, fault_of, is_lock_time_out, is_row_locked, is_time_out, lookup, partitions,
};
use crate::telemetry::{self, Seldom};

/// How often a batch is retried after a serialization failure, a deadlock or a dead connection.
const RETRIES: u32 = 3;

/// The pause before another attempt, which grows while there is no connection, and the longest.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The time limits of a batch, enforced here because a stalled server never reports its own statement timeout.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// All attempts together.
    pub whole: Duration,
    /// One attempt. If it is given up before `whole` is over, the rest of the time can be spent on another connection:
    /// looking up whether the batch was written, and writing it again if not.
    pub attempt: Duration,
}

impl Limits {
    /// One attempt may need the whole time. What fails sooner is still retried.
    pub(super) const fn undivided(whole: Duration) -> Self {
        Self { whole, attempt: whole }
    }
}

/// Why a batch was not written, after all attempts.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// These profiles are locked, or just being created. The others can be written without them.
    ProfilesLocked(HashSet<Iccid>),
    /// Writers: the lock timeout was hit on a row that is just being inserted. The error does not say which, so the batch
    /// has to be split.
    RowLockTimeout,
    /// The database rejects the batch for its content, with this reason ([`Fault::Data`]).
    Rejected(String),
    /// The database fails at the batch, over two connections, and the cause may be one of the rows ([`Fault::Suspect`]).
    Suspect,
    /// Lanes: the wait for a profile hit the statement timeout. The database itself is well.
    LaneTimeout,
    /// The database is down, slow, or silent.
    Unavailable,
}

/// Writes a batch within these time limits. If the database rejects a single delivery, stores it unapplied.
///
/// So it does with one at which the database fails, if that is itself the cause, because others were applied recently, or if there
/// is no spool in which it could wait. Otherwise the drainer finds out whether the cause is the delivery or the database.
pub(super) async fn write_or_keep(
    context: &IngestContext,
    connection: &mut IngestConnection,
    batch: Batch<'_>,
    limits: Limits,
) -> Result<Vec<Receipt>, NotWritten> {
    let keeps_suspect = context.spooling.is_none() || context.success.is_recent();
    let deadline = Instant::now() + limits.whole;
    let mut writing = Writing {
        context,
        connection,
        batch,
        deadline,
        in_doubt: None,
        looked_up_in_vain: None,
        tries: 0,
        is_noted: false,
    };
    let Ok(done) = timeout_at(deadline, writing.try_until_decided(limits.attempt)).await else {
        return Err(writing.out_of_time());
    };
    let keeps_unapplied = match &done {
        Err(NotWritten::Rejected(_)) => true,
        Err(NotWritten::Suspect) => keeps_suspect,
        _ => false,
    };
    match (done, batch.submissions) {
        (Err(first), [only]) if keeps_unapplied => {
            let kept = timeout_at(deadline, writing.keep_unapplied(only, first)).await;
            kept.unwrap_or_else(|_| {
                connection.discard();
                Err(NotWritten::Unavailable)
            })
        }
        (done, _) => done,
    }
}

/// A batch while it is being written.
struct Writing<'a> {
    context: &'a IngestContext,
    connection: &'a mut IngestConnection,
    batch: Batch<'a>,
    deadline: Instant,
    /// The plan of an attempt whose commit is in doubt, see [`batch::write`].
    in_doubt: Option<Arc<Plan>>,
    /// The plan of an attempt that was in doubt and not found. Its commit may still come: [`IngestConnection::reach`] waits
    /// for the old server process, but not for one of another server, behind a proxy or after a failover, which it cannot
    /// see.
    looked_up_in_vain: Option<Arc<Plan>>,
    tries: u32,
    /// Whether the outage was noted already.
    is_noted: bool,
}

impl Writing<'_> {
    async fn try_until_decided(&mut self, limit: Duration) -> Result<Vec<Receipt>, NotWritten> {
        loop {
            let begun = Instant::now();
            let error = match timeout(limit, self.attempt_once()).await {
                Ok(Ok(receipts)) => {
                    self.context.success.note(&receipts);
                    self.note_success(begun.elapsed());
                    return Ok(receipts);
                }
                Ok(Err(WriteError::ProfilesLocked(iccids))) => {
                    return Err(NotWritten::ProfilesLocked(iccids));
                }
                Ok(Err(WriteError::Failed(StoreError::Database(error)))) => error,
                Ok(Err(WriteError::Failed(error @ StoreError::Corrupt { .. }))) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "a stored row cannot be read; look at the table profiles"
                    );
                    return Err(NotWritten::Rejected(error.to_string()));
                }
                Ok(Err(WriteError::Contended)) => {
                    sleep(PAUSE).await;
                    continue;
                }
                // `KeyUnknown`: the database was reached only now, and another task is still reading the erasure key.
                Ok(Err(WriteError::Failed(error))) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "an attempt could not begin"
                    );
                    sleep(PAUSE).await;
                    continue;
                }
                Err(_) => {
                    self.note_timeout();
                    self.connection.discard();
                    continue;
                }
            };
            self.tries += 1;
            if self.in_doubt.is_some() {
                // Keep asking until the deadline: a sender that is answered 503 may never retry.
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a commit was sent and not confirmed"
                );
                self.connection.discard();
                sleep(PAUSE).await;
                continue;
            }
            // A commit that was looked up in vain has come after all: look again.
            if error.as_database_error().is_some_and(DatabaseError::is_unique_violation)
                && let Some(plan) = self.looked_up_in_vain.take()
            {
                self.in_doubt = Some(plan);
                continue;
            }
            self.decide_retry(&error, begun.elapsed()).await?;
        }
    }

    /// One attempt. If an earlier attempt left a commit in doubt, looks the batch up first and writes only if it is
    /// missing.
    async fn attempt_once(&mut self) -> Result<Vec<Receipt>, WriteError> {
        let _busy = self.connection.busy();
        let connection = self.connection.reach().await?;
        if let Some(plan) = self.in_doubt.clone() {
            let keys: Vec<_> = self.batch.submissions.iter().map(|it| it.key()).collect();
            let found = lookup::find(connection, &keys);
            let found = batch::traced(self.batch.span, "SELECT", "deliveries", found).await?;
            self.in_doubt = None;
            if found.len() == keys.len() {
                telemetry::count_commit_looked_up();
                return Ok(acknowledge(self.batch.submissions, &plan));
            }
            self.looked_up_in_vain = Some(plan);
        }
        let key = &self.context.erasure_key;
        let plan = batch::write(connection, key, self.batch, &mut self.in_doubt).await?;
        Ok(acknowledge(self.batch.submissions, &plan))
    }

    /// Stores a delivery that cannot be applied, because its sender may never send it again. If the database rejects that too,
    /// returns the `first` reason.
    async fn keep_unapplied(
        &mut self,
        only: &Submission,
        first: NotWritten,
    ) -> Result<Vec<Receipt>, NotWritten> {
        let key = &self.context.erasure_key;
        let kept = async {
            let connection = self.connection.reach().await?;
            batch::keep_unapplied(connection, key, only).await
        };
        match kept.await {
            Ok(plan) => {
                let receipts = acknowledge(&[only], &plan);
                self.context.success.note(&receipts);
                Ok(receipts)
            }
            Err(WriteError::ProfilesLocked(iccids)) => Err(NotWritten::ProfilesLocked(iccids)),
            Err(WriteError::Failed(StoreError::Database(error)))
                if fault_of(&error) == Fault::Data =>
            {
                Err(first)
            }
            Err(WriteError::Failed(StoreError::Database(error)))
                if fault_of(&error) == Fault::Suspect =>
            {
                Err(NotWritten::Suspect)
            }
            Err(_) => {
                self.connection.discard();
                Err(NotWritten::Unavailable)
            }
        }
    }

    fn note_success(&mut self, took: Duration) {
        self.context.outage.end();
        telemetry::record_commit(took);
        if let Some(pace) = self.batch.role.pace() {
            pace.note_commit(self.batch.submissions.len(), took);
        }
    }

    fn note_timeout(&self) {
        if let Some(pace) = self.batch.role.pace() {
            pace.note_timeout(self.batch.submissions.len());
        }
    }

    /// Gives up what is under way.
    fn out_of_time(&mut self) -> NotWritten {
        self.connection.discard();
        if !self.is_noted {
            self.note_timeout();
            let what = if self.in_doubt.is_some() {
                "the database did not confirm a commit in time"
            } else {
                "the database did not answer in time"
            };
            self.context.outage.note(self.batch.submissions.len(), what, None);
        }
        NotWritten::Unavailable
    }

    /// Decides by the error, and by how long it took, whether to retry the batch: `Ok` if so. Nothing was written.
    async fn decide_retry(
        &mut self,
        error: &sqlx::Error,
        took: Duration,
    ) -> Result<(), NotWritten> {
        let deliveries = self.batch.submissions.len();
        if is_time_out(error) {
            self.note_timeout();
        }
        match fault_of(error) {
            Fault::Transient if self.tries <= RETRIES => Ok(()),
            Fault::NoPartition if self.tries <= RETRIES => self.make_partitions().await,
            Fault::Data => {
                let error = error as &dyn std::error::Error;
                tracing::error!(error, deliveries, "the database rejects a batch for its content");
                Err(NotWritten::Rejected(error.to_string()))
            }
            Fault::Unavailable if is_row_locked(error) => Err(NotWritten::RowLockTimeout),
            // A whole table is locked. Splitting the batch would not help, so retry until the table is free.
            Fault::Unavailable if is_lock_time_out(error) => Ok(()),
            Fault::Unavailable if self.batch.role.is_lane() && is_time_out(error) => {
                Err(NotWritten::LaneTimeout)
            }
            // Another attempt of that length does not fit before the deadline. If abandoned, it would keep running on
            // the server and delay the next batches too.
            Fault::Unavailable if is_time_out(error) && Instant::now() + took > self.deadline => {
                self.note_outage(error);
                Err(NotWritten::Unavailable)
            }
            // A connection that knows an older schema fails at its statements, so a new one is tried first.
            Fault::Suspect if self.tries == 1 => {
                self.connection.discard();
                Ok(())
            }
            Fault::Suspect => {
                static SELDOM: Seldom = Seldom::new();
                if let Some(left_out) = SELDOM.due() {
                    let error = error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        deliveries,
                        left_out,
                        "the database fails at a batch: is a row damaged, does a trigger raise, or has our role lost a right?"
                    );
                }
                Err(NotWritten::Suspect)
            }
            // No connection could be made, or the one that we had was dead. The next one may die while it is being opened, so
            // retry a few times. An error that the server itself reports is retried once.
            Fault::Unavailable
                if self.tries == 1
                    || error.as_database_error().is_none() && self.tries <= RETRIES =>
            {
                self.pause_without_connection().await;
                Ok(())
            }
            // Without a spool, the deliveries have nowhere else to go, and most senders never send again: a server or
            // pooler that restarts may be back before the deadline.
            Fault::Unavailable if self.context.spooling.is_none() && !is_time_out(error) => {
                if !self.is_noted {
                    self.note_outage(error);
                }
                self.pause_without_connection().await;
                Ok(())
            }
            Fault::Transient | Fault::NoPartition | Fault::Unavailable => {
                self.connection.discard();
                self.note_outage(error);
                Err(NotWritten::Unavailable)
            }
        }
    }

    async fn pause_without_connection(&mut self) {
        self.connection.discard();
        sleep(LONGEST_PAUSE.min(PAUSE * self.tries)).await;
    }

    fn note_outage(&mut self, error: &sqlx::Error) {
        self.is_noted = true;
        let deliveries = self.batch.submissions.len();
        self.context.outage.note(deliveries, "the database is not available", Some(error));
    }

    async fn make_partitions(&mut self) -> Result<(), NotWritten> {
        let received_at: Vec<_> =
            self.batch.submissions.iter().map(|it| it.delivery.received_at()).collect();
        let made = async {
            let connection = self.connection.reach().await?;
            partitions::make_for(connection, &received_at).await
        };
        if let Err(error) = made.await {
            self.connection.discard();
            let error = &error as &dyn std::error::Error;
            self.context.outage.note(
                self.batch.submissions.len(),
                "the partition that deliveries belong to does not exist and cannot be created",
                Some(error),
            );
            return Err(NotWritten::Unavailable);
        }
        Ok(())
    }
}
