//! A writer: takes the deliveries that wait, writes them as one batch, and answers all senders. No delivery can fail
//! another.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::attempt::{Patience, Refusal, write_patiently};
use super::batch::Locks;
use super::connection::WriterConnection;
use super::lanes::{LaneConnections, Lanes};
use super::spooling::Turn;
use super::{Accepted, Database, Submission, SubmitError, Waiting};
use crate::budget;
use crate::domain::Iccid;
use crate::telemetry;

/// The max number of deliveries in a batch.
pub(super) const MAX_BATCH: usize = 512;

/// How long a batch may take. One attempt may take less, but longer than the server lets a statement run: so a slow server says so
/// itself, and a silent connection, or a commit in doubt, leaves the time to ask over another one.
const PATIENCE: Patience = Patience { whole: budget::BATCH, attempt: budget::ATTEMPT };

/// The same where there is a spool, in which the delivery then has to be in time.
const SPOOL_PATIENCE: Patience = Patience::once(budget::WITH_SPOOL);

/// The same for profiles that another transaction holds: longer than a statement may run, so that a server that lives says so
/// itself. A lock on one profile is no reason to send everybody's deliveries to the spool.
const LANE_PATIENCE: Patience = Patience::once(budget::LANE);

/// How often a lane that cannot reach the database checks whether deliveries go to the spool by now.
const SPOOL_PAUSE: Duration = Duration::from_millis(50);

/// The number of pieces into which a batch is split if it cannot be written as a whole.
const PIECES: usize = 16;

type Answer = oneshot::Sender<Result<Accepted, SubmitError>>;

/// What could not be written now.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Deliveries that must wait until another transaction releases their profile.
    pub contended: Vec<Waiting>,
    /// Whether the wait for a profile hit the statement timeout.
    pub is_locked: bool,
}

/// Runs until every sender is gone and everything is answered.
pub(super) async fn run(
    database: Database,
    mut connection: WriterConnection,
    lane_connections: Arc<LaneConnections>,
    mut waiting: mpsc::Receiver<Waiting>,
) {
    let mut taken = Vec::with_capacity(database.pace.max_batch());
    let mut lanes = Lanes::new(database.clone(), lane_connections);
    connection.connect_ahead();
    loop {
        let next_question = connection.next_question();
        tokio::select! {
            biased;
            Some(()) = lanes.advance() => {}
            count = waiting.recv_many(&mut taken, database.pace.max_batch()) => {
                if count == 0 {
                    break;
                }
                telemetry::record_batch(count);
                taken.retain(is_still_wanted);
                if taken.len() < count {
                    database.pace.fell_behind();
                }
                let batch = lanes.divert(std::mem::take(&mut taken));
                let left = write_all(&database, &mut connection, batch, Locks::OnlyFree).await;
                lanes.open(left.contended);
                if waiting.is_empty() {
                    database.pace.caught_up();
                }
            }
            () = sleep_until(next_question) => connection.keep_alive().await,
        }
    }
    while lanes.advance().await.is_some() {}
}

/// Whether its sender still waits. If the deadline has passed, the sender was answered already, and writing the
/// delivery would only delay others.
pub(super) fn is_still_wanted(waiting: &Waiting) -> bool {
    Instant::now() < waiting.deadline
}

/// Writes everything, in batches as large as can succeed, and answers the senders.
pub(super) async fn write_all(
    database: &Database,
    connection: &mut WriterConnection,
    batch: Vec<Waiting>,
    locks: Locks,
) -> Left {
    let mut left = Left::default();
    let mut held: HashSet<Iccid> = HashSet::new();
    let mut work = VecDeque::from([batch]);
    while let Some(batch) = work.pop_front() {
        // A later piece must not overtake an earlier delivery of the same profile.
        let (wait, batch): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|w| w.submission.iccid().is_some_and(|it| held.contains(it)));
        left.contended.extend(wait);
        if batch.is_empty() {
            continue;
        }
        let (submissions, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|w| (w.submission, (w.deadline, w.answer))).unzip();
        // Without a spool there are no turns.
        let turn = match &database.spooling {
            Some(spooling) => Some(spooling.turn().await),
            None => None,
        };
        let written = match &turn {
            Some(turn) if turn.is_for_spool() => Err(Refusal::Unavailable),
            _ => {
                let patience = patience(database, locks);
                write_patiently(database, connection, &submissions, locks, patience).await
            }
        };
        match written {
            Ok(receipts) => {
                for ((_, answer), receipt) in answers.into_iter().zip(receipts) {
                    reply(answer, Ok(Accepted::Committed(receipt)));
                }
            }
            Err(Refusal::Contended(iccids)) => {
                held.extend(iccids);
                work.push_front(rejoined(submissions, answers).collect());
            }
            // One bad row must not fail the others, and one held profile must not delay them: try smaller pieces, down
            // to single deliveries.
            Err(Refusal::Data(_) | Refusal::Held) if submissions.len() > 1 => {
                for piece in pieces(rejoined(submissions, answers).collect()).into_iter().rev() {
                    work.push_front(piece);
                }
            }
            Err(Refusal::Held) if submissions.iter().all(|it| it.iccid().is_some()) => {
                held.extend(submissions.iter().filter_map(Submission::iccid).cloned());
                work.push_front(rejoined(submissions, answers).collect());
            }
            Err(Refusal::Data(_)) => reply_all(answers, SubmitError::Rejected),
            Err(Refusal::Locked | Refusal::Held) => {
                left.is_locked = true;
                reply_all(answers, SubmitError::Unavailable);
            }
            Err(Refusal::Unavailable) => {
                let turn = match turn {
                    Some(turn) if locks == Locks::Wait => is_for_spool_by(turn, &answers).await,
                    turn => turn,
                };
                keep(turn.as_ref(), &submissions, answers).await;
            }
        }
    }
    left
}

/// A lane that cannot write is no evidence that the database is down; only a writer is. Waits until the writers switch
/// to the spool, or until the deliveries expire.
async fn is_for_spool_by<'a>(turn: Turn<'a>, answers: &[(Instant, Answer)]) -> Option<Turn<'a>> {
    let deadline = answers.iter().map(|(deadline, _)| *deadline).min()?;
    while !turn.is_for_spool() {
        if Instant::now() + SPOOL_PAUSE > deadline {
            return None;
        }
        tokio::time::sleep(SPOOL_PAUSE).await;
    }
    Some(turn)
}

/// Puts what the database did not accept into the spool, if there is one.
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

fn patience(database: &Database, locks: Locks) -> Patience {
    match (&database.spooling, locks) {
        (_, Locks::Wait) => LANE_PATIENCE,
        (None, Locks::OnlyFree) => PATIENCE,
        (Some(_), Locks::OnlyFree) => SPOOL_PATIENCE,
    }
}

/// Splits a batch into pieces, in order. Many at a time, because each piece that contains the cause may cost a timeout.
fn pieces(mut batch: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let size = batch.len().div_ceil(PIECES).max(1);
    let mut pieces = Vec::with_capacity(PIECES);
    while batch.len() > size {
        let rest = batch.split_off(size);
        pieces.push(std::mem::replace(&mut batch, rest));
    }
    pieces.push(batch);
    pieces
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

/// The caller may be gone; the delivery stays written.
fn reply(answer: Answer, result: Result<Accepted, SubmitError>) {
    drop(answer.send(result));
}

fn reply_all(answers: Vec<(Instant, Answer)>, error: SubmitError) {
    for (_, answer) in answers {
        reply(answer, Err(error));
    }
}
