//! The drainer moves deliveries from the spool to the database, in the order of arrival, each of them once.
//!
//! A delivery may be in the database already: its commit was not confirmed, or the service was killed before the
//! delivery was removed from the spool. So the drainer first looks up the delivery ids and skips those that it finds.
//! The commit of an earlier attempt may still be under way during that lookup. The primary key of `deliveries` catches
//! this: the batch fails as a whole, and the next lookup finds the delivery.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::attempt::{Limits, Refusal, write_or_keep};
use super::batch::Locks;
use super::connection::WriterConnection;
use super::held::Held;
use super::pace::MAX_BATCH;
use super::settle::MAX_SUSPECTS;
use super::spooling::Spooling;
use super::{Arrival, Submission, WriterContext};
use crate::budget;
use crate::hook::Hooks;
use crate::providers::Providers;
use crate::spool::{Entry, Kept, SpoolError};
use crate::store::deliveries::UNAPPLIED;
use crate::store::{StoreError, deliveries};
use crate::telemetry::{self, Span};

/// The first and the longest pause between attempts to reach a database that is down.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The pause before the deliveries of held profiles are tried again.
const HELD_PAUSE: Duration = Duration::from_millis(200);

/// For how long after a delivery was applied the database counts as well.
const WELL_FOR: Duration = Duration::from_secs(10);

/// How long the database may take over a batch. No sender waits for an answer here.
const LIMITS: Limits = Limits::once(budget::DRAINED_BATCH);

/// How long a lookup or a ping may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// Runs until every sender of `writers` is gone.
pub(super) async fn run(
    context: WriterContext,
    spooling: Arc<Spooling>,
    hooks: Hooks,
    providers: Providers,
    connection: WriterConnection,
    mut writers: mpsc::Receiver<()>,
) {
    let mut drainer = Drainer {
        context,
        spooling,
        hooks,
        providers,
        connection,
        max_batch: MAX_BATCH,
        held: Held::default(),
        after: 0,
        applied_at: None,
        suspects: 0,
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
#[derive(Debug)]
struct Stuck;

/// What one step has done.
#[derive(Debug, PartialEq, Eq)]
enum PassStep {
    /// Drained a batch, or found the spool empty.
    Drained,
    /// Reached the end of the spool: only what is held is left, or what the database fails at.
    OnlyHeld { is_failing: bool },
}

/// Passes through the spool from its head to its end. If another transaction holds a profile, the deliveries of that
/// profile stay in the spool, in their order, until the next pass; the others do not wait for them. The same goes for a
/// delivery without a profile whose event id is held.
struct Drainer {
    context: WriterContext,
    spooling: Arc<Spooling>,
    hooks: Hooks,
    providers: Providers,
    connection: WriterConnection,
    /// How many are written in one batch: fewer while the database is slow.
    max_batch: usize,
    held: Held,
    /// The place in the spool after which this pass continues; 0 is the head.
    after: i64,
    /// When a delivery was last applied.
    applied_at: Option<Instant>,
    /// How many have failed alone since then, or were kept unapplied.
    suspects: usize,
}

impl Drainer {
    async fn run(&mut self) {
        loop {
            self.spooling.wait_until_on().await;
            let mut pause = PAUSES[0];
            loop {
                match self.drain_some().await {
                    Ok(PassStep::Drained) if self.is_nearly_done() && self.finish().await => break,
                    Ok(PassStep::Drained) => pause = PAUSES[0],
                    Ok(PassStep::OnlyHeld { is_failing: false }) => sleep(HELD_PAUSE).await,
                    Ok(PassStep::OnlyHeld { is_failing: true }) => sleep(PAUSES[1]).await,
                    Err(Stuck) => {
                        sleep(pause).await;
                        pause = PAUSES[1].min(pause * 2);
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
        self.held.is_empty() && self.spooling.spool.figures().deliveries < self.max_batch as u64
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
                if !self.held.is_empty() {
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

    /// Drains one batch. If the spool is empty, only checks that the database answers.
    async fn drain_some(&mut self) -> Result<PassStep, Stuck> {
        self.reach_database().await?;
        let spool = &self.spooling.spool;
        let entries =
            spool.first(self.after, self.max_batch).await.map_err(|error| stuck(&error))?;
        if entries.is_empty() {
            self.ping().await?;
            let is_end_of_pass = self.after > 0;
            self.after = 0;
            let Held { is_failing, .. } = std::mem::take(&mut self.held);
            return Ok(if is_end_of_pass {
                PassStep::OnlyHeld { is_failing }
            } else {
                PassStep::Drained
            });
        }
        let (mut seqs, mut batch, mut last) = (HashMap::new(), Vec::new(), self.after);
        for entry in entries {
            match read(entry, &self.hooks, &self.providers) {
                Ok((seq, submission)) => {
                    last = seq;
                    seqs.insert(submission.delivery.id(), seq);
                    batch.push(submission);
                }
                Err((seq, reason)) => {
                    last = seq;
                    self.refuse(seq, &reason).await?;
                }
            }
        }
        if self.write(batch, &mut seqs).await.is_err() {
            // A smaller batch may be written in time.
            self.max_batch = (self.max_batch / 2).max(1);
            return Err(Stuck);
        }
        self.max_batch = (self.max_batch * 2).min(MAX_BATCH);
        let done: Vec<_> = seqs.into_values().collect();
        self.spooling.spool.remove(&done).await.map_err(|error| stuck(&error))?;
        self.after = if self.held.is_empty() { 0 } else { last };
        Ok(PassStep::Drained)
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

    /// Writes the deliveries that are not in the database yet. If the database refuses a batch, writes it in halves,
    /// down to single deliveries. Removes from `seqs` what must stay in the spool.
    async fn write(
        &mut self,
        batch: Vec<Submission>,
        seqs: &mut HashMap<Uuid, i64>,
    ) -> Result<(), Stuck> {
        let mut work = vec![batch];
        while let Some(batch) = work.pop() {
            let Err((mut batch, mut refusal)) = self.write_once(batch, seqs).await? else {
                continue;
            };
            if batch.len() > 1 {
                let second = batch.split_off(batch.len() / 2);
                work.push(second);
                work.push(batch);
                continue;
            }
            if let Refusal::Data(_) = refusal {
                // An earlier attempt may have committed between our lookup and our write. If so, the second lookup
                // finds it.
                let Err(again) = self.write_once(batch, seqs).await? else { continue };
                (batch, refusal) = again;
            }
            let Some(only) = batch.pop() else { continue };
            match (refusal, seqs.remove(&only.delivery.id())) {
                (Refusal::Data(reason), Some(seq)) => self.refuse(seq, &reason).await?,
                (Refusal::Suspect, _) => {
                    self.held.add(&only);
                    self.held.is_failing = true;
                    self.suspects += 1;
                    // A pause: perhaps the whole database fails.
                    if self.suspects.is_multiple_of(MAX_SUSPECTS) {
                        return Err(Stuck);
                    }
                }
                _ => self.held.add(&only),
            }
        }
        Ok(())
    }

    /// Writes, as one batch, the deliveries that are not in the database yet and whose profiles are free. Returns the
    /// batch if the database refuses its content or fails at it, or if something in it is held and the error does not say what.
    async fn write_once(
        &mut self,
        mut batch: Vec<Submission>,
        seqs: &mut HashMap<Uuid, i64>,
    ) -> Result<Result<(), (Vec<Submission>, Refusal)>, Stuck> {
        loop {
            batch.retain(|submission| {
                let is_held = self.held.has(submission);
                if is_held {
                    seqs.remove(&submission.delivery.id());
                }
                !is_held
            });
            let written = self.find_written(&batch).await?;
            batch.retain(|submission| !written.contains(&submission.delivery.id()));
            telemetry::count_already_written(written.len());
            if batch.is_empty() {
                return Ok(Ok(()));
            }
            let (context, connection) = (&self.context, &mut self.connection);
            let refs: Vec<_> = batch.iter().collect();
            let span = Span::drained_batch(refs.len());
            let work = (&refs[..], Locks::OnlyFree, &span);
            // If others are applied, the cause is this delivery or its profile. Otherwise it waits until the database is repaired.
            let is_well = self.applied_at.is_some_and(|at| at.elapsed() < WELL_FOR)
                && self.suspects < MAX_SUSPECTS;
            match write_or_keep(context, connection, work, LIMITS, is_well).await {
                Ok(receipts) => {
                    if receipts.iter().any(|it| it.reason.as_deref() != Some(UNAPPLIED)) {
                        (self.applied_at, self.suspects) = (Some(Instant::now()), 0);
                    } else {
                        self.suspects += 1;
                    }
                    telemetry::count_drained(batch.len());
                    return Ok(Ok(()));
                }
                Err(Refusal::ProfilesLocked(iccids)) => self.held.profiles.extend(iccids),
                Err(refusal @ (Refusal::Data(_) | Refusal::RowLockTimeout | Refusal::Suspect)) => {
                    return Ok(Err((batch, refusal)));
                }
                Err(Refusal::LaneTimeout | Refusal::Unavailable) => return Err(Stuck),
            }
        }
    }

    async fn find_written(&mut self, batch: &[Submission]) -> Result<HashSet<Uuid>, Stuck> {
        if batch.is_empty() {
            return Ok(HashSet::new());
        }
        let keys: Vec<_> = batch.iter().map(Submission::key).collect();
        let connection = self.reach_database().await?;
        match timeout(LOOK_LIMIT, deliveries::find_written(connection, &keys)).await {
            Ok(Ok(written)) => Ok(written),
            failed => {
                if let Ok(Err(StoreError::Database(error))) = failed {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "the database is still away");
                }
                self.connection.discard();
                Err(Stuck)
            }
        }
    }

    async fn refuse(&self, seq: i64, reason: &str) -> Result<(), Stuck> {
        tracing::error!(
            seq,
            reason,
            "a delivery in the spool cannot be written: it is kept in the spool's table `refused`"
        );
        telemetry::count_spool_refused();
        self.spooling.spool.refuse(seq, reason).await.map_err(|error| stuck(&error))
    }
}

fn stuck(error: &SpoolError) -> Stuck {
    tracing::error!(error = error as &dyn std::error::Error, "the spool cannot be drained");
    Stuck
}

/// Reads a spooled delivery again as its hook did on arrival, so the result is the same. Returns the reason if that is
/// impossible.
fn read(
    entry: Entry,
    hooks: &Hooks,
    providers: &Providers,
) -> Result<(i64, Submission), (i64, String)> {
    let Kept { seq, delivery, provider } = match entry {
        Entry::Kept(kept) => *kept,
        Entry::Damaged { seq } => return Err((seq, "its checksum does not hold".to_owned())),
    };
    let Some(provider) = providers.find(&provider) else {
        return Err((seq, format!("this version knows no provider {provider}")));
    };
    let parsed = match hooks.get(delivery.hook()) {
        Some(hook) if hook.provider.slug() == provider.slug() => hook.read(&delivery),
        // The hook was removed, or given to another provider, while the delivery waited.
        _ => provider.parse(&delivery),
    };
    let arrival = Arrival::Delayed;
    Ok((seq, Submission { delivery, provider: provider.slug(), parsed, arrival }))
}
