//! Event ids: each event counts once. The transaction that writes a delivery also reserves its event id, so a
//! reservation never exists without its delivery.

use std::borrow::Cow;
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
    reserved_event_id(submission).is_some()
}

/// The event id that a submission reserves. A malformed body reserves none: it is not an event.
fn reserved_event_id(submission: &Submission) -> Option<Cow<'_, str>> {
    let id = submission.event_id().filter(|_| submission.parsed.is_ok())?;
    Some(event_ids::reserved(id, submission.iccid()))
}

/// Reserves the event ids of a batch. If an id occurs several times in the batch, the first submission reserves it. The
/// reservation does not name the profile if that profile was erased.
pub(super) async fn reserve_event_ids(
    connection: &mut PgConnection,
    batch: &[&Submission],
    erased: &HashSet<&Iccid>,
) -> Result<Vec<Option<Seen>>, StoreError> {
    let mut seen = vec![None; batch.len()];
    let mut first: HashMap<(&str, Cow<'_, str>), [u8; 32]> = HashMap::new();
    let mut events = Vec::new();
    for (index, submission) in batch.iter().enumerate() {
        let Some(event_id) = reserved_event_id(submission) else { continue };
        let digest: [u8; 32] = Sha256::digest(submission.delivery.body()).into();
        let event = (submission.delivery.hook_path().as_ref(), event_id);
        if let Some(earlier) = first.get(&event) {
            seen[index] = Some(compare(earlier, &digest));
        } else {
            first.insert(event.clone(), digest);
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
        let event = (earlier.hook.as_str(), Cow::Borrowed(earlier.event_id.as_str()));
        for (index, _, digest) in events.iter().filter(|(_, reserved, _)| *reserved == event) {
            seen[*index] = Some(compare(&earlier.body_sha256, digest));
        }
    }
    Ok(seen)
}

fn compare(earlier: &[u8], digest: &[u8]) -> Seen {
    if earlier == digest { Seen::SameContent } else { Seen::OtherContent }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use uuid::Uuid;

    use super::super::Arrival;
    use super::*;
    use crate::delivery::{Authenticator, Delivery, EventId, Scheme, StandardSecrets};
    use crate::domain::Timestamp;
    use crate::providers::{Malformed, Reading};

    /// A delivery that is signed with the event id `msg_1`.
    fn signed(parsed: Result<Reading, Malformed>) -> Submission {
        let at = Timestamp::parse("2026-11-23T10:00:00Z").unwrap();
        let secrets = StandardSecrets::parse("test", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
        let hook = Authenticator::new(Scheme::StandardWebhooks(secrets.unwrap()));
        let headers = hook.credentials_for("msg_1", at, b"{}").headers.into_iter().collect();
        let (path, body) = (Arc::from("test/test"), Bytes::from_static(b"{}"));
        let delivery = Delivery::new(Uuid::nil(), at, path, None, headers, body);
        let delivery = hook.check(delivery).unwrap();
        Submission { delivery, provider: "test", parsed, arrival: Arrival::Direct }
    }

    #[test]
    fn an_event_id_in_the_body_precedes_the_one_in_the_headers() {
        let reading = || Reading::ignored(None, "a test");
        let in_body = reading().with_event_id(EventId::parse("n-7"));
        assert_eq!(reserved_event_id(&signed(Ok(in_body))), Some("n-7".into()));
        assert_eq!(reserved_event_id(&signed(Ok(reading()))), Some("msg_1".into()));
    }

    #[test]
    fn a_malformed_body_reserves_nothing_but_its_signed_event_id_is_stored() {
        let malformed = signed(Err(Malformed { reason: "a test".to_owned(), iccid: None }));
        assert_eq!((reserved_event_id(&malformed), malformed.event_id()), (None, Some("msg_1")));
    }
}
