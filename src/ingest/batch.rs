//! One batch, one transaction: claim event ids, lock profiles, judge, append, save, commit.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};

use super::plan::{Plan, Seen};
use super::{Receipt, Submission};
use crate::domain::{Iccid, Outcome, Profile};
use crate::providers::Reading;
use crate::store::deliveries::KeptDelivery;
use crate::store::event_ids::Claimed;
use crate::store::{
    ErasureKey, StoreError, deliveries, erasures, event_ids, notify, profiles, transitions,
};
use crate::telemetry;

/// What to do about profiles that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locks {
    /// Leave them: [`WriteError::Contended`] names them.
    OnlyFree,
    /// Wait for them, as long as a statement may run.
    Wait,
}

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Somebody else holds these profiles, or is just creating them. Nothing was written.
    Contended(HashSet<Iccid>),
    /// A statement failed before the commit. Nothing was written.
    Failed(StoreError),
    /// The commit was sent and not confirmed. It may have happened.
    Unknown(sqlx::Error),
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Writes the batch and gives back one receipt for each submission, in their order.
///
/// The order of the locks is the same everywhere: profiles by ICCID, event ids, new profiles by ICCID. Only who holds
/// nothing yet waits for profiles, so two batches cannot wait for each other in a circle.
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    locks: Locks,
) -> Result<Vec<Receipt>, WriteError> {
    let mut transaction = connection.begin().await.map_err(StoreError::from)?;
    match execute(&mut transaction, erasure_key, batch, locks).await {
        Ok(plan) => {
            transaction.commit().await.map_err(WriteError::Unknown)?;
            count(batch, &plan);
            Ok(receipts(batch, plan))
        }
        Err(error) => {
            // Now, not when the connection is next used: until then, event ids claimed here would stay claimed, and whoever
            // tries this again on another connection would wait for them.
            drop(transaction.rollback().await);
            Err(error)
        }
    }
}

/// Everything between begin and commit.
async fn execute(
    transaction: &mut PgConnection,
    erasure_key: &ErasureKey,
    batch: &[Submission],
    locks: Locks,
) -> Result<Plan, WriteError> {
    let iccids = reported_iccids(batch);
    let mut locked = Vec::new();
    if !iccids.is_empty() {
        if locks == Locks::Wait {
            profiles::wait_for_locks(transaction, &iccids).await?;
        }
        locked = profiles::lock_free(transaction, &iccids).await?;
    }
    let locked: Vec<_> = locked.into_iter().map(|stored| stored.profile).collect();
    let erased = find_erased(transaction, erasure_key, batch, &locked).await?;
    let seen = claim_events(transaction, batch, &erased).await?;
    let plan = Plan::of(batch, locked, &seen, &erased);

    let new = plan.new_profiles();
    if !new.is_empty() {
        let inserted = profiles::insert(transaction, &new).await?;
        if inserted.len() < new.len() {
            // They are there after all: locked, or made since we looked.
            let mut contended: HashSet<_> = new.iter().map(|p| p.iccid.clone()).collect();
            contended.retain(|iccid| !inserted.iter().any(|done| done == iccid.as_str()));
            return Err(WriteError::Contended(contended));
        }
        // Where an erasure held the row, the insert waited for its end: what was looked up before it began is stale.
        let new: Vec<_> = new.iter().map(|profile| &profile.iccid).collect();
        let erased = erasures::find(transaction, erasure_key, &new).await?;
        if !erased.is_empty() {
            return Err(WriteError::Contended(erased.into_iter().cloned().collect()));
        }
    }
    let changed = plan.changed_profiles();
    if !changed.is_empty() {
        profiles::save(transaction, &changed).await?;
    }
    let appended: Vec<_> = plan
        .transitions
        .iter()
        .filter_map(|(index, transition)| {
            let submission = batch.get(*index)?;
            Some((submission.iccid()?, transition, Some(submission.delivery.id())))
        })
        .collect();
    if !appended.is_empty() {
        transitions::append(transaction, &appended).await?;
        let mut keys: Vec<_> = appended.iter().map(|(iccid, ..)| notify::wake_key(iccid)).collect();
        keys.sort_unstable();
        keys.dedup();
        notify::wake(transaction, &keys).await?;
    }
    deliveries::append(transaction, &kept(batch, &plan)).await?;
    Ok(plan)
}

fn reported_iccids(batch: &[Submission]) -> Vec<String> {
    let mut iccids: Vec<_> = batch
        .iter()
        .filter_map(|submission| match &submission.parsed {
            Ok(Reading::Report(report)) => Some(report.iccid.as_str().to_owned()),
            _ => None,
        })
        .collect();
    iccids.sort_unstable();
    iccids.dedup();
    iccids
}

/// Claims the ids of the events that have one, the first of each within the batch. Malformed bodies claim nothing: what
/// could not be read was not an event. Whom an event is about is not noted of an erased profile.
async fn claim_events(
    connection: &mut PgConnection,
    batch: &[Submission],
    erased: &HashSet<&Iccid>,
) -> Result<Vec<Option<Seen>>, StoreError> {
    let mut seen = vec![None; batch.len()];
    let mut first: HashMap<(&str, &str), [u8; 32]> = HashMap::new();
    let mut events = Vec::new();
    for (index, submission) in batch.iter().enumerate() {
        let Some(event_id) = submission.delivery.event_id().filter(|_| submission.parsed.is_ok())
        else {
            continue;
        };
        let digest: [u8; 32] = Sha256::digest(submission.delivery.body()).into();
        let event = (submission.delivery.hook().as_ref(), event_id);
        if let Some(earlier) = first.get(&event) {
            seen[index] = Some(compare(earlier, &digest));
        } else {
            first.insert(event, digest);
            events.push((index, event, digest));
        }
    }
    if events.is_empty() {
        return Ok(seen);
    }
    let claims: Vec<_> = events
        .iter()
        .map(|(index, (hook, event_id), digest)| Claimed {
            hook,
            event_id,
            body_sha256: digest,
            iccid: batch[*index].iccid().filter(|iccid| !erased.contains(iccid)),
            received_at: batch[*index].delivery.received_at(),
        })
        .collect();
    for earlier in event_ids::claim(connection, &claims).await? {
        let event = (earlier.hook.as_str(), earlier.event_id.as_str());
        for (index, _, digest) in events.iter().filter(|(_, claimed, _)| *claimed == event) {
            seen[*index] = Some(compare(&earlier.body_sha256, digest));
        }
    }
    Ok(seen)
}

/// Looks up which of the profiles that are not there were erased. Most batches have none to look up.
async fn find_erased<'a>(
    connection: &mut PgConnection,
    key: &ErasureKey,
    batch: &'a [Submission],
    locked: &[Profile],
) -> Result<HashSet<&'a Iccid>, StoreError> {
    let known: HashSet<_> = locked.iter().map(|profile| &profile.iccid).collect();
    let absent: HashSet<_> =
        batch.iter().filter_map(Submission::iccid).filter(|iccid| !known.contains(iccid)).collect();
    if absent.is_empty() {
        return Ok(HashSet::new());
    }
    let absent: Vec<_> = absent.into_iter().collect();
    erasures::find(connection, key, &absent).await
}

fn compare(earlier: &[u8], digest: &[u8]) -> Seen {
    if earlier == digest { Seen::SameContent } else { Seen::OtherContent }
}

fn kept<'a>(batch: &'a [Submission], plan: &'a Plan) -> Vec<KeptDelivery<'a>> {
    batch
        .iter()
        .zip(&plan.judgements)
        .map(|(submission, judgement)| KeptDelivery {
            id: submission.delivery.id(),
            received_at: submission.delivery.received_at(),
            hook: submission.delivery.hook(),
            provider: submission.provider,
            iccid: submission.iccid().filter(|_| !judgement.erased),
            outcome: judgement.outcome,
            reason: judgement.reason.as_deref(),
            event_id: submission.delivery.event_id(),
            headers: headers_as_json(&submission.delivery.kept_headers()),
            body: if judgement.erased { b"" } else { submission.delivery.body() },
        })
        .collect()
}

fn headers_as_json(headers: &[(&str, String)]) -> String {
    let object: serde_json::Map<_, _> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    serde_json::Value::Object(object).to_string()
}

/// Counts what was committed and warns of what somebody should look at.
fn count(batch: &[Submission], plan: &Plan) {
    for (submission, judgement) in batch.iter().zip(&plan.judgements) {
        telemetry::count_delivery(submission.provider, judgement.outcome);
        if judgement.outcome == Outcome::Unrecognised {
            telemetry::count_unknown_word(submission.provider);
        }
        if judgement.noteworthy {
            // Only so much of the sender's word, and escaped.
            let word: Option<String> = match &submission.parsed {
                Ok(Reading::Report(report)) => Some(report.raw_state.chars().take(40).collect()),
                _ => None,
            };
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
    for (index, transition) in &plan.transitions {
        let provider = batch.get(*index).map_or("", |submission| submission.provider);
        telemetry::count_transition(provider, transition.to_state, transition.kind);
    }
}

fn receipts(batch: &[Submission], plan: Plan) -> Vec<Receipt> {
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
