//! The hot path below HTTP: takes authentic deliveries, and returns receipts once they are committed.
//!
//! **Group commit.** A writer takes everything that arrived during its previous commit and writes it as one batch, all
//! or nothing: nearly always in one statement, otherwise in a transaction. It never waits for a batch to fill: a
//! delivery that comes alone is written immediately. Writers are sharded by ICCID, so the reports of one profile are
//! applied in the order in which they were submitted.

mod writer;

mod lanes;

mod settle;

mod attempt;

mod batch;

mod plan;

mod event_ids;

mod committed;

mod pace;

mod applying;

mod connection;

mod outage;

mod spooling;

mod drainer;

mod skipped;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::budget;
use crate::delivery::{AuthenticDelivery, EventId};
use crate::domain::{Iccid, Outcome, Report, Timestamp};
use crate::hook::Hooks;
use crate::providers::{Malformed, Providers, Reading};
use crate::spool::Spool;
use crate::store::deliveries::is_unapplied;
use crate::store::{Connector, ErasureKey, Session};
use crate::telemetry::DeliveryTrace;
use applying::Applying;
use connection::WriterConnection;
use lanes::LaneConnections;
use outage::Outage;
use pace::Pace;
use spooling::Spooling;

/// The max number of deliveries that wait for each writer; fewer while the database is slow. Further ones are refused
/// before any work is done.
const QUEUE: usize = 4_096;

/// The max number of lanes that wait for a lock at the same time, each over a separate connection.
pub const LANE_CONNECTIONS: usize = 4;

/// An authentic delivery with what its provider's adapter made of it.
#[derive(Debug)]
pub struct Submission {
    /// The authenticated request.
    pub delivery: AuthenticDelivery,
    /// The slug of the hook's provider.
    pub provider: &'static str,
    /// What the adapter read.
    pub parsed: Result<Reading, Malformed>,
    /// How it reached the writer.
    pub arrival: Arrival,
}

/// How a delivery reaches the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Directly, as soon as we received it.
    Direct,
    /// After waiting in the spool. Meanwhile another replica may have written newer deliveries.
    Delayed,
}

/// How a delivery was made durable.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// It is committed to the database.
    Committed(Receipt),
    /// It is in the spool, and goes to the database as soon as that is back.
    Spooled(Spooled),
}

impl Accepted {
    /// The word for the outcome, if that is known.
    fn word(&self) -> &'static str {
        match self {
            Self::Committed(receipt) => receipt.outcome.as_str(),
            Self::Spooled(_) => "spooled",
        }
    }
}

/// A delivery that waits in the spool.
#[derive(Debug, Clone)]
pub struct Spooled {
    /// The delivery's id.
    pub delivery_id: Uuid,
    /// Why its body is malformed, if it is. That can be known without the database.
    pub malformed: Option<String>,
}

impl Spooled {
    fn of(submission: &Submission) -> Self {
        let malformed = submission.parsed.as_ref().err().map(|it| it.reason.clone());
        Self { delivery_id: submission.delivery.id(), malformed }
    }
}

/// The result of a committed delivery.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The delivery's id.
    pub delivery_id: Uuid,
    /// Its outcome.
    pub outcome: Outcome,
    /// The reason, if there is something to explain.
    pub reason: Option<String>,
}

impl Receipt {
    /// Whether it was kept because it could not be applied.
    fn is_unapplied(&self) -> bool {
        is_unapplied(self.reason.as_deref())
    }
}

/// Why a delivery got no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// More deliveries are waiting than can be written in time. Nothing was done.
    #[error("too many deliveries are waiting to be written")]
    Overloaded,
    /// The service is draining. Nothing was done.
    #[error("the service is shutting down")]
    Draining,
    /// The database is down and the spool is full. Nothing was done, or the outcome of a commit is unknown.
    #[error("the database is away and the spool is full")]
    SpoolFull,
    /// The database is down or slow, or the outcome of the commit is unknown. Nothing was put into a spool.
    #[error("the database did not confirm the delivery in time")]
    Unavailable,
    /// The database refuses the delivery for its content, which is a bug of ours.
    #[error("the delivery could not be written")]
    Rejected,
}

impl SubmitError {
    /// The word for it in a span.
    fn word(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::SpoolFull => "spool_full",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
        }
    }
}

/// A submission that waits for its writer.
#[derive(Debug)]
struct Waiting {
    submission: Submission,
    deadline: Instant,
    answer: oneshot::Sender<Result<Accepted, SubmitError>>,
    /// `None` if the request is not recorded.
    trace: Option<Box<DeliveryTrace>>,
}

impl Waiting {
    /// Answers the sender, who may be gone: what was written stays written.
    fn reply(self, result: Result<Accepted, SubmitError>) {
        if let Some(trace) = self.trace {
            trace.ends(result.as_ref().map(Accepted::word).map_err(|error| error.word()));
        }
        drop(self.answer.send(result));
    }
}

/// What a writer writes with.
#[derive(Debug, Clone)]
struct WriterContext {
    erasure_key: ErasureKey,
    spooling: Option<Arc<Spooling>>,
    pace: Arc<Pace>,
    applying: Arc<Applying>,
    outage: Arc<Outage>,
}

impl Submission {
    /// The key of its delivery in the database.
    fn key(&self) -> (Uuid, Timestamp) {
        (self.delivery.id(), self.delivery.received_at())
    }

    /// The profile that it names, if that could be read.
    fn iccid(&self) -> Option<&Iccid> {
        match &self.parsed {
            Ok(reading) => reading.iccid(),
            Err(malformed) => malformed.iccid.as_ref(),
        }
    }

    /// Whether it was received before its profile was erased, and only reaches the writer now. A direct one is current, but the
    /// clock of the replica that received it may be behind.
    fn is_from_before(&self, erased_at: Option<Timestamp>) -> bool {
        self.arrival == Arrival::Delayed
            && erased_at.is_some_and(|at| self.delivery.received_at() < at)
    }

    /// The customer whom it names, if it names no profile.
    fn uid(&self) -> Option<&str> {
        self.parsed.as_ref().ok().and_then(Reading::uid)
    }

    /// Whether a text of the delivery contains the ICCID of its profile: a sender may make its event ids of it.
    fn is_named_in(&self, text: &str) -> bool {
        self.iccid().is_some_and(|iccid| text.contains(iccid.as_str()))
    }

    /// The report, if it is one.
    fn report(&self) -> Option<&Report> {
        self.parsed.as_ref().ok().and_then(Reading::report)
    }

    /// The sender's event id: the one in the body, else the signed one in the headers.
    fn event_id(&self) -> Option<&str> {
        let in_body = self.parsed.as_ref().ok().and_then(|reading| reading.event_id.as_ref());
        in_body.map(EventId::as_str).or(self.delivery.event_id())
    }
}

/// The handle to the writers; cheap to clone. The writers end when every handle is dropped and their queues are empty.
#[derive(Debug, Clone)]
pub struct Ingest {
    queues: Vec<(mpsc::Sender<Waiting>, Arc<Pace>)>,
    spooling: Option<Arc<Spooling>>,
}

impl Ingest {
    /// Starts `writers` writers (at least one), and the drainer if there is a spool. The drainer reads what has waited in
    /// the spool as these hooks and providers do. When the returned set has finished, everything that was submitted has been answered.
    pub fn start(
        connector: &Connector,
        erasure_key: &ErasureKey,
        writers: usize,
        spool: Option<Spool>,
        hooks: &Hooks,
        providers: &Providers,
    ) -> (Self, JoinSet<()>) {
        let erasure_key = erasure_key.clone();
        let known = erasure_key.is_known();
        let spooling = spool.map(|spool| Arc::new(Spooling::new(spool, known)));
        let pace = Arc::new(Pace::new(QUEUE));
        let (applying, outage) = (Arc::default(), Arc::default());
        let context = WriterContext { erasure_key, spooling, pace, applying, outage };
        let connection = || WriterConnection::new(connector.clone(), Session::Writer);
        let lane_connections = Arc::new(LaneConnections::new(connector));
        let mut tasks = JoinSet::new();
        // The drainer ends after the last writer.
        let (alive, writers_alive) = mpsc::channel(1);
        let queues = (0..writers.max(1))
            .map(|_| {
                let (queue, waiting) = mpsc::channel(QUEUE);
                let pace = Arc::new(Pace::new(QUEUE));
                let context = WriterContext { pace: pace.clone(), ..context.clone() };
                let (connection, alive) = (connection(), alive.clone());
                let lane_connections = lane_connections.clone();
                tasks.spawn(async move {
                    writer::run(context, connection, lane_connections, waiting).await;
                    drop(alive);
                });
                (queue, pace)
            })
            .collect();
        let spooling = context.spooling.clone();
        if let Some(spooling) = spooling.clone() {
            tasks.spawn(drainer::run(
                context,
                spooling,
                hooks.clone(),
                providers.clone(),
                connection(),
                writers_alive,
            ));
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
        if waiting_in(queue) >= pace.room() {
            return Err(SubmitError::Overloaded);
        }
        let deadline = Instant::now() + budget::DELIVERY;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { submission, deadline, answer, trace: DeliveryTrace::begin() };
        queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Draining,
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
        self.queues.iter().map(|(queue, _)| waiting_in(queue)).sum()
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

fn waiting_in(queue: &mpsc::Sender<Waiting>) -> usize {
    queue.max_capacity() - queue.capacity()
}
