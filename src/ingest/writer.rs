//! A writer: takes what waits, writes it as one batch, answers everybody, and never lets one delivery fail another.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::batch::{self, Locks, WriteError};
use super::link::Link;
use super::recent::Recent;
use super::spooling::Turn;
use super::{Accepted, Database, Receipt, Submission, SubmitError, Waiting};
use crate::domain::Iccid;
use crate::store::{Fault, Session, StoreError, fault_of, is_time_out};
use crate::telemetry;

/// How many deliveries one transaction writes at most.
pub(super) const MOST_AT_ONCE: usize = 512;

/// How often a batch is tried again after a serialization failure, a deadlock or a dead connection.
const RETRIES: u32 = 3;

/// How long one try may take, seen from here: a stalled server sends no time-out of its own.
const TRY_PATIENCE: Duration = Duration::from_secs(2);

/// The same where there is a spool, in which the delivery then has to be in time.
const SPOOL_TRY_PATIENCE: Duration = Duration::from_secs(1);

/// The same for profiles that somebody else has locked: longer than a statement may run, so that a server that lives says so
/// itself. A lock on one profile is no reason to send everybody's deliveries to the spool.
const SPOOL_LANE_PATIENCE: Duration = Duration::from_millis(1_800);

type Answer = oneshot::Sender<Result<Accepted, SubmitError>>;

/// Runs until every sender is gone and everything is answered.
pub(super) async fn run(database: Database, mut link: Link, mut waiting: mpsc::Receiver<Waiting>) {
    let mut taken = Vec::with_capacity(database.pace.most());
    let mut lanes = Lanes::new(database.clone());
    loop {
        tokio::select! {
            biased;
            Some(()) = lanes.advance() => {}
            count = waiting.recv_many(&mut taken, database.pace.most()) => {
                if count == 0 {
                    break;
                }
                telemetry::record_batch(count);
                taken.retain(is_still_wanted);
                if taken.len() < count {
                    database.pace.fell_behind();
                }
                let batch = lanes.divert(std::mem::take(&mut taken));
                let contended = write_all(&database, &mut link, batch, Locks::OnlyFree).await;
                lanes.open(contended);
                if waiting.is_empty() {
                    database.pace.caught_up();
                }
            }
        }
    }
    while lanes.advance().await.is_some() {}
}

/// Whoever waits longer than that has been told so; writing it now would only keep others waiting.
fn is_still_wanted(waiting: &Waiting) -> bool {
    Instant::now() < waiting.deadline
}

/// Writes everything, in batches as large as can succeed, and answers it. Gives back what must wait for a profile's lock.
async fn write_all(
    database: &Database,
    link: &mut Link,
    batch: Vec<Waiting>,
    locks: Locks,
) -> Vec<Waiting> {
    let mut contended = Vec::new();
    let mut work = VecDeque::from([batch]);
    while let Some(batch) = work.pop_front() {
        if batch.is_empty() {
            continue;
        }
        let (submissions, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|w| (w.submission, (w.deadline, w.answer))).unzip();
        // Without a spool there are no turns to take.
        let turn = match &database.spooling {
            Some(spooling) => Some(spooling.turn().await),
            None => None,
        };
        let written = match &turn {
            Some(turn) if turn.is_for_spool() => Err(Refusal::Unavailable),
            _ => {
                let patience = patience(database, locks);
                write_patiently(database, link, &submissions, locks, patience).await
            }
        };
        match written {
            Ok(receipts) => {
                for ((_, answer), receipt) in answers.into_iter().zip(receipts) {
                    reply(answer, Ok(Accepted::Committed(receipt)));
                }
            }
            Err(Refusal::Contended(iccids)) => {
                let (wait, go) = rejoined(submissions, answers)
                    .partition(|w| w.submission.iccid().is_some_and(|i| iccids.contains(i)));
                contended.extend::<Vec<_>>(wait);
                work.push_front(go);
            }
            // One bad row must not fail its neighbours: each half is tried alone, down to the one.
            Err(Refusal::Data(_)) if submissions.len() > 1 => {
                let mut first: Vec<_> = rejoined(submissions, answers).collect();
                let second = first.split_off(first.len() / 2);
                work.push_front(second);
                work.push_front(first);
            }
            Err(Refusal::Data(_)) => reply_all(answers, SubmitError::Rejected),
            Err(Refusal::Locked) => reply_all(answers, SubmitError::Unavailable),
            Err(Refusal::Unavailable) => keep(turn.as_ref(), &submissions, answers).await,
        }
    }
    contended
}

/// What the database does not take goes to the spool, if there is one.
async fn keep(
    turn: Option<&Turn<'_>>,
    submissions: &[Submission],
    answers: Vec<(Instant, Answer)>,
) {
    let kept = match turn {
        Some(turn) => turn.keep(submissions).await,
        None => Err(SubmitError::Unavailable),
    };
    match kept {
        Ok(spooled) => {
            for ((_, answer), spooled) in answers.into_iter().zip(spooled) {
                reply(answer, Ok(Accepted::Spooled(spooled)));
            }
        }
        Err(error) => reply_all(answers, error),
    }
}

fn patience(database: &Database, locks: Locks) -> Duration {
    match (&database.spooling, locks) {
        (None, _) => TRY_PATIENCE,
        (Some(_), Locks::OnlyFree) => SPOOL_TRY_PATIENCE,
        (Some(_), Locks::Wait) => SPOOL_LANE_PATIENCE,
    }
}

fn rejoined(
    submissions: Vec<Submission>,
    answers: Vec<(Instant, Answer)>,
) -> impl Iterator<Item = Waiting> {
    submissions.into_iter().zip(answers).map(|(submission, (deadline, answer))| Waiting {
        submission,
        deadline,
        answer,
    })
}

/// Whoever asked may have gone; the delivery stays written.
fn reply(answer: Answer, result: Result<Accepted, SubmitError>) {
    drop(answer.send(result));
}

fn reply_all(answers: Vec<(Instant, Answer)>, error: SubmitError) {
    for (_, answer) in answers {
        reply(answer, Err(error));
    }
}

/// Why a batch was not written.
pub(super) enum Refusal {
    /// Somebody else holds these profiles.
    Contended(HashSet<Iccid>),
    /// The database refuses it for what it is, and says this.
    Data(String),
    /// Somebody else holds a profile for longer than a statement may wait.
    Locked,
    /// The database is away, slow, or silent.
    Unavailable,
}

/// Writes one batch, trying again where the same work may succeed.
pub(super) async fn write_patiently(
    database: &Database,
    link: &mut Link,
    submissions: &[Submission],
    locks: Locks,
    patience: Duration,
) -> Result<Vec<Receipt>, Refusal> {
    let deadline = Instant::now() + patience;
    let mut tries = 0;
    loop {
        let had_connection = link.is_connected();
        let begun = Instant::now();
        let attempt =
            tokio::time::timeout_at(deadline, write_once(database, link, submissions, locks));
        let error = match attempt.await {
            Ok(Ok(receipts)) => {
                telemetry::record_commit(begun.elapsed());
                if locks == Locks::OnlyFree {
                    database.pace.committed(submissions.len(), begun.elapsed());
                }
                return Ok(receipts);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                link.discard();
                database.pace.gave_up(submissions.len());
                tracing::error!(
                    deliveries = submissions.len(),
                    "the database did not answer in time: is it up, and has it room?"
                );
                return Err(Refusal::Unavailable);
            }
        };
        tries += 1;
        match error {
            WriteError::Contended(iccids) => return Err(Refusal::Contended(iccids)),
            WriteError::Failed(StoreError::Database(error)) => match fault_of(&error) {
                Fault::Transient if tries <= RETRIES => {}
                Fault::Data => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        deliveries = submissions.len(),
                        "the database refuses a batch for its content"
                    );
                    return Err(Refusal::Data(error.to_string()));
                }
                Fault::Unavailable if locks == Locks::Wait && is_time_out(&error) => {
                    tracing::warn!(
                        deliveries = submissions.len(),
                        "a profile is locked by somebody else: who holds a transaction open?"
                    );
                    return Err(Refusal::Locked);
                }
                // A connection that was idle may have died unnoticed: once with a new one.
                Fault::Unavailable if had_connection && tries == 1 => link.discard(),
                Fault::Transient | Fault::Unavailable => {
                    link.discard();
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        deliveries = submissions.len(),
                        "the database is not available"
                    );
                    return Err(Refusal::Unavailable);
                }
            },
            WriteError::Failed(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a stored row cannot be read; look at the table profiles"
                );
                return Err(Refusal::Data(error.to_string()));
            }
            WriteError::Unknown(error) => {
                link.discard();
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    deliveries = submissions.len(),
                    "a commit was sent and not confirmed"
                );
                return Err(Refusal::Unavailable);
            }
        }
    }
}

async fn write_once(
    database: &Database,
    link: &mut Link,
    submissions: &[Submission],
    locks: Locks,
) -> Result<Vec<Receipt>, WriteError> {
    let (connection, recent) = link.reach(&database.connector).await?;
    let _busy = database.connector.busy(Session::Writer);
    batch::write(connection, recent, &database.erasure_key, submissions, locks).await
}

/// Where deliveries wait for a profile that somebody else has locked, so that only they wait. Each profile has a lane of
/// its own, in which the order of arrival is kept.
struct Lanes {
    database: Database,
    waiting: HashMap<Iccid, Vec<Waiting>>,
    running: JoinSet<Iccid>,
}

impl Lanes {
    fn new(database: Database) -> Self {
        Self { database, waiting: HashMap::new(), running: JoinSet::new() }
    }

    /// Takes out what must queue behind a lane that is open.
    fn divert(&mut self, batch: Vec<Waiting>) -> Vec<Waiting> {
        if self.waiting.is_empty() {
            return batch;
        }
        let mut rest = Vec::with_capacity(batch.len());
        for waiting in batch {
            match waiting.submission.iccid().and_then(|iccid| self.waiting.get_mut(iccid)) {
                Some(lane) => lane.push(waiting),
                None => rest.push(waiting),
            }
        }
        rest
    }

    /// Opens a lane for each profile and starts it.
    fn open(&mut self, contended: Vec<Waiting>) {
        let mut lanes: HashMap<Iccid, Vec<Waiting>> = HashMap::new();
        for waiting in contended {
            if let Some(iccid) = waiting.submission.iccid().cloned() {
                lanes.entry(iccid).or_default().push(waiting);
            }
        }
        for (iccid, batch) in lanes {
            self.waiting.insert(iccid.clone(), Vec::new());
            self.start(iccid, batch);
        }
    }

    fn start(&mut self, iccid: Iccid, batch: Vec<Waiting>) {
        let database = self.database.clone();
        self.running.spawn(async move {
            let mut contended = batch;
            while !contended.is_empty() {
                let batch = contended.drain(..).filter(is_still_wanted).collect();
                let mut link = Link::new(Recent::none());
                contended = write_all(&database, &mut link, batch, Locks::Wait).await;
            }
            iccid
        });
    }

    /// Waits for a lane to end, and starts it again if more has queued in it meanwhile. `None` if no lane is open.
    async fn advance(&mut self) -> Option<()> {
        // A lane does not panic; if one did, its profile's lane would stay closed and its senders be told to try again.
        let iccid = self.running.join_next().await?.ok()?;
        let batch = self.waiting.get_mut(&iccid).map(std::mem::take).unwrap_or_default();
        if batch.is_empty() {
            self.waiting.remove(&iccid);
        } else {
            self.start(iccid, batch);
        }
        Some(())
    }
}
