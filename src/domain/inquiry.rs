//! Asking a provider about a profile: what its answer does, when it is asked again, and when that ends.

use super::{
    Profile, ProfileState, REPLICA_TOLERANCE_SECONDS, Report, Source, Timestamp, Transition,
};

/// How long after each attempt the provider is asked again, in seconds: 1 min, 5 min, 30 min, 3 h, and then each day.
const PAUSES: [i64; 5] = [60, 300, 1_800, 10_800, 86_400];

/// How long a provider is asked about one profile, in seconds.
pub const ASKED_FOR_SECONDS: i64 = 7 * 86_400;

/// When to ask again after this many attempts about something that was first wanted at `wanted_at`; `None`: never.
pub fn ask_again_at(attempts: i32, wanted_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let made = usize::try_from(attempts).unwrap_or(0).saturating_sub(1);
    let pause = PAUSES.get(made).or(PAUSES.last()).copied().unwrap_or(ASKED_FOR_SECONDS);
    let next = now.plus_seconds(pause);
    (!is_asked_long_enough(wanted_at, next)).then_some(next)
}

/// Whether a provider was asked for long enough about something that was first wanted at `wanted_at`.
pub fn is_asked_long_enough(wanted_at: Timestamp, now: Timestamp) -> bool {
    now >= wanted_at.plus_seconds(ASKED_FOR_SECONDS)
}

impl Profile {
    /// Whether something is still to come of which a webhook may have been lost.
    pub fn is_under_way(&self) -> bool {
        match self.state {
            ProfileState::Preparing | ProfileState::Downloaded | ProfileState::Error => true,
            ProfileState::Released => self.installs_seen == 0,
            ProfileState::Installed
            | ProfileState::Disabled
            | ProfileState::Deleted
            | ProfileState::Unavailable => false,
        }
    }

    /// What the provider's answer does to the profile. `report` says what was answered, and as its time of receipt when the
    /// question was sent. `None` if a webhook has been received since then, or just before: it counts, because the answer may
    /// be older.
    pub fn answered(&self, report: &Report) -> Option<(Self, Option<Transition>)> {
        let newest = self.last_delivery_at.map(|at| at.plus_seconds(REPLICA_TOLERANCE_SECONDS));
        if newest.is_some_and(|newest| newest > report.received_at) {
            return None;
        }
        let (profile, transition) = Self::observe(Some(self), report).into_parts();
        // The answer is evidence, but no delivery.
        let profile = Self { deliveries: self.deliveries, ..profile? };
        let transition =
            transition.map(|it| Transition { source: Some(Source::ProviderApi), ..it });
        Some((profile, transition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Claim, Iccid, TransitionKind};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::parse("2026-11-23T10:00:00Z").unwrap().plus_seconds(seconds)
    }

    fn report(state: ProfileState, seconds: i64) -> Report {
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        let claim = Some(Claim { state, enabled: None });
        Report::new(iccid, "gigastore", state.to_string(), claim, at(seconds))
    }

    #[test]
    fn the_pauses_grow_and_end_after_seven_days() {
        let (mut now, mut asked) = (at(60), Vec::new());
        for attempt in 1.. {
            asked.push(now.seconds_since(at(0)));
            match ask_again_at(attempt, at(0), now) {
                Some(next) => now = next,
                None => break,
            }
        }
        assert_eq!(asked[..5], [60.0, 120.0, 420.0, 2_220.0, 13_020.0]);
        assert_eq!(asked.len(), 11);
        assert!(asked[10] < 604_800.0 && asked[10] > 518_400.0, "{asked:?}");
    }

    #[test]
    fn an_answer_moves_the_profile_without_counting_as_a_delivery() {
        let (released, _) = Profile::register(None, &report(ProfileState::Released, 0), 0);
        let (installed, transition) =
            released.answered(&report(ProfileState::Installed, 60)).unwrap();
        let transition = transition.unwrap();
        assert_eq!(
            (installed.state, installed.seq, installed.deliveries),
            (ProfileState::Installed, 2, 0)
        );
        assert_eq!(installed.last_delivery_at, Some(at(60)));
        assert_eq!(
            (transition.source, transition.kind),
            (Some(Source::ProviderApi), TransitionKind::Normal)
        );
        // Nor does a later registration overwrite it with what was known at the order.
        let (again, moved) =
            Profile::register(Some(&installed), &report(ProfileState::Released, 90), 0);
        assert_eq!((again.state, moved), (ProfileState::Installed, None));
        let (same, moved) = installed.answered(&report(ProfileState::Installed, 120)).unwrap();
        assert_eq!((same.seq, same.last_delivery_at, moved), (2, Some(at(120)), None));
    }

    #[test]
    fn a_webhook_that_came_while_the_question_was_on_its_way_wins() {
        let installed =
            Profile::observe(None, &report(ProfileState::Installed, 60)).into_parts().0.unwrap();
        assert_eq!(installed.answered(&report(ProfileState::Released, 59)), None);
        assert_eq!(installed.answered(&report(ProfileState::Released, 64)), None);
        assert!(installed.answered(&report(ProfileState::Released, 65)).is_some());
        let theirs = Report { provider: "other", ..report(ProfileState::Released, 100) };
        assert_eq!(installed.answered(&theirs), None);
        let wordless = Report { claim: None, ..report(ProfileState::Released, 100) };
        let (same, moved) = installed.answered(&wordless).unwrap();
        assert_eq!((same.state, moved), (ProfileState::Installed, None));
    }
}
