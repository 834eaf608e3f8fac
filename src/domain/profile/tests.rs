use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::ProfileState::{Deleted, Disabled, Downloaded, Error, Installed, Preparing, Released};
use super::*;

const ICCID: &str = "89972123300991848961";
const DEVICES: [&str; 3] =
    ["89049032000000000000000000000041", "89049032000000000000000000000138", "ABCDEF"];

fn at(second: i64) -> Timestamp {
    Timestamp::parse("2026-11-23T10:00:00Z").unwrap().plus_seconds(second)
}

fn state(state: ProfileState) -> Claim {
    let enabled = match state {
        Installed => Some(true),
        Disabled => Some(false),
        _ => None,
    };
    Claim { state, enabled }
}

/// A report that was received at `second` and has no event time.
fn report(second: i64, claim: impl Into<Option<Claim>>) -> Report {
    let claim = claim.into();
    Report {
        iccid: Iccid::parse(ICCID).unwrap(),
        provider: "gigastore",
        raw_state: claim.map_or("WHATEVER".to_owned(), |claim| claim.state.to_string()),
        claim,
        eid: None,
        device: None,
        imsi: None,
        occurred_at: None,
        received_at: at(second),
        remarks: Vec::new(),
    }
}

/// A report with an event time, received much later.
fn timed(second: i64, claim: Claim) -> Report {
    Report { occurred_at: Some(at(second)), ..report(1_000_000, claim) }
}

fn on(device: &str, report: Report) -> Report {
    Report { eid: Some(Eid::parse(device).unwrap()), ..report }
}

/// The parts of a verdict.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    outcome: Outcome,
    profile: Option<Profile>,
    transition: Option<Transition>,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        let outcome = verdict.outcome();
        let (profile, transition) = verdict.into_parts();
        Self { outcome, profile, transition }
    }
}

/// What a sequence of reports makes.
#[derive(Debug, Default)]
struct Story {
    profile: Option<Profile>,
    history: Vec<Transition>,
    outcomes: Vec<Outcome>,
}

impl Story {
    fn of<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Self {
        let mut story = Self::default();
        for report in reports {
            story.tell(report);
        }
        story
    }

    fn tell(&mut self, report: &Report) -> Judged {
        let verdict = Judged::from(Profile::observe(self.profile.as_ref(), report));
        if let Some(profile) = &verdict.profile {
            self.profile = Some(profile.clone());
        }
        self.history.extend(verdict.transition.clone());
        self.outcomes.push(verdict.outcome);
        verdict
    }

    fn profile(&self) -> &Profile {
        self.profile.as_ref().unwrap()
    }

    fn belief(&self) -> Option<Claim> {
        self.profile.as_ref().map(Profile::claim)
    }

    /// No gaps, each transition starts from the state before, and the profile equals the last one that was not late.
    fn assert_straight(&self) {
        let mut believed = None;
        for (index, transition) in self.history.iter().enumerate() {
            assert_eq!(transition.seq, i64::try_from(index).unwrap() + 1);
            assert_eq!(transition.from_state, believed.map(|claim: Claim| claim.state));
            if transition.kind != TransitionKind::Late {
                let (state, enabled) = (transition.to_state, transition.enabled);
                believed = Some(Claim { state, enabled });
            }
        }
        assert_eq!(self.belief(), believed);
        let last = self.history.last().map_or(0, |transition| transition.seq);
        assert_eq!(self.profile.as_ref().map_or(0, |profile| profile.seq), last);
    }
}

#[test]
fn every_pair_of_states_is_applied_and_the_usual_steps_are_normal() {
    // Besides these, any state may change to ERROR, and a state to itself.
    let usual = [
        (Preparing, Released),
        (Released, Downloaded),
        (Released, Installed),
        (Downloaded, Installed),
        (Installed, Disabled),
        (Disabled, Installed),
        (Installed, Released),
        (Disabled, Released),
        (Installed, Deleted),
        (Disabled, Deleted),
        (Deleted, Installed),
        (Error, Released),
    ];
    for from in ProfileState::ALL {
        for to in ProfileState::ALL.into_iter().filter(|to| *to != from) {
            let mut story = Story::of([&report(0, state(from))]);
            let verdict = story.tell(&report(1, state(to)));
            let normal = to == Error || usual.contains(&(from, to));
            let kind = if normal { TransitionKind::Normal } else { TransitionKind::Unexpected };
            assert_eq!(verdict.outcome, Outcome::Moved, "{from} to {to}");
            assert_eq!(verdict.transition.map(|it| it.kind), Some(kind), "{from} to {to}");
            assert_eq!(story.profile().state, to);
            assert_eq!(story.profile().since, at(1));
            story.assert_straight();
        }
    }
}

#[test]
fn a_profile_may_be_seen_first_in_any_state() {
    for first in ProfileState::ALL {
        let story = Story::of([&report(0, state(first))]);
        let transition = &story.history[0];
        assert_eq!((transition.seq, transition.from_state), (1, None));
        assert_eq!(transition.kind, TransitionKind::Normal);
        assert_eq!(story.profile().installs_seen, i32::from(matches!(first, Installed | Disabled)));
    }
}

#[test]
fn installs_are_counted_when_it_comes_onto_a_device() {
    let lives = [Released, Installed, Disabled, Installed, Released, Installed, Deleted, Disabled];
    let reports: Vec<_> = (0..).zip(lives).map(|(second, it)| report(second, state(it))).collect();
    let story = Story::of(&reports);
    assert_eq!((story.profile().installs_seen, story.profile().seq), (3, 8));
    story.assert_straight();
}

#[test]
fn the_same_report_again_is_a_repeat_that_only_counts() {
    let mut story = Story::of([&report(0, state(Installed))]);
    let verdict = story.tell(&report(9, state(Installed)));
    assert_eq!((verdict.outcome, verdict.transition), (Outcome::Repeated, None));
    let profile = story.profile();
    assert_eq!((profile.seq, profile.deliveries, profile.installs_seen), (1, 2, 1));
    assert_eq!((profile.since, profile.last_delivery_at), (at(0), Some(at(9))));
}

#[test]
fn another_word_for_the_same_state_is_a_repeat_that_is_kept_as_the_last_word() {
    let mut story = Story::of([&report(0, state(Installed))]);
    let other = Report { raw_state: "ENABLED".to_owned(), ..report(1, state(Installed)) };
    assert_eq!(story.tell(&other).outcome, Outcome::Repeated);
    assert_eq!(story.profile().raw_state, "ENABLED");
}

#[test]
fn a_switch_that_becomes_known_is_a_normal_step_and_no_new_state() {
    let unsaid = Claim { state: Installed, enabled: None };
    let mut story = Story::of([&report(0, unsaid)]);
    let verdict = story.tell(&report(1, state(Installed)));
    assert_eq!(verdict.outcome, Outcome::Moved);
    assert_eq!(verdict.transition.unwrap().kind, TransitionKind::Normal);
    let profile = story.profile();
    assert_eq!((profile.enabled, profile.since, profile.installs_seen), (Some(true), at(0), 1));
}

#[test]
fn the_first_known_device_is_no_change_and_another_one_is() {
    let mut story = Story::of([&report(0, state(Installed))]);
    assert_eq!(story.tell(&on(DEVICES[0], report(1, state(Installed)))).outcome, Outcome::Repeated);
    assert_eq!(story.profile().eid.as_ref().map(Eid::as_str), Some(DEVICES[0]));

    let verdict = story.tell(&on(DEVICES[1], report(2, state(Installed))));
    assert_eq!(verdict.outcome, Outcome::Moved);
    assert_eq!(verdict.transition.unwrap().kind, TransitionKind::Unexpected);
    let profile = story.profile();
    assert_eq!(profile.eid.as_ref().map(Eid::as_str), Some(DEVICES[1]));
    assert_eq!((profile.seq, profile.installs_seen, profile.since), (2, 2, at(2)));
    story.assert_straight();
}

#[test]
fn the_same_device_in_other_letters_is_the_same_device() {
    let mut story = Story::of([&on("abcdef", report(0, state(Installed)))]);
    let again = on("ABCDEF", report(1, state(Installed)));
    assert_eq!(story.tell(&again).outcome, Outcome::Repeated);
}

#[test]
fn a_profile_that_was_removed_comes_onto_another_device_in_a_normal_step() {
    let mut story =
        Story::of(&[on(DEVICES[0], report(0, state(Installed))), report(1, state(Released))]);
    let verdict = story.tell(&on(DEVICES[1], report(2, state(Installed))));
    assert_eq!(verdict.transition.unwrap().kind, TransitionKind::Normal);
    assert_eq!(story.profile().installs_seen, 2);
}

#[test]
fn an_absent_device_or_subscription_erases_nothing() {
    let imsi = Imsi::parse("001010123456789").unwrap();
    let full = on(DEVICES[0], report(0, state(Installed)));
    let full = Report { imsi: Some(imsi.clone()), ..full };
    let story = Story::of([&full, &report(1, state(Released)), &report(2, None)]);
    assert_eq!(story.profile().imsi, Some(imsi));
    assert_eq!(story.profile().eid.as_ref().map(Eid::as_str), Some(DEVICES[0]));
}

#[test]
fn the_kind_of_a_device_moves_nothing_and_does_not_survive_a_move_to_another() {
    let phone = Device::new(Some("Apple"), Some("iPhone 15"), None);
    let first = on(DEVICES[0], report(0, state(Installed)));
    let mut story = Story::of([&first]);
    let learned = story.tell(&Report { device: phone.clone(), ..report(1, state(Installed)) });
    assert_eq!((learned.outcome, learned.transition), (Outcome::Repeated, None));
    story.tell(&report(2, state(Released)));
    assert_eq!(story.profile().device, phone);
    story.tell(&Report { device: Device::new(Some("Nokia"), None, None), ..report(3, None) });
    assert_eq!(story.profile().device, phone, "a word that nobody knows changes nothing");
    story.tell(&on(DEVICES[1], report(4, state(Installed))));
    assert_eq!(story.profile().device, None);
}

#[test]
fn another_providers_report_touches_nothing() {
    let story = Story::of([&report(0, state(Installed))]);
    for claim in [Some(state(Released)), None] {
        let foreign = Report { provider: "other", ..report(1, claim) };
        let verdict = Profile::observe(story.profile.as_ref(), &foreign);
        assert_eq!(verdict, Verdict::Foreign);
    }
}

#[test]
fn an_unknown_word_only_counts_and_makes_no_profile() {
    assert_eq!(Story::of([&report(0, None)]).profile, None);
    let mut story = Story::of([&report(0, state(Installed))]);
    let before = story.profile().clone();
    let verdict = story.tell(&on(DEVICES[0], report(5, None)));
    assert_eq!((verdict.outcome, verdict.transition), (Outcome::Unrecognised, None));
    let counted = Profile { deliveries: 2, last_delivery_at: Some(at(5)), ..before };
    assert_eq!(story.profile(), &counted);
}

#[test]
fn a_late_report_is_kept_in_the_history_and_not_applied() {
    let mut story = Story::of([&timed(100, state(Released))]);
    let before = story.profile().clone();
    let verdict = story.tell(&on(DEVICES[0], timed(99, state(Installed))));
    assert_eq!(verdict.outcome, Outcome::Late);
    let transition = verdict.transition.unwrap();
    assert_eq!((transition.seq, transition.kind), (2, TransitionKind::Late));
    assert_eq!((transition.from_state, transition.to_state), (Some(Released), Installed));
    assert_eq!(transition.occurred_at, Some(at(99)));
    assert_eq!(story.profile(), &Profile { seq: 2, deliveries: 2, ..before });
    story.assert_straight();
}

#[test]
fn an_event_time_in_the_far_future_never_freezes_a_profile() {
    let wrong = Report { occurred_at: Some(at(1_000_000_000)), ..report(0, state(Installed)) };
    let mut story = Story::of([&wrong]);
    assert_eq!(story.history[0].occurred_at, None);
    let right = Report { occurred_at: Some(at(1)), ..report(2, state(Released)) };
    assert_eq!(story.tell(&right).outcome, Outcome::Moved);
    // Nor does one that is as far ahead as clocks may differ, once that time has passed.
    let ahead = Report { occurred_at: Some(at(303)), ..report(3, state(Installed)) };
    assert_eq!(story.tell(&ahead).outcome, Outcome::Moved);
    let after = Report { occurred_at: Some(at(304)), ..report(305, state(Released)) };
    assert_eq!(story.tell(&after).outcome, Outcome::Moved);
}

#[test]
fn reports_without_an_event_time_are_applied_in_the_order_of_arrival() {
    let timed = Report { occurred_at: Some(at(10)), ..report(10, state(Installed)) };
    let mut story = Story::of([&timed]);
    assert_eq!(story.tell(&report(11, state(Released))).outcome, Outcome::Moved);
    assert_eq!(story.profile().last_occurred_at, Some(at(10)));
}

#[test]
fn a_delayed_report_is_late_only_if_a_newer_one_was_applied() {
    let newest = Story::of(&[report(0, state(Released)), report(100, state(Released))]);
    let judge = |report: &Report, is_overtaken| {
        Judged::from(Profile::observe_delayed(Some(newest.profile()), report, is_overtaken))
    };
    for (is_overtaken, outcome, applied) in
        [(true, Outcome::Late, Released), (false, Outcome::Moved, Installed)]
    {
        let verdict = judge(&report(50, state(Installed)), is_overtaken);
        assert_eq!(verdict.outcome, outcome);
        let profile = verdict.profile.unwrap();
        assert_eq!((profile.state, profile.seq), (applied, 2));
        assert_eq!(profile.last_delivery_at, Some(at(100)));
    }
    // The provider's event time decides if there is one, and a first report cannot be late.
    let timed = Report { occurred_at: Some(at(90)), ..report(91, state(Installed)) };
    assert_eq!(judge(&timed, true).outcome, Outcome::Moved);
    let first = Profile::observe_delayed(None, &report(0, state(Installed)), true);
    assert_eq!(first.outcome(), Outcome::Moved);
}

fn a_claim() -> impl Strategy<Value = Claim> {
    (select(&ProfileState::ALL[..]), option::of(any::<bool>()))
        .prop_map(|(state, enabled)| Claim { state, enabled })
}

prop_compose! {
    /// Anything that an adapter may hand over: out of order, with clocks that are off by years, from two providers.
    fn any_report()(
        claim in option::weighted(0.9, a_claim()),
        word in select(&["INSTALLED", "ENABLED", "x"][..]),
        provider in prop_oneof![9 => Just("gigastore"), 1 => Just("other")],
        device in option::of(select(&DEVICES[..])),
        imsi in option::of(select(&["00101", "001010123456789"][..])),
        occurred in option::of(prop_oneof![-5i64..5, 290i64..310, any::<i64>()]),
        received in 0i64..5,
    ) -> Report {
        Report {
            raw_state: word.to_owned(),
            provider,
            eid: device.map(|device| Eid::parse(device).unwrap()),
            device: None,
            imsi: imsi.map(|imsi| Imsi::parse(imsi).unwrap()),
            occurred_at: occurred.map(at),
            ..report(received, claim)
        }
    }
}

/// Reports of one event time (or of several), in every order in which they may arrive.
fn permuted(
    reports: impl Strategy<Value = Vec<Report>>,
) -> impl Strategy<Value = (Vec<Report>, Vec<Report>)> {
    reports.prop_flat_map(|reports| (Just(reports.clone()), Just(reports).prop_shuffle()))
}

prop_compose! {
    fn timed_report(seconds: std::ops::Range<i64>)(
        second in seconds,
        claim in a_claim(),
        device in select(&DEVICES[..]),
    ) -> Report {
        on(device, timed(second, claim))
    }
}

proptest! {
    #[test]
    fn any_order_of_arrival_is_survived(reports in vec(any_report(), 0..24)) {
        let story = Story::of(&reports);
        story.assert_straight();
    }

    #[test]
    fn each_report_does_what_its_outcome_says(reports in vec(any_report(), 1..24)) {
        let mut story = Story::default();
        for report in &reports {
            let before = story.profile.clone();
            let verdict = story.tell(report);
            let (outcome, appended) = (verdict.outcome, verdict.transition.is_some());
            prop_assert_eq!(appended, matches!(outcome, Outcome::Moved | Outcome::Late));
            let Some(after) = verdict.profile else {
                prop_assert!(outcome == Outcome::Foreign || report.claim.is_none());
                continue;
            };
            let Some(before) = before else {
                prop_assert_eq!((outcome, after.seq, after.deliveries), (Outcome::Moved, 1, 1));
                continue;
            };
            prop_assert_eq!(after.seq - before.seq, i64::from(appended));
            prop_assert_eq!(after.deliveries, before.deliveries + 1);
            prop_assert!(after.last_delivery_at >= before.last_delivery_at);
            prop_assert!(after.last_occurred_at >= before.last_occurred_at);
            prop_assert!(after.imsi.is_some() || before.imsi.is_none());
            prop_assert!(after.eid.is_some() || before.eid.is_none());
            let unmoved = Profile {
                seq: after.seq,
                deliveries: after.deliveries,
                last_delivery_at: after.last_delivery_at,
                ..before.clone()
            };
            match outcome {
                Outcome::Moved => prop_assert_eq!(Some(after.claim()), report.claim),
                Outcome::Repeated => prop_assert_eq!(after.claim(), before.claim()),
                _ => prop_assert_eq!(&after, &unmoved),
            }
            let came = after.state.is_on_device()
                && (!before.state.is_on_device()
                    || before.eid.is_some() && before.eid != after.eid);
            prop_assert_eq!(after.installs_seen - before.installs_seen, i32::from(came));
        }
    }

    #[test]
    fn the_same_report_twice_is_a_repeat(
        reports in vec(any_report(), 0..8),
        report in any_report(),
    ) {
        let mut story = Story::of(&reports);
        let first = story.tell(&report).outcome;
        let again = story.tell(&report);
        let expected = if first == Outcome::Moved { Outcome::Repeated } else { first };
        prop_assert_eq!(again.outcome, expected);
        if first == Outcome::Repeated || first == Outcome::Moved {
            prop_assert_eq!(again.transition, None);
        }
    }

    #[test]
    fn ties_break_alike_in_any_order_of_arrival(
        (one, other) in permuted(vec(timed_report(0..1), 3)),
    ) {
        let (one, other) = (Story::of(&one), Story::of(&other));
        prop_assert_eq!(one.belief(), other.belief());
        prop_assert_eq!(&one.profile().eid, &other.profile().eid);
    }

    #[test]
    fn event_times_lead_to_one_belief_in_any_order_of_arrival(
        (one, other) in permuted(vec(timed_report(0..4), 0..8)),
    ) {
        let (one, other) = (Story::of(&one), Story::of(&other));
        prop_assert_eq!(one.belief(), other.belief());
        prop_assert_eq!(
            one.profile.map(|profile| profile.eid),
            other.profile.map(|profile| profile.eid)
        );
    }
}
