//! Writes one batch: retries until it is written, refused, or out of time. After a failure that leaves the commit in
//! doubt, asks the database whether the batch was written before writing it again.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::error::DatabaseError;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::batch::{self, InDoubt, OnLocked, WriteError};
use super::connection::WriterConnection;
use super::{Receipt, Submission, WriterContext};
use crate::domain::Iccid;
use crate::store::{
    Fault, StoreError, fault_of, is_lock_time_out, is_row_locked, is_time_out, partitions, written,
};
use crate::telemetry::{self, Seldom, Span};

/// How often a batch is retried after a serialization failure, a deadlock or a dead connection.
const RETRIES: u32 = 3;

/// The pause before reconnecting, which grows with each try, and the longest.
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
    /// Limits that leave time for one attempt only.
    pub(super) const fn once(whole: Duration) -> Self {
        Self { whole, attempt: whole }
    }
}

/// Why a batch is given up, after all attempts.
#[derive(Debug)]
pub(super) enum Refusal {
    /// These profiles are locked, or just being created. The others can be written without them.
    ProfilesLocked(HashSet<Iccid>),
    /// Writers: the lock timeout was hit on a row that is just being inserted. The error does not say which, so the batch
    /// has to be split.
    RowLockTimeout,
    /// The database refuses the batch for its content, with this reason.
    Data(String),
    /// The database fails at the batch, over two connections, and the cause may be one of the rows.
    Suspect,
    /// Lanes: the wait for a profile hit the statement timeout. The database itself is well.
    LaneTimeout,
    /// The database is down, slow, or silent.
    Unavailable,
}

/// Writes a batch within these time limits. A single delivery that the database refuses is kept unapplied; with `keeps_suspects`, so is
/// one at which it fails. Its statements are children of the span.
pub(super) async fn write_or_keep(
    context: &WriterContext,
    connection: &mut WriterConnection,
    (submissions, on_locked, span): (&[&Submission], OnLocked, &Span),
    limits: Limits,
    keeps_suspects: bool,
) -> Result<Vec<Receipt>, Refusal> {
    let deadline = Instant::now() + limits.whole;
    let mut writing = Writing {
        context,
        connection,
        submissions,
        on_locked,
        span,
        deadline,
        in_doubt: None,
        not_found: None,
        tries: 0,
        is_noted: false,
    };
    match timeout_at(deadline, writing.try_until_decided(limits.attempt)).await {
        Ok(Err(refusal))
            if matches!(refusal, Refusal::Data(_))
                || keeps_suspects && matches!(refusal, Refusal::Suspect) =>
        {
            return match timeout_at(deadline, writing.keep_unapplied()).await {
                Ok(Ok(receipts)) => Ok(receipts),
                Ok(Err(again)) => Err(again.unwrap_or(refusal)),
                Err(_) => {
                    connection.discard();
                    Err(Refusal::Unavailable)
                }
            };
        }
        Ok(done) => return done,
        Err(_) => {}
    }
    let (is_in_doubt, is_noted) = (writing.in_doubt.is_some(), writing.is_noted);
    connection.discard();
    if is_noted {
        return Err(Refusal::Unavailable);
    }
    context.pace.gave_up(submissions.len());
    let what = if is_in_doubt {
        "the database did not confirm a commit in time"
    } else {
        "the database did not answer in time"
    };
    context.outage.note(submissions.len(), what, None);
    Err(Refusal::Unavailable)
}

/// A batch while it is being written.
struct Writing<'a> {
    context: &'a WriterContext,
    connection: &'a mut WriterConnection,
    submissions: &'a [&'a Submission],
    on_locked: OnLocked,
    span: &'a Span,
    deadline: Instant,
    in_doubt: InDoubt,
    /// The plan of an attempt that was in doubt and not found. Its commit may still come: a process of another server,
    /// behind a proxy or after a failover, cannot be seen and counts as not busy.
    not_found: InDoubt,
    tries: u32,
    /// Whether the outage was noted already.
    is_noted: bool,
}

impl Writing<'_> {
    async fn try_until_decided(&mut self, limit: Duration) -> Result<Vec<Receipt>, Refusal> {
        loop {
            let begun = Instant::now();
            let error = match timeout(limit, self.try_once()).await {
                Ok(Ok(receipts)) => {
                    self.context.applying.note(&receipts);
                    self.note_success(begun.elapsed());
                    return Ok(receipts);
                }
                Ok(Err(WriteError::Contended(iccids))) if !iccids.is_empty() => {
                    return Err(Refusal::ProfilesLocked(iccids));
                }
                Ok(Err(WriteError::Failed(StoreError::Database(error)))) => error,
                Ok(Err(WriteError::Failed(error @ StoreError::Corrupt { .. }))) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "a stored row cannot be read; look at the table profiles"
                    );
                    return Err(Refusal::Data(error.to_string()));
                }
                // Another transaction was just changing what this writes, and it names no profile that could be locked.
                Ok(Err(WriteError::Contended(_))) => {
                    sleep(PAUSE).await;
                    continue;
                }
                // No connection could be made, or the erasure key is not known yet: tried until the deadline.
                Ok(Err(WriteError::Failed(error))) => {
                    if !matches!(error, StoreError::Busy) {
                        self.connection.discard();
                    }
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "an attempt could not begin"
                    );
                    sleep(PAUSE).await;
                    continue;
                }
                Err(_) => {
                    self.context.pace.gave_up(self.submissions.len());
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
                && let Some(plan) = self.not_found.take()
            {
                self.in_doubt = Some(plan);
                continue;
            }
            self.decide_retry(&error, begun.elapsed()).await?;
        }
    }

    /// One attempt. If an earlier attempt left a commit in doubt, looks the batch up first and writes only if it is
    /// missing.
    async fn try_once(&mut self) -> Result<Vec<Receipt>, WriteError> {
        let _busy = self.connection.busy();
        let connection = self.connection.reach().await?;
        if self.in_doubt.is_some() {
            let keys: Vec<_> = self.submissions.iter().map(|it| it.key()).collect();
            let found = written::find(connection, &keys);
            let found = batch::traced(self.span, "SELECT", "deliveries", found).await?;
            let plan = self.in_doubt.take();
            if let Some(plan) = plan {
                if found.len() == keys.len() {
                    telemetry::count_commit_looked_up();
                    return Ok(batch::written(self.submissions, plan));
                }
                self.not_found = Some(plan);
            }
        }
        let (key, in_doubt) = (&self.context.erasure_key, &mut self.in_doubt);
        let batch = (self.submissions, self.on_locked, self.span);
        batch::write(connection, key, batch, in_doubt).await
    }

    /// Stores a single delivery that the database does not let be applied. The sender may never send it again. `Err(None)` if the
    /// database refuses that too.
    async fn keep_unapplied(&mut self) -> Result<Vec<Receipt>, Option<Refusal>> {
        let [only] = self.submissions else { return Err(None) };
        let key = &self.context.erasure_key;
        let kept = async {
            let connection = self.connection.reach().await?;
            batch::keep_unapplied(connection, key, only).await
        };
        match kept.await {
            Ok(receipt) => {
                let receipts = vec![receipt];
                self.context.applying.note(&receipts);
                Ok(receipts)
            }
            Err(WriteError::Contended(iccids)) if !iccids.is_empty() => {
                Err(Some(Refusal::ProfilesLocked(iccids)))
            }
            Err(WriteError::Failed(StoreError::Database(error)))
                if fault_of(&error) == Fault::Data =>
            {
                Err(None)
            }
            Err(WriteError::Failed(StoreError::Database(error)))
                if fault_of(&error) == Fault::Suspect =>
            {
                Err(Some(Refusal::Suspect))
            }
            Err(_) => {
                self.connection.discard();
                Err(Some(Refusal::Unavailable))
            }
        }
    }

    fn note_success(&mut self, took: Duration) {
        self.context.outage.end();
        telemetry::record_commit(took);
        if self.on_locked == OnLocked::Skip {
            self.context.pace.committed(self.submissions.len(), took);
        }
    }

    /// Decides by the error, and by how long it took, whether to retry the batch: `Ok` if so. Nothing was written.
    async fn decide_retry(&mut self, error: &sqlx::Error, took: Duration) -> Result<(), Refusal> {
        let deliveries = self.submissions.len();
        if is_time_out(error) && self.on_locked == OnLocked::Skip {
            self.context.pace.gave_up(deliveries);
        }
        match fault_of(error) {
            Fault::Transient if self.tries <= RETRIES => Ok(()),
            Fault::NoPartition if self.tries <= RETRIES => self.make_partitions().await,
            Fault::Data => {
                let error = error as &dyn std::error::Error;
                tracing::error!(error, deliveries, "the database refuses a batch for its content");
                Err(Refusal::Data(error.to_string()))
            }
            Fault::Unavailable if is_row_locked(error) => Err(Refusal::RowLockTimeout),
            // A whole table is locked. Splitting the batch would not help, so retry until the table is free.
            Fault::Unavailable if is_lock_time_out(error) => Ok(()),
            Fault::Unavailable if self.on_locked == OnLocked::Wait && is_time_out(error) => {
                Err(Refusal::LaneTimeout)
            }
            // Another attempt of that length does not fit before the deadline. If abandoned, it would keep running on
            // the server and delay the next batches too.
            Fault::Unavailable if is_time_out(error) && Instant::now() + took > self.deadline => {
                self.note_outage(error);
                Err(Refusal::Unavailable)
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
                Err(Refusal::Suspect)
            }
            // The connection may have died unnoticed, and so may the next one while it was being made: retry. An error
            // that the server itself reports is retried once.
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
                Err(Refusal::Unavailable)
            }
        }
    }

    async fn pause_without_connection(&mut self) {
        self.connection.discard();
        sleep(LONGEST_PAUSE.min(PAUSE * self.tries)).await;
    }

    fn note_outage(&mut self, error: &sqlx::Error) {
        self.is_noted = true;
        let deliveries = self.submissions.len();
        self.context.outage.note(deliveries, "the database is not available", Some(error));
    }

    async fn make_partitions(&mut self) -> Result<(), Refusal> {
        let received_at: Vec<_> =
            self.submissions.iter().map(|it| it.delivery.received_at()).collect();
        let made = async {
            let connection = self.connection.reach().await?;
            partitions::make_for(connection, &received_at).await
        };
        if let Err(error) = made.await {
            self.connection.discard();
            let error = &error as &dyn std::error::Error;
            self.context.outage.note(
                self.submissions.len(),
                "the partition that deliveries belong to does not exist and cannot be created",
                Some(error),
            );
            return Err(Refusal::Unavailable);
        }
        Ok(())
    }
}
