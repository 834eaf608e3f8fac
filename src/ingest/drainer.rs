//! The drainer: writes what waits in the spool to the database, in the order of arrival, each delivery once.
//!
//! A delivery may be in the database already: its commit was sent and not confirmed, or the service was killed before it could
//! be removed from the spool. So ids that are there are looked up first and skipped. A commit that is still under way when we look
//! is caught by the primary key of `deliveries`: the batch fails as a whole, and the next look finds it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::batch::Locks;
use super::link::Link;
use super::recent::Recent;
use super::spooling::Spooling;
use super::writer::{MOST_AT_ONCE, Refusal, write_patiently};
use super::{Database, Submission};
use crate::providers;
use crate::spool::{Entry, Kept, SpoolError};
use crate::store::{StoreError, deliveries};
use crate::telemetry;

/// Pauses between attempts to reach a database that is away: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// How long the database may take over a batch. Nobody waits for an answer here.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a look at the database may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// How long new deliveries may be held back while the last ones are drained; they have to be answered in time.
const LAST_PATIENCE: Duration = Duration::from_millis(600);

/// How long to wait for those that are just writing to end.
const TURNS_PATIENCE: Duration = Duration::from_millis(200);

/// Runs until every sender of `writers` is gone.
pub(super) async fn run(
    database: Database,
    spooling: Arc<Spooling>,
    mut writers: mpsc::Receiver<()>,
) {
    let mut drainer =
        Drainer { database, spooling, link: Link::new(Recent::none()), most: MOST_AT_ONCE };
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

/// Why nothing more can be drained for now.
#[derive(Debug)]
struct Stuck;

struct Drainer {
    database: Database,
    spooling: Arc<Spooling>,
    link: Link,
    /// How many are written at once: fewer while the database is slow.
    most: usize,
}

impl Drainer {
    async fn run(&mut self) {
        loop {
            self.spooling.begun().await;
            let mut pause = PAUSES[0];
            loop {
                match self.drain_some().await {
                    Ok(()) if self.is_nearly_done() && self.finish().await => break,
                    Ok(()) => pause = PAUSES[0],
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
        self.spooling.spool.figures().deliveries < self.most as u64
    }

    /// Holds new deliveries back, drains the rest, and lets the held ones go to the database. Says whether that was done.
    async fn finish(&mut self) -> bool {
        let spooling = self.spooling.clone();
        let Ok(nobody) = timeout(TURNS_PATIENCE, spooling.hold_all()).await else { return false };
        let rest = async {
            while spooling.spool.figures().deliveries > 0 {
                self.drain_some().await?;
            }
            Ok::<_, Stuck>(())
        };
        let done = matches!(timeout(LAST_PATIENCE, rest).await, Ok(Ok(())));
        if done {
            spooling.end(&nobody);
        } else {
            // It may have been left in the middle of a transaction.
            self.link.discard();
        }
        done
    }

    /// Drains one batch; of an empty spool, only sees that the database is there.
    async fn drain_some(&mut self) -> Result<(), Stuck> {
        self.reach_database().await?;
        let entries = self.spooling.spool.first(self.most).await.map_err(|error| stuck(&error))?;
        if entries.is_empty() {
            return self.ping().await;
        }
        let (mut batch, mut seqs, mut last) = (Vec::new(), HashMap::new(), None);
        for entry in entries {
            match read(entry) {
                Ok((seq, submission)) => {
                    last = Some(seq);
                    seqs.insert(submission.delivery.id(), seq);
                    batch.push(submission);
                }
                Err((seq, reason)) => self.refuse(seq, &reason).await?,
            }
        }
        if let Err(Stuck) = self.write(batch, &seqs).await {
            self.most = (self.most / 2).max(1);
            return Err(Stuck);
        }
        self.most = (self.most * 2).min(MOST_AT_ONCE);
        let Some(last) = last else { return Ok(()) };
        self.spooling.spool.remove_to(last).await.map_err(|error| stuck(&error))
    }

    /// While it is away, it is asked quietly.
    async fn reach_database(&mut self) -> Result<&mut PgConnection, Stuck> {
        if !self.database.erasure_key.is_known() {
            return Err(Stuck);
        }
        let reached = timeout(LOOK_PATIENCE, self.link.reach(&self.database.connector)).await;
        let Ok(Ok((connection, _))) = reached else { return Err(Stuck) };
        Ok(connection)
    }

    async fn ping(&mut self) -> Result<(), Stuck> {
        let connection = self.reach_database().await?;
        if let Ok(Ok(())) = timeout(LOOK_PATIENCE, connection.ping()).await {
            return Ok(());
        }
        self.link.discard();
        Err(Stuck)
    }

    /// Writes those that are not written yet. What the database refuses for its content is tried in halves, down to the one.
    async fn write(
        &mut self,
        batch: Vec<Submission>,
        seqs: &HashMap<Uuid, i64>,
    ) -> Result<(), Stuck> {
        let mut work = vec![batch];
        while let Some(batch) = work.pop() {
            let (batch, reason) = match self.write_once(batch).await? {
                Ok(()) => continue,
                Err(refused) => refused,
            };
            if let [only] = &batch[..] {
                // The commit of an earlier attempt may have come between the look and the write: then the next look finds it.
                let id = only.delivery.id();
                let Err(_) = self.write_once(batch).await? else { continue };
                if let Some(seq) = seqs.get(&id) {
                    self.refuse(*seq, &reason).await?;
                }
            } else {
                let mut first = batch;
                let second = first.split_off(first.len() / 2);
                work.push(second);
                work.push(first);
            }
        }
        Ok(())
    }

    /// Writes those that are not written yet, as one batch; gives them back, with the reason, where it is refused for its content.
    async fn write_once(
        &mut self,
        mut batch: Vec<Submission>,
    ) -> Result<Result<(), (Vec<Submission>, String)>, Stuck> {
        loop {
            let written = self.find_written(&batch).await?;
            batch.retain(|submission| !written.contains(&submission.delivery.id()));
            telemetry::count_already_written(written.len());
            if batch.is_empty() {
                return Ok(Ok(()));
            }
            let (database, link) = (&self.database, &mut self.link);
            match write_patiently(database, link, &batch, Locks::Wait, PATIENCE).await {
                Ok(_) => {
                    telemetry::count_drained(batch.len());
                    return Ok(Ok(()));
                }
                Err(Refusal::Contended(_)) => sleep(Duration::from_millis(10)).await,
                Err(Refusal::Data(reason)) => return Ok(Err((batch, reason))),
                Err(Refusal::Locked | Refusal::Unavailable) => return Err(Stuck),
            }
        }
    }

    async fn find_written(&mut self, batch: &[Submission]) -> Result<HashSet<Uuid>, Stuck> {
        if batch.is_empty() {
            return Ok(HashSet::new());
        }
        let keys: Vec<_> =
            batch.iter().map(|it| (it.delivery.id(), it.delivery.received_at())).collect();
        let connection = self.reach_database().await?;
        match timeout(LOOK_PATIENCE, deliveries::find_written(connection, &keys)).await {
            Ok(Ok(written)) => Ok(written),
            failed => {
                if let Ok(Err(StoreError::Database(error))) = failed {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "the database is still away");
                }
                self.link.discard();
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

/// Reads a delivery anew, which gives what it gave on arrival; or says why that cannot be done.
fn read(entry: Entry) -> Result<(i64, Submission), (i64, String)> {
    let Kept { seq, delivery, provider } = match entry {
        Entry::Kept(kept) => *kept,
        Entry::Damaged { seq } => return Err((seq, "its checksum does not hold".to_owned())),
    };
    let Some(provider) = providers::find(&provider) else {
        return Err((seq, format!("this version knows no provider {provider}")));
    };
    let parsed = provider.parse(&delivery);
    Ok((seq, Submission { delivery, provider: provider.slug(), parsed }))
}
