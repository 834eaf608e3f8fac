//! What should have happened to a profile and did not. Nobody sends a webhook for that.

use super::words::words;
use super::{Day, Profile, ProfileState, Timestamp, Transition, TransitionKind};

words! {
    /// What did not happen.
    pub enum OverdueReason or UnknownOverdueReason {
        /// It can be installed, and was not.
        NotInstalled = "not-installed",
        /// It was downloaded, and the install was not finished.
        NotFinished = "not-finished",
        /// Its install failed, and nothing came after that.
        Failed = "failed",
        /// It is installed and was expected to be used, and no connection was reported.
        NotConnected = "not-connected",
    }
}

/// How long each may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the moment at which it can be installed, or from the beginning of the day of travel, to an install.
    pub not_installed: i64,
    /// From the download to an install.
    pub not_finished: i64,
    /// From a failure to whatever follows.
    pub failed: i64,
    /// From the install, or from the beginning of the day of travel, to a connection.
    pub not_connected: i64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { not_installed: 86_400, not_finished: 3_600, failed: 0, not_connected: 2 * 86_400 }
    }
}

impl Patience {
    /// How long this may take, in seconds.
    pub fn of(&self, reason: OverdueReason) -> i64 {
        match reason {
            OverdueReason::NotInstalled => self.not_installed,
            OverdueReason::NotFinished => self.not_finished,
            OverdueReason::Failed => self.failed,
            OverdueReason::NotConnected => self.not_connected,
        }
    }
}

impl OverdueReason {
    /// The state of the profiles that this can be true of.
    pub fn state(self) -> ProfileState {
        match self {
            Self::NotInstalled => ProfileState::Released,
            Self::NotFinished => ProfileState::Downloaded,
            Self::Failed => ProfileState::Error,
            Self::NotConnected => ProfileState::Installed,
        }
    }
}

impl Profile {
    /// What is overdue at `now`, for a profile that is expected to be used from this day on.
    ///
    /// A profile that was installed before and removed is finished with, not overdue. One that was ever connected works,
    /// whatever was reported. Without a day of travel nobody can say that a connection is late: many install weeks before
    /// they travel.
    pub fn overdue(
        &self,
        expected_from: Option<Day>,
        patience: &Patience,
        now: Timestamp,
    ) -> Option<OverdueReason> {
        let reason = match self.state {
            ProfileState::Released if self.installs_seen == 0 => OverdueReason::NotInstalled,
            ProfileState::Downloaded => OverdueReason::NotFinished,
            ProfileState::Error => OverdueReason::Failed,
            ProfileState::Installed => OverdueReason::NotConnected,
            _ => return None,
        };
        let expected = expected_from.map(Day::begins);
        let begun = match (reason, expected) {
            // A user who bought for a later day may install on that day.
            (OverdueReason::NotInstalled | OverdueReason::NotConnected, Some(expected)) => {
                self.since.max(expected)
            }
            (OverdueReason::NotConnected, None) => return None,
            _ => self.since,
        };
        let is_due = begun.plus_seconds(patience.of(reason)) <= now;
        (is_due && self.evidence.first_connected_at.is_none()).then_some(reason)
    }

    /// The line in the history that says so: the next one, and the state stays.
    pub fn note_overdue(&self, reason: OverdueReason, now: Timestamp) -> Transition {
        Transition {
            seq: self.seq + 1,
            from_state: Some(self.state),
            to_state: self.state,
            enabled: self.enabled,
            raw_state: self.raw_state.clone(),
            kind: TransitionKind::Overdue,
            reason: Some(reason),
            source: None,
            occurred_at: None,
            received_at: now,
            provider: self.provider.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Claim, Connection, Iccid, Report};

    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::parse("2026-11-23T10:00:00Z").unwrap().plus_seconds(seconds)
    }

    fn profile(states: &[ProfileState]) -> Profile {
        states
            .iter()
            .fold(None, |known: Option<Profile>, state| {
                let report = Report {
                    iccid: Iccid::parse("89972123300991848961").unwrap(),
                    provider: "gigastore",
                    raw_state: state.as_str().to_owned(),
                    claim: Some(Claim { state: *state, enabled: None }),
                    eid: None,
                    device: None,
                    imsi: None,
                    occurred_at: None,
                    received_at: at(0),
                    remarks: Vec::new(),
                };
                Profile::observe(known.as_ref(), &report).into_parts().0
            })
            .unwrap()
    }

    #[test]
    fn each_reason_has_its_state_and_its_time() {
        use ProfileState::{Deleted, Disabled, Downloaded, Error, Installed, Preparing, Released};
        for (states, day, due, reason) in [
            (&[Released][..], None, Some(DAY), Some(OverdueReason::NotInstalled)),
            // The day of travel begins before the release, or 14 hours after it, or two days later than that.
            (&[Released], Some("2026-11-23"), Some(DAY), Some(OverdueReason::NotInstalled)),
            (
                &[Released],
                Some("2026-11-24"),
                Some(DAY + 14 * 3_600),
                Some(OverdueReason::NotInstalled),
            ),
            (
                &[Released],
                Some("2026-11-26"),
                Some(3 * DAY + 14 * 3_600),
                Some(OverdueReason::NotInstalled),
            ),
            (&[Released, Downloaded], None, Some(3_600), Some(OverdueReason::NotFinished)),
            (&[Released, Error], None, Some(0), Some(OverdueReason::Failed)),
            (&[Installed], Some("2026-11-01"), Some(2 * DAY), Some(OverdueReason::NotConnected)),
            (
                &[Installed],
                Some("2026-11-24"),
                Some(3 * DAY - 10 * 3_600),
                Some(OverdueReason::NotConnected),
            ),
            (&[Installed], None, None, None),
            (&[Installed, Released], None, None, None),
            (&[Preparing], None, None, None),
            (&[Installed, Disabled], Some("2026-11-01"), None, None),
            (&[Deleted], None, None, None),
        ] {
            let profile = profile(states);
            let day = day.map(|day| Day::parse(day).unwrap());
            let overdue = |seconds| profile.overdue(day, &Patience::default(), at(seconds));
            match due {
                Some(due) => {
                    assert_eq!(overdue(due - 1), None, "{states:?} {day:?}");
                    assert_eq!(overdue(due), reason, "{states:?} {day:?}");
                }
                None => assert_eq!(overdue(1_000 * DAY), None, "{states:?} {day:?}"),
            }
            assert!(reason.is_none_or(|reason| reason.state() == profile.state));
        }
    }

    #[test]
    fn a_profile_that_was_connected_is_never_overdue() {
        let released = profile(&[ProfileState::Released]);
        let connection = Connection {
            iccid: released.iccid.clone(),
            provider: "gigastore",
            imsi: None,
            country: None,
            received_at: at(1),
            remarks: Vec::new(),
        };
        let connected = Profile::connect(Some(&released), &connection).into_parts().0.unwrap();
        assert_eq!(connected.overdue(None, &Patience::default(), at(1_000 * DAY)), None);
    }

    #[test]
    fn the_line_continues_the_history_in_the_same_state() {
        let released = profile(&[ProfileState::Released]);
        let line = released.note_overdue(OverdueReason::NotInstalled, at(DAY));
        assert_eq!(
            (line.seq, line.from_state, line.to_state),
            (2, Some(released.state), released.state)
        );
        assert_eq!((line.kind, line.received_at), (TransitionKind::Overdue, at(DAY)));
    }
}
