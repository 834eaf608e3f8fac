//! What one batch does, worked out in memory: every report judged in the order of arrival against the locked profiles.

use std::collections::{HashMap, HashSet};

use super::Submission;
use crate::domain::{Iccid, Outcome, Profile, Transition};
use crate::providers::Reading;

/// How an event with an id stands to what was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The same id with the same body.
    SameContent,
    /// The same id with another body: the sender reuses ids, or somebody plays.
    OtherContent,
}

/// What became of one submission.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub outcome: Outcome,
    pub reason: Option<String>,
    /// Whether somebody should look at it; a sender's ordinary retry is nothing to look at.
    pub noteworthy: bool,
    /// Whether it is about an erased profile: nothing that names the person may be kept.
    pub erased: bool,
}

impl Judgement {
    fn of(outcome: Outcome, reason: Option<String>) -> Self {
        Self { outcome, reason, noteworthy: false, erased: false }
    }

    fn noteworthy(self, noteworthy: bool) -> Self {
        Self { noteworthy, ..self }
    }
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// One for each submission, in their order.
    pub judgements: Vec<Judgement>,
    /// Transitions with the index of the submission that caused each.
    pub transitions: Vec<(usize, Transition)>,
    /// Every profile of the batch as it is afterwards.
    profiles: HashMap<Iccid, Profile>,
    /// Those that were there before.
    known: HashSet<Iccid>,
    /// Those that are not as they were.
    touched: HashSet<Iccid>,
}

impl Plan {
    /// Judges the submissions. `seen` has one entry for each; `erased` names profiles that must not come back.
    pub fn of(
        batch: &[Submission],
        locked: Vec<Profile>,
        seen: &[Option<Seen>],
        erased: &HashSet<&Iccid>,
    ) -> Self {
        let mut plan = Self::default();
        for profile in locked {
            plan.known.insert(profile.iccid.clone());
            plan.profiles.insert(profile.iccid.clone(), profile);
        }
        for (index, (submission, seen)) in batch.iter().zip(seen).enumerate() {
            let judgement = if submission.iccid().is_some_and(|iccid| erased.contains(iccid)) {
                let reason = "the profile was erased; only a registration brings it back";
                let judgement = Judgement::of(Outcome::Ignored, Some(reason.to_owned()));
                Judgement { erased: true, ..judgement }
            } else {
                plan.judge(index, submission, *seen)
            };
            plan.judgements.push(judgement);
        }
        plan
    }

    /// Profiles that did not exist when the locks were taken.
    pub fn new_profiles(&self) -> Vec<&Profile> {
        self.touched.difference(&self.known).filter_map(|iccid| self.profiles.get(iccid)).collect()
    }

    /// Locked profiles that changed.
    pub fn changed_profiles(&self) -> Vec<&Profile> {
        self.touched
            .intersection(&self.known)
            .filter_map(|iccid| self.profiles.get(iccid))
            .collect()
    }

    fn judge(&mut self, index: usize, submission: &Submission, seen: Option<Seen>) -> Judgement {
        let report = match &submission.parsed {
            Err(malformed) => {
                let reason = Some(malformed.reason.clone());
                return Judgement::of(Outcome::Malformed, reason).noteworthy(true);
            }
            Ok(_) if seen.is_some() => {
                let noteworthy = seen == Some(Seen::OtherContent);
                let with = if noteworthy { " with other content" } else { "" };
                let reason = Some(format!("the event id was seen before{with}"));
                return Judgement::of(Outcome::Duplicate, reason).noteworthy(noteworthy);
            }
            Ok(Reading::Ignored { reason, .. }) => {
                return Judgement::of(Outcome::Ignored, Some(reason.clone()));
            }
            Ok(Reading::Report(report)) => report,
        };
        let known = self.profiles.get(&report.iccid);
        let mut remarks = report.remarks.clone();
        let verdict = Profile::observe(known, report);
        match (verdict.outcome, known) {
            (Outcome::Foreign, Some(profile)) => {
                remarks.push(format!("the profile belongs to provider {}", profile.provider));
            }
            (Outcome::Late, _) => {
                remarks.push("its event time is older than that of what was applied".to_owned());
            }
            _ => {}
        }
        if let Some(profile) = verdict.profile {
            self.touched.insert(report.iccid.clone());
            self.profiles.insert(report.iccid.clone(), profile);
        }
        self.transitions.extend(verdict.transition.map(|transition| (index, transition)));
        let reason = (!remarks.is_empty()).then(|| remarks.join("; "));
        let noteworthy = matches!(verdict.outcome, Outcome::Foreign | Outcome::Unrecognised);
        Judgement::of(verdict.outcome, reason).noteworthy(noteworthy)
    }
}
