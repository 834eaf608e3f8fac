//! What follows a commit: metrics, log lines, and the receipts for the senders.

use super::plan::{Judgement, Plan};
use super::{Receipt, Submission};
use crate::domain::Outcome;
use crate::store::deliveries::{REUSED_EVENT_ID, is_unapplied};
use crate::store::lookup::Found;
use crate::telemetry;

/// Counts a committed batch, and returns one receipt for each delivery, in the same order.
pub(super) fn acknowledge(batch: &[&Submission], plan: &Plan) -> Vec<Receipt> {
    count(batch, plan);
    let judged = batch.iter().zip(&plan.judgements);
    let receipt = |(submission, judgement): (&&Submission, &Judgement)| Receipt {
        delivery_id: submission.delivery.id(),
        outcome: judgement.outcome,
        reason: judgement.reason.clone(),
    };
    judged.map(receipt).collect()
}

/// Counts and logs a delivery that the drainer found committed: its commit was not confirmed in time, so it went to the spool
/// too, or the service was killed before it left the spool (then the former process may have counted it). What its profile
/// reached and how it changed is not known any more, and not counted.
pub(super) fn count_found(submission: &Submission, found: &Found) {
    let Some(outcome) = found.outcome else { return };
    telemetry::count_deliveries(submission.provider, outcome, 1);
    note(submission, outcome, found.reason.as_deref());
}

/// Counts what was committed, and logs a warning for each noteworthy delivery.
fn count(batch: &[&Submission], plan: &Plan) {
    let judged = || batch.iter().zip(&plan.judgements);
    let outcomes = judged().map(|(submission, judgement)| (submission.provider, judgement.outcome));
    for ((provider, outcome), number) in tally(outcomes) {
        telemetry::count_deliveries(provider, outcome, number);
    }
    for (submission, judgement) in judged() {
        note(submission, judgement.outcome, judgement.reason.as_deref());
    }
    let changes = plan.transitions.iter().map(|(index, transition)| {
        let provider = batch.get(*index).map_or("", |submission| submission.provider);
        (provider, transition.to_state, transition.kind)
    });
    for ((provider, state, kind), number) in tally(changes) {
        telemetry::count_transitions(provider, state, kind, number);
    }
    for (provider, advance) in plan.advances() {
        telemetry::count_advance(provider, advance);
    }
}

/// Counts and logs a delivery at which an operator should look. An ordinary retry by its sender is not one of them.
fn note(submission: &Submission, outcome: Outcome, reason: Option<&str>) {
    match outcome {
        Outcome::Unrecognised => {
            let is_word_unknown = !is_unapplied(reason);
            telemetry::count_unrecognised(submission.provider, is_word_unknown);
        }
        Outcome::Duplicate if reason == Some(REUSED_EVENT_ID) => {
            telemetry::count_reused_event_id(submission.provider);
        }
        Outcome::Malformed | Outcome::Foreign => {}
        _ => return,
    }
    // Escaped, because it may contain anything.
    let word = submission.report().map(|report| start_of(&report.raw_state));
    tracing::warn!(
        delivery = %submission.delivery.id(),
        hook = %submission.delivery.hook_path(),
        iccid = ?submission.iccid(),
        %outcome,
        reason,
        word = word.as_ref().map(tracing::field::debug),
        "delivery kept, not applied"
    );
}

/// How many characters of a sender's word are logged.
const LOGGED: usize = 40;

/// The start of a sender's word, or `…` if it has more than four digits, an `@` or a `$`: a provider may put a number, an address or
/// an activation code where we read a state, and so may a declaration with a wrong pointer.
fn start_of(word: &str) -> String {
    let digits = word.chars().filter(|it| it.is_numeric()).count();
    if digits > 4 || word.contains(['@', '$']) {
        return "…".to_owned();
    }
    word.chars().take(LOGGED).collect()
}

/// Counts the items of each kind. Looking a counter up by its labels is expensive; adding to it is not.
fn tally<K: PartialEq>(kinds: impl Iterator<Item = K>) -> Vec<(K, u64)> {
    let mut tally: Vec<(K, u64)> = Vec::new();
    for kind in kinds {
        match tally.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, number)) => *number += 1,
            None => tally.push((kind, 1)),
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::start_of;

    #[test]
    fn the_log_has_the_start_of_a_word_without_numbers_and_addresses() {
        let long = "é".repeat(50);
        for (word, expected) in [
            ("TELEPORTED", "TELEPORTED"),
            ("", ""),
            ("STATE_4042", "STATE_4042"),
            ("DOWNLOADED\n", "DOWNLOADED\n"),
            (&long, &"é".repeat(40)),
            ("260216611193634", "…"),
            ("8997 2123 3009 9184 8961", "…"),
            ("state of ８９９７２", "…"),
            ("+49 170 1234567", "…"),
            ("ada@example.org", "…"),
            ("LPA:1$smdp.example$CODE", "…"),
        ] {
            assert_eq!(start_of(word), expected, "{word}");
        }
    }
}
