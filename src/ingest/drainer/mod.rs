//! The drainer moves deliveries from the spool to the database, in the order of arrival, each of them once.
//!
//! A delivery may be in the database already: its commit was not confirmed, or the service was killed before the
//! delivery was removed from the spool. So the drainer first looks up the delivery ids and skips those that it finds.
//! The commit of an earlier attempt may still be under way during that lookup. The primary key of `deliveries` catches
//! this: the batch fails as a whole, and the next lookup finds the delivery.

mod write;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::attempt::Limits;
use super::connection::IngestConnection;
use super::pace::MAX_BATCH;
use super::skipped::Skipped;
use super::spooling::Spooling;
use super::{IngestContext, Submission};
use crate::budget;
use crate::hook::Hooks;
use crate::providers::Providers;
use crate::spool::SpoolError;

/// The first and the longest pause between attempts to reach a database that is down.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the database may take over a batch. No sender waits for an answer here.
const LIMITS: Limits = Limits::undivided(budget::DRAINED_BATCH);

/// How often in a row a damaged spool is read in vain before the service ends.
const MAX_UNREADABLE: u32 = 3;

/// How long a lookup or a ping may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// Runs until the last writer has ended, which drops its sender of `writers`.
pub(super) async fn run(
    context: IngestContext,
    spooling: Arc<Spooling>,
    hooks: Hooks,
    providers: Providers,
    connection: IngestConnection,
    mut writers: mpsc::Receiver<()>,
) {
    let mut drainer = Drainer {
        context,
        spooling,
        hooks,
        providers,
        connection,
        max_batch: MAX_BATCH,
        skipped: Skipped::default(),
        after: 0,
        counted: HashSet::new(),
        unreadable: 0,
    };
    tokio::select! {
        () = drainer.run() => {}
        _ = writers.recv() => {}
    }
    let left = drainer.spooling.spool.figures().deliveries;
    if left > 0 {
        tracing::warn!(
            deliveries = left,
            "deliveries are left in the spool: the next start drains them"
        );
    }
}

/// Nothing more can be drained for now.
#[derive(Debug, PartialEq, Eq)]
struct Stuck;

/// What one step has done.
#[derive(Debug, PartialEq, Eq)]
enum PassStep {
    /// Wrote a batch, or found the spool empty.
    Advanced,
    /// The pass is over, by its end or because what it skipped is due again. That is tried after this pause.
    PassEnded { pause: Duration },
}

/// Passes through the spool from its head to its end. If another transaction holds a profile, the deliveries of that
/// profile stay in the spool, in their order, until the next pass; the others do not wait for them. The same goes for a
/// delivery without a profile whose event id another transaction is reserving.
struct Drainer {
    context: IngestContext,
    spooling: Arc<Spooling>,
    hooks: Hooks,
    providers: Providers,
    connection: IngestConnection,
    /// How many are written in one batch: fewer while the database is slow.
    max_batch: usize,
    skipped: Skipped,
    /// The place in the spool after which this pass continues: 0, which is the head, as long as nothing is skipped, because what was
    /// written is removed.
    after: i64,
    /// The deliveries that are written and counted, and not removed yet.
    counted: HashSet<Uuid>,
    /// How often in a row the spool could not be read because its file is damaged.
    unreadable: u32,
}

impl Drainer {
    async fn run(&mut self) {
        loop {
            self.spooling.wait_until_on().await;
            let mut pause_if_stuck = FIRST_PAUSE;
            loop {
                let step = self.drain_some().await;
                if self.unreadable >= MAX_UNREADABLE || self.spooling.spool.is_damaged() {
                    tracing::error!(
                        "the spool's file is damaged: the service ends, because a start copies what can be read to a new file"
                    );
                    // `Service::task_died` notices that this task has ended, and ends the process.
                    return;
                }
                if step != Ok(PassStep::Advanced)
                    && let Err(error) = self.spooling.spool.probe().await
                {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "the spool cannot be written to yet");
                }
                match step {
                    Ok(PassStep::Advanced) => {
                        pause_if_stuck = FIRST_PAUSE;
                        if self.is_nearly_done() && self.finish().await {
                            break;
                        }
                    }
                    Ok(PassStep::PassEnded { pause }) => sleep(pause).await,
                    Err(Stuck) => {
                        sleep(pause_if_stuck).await;
                        pause_if_stuck = LONGEST_PAUSE.min(pause_if_stuck * 2);
                    }
                }
            }
            tracing::info!("the spool is drained: deliveries go to the database again");
            if let Err(error) = self.spooling.spool.tidy().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the empty spool could not be made small");
            }
        }
    }

    fn is_nearly_done(&self) -> bool {
        self.skipped.is_empty() && self.spooling.spool.figures().deliveries < self.max_batch as u64
    }

    /// Holds new deliveries back, drains the rest, and then lets new deliveries go to the database. Returns whether it
    /// succeeded.
    async fn finish(&mut self) -> bool {
        let spooling = self.spooling.clone();
        let Ok(paused) = timeout(budget::WRITERS_PAUSE, spooling.pause_writers()).await else {
            return false;
        };
        let rest = async {
            while spooling.spool.figures().deliveries > 0 {
                self.drain_some().await?;
                if !self.skipped.is_empty() {
                    return Err(Stuck);
                }
            }
            Ok::<_, Stuck>(())
        };
        let done = matches!(timeout(budget::LAST_OF_SPOOL, rest).await, Ok(Ok(())));
        if done {
            spooling.switch_off(&paused);
        } else {
            // It may have been left in the middle of a transaction.
            self.connection.discard();
        }
        done
    }

    /// Drains one batch. If nothing is left behind the place, only checks that the database answers.
    async fn drain_some(&mut self) -> Result<PassStep, Stuck> {
        self.reach_database().await?;
        let entries = match self.spooling.spool.next_after(self.after, self.max_batch).await {
            Ok(entries) => entries,
            Err(error) => {
                self.unreadable = if error.is_damage() { self.unreadable + 1 } else { 0 };
                return Err(log_stuck(&error));
            }
        };
        self.unreadable = 0;
        if entries.is_empty() {
            self.ping().await?;
            let (is_end_of_pass, pause) = (self.after > 0, self.skipped.pause());
            self.begin_again();
            return Ok(if is_end_of_pass {
                PassStep::PassEnded { pause }
            } else {
                PassStep::Advanced
            });
        }
        let (mut removable, mut batch, mut last) = (HashMap::new(), Vec::new(), self.after);
        for entry in entries {
            match Submission::from_spool(entry, &self.hooks, &self.providers) {
                Ok((place, submission)) => {
                    last = place;
                    removable.insert(submission.delivery.id(), place);
                    batch.push(submission);
                }
                Err((place, reason)) => {
                    last = place;
                    self.refuse(place, &reason).await?;
                }
            }
        }
        let count = removable.len();
        if self.write(batch, &mut removable).await.is_err() {
            // A smaller batch may be written in time.
            self.max_batch = (self.max_batch / 2).max(1);
            return Err(Stuck);
        }
        self.max_batch = (self.max_batch * 2).min(MAX_BATCH);
        let done: Vec<_> = removable.values().copied().collect();
        self.spooling.spool.remove(&done).await.map_err(|error| log_stuck(&error))?;
        self.counted.retain(|id| !removable.contains_key(id));
        self.skipped.note(count - done.len(), done.len());
        self.after = last;
        let is_due = self.skipped.is_due();
        if is_due || self.skipped.is_empty() {
            self.begin_again();
        }
        // `skipped` is empty now, but its deliveries are still in the spool. After `Advanced`, `run` may try to switch back to
        // the database; it must not here.
        Ok(if is_due { PassStep::PassEnded { pause: Duration::ZERO } } else { PassStep::Advanced })
    }

    /// Begins a pass at the head of the spool.
    fn begin_again(&mut self) {
        (self.after, self.skipped) = (0, Skipped::default());
    }

    /// Connects without logging failures, because the outage was logged when it began.
    async fn reach_database(&mut self) -> Result<&mut PgConnection, Stuck> {
        if !self.context.erasure_key.is_known() {
            return Err(Stuck);
        }
        let reached = timeout(LOOK_LIMIT, self.connection.reach()).await;
        let Ok(Ok(connection)) = reached else { return Err(Stuck) };
        Ok(connection)
    }

    async fn ping(&mut self) -> Result<(), Stuck> {
        let connection = self.reach_database().await?;
        if let Ok(Ok(())) = timeout(LOOK_LIMIT, connection.ping()).await {
            return Ok(());
        }
        self.connection.discard();
        Err(Stuck)
    }
}

fn log_stuck(error: &SpoolError) -> Stuck {
    tracing::error!(error = error as &dyn std::error::Error, "the spool cannot be drained");
    Stuck
}
