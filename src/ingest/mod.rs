//! The hot path below HTTP: takes authentic deliveries, and returns receipts once they are committed, or, while the database is
//! away, once they are in the spool (`spooling`, `drainer`).
//!
//! **Group commit.** A writer takes everything that arrived during its previous commit and writes it as one batch, all
//! or nothing: nearly always in one statement, otherwise in a transaction. It never waits for a batch to fill: a
//! delivery that comes alone is written immediately. Writers are sharded by ICCID, so the reports of one profile are
//! applied in the order in which they were submitted.

mod submission;

mod answer;

mod writer;

mod settle;

mod attempt;

mod batch;

mod plan;

mod event_ids;

mod committed;

mod lanes;

mod pace;

mod recent_success;

mod connection;

mod outage;

mod spooling;

mod drainer;

mod skipped;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::JoinMap;

pub use answer::{Accepted, Receipt, Spooled, SubmitError};
use connection::IngestConnection;
use lanes::LaneConnections;
use outage::Outage;
use pace::Pace;
use recent_success::RecentSuccess;
use spooling::Spooling;
pub use submission::{Arrival, Submission};

use crate::budget;
use crate::hook::Hooks;
use crate::providers::Providers;
use crate::spool::Spool;
use crate::store::{Connector, ErasureKey, Session};
use crate::telemetry::DeliveryTrace;

/// The max number of deliveries that wait for each writer; fewer while the database is slow. Further ones are refused
/// before any work is done.
const MAX_QUEUED: usize = 4_096;

/// The max number of lanes that wait for a lock at the same time, each over a separate connection.
pub const LANE_CONNECTIONS: usize = 4;

/// The tasks behind [`Ingest`], each with its name and a number.
pub type Tasks = JoinMap<(&'static str, usize), ()>;

/// The handle to the writers. They end when every handle is dropped and their queues are empty.
#[derive(Debug, Clone)]
pub struct Ingest {
    queues: Vec<(mpsc::Sender<Queued>, Arc<Pace>)>,
    spooling: Option<Arc<Spooling>>,
}

impl Ingest {
    /// Starts `writers` writers (at least one), and the drainer if there is a spool. The drainer reads what has waited in
    /// the spool as these hooks and providers do.
    ///
    /// When the returned tasks have ended, everything that was submitted has been answered. If one of them ends before every handle
    /// is dropped, nothing does its work any more.
    pub fn start(
        connector: &Connector,
        erasure_key: &ErasureKey,
        writers: usize,
        spool: Option<Spool>,
        hooks: &Hooks,
        providers: &Providers,
    ) -> (Self, Tasks) {
        // The key is read when the database is first reached.
        let was_database_reached = erasure_key.is_known();
        let spooling = spool.map(|spool| Arc::new(Spooling::new(spool, was_database_reached)));
        let context = IngestContext {
            erasure_key: erasure_key.clone(),
            spooling: spooling.clone(),
            success: Arc::default(),
            outage: Arc::default(),
        };
        let connection = || IngestConnection::new(connector.clone(), Session::Writer);
        let lane_connections = Arc::new(LaneConnections::new(connector));
        let mut tasks = JoinMap::new();
        // The drainer ends after the last writer.
        let (alive, writers_alive) = mpsc::channel(1);
        let queues = (0..writers.max(1))
            .map(|number| {
                let (sender, queue) = mpsc::channel(MAX_QUEUED);
                let pace = Arc::new(Pace::new(MAX_QUEUED));
                let (context, connection, alive) = (context.clone(), connection(), alive.clone());
                let (lane_connections, its_pace) = (lane_connections.clone(), pace.clone());
                tasks.spawn(("writer", number), async move {
                    writer::run(context, connection, lane_connections, queue, its_pace).await;
                    drop(alive);
                });
                (sender, pace)
            })
            .collect();
        if let Some(spooling) = spooling.clone() {
            let drainer = drainer::run(
                context,
                spooling,
                hooks.clone(),
                providers.clone(),
                connection(),
                writers_alive,
            );
            tasks.spawn(("drainer", 0), drainer);
        }
        (Self { queues, spooling }, tasks)
    }

    /// Hands a delivery to its writer and waits until it is durable.
    ///
    /// The delivery is queued before the first await. If the client hangs up and the caller is dropped, the delivery is
    /// written all the same.
    ///
    /// # Errors
    /// [`SubmitError`]; except for `Rejected`, the sender should retry later.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, SubmitError> {
        let (queue, pace) = &self.queues[self.shard(&submission)];
        if length(queue) >= pace.room() {
            return Err(SubmitError::Overloaded);
        }
        let deadline = Instant::now() + budget::DELIVERY;
        let (answer, answered) = oneshot::channel();
        let queued = Queued { submission, deadline, answer, trace: DeliveryTrace::begin() };
        queue.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => SubmitError::ShuttingDown,
        })?;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(SubmitError::Unavailable),
        }
    }

    /// Whether deliveries go to a spool that accepts none, and so nowhere.
    pub fn is_blocked(&self) -> bool {
        self.spooling.as_ref().is_some_and(|it| it.is_on() && !it.spool.accepts())
    }

    /// The number of deliveries that wait for a writer.
    pub fn depth(&self) -> usize {
        self.queues.iter().map(|(queue, _)| length(queue)).sum()
    }

    /// The max number of deliveries that may wait for all writers, at the database's present speed. Further ones are refused.
    pub fn room(&self) -> usize {
        self.queues.iter().map(|(_, pace)| pace.room()).sum()
    }

    fn shard(&self, submission: &Submission) -> usize {
        let mut hasher = DefaultHasher::new();
        submission.iccid().hash(&mut hasher);
        usize::try_from(hasher.finish() % self.queues.len() as u64).unwrap_or_default()
    }
}

fn length(queue: &mpsc::Sender<Queued>) -> usize {
    queue.max_capacity() - queue.capacity()
}

/// A submission that waits in the queue of its writer, or is being written.
#[derive(Debug)]
struct Queued {
    submission: Submission,
    deadline: Instant,
    answer: oneshot::Sender<Result<Accepted, SubmitError>>,
    /// `None` if the request is not recorded.
    trace: Option<Box<DeliveryTrace>>,
}

impl Queued {
    /// Answers the sender, who may be gone: what was written stays written.
    fn reply(self, result: Result<Accepted, SubmitError>) {
        if let Some(trace) = self.trace {
            trace.ends(result.as_ref().map(Accepted::word).map_err(|error| error.word()));
        }
        drop(self.answer.send(result));
    }
}

/// What writers, lanes and the drainer share.
#[derive(Debug, Clone)]
struct IngestContext {
    erasure_key: ErasureKey,
    spooling: Option<Arc<Spooling>>,
    success: Arc<RecentSuccess>,
    outage: Arc<Outage>,
}
