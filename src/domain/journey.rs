//! What the user should do now: a pure function from a profile and its history to a step, an advice, and the progress.
//!
//! The keys are the interface; `texts` has the words of each advice. A profile is called "connected" only on evidence, and
//! never "on right now": a phone may send its notifications days late.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Connections, Profile, ProfileState, Timestamp, Transition, TransitionKind};

/// How long a download usually takes to become an install, in seconds. If it takes longer, something may be wrong.
const INSTALL_TAKES_AT_MOST: f64 = 3_600.0;

/// The user's next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Wait: the profile is being prepared.
    Wait,
    /// Install the profile.
    Install,
    /// Finish the install on the phone.
    Finish,
    /// Turn the eSIM on in the phone's settings.
    TurnOn,
    /// Nothing more: the profile is installed.
    Done,
    /// Install the profile again: it was removed.
    Reinstall,
    /// Contact support: the user cannot fix it alone.
    ContactSupport,
}

/// The status of one part of the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// Reached.
    Done,
    /// The part that comes now.
    Current,
    /// Not reached, and something is wrong.
    Problem,
    /// Not reached yet.
    Upcoming,
}

/// One part of the progress, for display.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Progress {
    /// `ready`, `downloaded` (only if it was reported), `installed`, `turned-on` (only if it was off), `connected` (only if
    /// the provider tells of connections).
    pub key: &'static str,
    /// Its status.
    pub status: StepStatus,
    /// When it was reached.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// What a page says about a step. Each has its text in every language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// The profile is being prepared.
    Wait,
    /// It can be installed.
    Install,
    /// It was removed, and can be installed again.
    Reinstall {
        /// How many installs were observed.
        seen: i32,
        /// How many the provider allows, if it says so.
        limit: Option<i32>,
    },
    /// The phone has downloaded it.
    Finish,
    /// The phone has downloaded it so long ago that something may be wrong.
    Unconfirmed,
    /// It is installed and switched off.
    TurnOn,
    /// It is installed.
    Installed,
    /// It has connected to a network.
    Connected,
    /// The install failed.
    Failed,
    /// It was removed, and installed as often as the provider allows.
    UsedUp,
    /// The user deleted it from the phone.
    Deleted,
    /// It can no longer be installed.
    Unavailable,
}

/// What the user should do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// The next step.
    pub step: Step,
    /// What to tell the user about it.
    pub advice: Advice,
    /// The progress so far.
    pub progress: Vec<Progress>,
    /// Whether the user can install the profile now.
    pub can_install: bool,
}

impl Journey {
    /// The journey of a profile with this history (oldest first), as of `now`. `install_limit` is how often the
    /// provider lets a profile be installed, if it says so; `tells_of_connections` is whether it is known to report them.
    pub fn of(
        profile: &Profile,
        history: &[Transition],
        install_limit: Option<i32>,
        tells_of_connections: bool,
        now: Timestamp,
    ) -> Self {
        let used_up = install_limit.is_some_and(|limit| profile.installs_seen >= limit);
        let waiting_long = now.seconds_since(profile.since) > INSTALL_TAKES_AT_MOST;
        let reached = Reached::by(profile, history);
        let is_connected = reached.connected.is_some();
        let step = if is_connected { Step::Done } else { step(profile, used_up) };
        let advice = advice(profile, step, install_limit, waiting_long, is_connected);
        let mut progress = progress(profile, &reached, step, waiting_long);
        if is_connected || tells_of_connections {
            let status = match step {
                Step::Done if is_connected => StepStatus::Done,
                Step::Done => StepStatus::Current,
                _ => StepStatus::Upcoming,
            };
            progress.push(Progress { key: "connected", status, at: reached.connected });
        }
        Self {
            step,
            advice,
            progress,
            can_install: matches!(step, Step::Install | Step::Reinstall),
        }
    }
}

fn step(profile: &Profile, used_up: bool) -> Step {
    match profile.state {
        ProfileState::Preparing => Step::Wait,
        // RELEASED means either "never installed" or "removed again".
        ProfileState::Released if profile.installs_seen == 0 => Step::Install,
        ProfileState::Released if used_up => Step::ContactSupport,
        ProfileState::Released => Step::Reinstall,
        ProfileState::Downloaded => Step::Finish,
        ProfileState::Installed if profile.enabled == Some(false) => Step::TurnOn,
        ProfileState::Installed => Step::Done,
        ProfileState::Disabled => Step::TurnOn,
        ProfileState::Deleted | ProfileState::Error | ProfileState::Unavailable => {
            Step::ContactSupport
        }
    }
}

fn advice(
    profile: &Profile,
    step: Step,
    install_limit: Option<i32>,
    waiting_long: bool,
    is_connected: bool,
) -> Advice {
    match (step, profile.state) {
        (Step::Wait, _) => Advice::Wait,
        (Step::Install, _) => Advice::Install,
        (Step::Reinstall, _) => {
            Advice::Reinstall { seen: profile.installs_seen, limit: install_limit }
        }
        (Step::Finish, _) if waiting_long => Advice::Unconfirmed,
        (Step::Finish, _) => Advice::Finish,
        (Step::TurnOn, _) => Advice::TurnOn,
        (Step::Done, _) if is_connected => Advice::Connected,
        (Step::Done, _) => Advice::Installed,
        (Step::ContactSupport, ProfileState::Error) => Advice::Failed,
        (Step::ContactSupport, ProfileState::Released) => Advice::UsedUp,
        (Step::ContactSupport, ProfileState::Deleted) => Advice::Deleted,
        // Named one by one, so that a new state does not compile without its own advice.
        (
            Step::ContactSupport,
            ProfileState::Unavailable
            | ProfileState::Preparing
            | ProfileState::Downloaded
            | ProfileState::Installed
            | ProfileState::Disabled,
        ) => Advice::Unavailable,
    }
}

/// When each part was reached since the profile was last removed.
#[derive(Default)]
struct Reached {
    ready: Option<Timestamp>,
    downloaded: Option<Timestamp>,
    installed: Option<Timestamp>,
    connected: Option<Timestamp>,
}

impl Reached {
    fn by(profile: &Profile, history: &[Transition]) -> Self {
        let reached = Self::by_reports(history);
        let Connections { first_connected_at, last_connected_at, .. } = profile.connections;
        // A connection before the profile was removed says nothing about this install. Where no install was reported, only
        // a connection since the last report shows that there is one.
        let since = if profile.state == ProfileState::Installed {
            reached.ready
        } else {
            Some(profile.since)
        };
        let in_this_life = |at: &Timestamp| since.is_none_or(|since| *at >= since);
        let connected =
            first_connected_at.filter(in_this_life).or(last_connected_at.filter(in_this_life));
        Self { connected, ..reached }
    }

    fn by_reports(history: &[Transition]) -> Self {
        let mut reached = Self::default();
        let reports =
            |it: &&Transition| !matches!(it.kind, TransitionKind::Late | TransitionKind::Overdue);
        for transition in history.iter().filter(reports) {
            let at = Some(transition.received_at);
            match transition.to_state {
                ProfileState::Preparing => reached = Self::default(),
                ProfileState::Released | ProfileState::Deleted => {
                    reached = Self { ready: at, ..Self::default() };
                }
                ProfileState::Downloaded => reached.downloaded = at,
                ProfileState::Installed | ProfileState::Disabled => {
                    reached.installed = reached.installed.or(at);
                }
                ProfileState::Error | ProfileState::Unavailable => {}
            }
        }
        reached
    }
}

fn progress(profile: &Profile, reached: &Reached, step: Step, waiting_long: bool) -> Vec<Progress> {
    let part = |key, status, at| Progress { key, status, at };
    // A connection is evidence of an install that nobody has reported.
    let on_device = profile.state.is_on_device() || reached.connected.is_some();
    let problem = step == Step::ContactSupport || (step == Step::Finish && waiting_long);
    let install = match (on_device, problem, step) {
        (true, _, _) => StepStatus::Done,
        (false, true, _) => StepStatus::Problem,
        (false, false, Step::Wait) => StepStatus::Upcoming,
        (false, false, _) => StepStatus::Current,
    };
    let ready = if step == Step::Wait { StepStatus::Current } else { StepStatus::Done };
    let mut parts = vec![part("ready", ready, reached.ready)];
    if profile.state == ProfileState::Downloaded || reached.downloaded.is_some() {
        parts.push(part("downloaded", StepStatus::Done, reached.downloaded));
    }
    let installed_at = reached.installed.filter(|_| on_device);
    parts.push(part("installed", install, installed_at));
    if step == Step::TurnOn {
        parts.push(part("turned-on", StepStatus::Current, None));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Claim, Iccid, Report};

    use Step::{ContactSupport, Done, Finish, Install, Reinstall, TurnOn, Wait};

    fn at(second: i64) -> Timestamp {
        Timestamp::parse("2026-11-23T10:00:00Z").unwrap().plus_seconds(second)
    }

    /// The profile and history after reports of these states, one every ten seconds from 10 on. `installed` is from a
    /// provider that does not say whether the profile is switched on.
    fn story(states: &str) -> (Profile, Vec<Transition>) {
        let (mut profile, mut history) = (None, Vec::new());
        for (index, word) in states.split_whitespace().enumerate() {
            let enabled = match word {
                "INSTALLED" => Some(true),
                "DISABLED" | "OFF" => Some(false),
                _ => None,
            };
            let known = if word == "OFF" { "INSTALLED" } else { word };
            let state = known.to_uppercase().parse().ok();
            let second = 10 * (i64::try_from(index).unwrap() + 1);
            let verdict = Profile::observe(
                profile.as_ref(),
                &Report {
                    iccid: Iccid::parse("89972123300991848961").unwrap(),
                    provider: "any",
                    raw_state: word.to_owned(),
                    claim: state.map(|state| Claim { state, enabled }),
                    eid: None,
                    device: None,
                    imsi: None,
                    occurred_at: None,
                    received_at: at(second),
                    remarks: Vec::new(),
                },
            );
            let (judged, transition) = verdict.into_parts();
            profile = judged.or(profile);
            history.extend(transition);
        }
        (profile.expect("one word is known"), history)
    }

    /// The progress in one line: the key of each part, its status, and when it was reached.
    fn way(journey: &Journey) -> String {
        let part = |part: &Progress| {
            let status = match part.status {
                StepStatus::Done => "done",
                StepStatus::Current => "now",
                StepStatus::Problem => "wrong",
                StepStatus::Upcoming => "later",
            };
            let reached = part.at.map(|reached| reached.seconds_since(at(0)));
            let reached = reached.map(|second| format!(" {second}")).unwrap_or_default();
            format!("{} {status}{reached}", part.key)
        };
        journey.progress.iter().map(part).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_state_and_history_has_its_step_and_its_way() {
        let twice = "INSTALLED RELEASED INSTALLED RELEASED";
        let five_times = format!("{twice} {twice} INSTALLED RELEASED");
        let rows = [
            ("PREPARING", Wait, "ready now, installed later"),
            ("RELEASED", Install, "ready done 10, installed now"),
            ("PREPARING RELEASED", Install, "ready done 20, installed now"),
            ("RELEASED RELEASED", Install, "ready done 10, installed now"),
            ("RELEASED WHATEVER", Install, "ready done 10, installed now"),
            ("WHATEVER RELEASED", Install, "ready done 20, installed now"),
            ("DOWNLOADED", Finish, "ready done, downloaded done 10, installed now"),
            ("RELEASED DOWNLOADED", Finish, "ready done 10, downloaded done 20, installed now"),
            ("RELEASED DOWNLOADED RELEASED", Install, "ready done 30, installed now"),
            (
                "RELEASED DOWNLOADED INSTALLED",
                Done,
                "ready done 10, downloaded done 20, installed done 30",
            ),
            ("INSTALLED", Done, "ready done, installed done 10"),
            ("installed", Done, "ready done, installed done 10"),
            ("RELEASED INSTALLED", Done, "ready done 10, installed done 20"),
            ("RELEASED INSTALLED WHATEVER", Done, "ready done 10, installed done 20"),
            ("DISABLED", TurnOn, "ready done, installed done 10, turned-on now"),
            ("OFF", TurnOn, "ready done, installed done 10, turned-on now"),
            (
                "RELEASED INSTALLED DISABLED",
                TurnOn,
                "ready done 10, installed done 20, turned-on now",
            ),
            ("RELEASED INSTALLED DISABLED INSTALLED", Done, "ready done 10, installed done 20"),
            ("RELEASED INSTALLED RELEASED", Reinstall, "ready done 30, installed now"),
            ("INSTALLED DISABLED RELEASED", Reinstall, "ready done 30, installed now"),
            (
                "INSTALLED RELEASED DOWNLOADED",
                Finish,
                "ready done 20, downloaded done 30, installed now",
            ),
            ("INSTALLED RELEASED INSTALLED", Done, "ready done 20, installed done 30"),
            ("INSTALLED RELEASED PREPARING", Wait, "ready now, installed later"),
            (twice, Reinstall, "ready done 40, installed now"),
            (&five_times, ContactSupport, "ready done 100, installed wrong"),
            (&format!("{five_times} INSTALLED"), Done, "ready done 100, installed done 110"),
            ("DELETED", ContactSupport, "ready done 10, installed wrong"),
            ("INSTALLED DELETED", ContactSupport, "ready done 20, installed wrong"),
            ("INSTALLED DELETED RELEASED", Reinstall, "ready done 30, installed now"),
            ("INSTALLED DELETED INSTALLED", Done, "ready done 20, installed done 30"),
            ("ERROR", ContactSupport, "ready done, installed wrong"),
            ("RELEASED ERROR", ContactSupport, "ready done 10, installed wrong"),
            (
                "RELEASED DOWNLOADED ERROR",
                ContactSupport,
                "ready done 10, downloaded done 20, installed wrong",
            ),
            ("RELEASED INSTALLED ERROR", ContactSupport, "ready done 10, installed wrong"),
            ("ERROR RELEASED", Install, "ready done 20, installed now"),
            ("ERROR WHATEVER", ContactSupport, "ready done, installed wrong"),
            ("UNAVAILABLE", ContactSupport, "ready done, installed wrong"),
            ("RELEASED UNAVAILABLE", ContactSupport, "ready done 10, installed wrong"),
        ];
        for (states, step, expected) in rows {
            let (profile, history) = story(states);
            let journey = Journey::of(&profile, &history, Some(5), false, at(1_000));
            assert_eq!((journey.step, &*way(&journey)), (step, expected), "{states}");
            assert_eq!(journey.can_install, matches!(step, Install | Reinstall), "{states}");
        }
    }

    #[test]
    fn from_every_state_to_every_state_the_journey_is_whole_and_honest() {
        let words = ["OFF", "installed"];
        let words: Vec<_> =
            words.into_iter().chain(ProfileState::ALL.map(ProfileState::as_str)).collect();
        let paths = words.iter().flat_map(|one| words.iter().map(move |two| (one, two)));
        let paths = paths
            .flat_map(|(one, two)| words.iter().map(move |three| format!("{one} {two} {three}")));
        for states in paths {
            let (profile, history) = story(&states);
            for (limit, second) in [(None, 40), (Some(1), 40), (Some(5), 90_000)] {
                let journey = Journey::of(&profile, &history, limit, false, at(second));
                assert_ne!(journey.advice, Advice::Connected, "{states}");
                assert!(
                    !journey.can_install || profile.state == ProfileState::Released,
                    "{states}"
                );
                let on_device = profile.state.is_on_device();
                assert_eq!(matches!(journey.step, Done | TurnOn), on_device, "{states}");
                let installed =
                    journey.progress.iter().find(|part| part.key == "installed").unwrap();
                assert_eq!(installed.status == StepStatus::Done, on_device, "{states}");
                assert_eq!(installed.at.is_some(), on_device, "{states}");
                // One part at a time is open, and no part after it is reached.
                let open =
                    journey.progress.iter().skip_while(|part| part.status == StepStatus::Done);
                let open: Vec<_> = open.map(|part| part.status).collect();
                assert!(
                    open.iter().skip(1).all(|status| *status == StepStatus::Upcoming),
                    "{states}: {open:?}"
                );
                assert_eq!(open.is_empty(), journey.step == Done, "{states}: {open:?}");
                let times: Vec<_> = journey.progress.iter().filter_map(|part| part.at).collect();
                assert!(
                    times.is_sorted() || states.ends_with("DOWNLOADED") || on_device,
                    "{states}: {times:?}"
                );
            }
        }
    }

    #[test]
    fn a_removed_profile_says_how_often_it_was_installed_and_of_how_often_where_that_is_known() {
        let (profile, history) = story("INSTALLED RELEASED INSTALLED RELEASED");
        for (limit, step, can_install) in [
            (Some(5), Reinstall, true),
            (Some(3), Reinstall, true),
            (None, Reinstall, true),
            (Some(2), ContactSupport, false),
            (Some(1), ContactSupport, false),
        ] {
            let journey = Journey::of(&profile, &history, limit, false, at(100));
            assert_eq!((journey.step, journey.can_install), (step, can_install), "{limit:?}");
            let again = Advice::Reinstall { seen: 2, limit };
            let expected = if can_install { again } else { Advice::UsedUp };
            assert_eq!(journey.advice, expected);
        }
    }

    #[test]
    fn a_download_that_is_not_confirmed_for_an_hour_is_said_to_be_odd() {
        let (profile, history) = story("RELEASED DOWNLOADED");
        let begun = 20;
        let of = |second: i64| Journey::of(&profile, &history, Some(5), false, at(begun + second));
        let (soon, late) = (of(3_600), of(3_601));
        assert_eq!((soon.step, late.step), (Finish, Finish));
        assert_eq!((&soon.advice, &late.advice), (&Advice::Finish, &Advice::Unconfirmed));
        assert_eq!(way(&soon), "ready done 10, downloaded done 20, installed now");
        assert_eq!(way(&late), "ready done 10, downloaded done 20, installed wrong");
        // A clock that was set back makes nothing late.
        assert_eq!(of(-3_600).advice, soon.advice);
        // Only a download can take too long.
        for states in ["PREPARING", "RELEASED", "INSTALLED", "DISABLED", "ERROR"] {
            let (profile, history) = story(states);
            let of = |second: i64| Journey::of(&profile, &history, Some(5), false, at(second));
            assert_eq!(of(20), of(1_000_000), "{states}");
        }
    }

    #[test]
    fn what_came_late_changes_nothing() {
        let (profile, mut history) = story("RELEASED INSTALLED");
        let before = Journey::of(&profile, &history, Some(5), false, at(100));
        let late = Transition {
            seq: 3,
            to_state: ProfileState::Released,
            kind: TransitionKind::Late,
            received_at: at(90),
            ..history[0].clone()
        };
        history.push(late);
        assert_eq!(Journey::of(&profile, &history, Some(5), false, at(100)), before);
    }

    #[test]
    fn connected_is_said_only_on_evidence_from_this_life_of_the_profile() {
        for (states, connections, tells, expected_step, connected, way_with) in [
            // Nothing is said where no such evidence can come.
            ("RELEASED INSTALLED", None, false, Done, false, "ready done 10, installed done 20"),
            (
                "RELEASED INSTALLED",
                None,
                true,
                Done,
                false,
                "ready done 10, installed done 20, connected now",
            ),
            (
                "RELEASED",
                None,
                true,
                Install,
                false,
                "ready done 10, installed now, connected later",
            ),
            (
                "RELEASED INSTALLED",
                Some((30, 90)),
                true,
                Done,
                true,
                "ready done 10, installed done 20, connected done 30",
            ),
            // It came before the report of the install.
            (
                "RELEASED INSTALLED",
                Some((15, 15)),
                false,
                Done,
                true,
                "ready done 10, installed done 20, connected done 15",
            ),
            // The report of the install was lost.
            (
                "RELEASED",
                Some((30, 30)),
                true,
                Done,
                true,
                "ready done 10, installed done, connected done 30",
            ),
            (
                "RELEASED DOWNLOADED ERROR",
                Some((40, 40)),
                true,
                Done,
                true,
                "ready done 10, downloaded done 20, installed done, connected done 40",
            ),
            // It was removed, and installed again, since.
            (
                "RELEASED INSTALLED RELEASED",
                Some((25, 25)),
                true,
                Reinstall,
                false,
                "ready done 30, installed now, connected later",
            ),
            (
                "RELEASED INSTALLED RELEASED INSTALLED",
                Some((25, 50)),
                true,
                Done,
                true,
                "ready done 30, installed done 40, connected done 50",
            ),
        ] {
            let (mut profile, history) = story(states);
            profile.connections.first_connected_at = connections.map(|(first, _)| at(first));
            profile.connections.last_connected_at = connections.map(|(_, last)| at(last));
            let journey = Journey::of(&profile, &history, Some(5), tells, at(1_000));
            assert_eq!((journey.step, &*way(&journey)), (expected_step, way_with), "{states}");
            assert_eq!(journey.advice == Advice::Connected, connected, "{states}");
            assert_eq!(journey.can_install, matches!(expected_step, Install | Reinstall));
        }
    }

    #[test]
    fn a_history_that_was_cut_or_erased_still_makes_a_journey() {
        for state in ProfileState::ALL {
            let (profile, _) = story(state.as_str());
            let journey = Journey::of(&profile, &[], Some(5), false, at(100));
            assert!(journey.progress.iter().all(|part| part.at.is_none()), "{state}");
        }
    }

    #[test]
    fn keys_of_steps_and_statuses_are_kebab_case() {
        let steps = [Wait, Install, Finish, TurnOn, Done, Reinstall, ContactSupport];
        let names = serde_json::to_value(steps).unwrap();
        let expected =
            ["wait", "install", "finish", "turn-on", "done", "reinstall", "contact-support"];
        assert_eq!(names, serde_json::json!(expected));
        let statuses =
            [StepStatus::Done, StepStatus::Current, StepStatus::Problem, StepStatus::Upcoming];
        let names = serde_json::to_value(statuses).unwrap();
        assert_eq!(names, serde_json::json!(["done", "current", "problem", "upcoming"]));
    }
}
