//! Settles deliveries: writes them in batches as large as can succeed, to the database or to the spool, and answers
//! their senders.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::{Limits, NotWritten, write_or_keep};
use super::batch::{Batch, Role};
use super::connection::IngestConnection;
use super::recent_success::MAX_SUSPECTS;
use super::spooling::{Cause, Route};
use super::{Accepted, IngestContext, Queued, Submission, SubmitError};
use crate::budget;
use crate::domain::Iccid;
use crate::telemetry::Span;

/// The limits of a batch without a spool. An attempt has longer than the server's statement timeout, so a slow server
/// reports that timeout itself. It has less than the whole, so that if a connection stalls or leaves a commit in doubt,
/// there is time to look the batch up over another connection.
const LIMITS: Limits = Limits { whole: budget::BATCH, attempt: budget::ATTEMPT };

/// The limits of a batch if there is a spool: short, so that the deliveries still reach the spool in time.
const SPOOL_LIMITS: Limits = Limits::undivided(budget::BATCH_WITH_SPOOL);

/// The limits of a lane, which waits for profiles that another transaction holds. They exceed the statement timeout, so
/// a server that is up reports that timeout itself. Then we know that a profile is locked and the database is not down,
/// and do not send everybody's deliveries to the spool.
const LANE_LIMITS: Limits = Limits::undivided(budget::LANE);

/// How often a lane that cannot reach the database checks whether deliveries go to the spool by now.
const SPOOL_PAUSE: Duration = Duration::from_millis(50);

/// The number of pieces into which a batch is split if it cannot be written as a whole.
const PIECES: usize = 16;

/// What [`settle`] leaves behind.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Deliveries that are neither written nor answered: they must wait until another transaction releases their profile.
    pub locked: Vec<Queued>,
    /// Whether the wait for a profile hit the statement timeout. Those senders are answered already.
    pub timed_out: bool,
}

/// What to do with a batch that was not written.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Write it in pieces, down to single deliveries: one bad row must not fail the others, and one locked profile must not
    /// delay them.
    Split,
    /// Write it without the deliveries of these profiles, which wait.
    SetAside(HashSet<Iccid>),
    /// Put it into the spool, or answer 503 if there is none.
    Spool(Cause),
    /// Answer its senders 500, because the database rejects its content and there is no spool to keep it.
    Reject,
    /// Answer its senders 503, because their profile was locked for too long.
    TimeOut,
}

/// Whether its deadline is ahead. After that its sender was answered 503, and writing the delivery would only delay others.
pub(super) fn is_in_time(queued: &Queued) -> bool {
    Instant::now() < queued.deadline
}

/// Writes everything, in batches as large as can succeed, and answers the senders.
pub(super) async fn settle(
    context: &IngestContext,
    connection: &mut IngestConnection,
    mut batch: Vec<Queued>,
    role: Role<'_>,
) -> Settled {
    let recorded = batch.iter().filter_map(|it| Some(it.trace.as_ref()?.request()));
    let span = Span::batch(batch.len(), recorded);
    for trace in batch.iter_mut().filter_map(|it| it.trace.as_deref_mut()) {
        trace.taken_by(&span);
    }
    let mut settled = Settled::default();
    let mut locked_profiles: HashSet<Iccid> = HashSet::new();
    let mut failed_in_a_row = 0;
    let mut queue = VecDeque::from([batch]);
    while let Some(batch) = queue.pop_front() {
        // A later piece must not overtake an earlier delivery of the same profile.
        let (wait, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|it| {
            it.submission.iccid().is_some_and(|iccid| locked_profiles.contains(iccid))
        });
        settled.locked.extend(wait);
        if batch.is_empty() {
            continue;
        }
        let route = match &context.spooling {
            Some(spooling) => Some(spooling.route().await),
            None => None,
        };
        if let Some(route) = route.as_ref().filter(|it| it.leads_to_spool()) {
            append(route, batch, &span).await;
            continue;
        }
        let submissions: Vec<_> = batch.iter().map(|it| &it.submission).collect();
        let work = Batch { submissions: &submissions, role, span: &span };
        let limits = limits(route.is_some(), role);
        let not_written = match write_or_keep(context, connection, work, limits).await {
            Ok(receipts) => {
                failed_in_a_row = 0;
                for (queued, receipt) in batch.into_iter().zip(receipts) {
                    queued.reply(Ok(Accepted::Committed(receipt)));
                }
                continue;
            }
            Err(not_written) => not_written,
        };
        let is_suspect = matches!(not_written, NotWritten::Suspect);
        // To divide a batch is worth while only if most others can be written. With a spool, a recent success shows that.
        // Without one it is assumed, until a few have failed in a row.
        let seeks_suspect = match route {
            Some(_) => context.success.is_recent(),
            None => failed_in_a_row < MAX_SUSPECTS,
        };
        match next(not_written, &submissions, route.is_some(), seeks_suspect) {
            Next::Split => {
                for piece in pieces(batch).into_iter().rev() {
                    queue.push_front(piece);
                }
            }
            Next::SetAside(iccids) => {
                locked_profiles.extend(iccids);
                queue.push_front(batch);
            }
            Next::Reject => reply_all(batch, SubmitError::Rejected),
            Next::TimeOut => {
                settled.timed_out = true;
                reply_all(batch, SubmitError::Unavailable);
            }
            Next::Spool(cause) => {
                if is_suspect {
                    failed_in_a_row += 1;
                }
                if cause == Cause::Delivery {
                    context.success.note_failure();
                }
                match route {
                    // If a lane cannot write, the cause may be its profile alone. If a writer cannot, the database is away.
                    Some(route) if role.is_lane() && cause == Cause::DatabaseAway => {
                        append_once_others_do(&route, batch, &span).await;
                    }
                    Some(route) => {
                        route.switch_to_spool(cause);
                        append(&route, batch, &span).await;
                    }
                    None => reply_all(batch, SubmitError::Unavailable),
                }
            }
        }
    }
    for trace in settled.locked.iter_mut().filter_map(|it| it.trace.as_deref_mut()) {
        trace.waits_for_lock();
    }
    settled
}

/// Decides what to do with a batch that was not written. `seeks_suspect`: whether it is worth while to look for the delivery at
/// which the database fails.
fn next(
    not_written: NotWritten,
    batch: &[&Submission],
    has_spool: bool,
    seeks_suspect: bool,
) -> Next {
    let is_single = batch.len() == 1;
    match not_written {
        NotWritten::ProfilesLocked(iccids) => Next::SetAside(iccids),
        NotWritten::Rejected(_) | NotWritten::RowLockTimeout if !is_single => Next::Split,
        NotWritten::Suspect if !is_single && seeks_suspect => Next::Split,
        NotWritten::RowLockTimeout => match batch.iter().find_map(|it| it.iccid()) {
            Some(iccid) => Next::SetAside(HashSet::from([iccid.clone()])),
            None => Next::TimeOut,
        },
        NotWritten::LaneTimeout => Next::TimeOut,
        NotWritten::Rejected(_) if !has_spool => Next::Reject,
        NotWritten::Rejected(_) | NotWritten::Suspect => Next::Spool(Cause::Delivery),
        NotWritten::Unavailable => Next::Spool(Cause::DatabaseAway),
    }
}

/// Waits until a writer switches to the spool, and then puts the batch there. If none does before the deliveries expire, answers
/// 503.
async fn append_once_others_do(route: &Route<'_>, batch: Vec<Queued>, span: &Span) {
    let deadline = batch.iter().map(|it| it.deadline).min();
    while !route.leads_to_spool() {
        if deadline.is_none_or(|deadline| Instant::now() + SPOOL_PAUSE > deadline) {
            return reply_all(batch, SubmitError::Unavailable);
        }
        tokio::time::sleep(SPOOL_PAUSE).await;
    }
    append(route, batch, span).await;
}

/// Puts the batch into the spool, and answers its senders.
async fn append(route: &Route<'_>, batch: Vec<Queued>, span: &Span) {
    let submissions: Vec<_> = batch.iter().map(|it| &it.submission).collect();
    let mut span = span.spool(submissions.len());
    match route.append(&submissions).await {
        Ok(spooled) => {
            for (queued, spooled) in batch.into_iter().zip(spooled) {
                queued.reply(Ok(Accepted::Spooled(spooled)));
            }
        }
        Err(error) => {
            span.fail(error.word());
            reply_all(batch, error);
        }
    }
}

fn limits(has_spool: bool, role: Role<'_>) -> Limits {
    match (role.is_lane(), has_spool) {
        (true, _) => LANE_LIMITS,
        (false, true) => SPOOL_LIMITS,
        (false, false) => LIMITS,
    }
}

/// Splits a batch into pieces, in order. Many at a time, because each piece that contains the cause may cost a timeout.
fn pieces(mut batch: Vec<Queued>) -> Vec<Vec<Queued>> {
    let size = batch.len().div_ceil(PIECES).max(1);
    let mut pieces = Vec::with_capacity(PIECES);
    while batch.len() > size {
        let rest = batch.split_off(size);
        pieces.push(std::mem::replace(&mut batch, rest));
    }
    pieces.push(batch);
    pieces
}

fn reply_all(batch: Vec<Queued>, error: SubmitError) {
    for queued in batch {
        queued.reply(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::super::submission::of_gigastore;
    use super::*;

    const ICCID: &str = "89972123300991848961";

    fn submission(iccid: &str) -> Submission {
        of_gigastore(&format!(r#"{{"iccid":"{iccid}","profileState":"INSTALLED"}}"#))
    }

    #[test]
    fn a_batch_is_divided_while_that_can_save_a_part_of_it() {
        let (named, nameless) = (submission(ICCID), submission("?"));
        let profile = HashSet::from([Iccid::parse(ICCID).unwrap()]);
        let rejected = || NotWritten::Rejected("a reason".to_owned());
        let (two, one) = ([&named, &nameless], [&named]);
        // Whether there is a spool makes a difference only for what is rejected.
        for has_spool in [false, true] {
            let next = |not_written, batch: &[_], seeks| next(not_written, batch, has_spool, seeks);
            for not_written in [rejected(), NotWritten::RowLockTimeout, NotWritten::Suspect] {
                assert_eq!(next(not_written, &two, true), Next::Split);
            }
            let set_aside = Next::SetAside(profile.clone());
            assert_eq!(next(NotWritten::RowLockTimeout, &one, true), set_aside);
            assert_eq!(next(NotWritten::RowLockTimeout, &[&nameless], true), Next::TimeOut);
            assert_eq!(next(NotWritten::ProfilesLocked(profile.clone()), &two, true), set_aside);
            assert_eq!(next(NotWritten::LaneTimeout, &two, true), Next::TimeOut);
            for (batch, seeks) in [(&one[..], true), (&two[..], false)] {
                let spooled = next(NotWritten::Suspect, batch, seeks);
                assert_eq!(spooled, Next::Spool(Cause::Delivery));
            }
            let away = next(NotWritten::Unavailable, &two, true);
            assert_eq!(away, Next::Spool(Cause::DatabaseAway));
            let kept = if has_spool { Next::Spool(Cause::Delivery) } else { Next::Reject };
            assert_eq!(next(rejected(), &one, true), kept);
        }
    }
}
