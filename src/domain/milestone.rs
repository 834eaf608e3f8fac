//! How far profiles come on their way from ready to connected, and how long an install takes: what the funnel counts.

use super::words::words;
use super::{Profile, ProfileState, Timestamp};

words! {
    /// What a profile reaches on its way, in the usual order. Each is counted once for a profile.
    pub enum Milestone or UnknownMilestone {
        /// It could be installed.
        Ready = "ready",
        /// Its user opened the page.
        Opened = "opened",
        /// Its user tapped the link that opens the phone's own setup.
        LinkTapped = "link-tapped",
        /// Its user was shown the QR code.
        QrShown = "qr-shown",
        /// A device has downloaded it.
        Downloaded = "downloaded",
        /// It was installed on a device.
        Installed = "installed",
        /// It was connected to a mobile network.
        Connected = "connected",
    }
}

words! {
    /// What a page reports of its user.
    pub enum Intent or UnknownIntent {
        /// They opened the page.
        Opened = "opened",
        /// They tapped the link that opens the phone's own setup.
        LinkTapped = "link-tapped",
        /// They were shown the QR code.
        QrShown = "qr-shown",
    }
}

impl Intent {
    /// The milestone that it is.
    pub fn milestone(self) -> Milestone {
        match self {
            Self::Opened => Milestone::Opened,
            Self::LinkTapped => Milestone::LinkTapped,
            Self::QrShown => Milestone::QrShown,
        }
    }
}

impl Milestone {
    /// What providers report, each of which implies those before it. A webhook may be missing, or not exist.
    const REPORTED: [Self; 4] = [Self::Ready, Self::Downloaded, Self::Installed, Self::Connected];

    /// The number for which it counts in a sum of milestones.
    pub fn bit(self) -> i16 {
        1 << self as i16
    }
}

/// How far a profile has come since it was ready. A profile has none if it was not reported as ready when it was new or
/// in preparation: how long its install took is then not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headway {
    /// When it was ready first, by our clock.
    pub ready_at: Timestamp,
    /// The furthest that was reported.
    pub reached: Milestone,
}

/// What a profile has newly reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// When it was ready.
    pub ready_at: Timestamp,
    /// The furthest that was reported before; `None` if it was not ready.
    after: Option<Milestone>,
    /// The furthest that is reported now.
    until: Milestone,
    /// How long the install took, if that is what is new.
    pub took: Option<Took>,
}

impl Advance {
    /// What `now` has reached since it had come as far as `before`; `None` if nothing.
    pub fn between(before: Option<Headway>, now: &Profile) -> Option<Self> {
        let Headway { ready_at, reached: until } = now.headway?;
        let after = before.map(|headway| headway.reached);
        let is_reached = |milestone| after < Some(milestone) && milestone <= until;
        let took = (is_reached(Milestone::Installed) && now.state.is_on_device())
            .then(|| Took::of(now.since.seconds_since(ready_at)));
        (after < Some(until)).then_some(Self { ready_at, after, until, took })
    }

    /// The milestones.
    pub fn milestones(self) -> impl Iterator<Item = Milestone> {
        let new = move |it: &Milestone| self.after < Some(*it) && *it <= self.until;
        Milestone::REPORTED.into_iter().filter(new)
    }
}

impl Profile {
    /// Adds to the profile what it has reached `at` this time. `before` is the state in which it was; `None` if it is
    /// new. Only what is new or was in preparation becomes ready: how long anything else has been ready is not known.
    pub(super) fn advanced(self, before: Option<ProfileState>, at: Timestamp) -> Self {
        let reached = match self.state {
            _ if self.connections.first_connected_at.is_some() => Some(Milestone::Connected),
            ProfileState::Released => Some(Milestone::Ready),
            ProfileState::Downloaded => Some(Milestone::Downloaded),
            ProfileState::Installed | ProfileState::Disabled => Some(Milestone::Installed),
            ProfileState::Preparing
            | ProfileState::Deleted
            | ProfileState::Error
            | ProfileState::Unavailable => None,
        };
        let headway = match (self.headway, reached) {
            (Some(headway), Some(reached)) => {
                Some(Headway { reached: headway.reached.max(reached), ..headway })
            }
            (None, Some(reached @ Milestone::Ready))
                if matches!(before, None | Some(ProfileState::Preparing)) =>
            {
                Some(Headway { ready_at: at, reached })
            }
            (headway, _) => headway,
        };
        Self { headway, ..self }
    }
}

/// How long an install took, to within 5 %: the number of a step, of which each is 9 % longer than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Took(pub i16);

impl Took {
    const STEPS_OF_A_DOUBLING: f64 = 8.0;

    /// The step of this many seconds.
    pub fn of(seconds: f64) -> Self {
        let step = (seconds.max(0.0) + 1.0).log2() * Self::STEPS_OF_A_DOUBLING;
        // The longest time that there is has a step below 500.
        #[expect(clippy::cast_possible_truncation, reason = "far below the largest number")]
        Self(step.floor() as i16)
    }

    /// The middle of the step, in seconds.
    pub fn seconds(self) -> f64 {
        ((f64::from(self.0) + 0.5) / Self::STEPS_OF_A_DOUBLING).exp2() - 1.0
    }

    /// The time within which this share of the installs was done. `times` is how many took how long, shortest first; `None`
    /// if there are none.
    pub fn quantile(times: &[(Self, i64)], share: f64) -> Option<Self> {
        let total: i64 = times.iter().map(|(_, number)| number).sum();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let wanted = total as f64 * share;
        let mut sum = 0;
        times.iter().find_map(|(took, number)| {
            sum += number;
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            (sum as f64 >= wanted && *number > 0).then_some(*took)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Claim, Connection, Iccid, Report};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::parse("2026-11-23T10:00:00Z").unwrap().plus_seconds(seconds)
    }

    fn report(state: ProfileState, seconds: i64) -> Report {
        let iccid = Iccid::parse("89972123300991848961").unwrap();
        let claim = Some(Claim { state, enabled: None });
        Report::new(iccid, "any", state.to_string(), claim, at(seconds))
    }

    /// What each event of a life newly reaches, one event every ten seconds; `+` is a connection. Times are those of
    /// their steps, of which 20 s has one of 21 s.
    fn story(events: &str) -> Vec<String> {
        let mut profile: Option<Profile> = None;
        let mut reached = Vec::new();
        for (index, word) in events.split_whitespace().enumerate() {
            let seconds = 10 * i64::try_from(index).unwrap();
            let verdict = if word == "+" {
                let connection = Connection {
                    iccid: Iccid::parse("89972123300991848961").unwrap(),
                    provider: "any",
                    imsi: None,
                    country: None,
                    received_at: at(seconds),
                    remarks: Vec::new(),
                };
                Profile::connect(profile.as_ref(), &connection)
            } else {
                Profile::observe(profile.as_ref(), &report(word.parse().unwrap(), seconds))
            };
            let now = verdict.into_parts().0.unwrap();
            let new = Advance::between(profile.as_ref().and_then(|it| it.headway), &now);
            let words = new.into_iter().flat_map(Advance::milestones).map(Milestone::as_str);
            let took = new.and_then(|it| it.took).map(|took| format!("{:.0} s", took.seconds()));
            reached.push(words.map(str::to_owned).chain(took).collect::<Vec<_>>().join(" "));
            profile = Some(now);
        }
        reached
    }

    #[test]
    fn each_milestone_is_reached_once() {
        assert_eq!(
            story("PREPARING RELEASED DOWNLOADED INSTALLED + + DISABLED RELEASED INSTALLED"),
            ["", "ready", "downloaded", "installed 21 s", "connected", "", "", "", ""]
        );
    }

    #[test]
    fn what_was_not_reported_is_implied_by_what_comes_after_it() {
        assert_eq!(story("RELEASED INSTALLED"), ["ready", "downloaded installed 10 s"]);
        assert_eq!(
            story("RELEASED ERROR RELEASED + INSTALLED"),
            ["ready", "", "", "downloaded installed connected", ""]
        );
    }

    #[test]
    fn a_profile_that_nobody_called_ready_is_not_counted() {
        assert_eq!(story("INSTALLED RELEASED INSTALLED +"), ["", "", "", ""]);
        assert_eq!(story("ERROR RELEASED INSTALLED"), ["", "", ""]);
        assert_eq!(story("DOWNLOADED INSTALLED"), ["", ""]);
    }

    #[test]
    fn a_step_of_time_is_within_five_percent() {
        for seconds in [30.0, 61.0, 3_600.0, 86_400.0, 2_592_000.0] {
            let error = Took::of(seconds).seconds() / seconds - 1.0;
            assert!(error.abs() < 0.05, "{seconds}: {error}");
        }
        assert_eq!((Took::of(-5.0), Took::of(0.0)), (Took(0), Took(0)));
        assert!(Took::of(f64::MAX).0 > 500);
    }

    #[test]
    fn a_quantile_is_the_time_within_which_that_share_was_done() {
        let times = [(Took(3), 5), (Took(9), 4), (Took(20), 1)];
        let quantile = |share| Took::quantile(&times, share);
        assert_eq!(
            [0.0, 0.5, 0.51, 0.9, 0.91, 1.0].map(quantile),
            [3, 3, 9, 9, 20, 20].map(|it| Some(Took(it)))
        );
        assert_eq!(Took::quantile(&[], 0.5), None);
        assert_eq!(Took::quantile(&[(Took(1), 0)], 0.5), None);
    }

    #[test]
    fn every_intent_is_a_milestone_of_the_same_name() {
        for intent in Intent::ALL {
            assert_eq!(intent.as_str(), intent.milestone().as_str());
        }
        let bits: Vec<_> = Milestone::ALL.map(Milestone::bit).into();
        assert_eq!(bits, [1, 2, 4, 8, 16, 32, 64]);
    }
}
