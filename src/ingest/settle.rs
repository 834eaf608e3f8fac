//! Settles deliveries: writes them in batches as large as can succeed, to the database or to the spool, and answers
//! their senders.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::applying::MAX_SUSPECTS;
use super::attempt::{Limits, Refusal, write_or_keep};
use super::batch::OnLocked;
use super::connection::WriterConnection;
use super::spooling::Turn;
use super::{Accepted, SubmitError, Waiting, WriterContext};
use crate::budget;
use crate::domain::Iccid;
use crate::telemetry::Span;

/// The limits of a batch without a spool. An attempt has longer than the server's statement timeout, so a slow server
/// reports that timeout itself. It has less than the whole, so that if a connection stalls or leaves a commit in doubt,
/// there is time to look the batch up over another connection.
const LIMITS: Limits = Limits { whole: budget::BATCH, attempt: budget::ATTEMPT };

/// The limits of a batch if there is a spool: one short attempt, so that the deliveries still reach the spool in time.
const SPOOL_LIMITS: Limits = Limits::once(budget::WITH_SPOOL);

/// The limits of a lane, which waits for profiles that another transaction holds. They exceed the statement timeout, so
/// a server that is up reports that timeout itself. Then we know that a profile is locked and the database is not down,
/// and do not send everybody's deliveries to the spool.
const LANE_LIMITS: Limits = Limits::once(budget::LANE);

/// How often a lane that cannot reach the database checks whether deliveries go to the spool by now.
const SPOOL_PAUSE: Duration = Duration::from_millis(50);

/// The number of pieces into which a batch is split if it cannot be written as a whole.
const PIECES: usize = 16;

/// The part of a batch that was not written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Deliveries that must wait until another transaction releases their profile.
    pub locked: Vec<Waiting>,
    /// Whether the wait for a profile hit the statement timeout. Those senders are answered already.
    pub timed_out: bool,
}

/// Whether its sender still waits. If the deadline has passed, the sender was answered already, and writing the
/// delivery would only delay others.
pub(super) fn is_still_wanted(waiting: &Waiting) -> bool {
    Instant::now() < waiting.deadline
}

/// Writes everything, in batches as large as can succeed, and answers the senders.
pub(super) async fn settle(
    context: &WriterContext,
    connection: &mut WriterConnection,
    mut batch: Vec<Waiting>,
    on_locked: OnLocked,
) -> Unwritten {
    let recorded = batch.iter().filter_map(|it| Some(it.trace.as_ref()?.request()));
    let span = Span::batch(batch.len(), recorded);
    for trace in batch.iter_mut().filter_map(|it| it.trace.as_deref_mut()) {
        trace.is_taken(&span);
    }
    let mut unwritten = Unwritten::default();
    let mut locked: HashSet<Iccid> = HashSet::new();
    let mut suspects = 0;
    let mut queue = VecDeque::from([batch]);
    while let Some(batch) = queue.pop_front() {
        // A later piece must not overtake an earlier delivery of the same profile.
        let (wait, batch): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|w| w.submission.iccid().is_some_and(|it| locked.contains(it)));
        unwritten.locked.extend(wait);
        if batch.is_empty() {
            continue;
        }
        // Without a spool there are no turns.
        let turn = match &context.spooling {
            Some(spooling) => Some(spooling.turn().await),
            None => None,
        };
        let written = match &turn {
            Some(turn) if turn.is_for_spool() => Err(Refusal::Unavailable),
            _ => {
                let submissions: Vec<_> = batch.iter().map(|it| &it.submission).collect();
                let limits = limits(context, on_locked);
                let work = (&submissions[..], on_locked, &span);
                // Otherwise the drainer finds out whether it is the row or the database.
                let keeps_suspects = context.spooling.is_none() || context.applying.is_well();
                write_or_keep(context, connection, work, limits, keeps_suspects).await
            }
        };
        match written {
            Ok(receipts) => {
                suspects = 0;
                for (waiting, receipt) in batch.into_iter().zip(receipts) {
                    waiting.reply(Ok(Accepted::Committed(receipt)));
                }
            }
            Err(Refusal::ProfilesLocked(iccids)) => {
                locked.extend(iccids);
                queue.push_front(batch);
            }
            // One bad row must not fail the others, and one locked profile must not delay them: try smaller pieces, down
            // to single deliveries.
            Err(Refusal::Data(_) | Refusal::RowLockTimeout) if batch.len() > 1 => {
                for piece in pieces(batch).into_iter().rev() {
                    queue.push_front(piece);
                }
            }
            Err(Refusal::Suspect)
                if batch.len() > 1
                    && match turn {
                        None => suspects < MAX_SUSPECTS,
                        Some(_) => context.applying.is_well(),
                    } =>
            {
                for piece in pieces(batch).into_iter().rev() {
                    queue.push_front(piece);
                }
            }
            Err(Refusal::RowLockTimeout)
                if batch.iter().all(|it| it.submission.iccid().is_some()) =>
            {
                locked.extend(batch.iter().filter_map(|it| it.submission.iccid()).cloned());
                queue.push_front(batch);
            }
            Err(Refusal::Data(_)) if turn.is_none() => reply_all(batch, SubmitError::Rejected),
            Err(Refusal::LaneTimeout | Refusal::RowLockTimeout) => {
                unwritten.timed_out = true;
                reply_all(batch, SubmitError::Unavailable);
            }
            // The spool keeps what the database refuses.
            Err(refusal @ (Refusal::Unavailable | Refusal::Suspect | Refusal::Data(_))) => {
                suspects += 1;
                let is_away = matches!(refusal, Refusal::Unavailable);
                if !is_away {
                    context.applying.note_suspect();
                }
                let turn = match turn {
                    Some(turn) if is_away && on_locked == OnLocked::Wait => {
                        wait_for_spooling(turn, &batch).await
                    }
                    turn => turn,
                };
                spool(turn.as_ref(), batch, is_away, &span).await;
            }
        }
    }
    for trace in unwritten.locked.iter_mut().filter_map(|it| it.trace.as_deref_mut()) {
        trace.waits_for_lock();
    }
    unwritten
}

/// A lane that cannot write does not show that the database is down; a writer that cannot does. Waits until the writers switch
/// to the spool, or until the deliveries expire.
async fn wait_for_spooling<'a>(turn: Turn<'a>, batch: &[Waiting]) -> Option<Turn<'a>> {
    let deadline = batch.iter().map(|waiting| waiting.deadline).min()?;
    while !turn.is_for_spool() {
        if Instant::now() + SPOOL_PAUSE > deadline {
            return None;
        }
        tokio::time::sleep(SPOOL_PAUSE).await;
    }
    Some(turn)
}

/// Puts what the database was not available for, or fails at, into the spool. Without a turn, answers 503.
async fn spool(turn: Option<&Turn<'_>>, batch: Vec<Waiting>, is_away: bool, span: &Span) {
    let submissions: Vec<_> = batch.iter().map(|it| &it.submission).collect();
    let spooled = match turn {
        Some(turn) => {
            let mut span = span.spool(submissions.len());
            let spooled = turn.spool(&submissions, is_away).await;
            if let Err(error) = &spooled {
                span.fail(error.word());
            }
            spooled
        }
        None => Err(SubmitError::Unavailable),
    };
    match spooled {
        Ok(spooled) => {
            for (waiting, spooled) in batch.into_iter().zip(spooled) {
                waiting.reply(Ok(Accepted::Spooled(spooled)));
            }
        }
        Err(error) => reply_all(batch, error),
    }
}

fn limits(context: &WriterContext, on_locked: OnLocked) -> Limits {
    match (&context.spooling, on_locked) {
        (_, OnLocked::Wait) => LANE_LIMITS,
        (None, OnLocked::Skip) => LIMITS,
        (Some(_), OnLocked::Skip) => SPOOL_LIMITS,
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

fn reply_all(batch: Vec<Waiting>, error: SubmitError) {
    for waiting in batch {
        waiting.reply(Err(error));
    }
}
