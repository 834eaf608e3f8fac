//! The profiles as a writer last wrote them. Most reports follow soon after another one about the same profile, so this
//! saves a read. It is only a cache: a statement that relies on it does nothing if a row has changed since.

use std::collections::HashMap;

use crate::domain::Profile;
use crate::store::profiles::Version;
use hashlink::LruCache;

/// The max number of profiles that all writers together remember. Each takes about half a kilobyte.
const MOST: usize = 8_192;

/// The profiles that were last written over one connection.
#[derive(Debug)]
pub(super) struct Recent {
    profiles: LruCache<String, (Profile, Version)>,
}

impl Recent {
    /// The share of one of `writers` writers.
    pub(super) fn of_one_in(writers: usize) -> Self {
        Self { profiles: LruCache::new(MOST / writers.max(1)) }
    }

    /// Never remembers anything.
    pub(super) fn none() -> Self {
        Self { profiles: LruCache::new(0) }
    }

    /// Removes and returns the profiles that it remembers. The writer remembers them again once their new state is
    /// written.
    pub(super) fn take(&mut self, iccids: &[String]) -> Vec<(Profile, Version)> {
        iccids.iter().filter_map(|iccid| self.profiles.remove(iccid)).collect()
    }

    /// Remembers profiles with their current versions; the two lists may differ in order.
    pub(super) fn remember(&mut self, profiles: Vec<Profile>, versions: Vec<Version>) {
        if self.profiles.capacity() == 0 {
            return;
        }
        let mut profiles: HashMap<_, _> = profiles
            .into_iter()
            .map(|profile| (profile.iccid.as_str().to_owned(), profile))
            .collect();
        for version in versions {
            if let Some((iccid, profile)) = profiles.remove_entry(&version.iccid) {
                self.profiles.insert(iccid, (profile, version));
            }
        }
    }

    /// Forgets everything. A new connection may lead to another server, which may lack what was written to this one.
    pub(super) fn forget(&mut self) {
        self.profiles.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Iccid, ProfileState, Timestamp};

    fn iccid(number: usize) -> String {
        format!("894801000004720{number:05}")
    }

    fn profile(number: usize, seq: i64) -> Profile {
        Profile {
            iccid: Iccid::parse(&iccid(number)).unwrap(),
            provider: "gigastore".to_owned(),
            state: ProfileState::Released,
            enabled: None,
            raw_state: "RELEASED".to_owned(),
            imsi: None,
            eid: None,
            since: Timestamp::parse("2026-11-23T10:00:00Z").unwrap(),
            seq,
            installs_seen: 0,
            deliveries: seq,
            last_delivery_at: None,
            last_occurred_at: None,
            erased_at: None,
        }
    }

    fn version(number: usize, xmin: u32) -> Version {
        Version { iccid: iccid(number), xmin, ctid: format!("(0,{xmin})") }
    }

    fn seqs(taken: &[(Profile, Version)]) -> Vec<(i64, u32)> {
        taken.iter().map(|(profile, version)| (profile.seq, version.xmin)).collect()
    }

    #[test]
    fn a_profile_comes_back_once_with_its_own_version_whatever_their_order() {
        let mut recent = Recent::of_one_in(1);
        recent
            .remember(vec![profile(1, 10), profile(2, 20)], vec![version(2, 200), version(1, 100)]);
        let wanted = [iccid(1), iccid(3), iccid(2)];
        assert_eq!(seqs(&recent.take(&wanted)), [(10, 100), (20, 200)]);
        assert!(recent.take(&wanted).is_empty(), "the writer that took it may be changing it");
    }

    #[test]
    fn what_is_written_again_replaces_what_is_remembered() {
        let mut recent = Recent::of_one_in(1);
        recent.remember(vec![profile(1, 1)], vec![version(1, 100)]);
        recent.remember(vec![profile(1, 2)], vec![version(1, 101)]);
        assert_eq!(seqs(&recent.take(&[iccid(1)])), [(2, 101)]);
    }

    #[test]
    fn nothing_is_remembered_without_a_version_nor_over_another_connection() {
        let mut recent = Recent::of_one_in(1);
        recent.remember(vec![profile(1, 1), profile(2, 1)], vec![version(2, 100)]);
        assert!(recent.take(&[iccid(1)]).is_empty());
        recent.forget();
        assert!(recent.take(&[iccid(2)]).is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten_first_and_writers_share_the_room() {
        let mut recent = Recent::of_one_in(MOST / 2);
        for number in 1..=3 {
            recent.remember(vec![profile(number, 1)], vec![version(number, 100)]);
        }
        assert_eq!(recent.take(&[1, 2, 3].map(iccid)).len(), 2);
        assert!(recent.take(&[iccid(1)]).is_empty());
        let mut none = Recent::none();
        none.remember(vec![profile(1, 1)], vec![version(1, 100)]);
        assert!(none.take(&[iccid(1)]).is_empty());
    }
}
