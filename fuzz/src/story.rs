//! The history of a profile as the ingest writes it, with checks of what must hold after every report.

use crate::domain::{Outcome, Profile, Report, Transition, TransitionKind, Verdict};

/// How far an event time may be ahead of our clock and still be accepted, in seconds.
const CLOCK_TOLERANCE_SECONDS: i64 = 300;

/// The parts of a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The result of a sequence of reports and registrations of one profile.
#[derive(Debug, Default)]
pub struct Story {
    /// The current profile.
    pub profile: Option<Profile>,
    /// All transitions.
    pub history: Vec<Transition>,
}

impl Story {
    /// Applies a webhook's report, and checks the verdict.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn observe(&mut self, report: &Report) -> Outcome {
        let before = self.profile.clone();
        let verdict = Profile::observe(before.as_ref(), report);
        assert_eq!(
            verdict,
            Profile::observe(before.as_ref(), report),
            "the verdict must be deterministic"
        );
        let verdict = Judged::from(verdict);
        check_outcome(before.as_ref(), report, &verdict);
        if let (Some(before), Some(after)) = (&before, &verdict.profile) {
            assert_eq!(after.deliveries, before.deliveries + 1);
            assert!(after.last_delivery_at >= before.last_delivery_at);
            assert!(after.last_delivery_at >= Some(report.received_at));
        }
        let outcome = verdict.outcome;
        self.take(report, verdict);
        outcome
    }

    /// Applies a backend's registration, and checks the verdict.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub fn register(&mut self, report: &Report) {
        let before = self.profile.clone();
        let (after, transition) = Profile::register(before.as_ref(), report, 0);
        let reported_on = before.as_ref().is_some_and(|profile| profile.deliveries > 0);
        assert!(!reported_on || transition.is_none());
        assert_eq!(after.provider, report.provider, "a registration sets the provider");
        let counted = before.as_ref().map_or(0, |profile| profile.deliveries);
        assert_eq!(after.deliveries, counted, "a registration is not a delivery");
        assert_eq!(after.last_delivery_at, before.and_then(|it| it.last_delivery_at));
        let is_late = transition.as_ref().is_some_and(|it| it.kind == TransitionKind::Late);
        let outcome = match transition {
            Some(_) if is_late => Outcome::Late,
            Some(_) => Outcome::Moved,
            None => Outcome::Repeated,
        };
        self.take(report, Judged { outcome, profile: Some(after), transition });
    }

    fn take(&mut self, report: &Report, verdict: Judged) {
        check_transition(self.profile.as_ref(), report, &verdict);
        check_memory(self.profile.as_ref(), report, &verdict);
        self.profile = verdict.profile.or(self.profile.take());
        self.history.extend(verdict.transition);
        let last = self.history.last().map_or(0, |transition| transition.seq);
        assert_eq!(self.profile.as_ref().map_or(0, |profile| profile.seq), last);
        assert_eq!(
            i64::try_from(self.history.len()),
            Ok(last),
            "seq has no gaps and no duplicates"
        );
    }
}

/// The outcome matches what was done.
fn check_outcome(before: Option<&Profile>, report: &Report, verdict: &Judged) {
    let foreign = before.is_some_and(|before| before.provider != report.provider);
    assert_eq!(verdict.outcome == Outcome::Foreign, foreign);
    assert_eq!(verdict.outcome == Outcome::Unrecognised, !foreign && report.claim.is_none());
    match verdict.outcome {
        Outcome::Moved | Outcome::Late => assert!(verdict.transition.is_some()),
        Outcome::Repeated | Outcome::Unrecognised => assert!(verdict.transition.is_none()),
        Outcome::Foreign => assert!(verdict.transition.is_none() && verdict.profile.is_none()),
        other => panic!("a report cannot be {other}"),
    }
    if verdict.outcome == Outcome::Unrecognised {
        assert_eq!(
            verdict.profile.is_some(),
            before.is_some(),
            "an unknown state creates no profile"
        );
    }
}

/// `seq` has no gaps, each transition starts from the state that the one before it left, and the profile is in the
/// state of the last transition that was not late.
fn check_transition(before: Option<&Profile>, report: &Report, verdict: &Judged) {
    let seq = before.map_or(0, |profile| profile.seq);
    let Some(transition) = &verdict.transition else {
        if let Some(after) = &verdict.profile {
            let before = before.expect("a profile comes from a transition");
            assert_eq!(after.seq, seq);
            assert_eq!((after.state, after.enabled), (before.state, before.enabled));
            assert_eq!(after.since, before.since);
            assert_eq!(after.installs_seen, before.installs_seen);
        }
        return;
    };
    let after = verdict.profile.as_ref().expect("a transition comes with a profile");
    let claim = report.claim.expect("a transition needs a claim");
    assert_eq!((transition.seq, after.seq), (seq + 1, seq + 1));
    assert_eq!(transition.from_state, before.map(|profile| profile.state));
    assert_eq!((transition.to_state, transition.enabled), (claim.state, claim.enabled));
    assert_eq!(transition.raw_state, report.raw_state);
    assert_eq!(transition.received_at, report.received_at);
    assert_eq!(transition.provider, report.provider);
    if transition.kind == TransitionKind::Late {
        assert_eq!(verdict.outcome, Outcome::Late);
        let before = before.expect("the first transition is never late");
        let (seq, deliveries) = (after.seq, after.deliveries);
        let last_delivery_at = after.last_delivery_at;
        let counted = Profile { seq, deliveries, last_delivery_at, ..before.clone() };
        assert_eq!(after, &counted, "a late report changes only the counters");
    } else {
        assert_eq!(verdict.outcome, Outcome::Moved);
        assert_eq!((after.state, after.enabled), (claim.state, claim.enabled));
        assert_eq!(after.raw_state, report.raw_state);
    }
}

/// What is known stays known, and no count goes down.
fn check_memory(before: Option<&Profile>, report: &Report, verdict: &Judged) {
    let Some(after) = &verdict.profile else {
        return;
    };
    assert_eq!(after.iccid, report.iccid);
    let latest = report.received_at.plus_seconds(CLOCK_TOLERANCE_SECONDS);
    let Some(before) = before else {
        assert!(after.last_occurred_at.is_none_or(|at| at <= latest));
        return;
    };
    assert!((0..=1).contains(&(after.installs_seen - before.installs_seen)));
    assert!(after.imsi.is_some() || before.imsi.is_none());
    assert!(after.eid.is_some() || before.eid.is_none());
    assert!(after.last_occurred_at >= before.last_occurred_at);
    if after.last_occurred_at > before.last_occurred_at {
        assert_eq!(after.last_occurred_at, report.occurred_at);
        assert!(report.occurred_at.is_some_and(|at| at <= latest));
    }
}
