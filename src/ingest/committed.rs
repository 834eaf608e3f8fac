//! What becomes of each delivery of a batch: its row, made before the commit; its counts, log lines and receipt, after.

use super::plan::Plan;
use super::{Receipt, Submission};
use crate::domain::Outcome;
use crate::store::deliveries::NewDelivery;
use crate::telemetry;

/// What is stored for each delivery.
pub(super) fn deliveries<'a>(batch: &'a [&'a Submission], plan: &'a Plan) -> Vec<NewDelivery<'a>> {
    batch
        .iter()
        .zip(&plan.judgements)
        .map(|(submission, judgement)| NewDelivery {
            id: submission.delivery.id(),
            received_at: submission.delivery.received_at(),
            hook: submission.delivery.hook(),
            provider: submission.provider,
            iccid: submission.iccid().filter(|_| !judgement.erased),
            outcome: judgement.outcome,
            reason: judgement.reason.as_deref(),
            event_id: submission
                .event_id()
                .filter(|id| !(judgement.erased && submission.is_named_in(id))),
            headers: Some(submission.delivery.kept_headers())
                .filter(|headers| !(judgement.erased && submission.is_named_in(headers)))
                .unwrap_or("{}"),
            body: if judgement.erased { b"" } else { submission.delivery.body() },
        })
        .collect()
}

/// Counts what was committed, and logs a warning for each noteworthy delivery.
pub(super) fn count(batch: &[&Submission], plan: &Plan) {
    let judged = || batch.iter().zip(&plan.judgements);
    let outcomes = judged().map(|(submission, judgement)| (submission.provider, judgement.outcome));
    for ((provider, outcome), number) in tally(outcomes) {
        telemetry::count_deliveries(provider, outcome, number);
    }
    for (submission, judgement) in judged() {
        if judgement.outcome == Outcome::Unrecognised {
            telemetry::count_unknown_word(submission.provider);
        }
        if judgement.noteworthy {
            // Log only the start of the sender's word, and escape it.
            let word: Option<String> =
                submission.report().map(|report| report.raw_state.chars().take(40).collect());
            tracing::warn!(
                delivery = %submission.delivery.id(),
                hook = %submission.delivery.hook(),
                iccid = ?submission.iccid(),
                outcome = %judgement.outcome,
                reason = judgement.reason.as_deref(),
                word = word.as_ref().map(tracing::field::debug),
                "delivery kept, not applied"
            );
        }
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

/// What each sender is answered.
pub(super) fn receipts(batch: &[&Submission], plan: Plan) -> Vec<Receipt> {
    batch
        .iter()
        .zip(plan.judgements)
        .map(|(submission, judgement)| Receipt {
            delivery_id: submission.delivery.id(),
            outcome: judgement.outcome,
            reason: judgement.reason,
        })
        .collect()
}
