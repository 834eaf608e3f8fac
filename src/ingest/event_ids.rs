//! Event ids: each event counts once. The transaction that writes a delivery also reserves its event id, so a
//! reservation never exists without its delivery.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::Submission;
use super::plan::Seen;
use crate::domain::Iccid;
use crate::store::StoreError;
use crate::store::event_ids::{self, NewEvent};

/// Whether a submission reserves an event id.
pub(super) fn has_event_id(submission: &Submission) -> bool {
    event_id(submission).is_some()
}

/// The event id that a submission reserves. A malformed body reserves none: it is not an event.
fn event_id(submission: &Submission) -> Option<&str> {
    submission.delivery.event_id().filter(|_| submission.parsed.is_ok())
}

/// Reserves the event ids of a batch. If an id occurs several times in the batch, the first submission reserves it. The
/// reservation does not name the profile if that profile was erased.
pub(super) async fn reserve_event_ids(
    connection: &mut PgConnection,
    batch: &[&Submission],
    erased: &HashSet<&Iccid>,
) -> Result<Vec<Option<Seen>>, StoreError> {
    let mut seen = vec![None; batch.len()];
    let mut first: HashMap<(&str, &str), [u8; 32]> = HashMap::new();
    let mut events = Vec::new();
    for (index, submission) in batch.iter().enumerate() {
        let Some(event_id) = event_id(submission) else { continue };
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
    let new: Vec<_> = events
        .iter()
        .map(|(index, (hook, event_id), digest)| NewEvent {
            hook,
            event_id,
            body_sha256: digest,
            iccid: batch[*index].iccid().filter(|iccid| !erased.contains(iccid)),
        })
        .collect();
    for earlier in event_ids::reserve(connection, &new).await? {
        let event = (earlier.hook.as_str(), earlier.event_id.as_str());
        for (index, _, digest) in events.iter().filter(|(_, reserved, _)| *reserved == event) {
            seen[*index] = Some(compare(&earlier.body_sha256, digest));
        }
    }
    Ok(seen)
}

fn compare(earlier: &[u8], digest: &[u8]) -> Seen {
    if earlier == digest { Seen::SameContent } else { Seen::OtherContent }
}
