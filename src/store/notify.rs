//! The notification that tells every replica which profiles moved. There is one for each transaction, not one for each
//! row, because `NOTIFY` takes a global lock at commit.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::error::StoreError;
use crate::domain::Iccid;

/// The channel.
pub const CHANNEL: &str = "esim_status_moved";

/// The max number of keys in a payload: Postgres allows 7,999 bytes, a key takes 9, and a `traceparent` takes 56.
const MAX_KEYS: usize = 800;

/// The key that stands for a profile on the channel, where personal data does not belong. If two profiles share a key,
/// one of them is woken in vain. Must be the same in every release, because replicas of two releases may share the
/// channel.
pub fn wake_key(iccid: &Iccid) -> u32 {
    let digest = Sha256::digest(iccid.as_str().as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// The payload that tells the replicas that these profiles have moved; `None` if there are none. It also has the
/// `traceparent` of the batch that moved them, if that is recorded. A replica of a release that does not know such a word
/// wakes everyone.
pub fn payload<'a>(
    moved: impl Iterator<Item = &'a Iccid>,
    traceparent: Option<&str>,
) -> Option<String> {
    let mut keys: Vec<_> = moved.map(wake_key).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return None;
    }
    // If the keys do not fit, a payload without keys wakes everyone.
    let mut text = if keys.len() > MAX_KEYS { String::new() } else { write_keys(&keys) };
    if let Some(traceparent) = traceparent {
        text.push(' ');
        text.push_str(traceparent);
    }
    Some(text)
}

/// Notifies the replicas, once this transaction commits, that this profile moved.
///
/// # Errors
/// [`StoreError`].
pub async fn wake(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    let payload = write_keys(&[wake_key(iccid)]);
    sqlx::query!(r#"SELECT 1 AS "done!" FROM pg_notify($1, $2)"#, CHANNEL, payload)
        .fetch_one(connection)
        .await?;
    Ok(())
}

fn write_keys(keys: &[u32]) -> String {
    let mut text = String::with_capacity(9 * keys.len());
    for key in keys {
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(text, "{space}{key:08x}");
    }
    text
}

/// Reads a payload: the keys, of which `None` means every profile, and the `traceparent` of what moved them.
pub fn read(payload: &str) -> (Option<Vec<u32>>, Option<&str>) {
    // Only a `traceparent` has hyphens.
    let (traces, keys): (Vec<_>, Vec<_>) =
        payload.split_ascii_whitespace().partition(|word| word.contains('-'));
    let keys: Result<Vec<_>, _> = keys.iter().map(|key| u32::from_str_radix(key, 16)).collect();
    (keys.ok().filter(|keys| !keys.is_empty()), traces.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_payload_names_the_trace_of_what_moved_the_profiles() {
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        let text = payload([&iccid].into_iter(), Some(TRACEPARENT)).unwrap();
        assert_eq!(read(&text), (Some(vec![wake_key(&iccid)]), Some(TRACEPARENT)));
        assert_eq!(read(&format!(" {TRACEPARENT}")), (None, Some(TRACEPARENT)));
        assert_eq!(payload([].into_iter(), Some(TRACEPARENT)), None);
    }

    #[test]
    fn a_full_batch_fits_into_one_payload_and_is_read_back() {
        let keys: Vec<u32> = (1..=MAX_KEYS).map(|n| u32::MAX / u32::try_from(n).unwrap()).collect();
        let payload = write_keys(&keys);
        assert!(payload.len() + TRACEPARENT.len() + 1 < 8_000);
        assert_eq!(read(&payload), (Some(keys), None));
        assert_eq!(read(""), (None, None));
        assert_eq!(read("what"), (None, None));
    }
}
