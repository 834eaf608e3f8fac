//! What should have happened to a profile and did not. Nobody sends a webhook for that.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::words::words;
use super::{Day, Profile, ProfileState, Timestamp, Transition, TransitionKind};

/// The max number of hours that anything may take: a year.
const LONGEST: u16 = 8_760;

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

/// How long each may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// From the moment at which it can be installed, or from the beginning of the day of travel, to an install.
    pub not_installed: Allowance,
    /// From the download to an install.
    pub not_finished: Allowance,
    /// From a failure to whatever follows.
    pub failed: Allowance,
    /// From the install, or from the beginning of the day of travel, to a connection.
    pub not_connected: Allowance,
}

/// How long something may take, in hours: usually, and with the providers for which that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    usual: u16,
    of_providers: BTreeMap<String, u16>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            not_installed: Allowance::of_all(24),
            not_finished: Allowance::of_all(1),
            failed: Allowance::of_all(0),
            not_connected: Allowance::of_all(48),
        }
    }
}

impl Patience {
    /// How long this may take.
    pub fn of(&self, reason: OverdueReason) -> &Allowance {
        match reason {
            OverdueReason::NotInstalled => &self.not_installed,
            OverdueReason::NotFinished => &self.not_finished,
            OverdueReason::Failed => &self.failed,
            OverdueReason::NotConnected => &self.not_connected,
        }
    }
}

impl Allowance {
    /// The same for all providers.
    pub fn of_all(hours: u16) -> Self {
        Self { usual: hours, of_providers: BTreeMap::new() }
    }

    /// The number of seconds that it may take usually.
    pub fn usual(&self) -> i64 {
        seconds(self.usual)
    }

    /// The providers for which it differs, each with its number of seconds.
    pub fn of_providers(&self) -> impl Iterator<Item = (&str, i64)> {
        self.of_providers.iter().map(|(provider, hours)| (provider.as_str(), seconds(*hours)))
    }

    /// The number of seconds that it may take with this provider.
    pub fn of_provider(&self, provider: &str) -> i64 {
        self.of_providers.get(provider).map_or(self.usual(), |hours| seconds(*hours))
    }
}

fn seconds(hours: u16) -> i64 {
    i64::from(hours) * 3_600
}

/// As settings have it: `24`, or `24,roamify=72` if it differs for a provider.
impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.usual)?;
        self.of_providers.iter().try_for_each(|(provider, hours)| write!(f, ",{provider}={hours}"))
    }
}

impl FromStr for Allowance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hours = |text: &str| {
            let hours = text.trim().parse().ok().filter(|hours| *hours <= LONGEST);
            hours.ok_or_else(|| {
                format!(
                    "`{}` is not a number of hours from 0 to {LONGEST}; write 24, or 24,roamify=72 if it differs for a provider",
                    text.escape_debug()
                )
            })
        };
        let mut parts = text.split(',');
        let mut allowance = Self::of_all(hours(parts.next().unwrap_or_default())?);
        for part in parts {
            let (provider, own) = part.split_once('=').unwrap_or(("", part));
            let (provider, own) = (provider.trim(), hours(own)?);
            if provider.is_empty() {
                return Err(format!("`{own}` belongs to no provider; write roamify={own}"));
            }
            if allowance.of_providers.insert(provider.to_owned(), own).is_some() {
                return Err(format!("{provider} is named twice; keep one"));
            }
        }
        Ok(allowance)
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
        let allowed = patience.of(reason).of_provider(&self.provider);
        let is_due = begun.plus_seconds(allowed) <= now;
        (is_due && self.connections.first_connected_at.is_none()).then_some(reason)
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
    fn a_provider_may_have_its_own_time() {
        let allowance: Allowance = "24, roamify=72,gigastore=0".parse().unwrap();
        assert_eq!(allowance.to_string(), "24,gigastore=0,roamify=72");
        assert_eq!((allowance.usual(), allowance.of_provider("other")), (DAY, DAY));
        assert_eq!(allowance.of_provider("roamify"), 3 * DAY);
        let patience = Patience { not_installed: allowance, ..Patience::default() };
        let released = profile(&[ProfileState::Released]);
        let reason = released.overdue(None, &patience, at(0));
        assert_eq!(reason, Some(OverdueReason::NotInstalled));
        for (text, why) in [
            ("", "`` is not a number of hours from 0 to 8760"),
            ("8761", "`8761` is not a number"),
            ("-1", "`-1` is not a number"),
            ("roamify=72", "`roamify=72` is not a number"),
            ("24,72", "`72` belongs to no provider; write roamify=72"),
            ("24,roamify=soon", "`soon` is not a number"),
            ("24,a=1,a=1", "a is named twice; keep one"),
        ] {
            let error = text.parse::<Allowance>().unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
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
