//! What a batch will write, computed in memory: judges every report, in the order of arrival, against the profiles as
//! they were read.

use std::collections::{HashMap, HashSet};

use super::{Arrival, Submission};
use crate::domain::{
    Advance, Headway, Iccid, Outcome, Profile, ProfileState, REPLICA_TOLERANCE_SECONDS, Timestamp,
    Transition, Verdict,
};
use crate::providers::{Content, Malformed, Reading};
use crate::store::batch_write::{Before, Changed};
use crate::store::deliveries::{REUSED_EVENT_ID, UNAPPLIED, UNPLACED};
use crate::store::profiles::Revision;

/// How an event id relates to an earlier event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The same id with the same body.
    SameContent,
    /// The same id with another body: the sender reuses ids, or someone is tampering.
    OtherContent,
}

/// The result for one submission.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub outcome: Outcome,
    pub reason: Option<String>,
    /// Whether it concerns an erased profile: nothing that identifies the person may be kept.
    pub erased: bool,
}

impl Judgement {
    fn of(outcome: Outcome, reason: Option<String>) -> Self {
        Self { outcome, reason, erased: false }
    }

    fn of_malformed(malformed: &Malformed) -> Self {
        Self::of(Outcome::Malformed, Some(malformed.reason.clone()))
    }

    fn concerning_erased() -> Self {
        let reason = "the profile was erased; only a registration brings it back";
        let judgement = Self::of(Outcome::Ignored, Some(reason.to_owned()));
        Self { erased: true, ..judgement }
    }
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// One for each submission, in the same order.
    pub judgements: Vec<Judgement>,
    /// The transitions, each with the index of the submission that caused it.
    pub transitions: Vec<(usize, Transition)>,
    /// Every profile of the batch.
    profiles: Vec<Planned>,
    /// The index of each profile in `profiles`.
    places: HashMap<Iccid, usize>,
}

/// One profile of the batch.
#[derive(Debug)]
struct Planned {
    /// Its state after the batch.
    profile: Profile,
    /// `None` if it did not exist.
    read: Option<AsRead>,
    /// Whether the batch changes or creates it.
    is_touched: bool,
}

/// What a profile was when it was read.
#[derive(Debug, Clone, Copy)]
struct AsRead {
    revision: Revision,
    state: ProfileState,
    headway: Option<Headway>,
}

impl Plan {
    /// Judges the submissions. `read` has the profiles that exist. `last_reports` says when each was last reported
    /// on, if that was after the earliest spooled report of this batch; the others may be missing. `seen` has one entry for
    /// each submission. `erased` names the profiles that must not be created.
    pub fn of(
        batch: &[&Submission],
        read: Vec<(Profile, Revision)>,
        last_reports: &HashMap<Iccid, Timestamp>,
        seen: &[Option<Seen>],
        erased: &HashSet<&Iccid>,
    ) -> Self {
        let mut plan = Self {
            judgements: Vec::with_capacity(batch.len()),
            transitions: Vec::with_capacity(batch.len()),
            profiles: Vec::with_capacity(batch.len()),
            places: HashMap::with_capacity(batch.len()),
        };
        for (profile, revision) in read {
            let read = AsRead { revision, state: profile.state, headway: profile.headway };
            plan.add(Planned { profile, read: Some(read), is_touched: false });
        }
        for (index, (submission, seen)) in batch.iter().zip(seen).enumerate() {
            let judgement = if plan.concerns_erased(submission, erased) {
                Judgement::concerning_erased()
            } else {
                plan.apply(index, submission, last_reports, *seen)
            };
            plan.judgements.push(judgement);
        }
        plan
    }

    /// Keeps one submission that cannot be applied.
    pub fn unapplied(submission: &Submission, is_erased: bool) -> Self {
        let judgement = match &submission.parsed {
            _ if is_erased => Judgement::concerning_erased(),
            // These say nothing of the profile's state, and need not be applied.
            Err(malformed) => Judgement::of_malformed(malformed),
            Ok(Reading { content: Content::Ignored { reason, .. }, .. }) => {
                Judgement::of(Outcome::Ignored, Some(reason.clone()))
            }
            Ok(_) => Judgement::of(Outcome::Unrecognised, Some(UNAPPLIED.to_owned())),
        };
        Self { judgements: vec![judgement], ..Self::default() }
    }

    /// The profiles to create, sorted by ICCID.
    pub fn new_profiles(&self) -> Vec<&Profile> {
        let new = self.profiles.iter().filter(|planned| planned.read.is_none());
        let mut new: Vec<_> = new.map(|planned| &planned.profile).collect();
        new.sort_unstable_by(|a, b| a.iccid.cmp(&b.iccid));
        new
    }

    /// The profiles to change.
    pub fn changed_profiles(&self) -> Vec<Changed<'_>> {
        self.profiles
            .iter()
            .filter(|planned| planned.is_touched)
            .filter_map(|Planned { profile, read, .. }| {
                let AsRead { revision, state, headway } = (*read)?;
                // Reports of another provider are foreign, so none changes the provider.
                let before = Before { provider: &profile.provider, state, headway };
                Some(Changed { profile, revision, before })
            })
            .collect()
    }

    /// The profiles that were read and do not change.
    pub fn unchanged_profiles(&self) -> Vec<(&Iccid, Revision)> {
        self.profiles
            .iter()
            .filter(|planned| !planned.is_touched)
            .filter_map(|planned| Some((&planned.profile.iccid, planned.read?.revision)))
            .collect()
    }

    /// What the profiles newly reach, each with its provider.
    pub fn advances(&self) -> impl Iterator<Item = (&str, Advance)> {
        self.profiles.iter().filter_map(|Planned { profile, read, .. }| {
            let before = read.and_then(|read| read.headway);
            Some((profile.provider.as_str(), Advance::between(before, profile)?))
        })
    }

    /// Whether the profile existed before this batch.
    pub fn existed(&self, iccid: &Iccid) -> bool {
        let place = self.places.get(iccid).and_then(|place| self.profiles.get(*place));
        place.is_some_and(|planned| planned.read.is_some())
    }

    fn add(&mut self, planned: Planned) {
        self.places.insert(planned.profile.iccid.clone(), self.profiles.len());
        self.profiles.push(planned);
    }

    /// Whether it concerns an erased profile, or the time before the erasure of one that was registered again since.
    fn concerns_erased(&self, submission: &Submission, erased: &HashSet<&Iccid>) -> bool {
        let Some(iccid) = submission.iccid() else { return false };
        if erased.contains(iccid) {
            return true;
        }
        let planned = self.places.get(iccid).and_then(|place| self.profiles.get(*place));
        submission.predates_erasure(planned.and_then(|planned| planned.profile.erased_at))
    }

    /// Judges a submission, and applies it to its profile in this plan.
    fn apply(
        &mut self,
        index: usize,
        submission: &Submission,
        last_reports: &HashMap<Iccid, Timestamp>,
        seen: Option<Seen>,
    ) -> Judgement {
        let content = match &submission.parsed {
            Err(malformed) => return Judgement::of_malformed(malformed),
            Ok(reading) => &reading.content,
        };
        if let Some(seen) = seen {
            let reason = match seen {
                Seen::SameContent => "the event id was seen before",
                Seen::OtherContent => REUSED_EVENT_ID,
            };
            return Judgement::of(Outcome::Duplicate, Some(reason.to_owned()));
        }
        let place = submission.iccid().and_then(|iccid| self.places.get(iccid)).copied();
        let current = place.and_then(|place| self.profiles.get(place)).map(|it| &it.profile);
        let (verdict, mut remarks) = match (content, submission.arrival) {
            (Content::Ignored { reason, .. }, _) => {
                return Judgement::of(Outcome::Ignored, Some(reason.clone()));
            }
            (Content::Report(report), Arrival::Direct) => {
                (Profile::observe(current, report), report.remarks.clone())
            }
            (Content::Report(report), Arrival::Delayed) => {
                // Meanwhile another replica may have applied newer ones, by a clock that differs.
                let latest = report.received_at.plus_seconds(REPLICA_TOLERANCE_SECONDS);
                let is_overtaken = last_reports.get(&report.iccid).is_some_and(|at| *at > latest);
                let verdict = Profile::observe_delayed(current, report, is_overtaken);
                (verdict, report.remarks.clone())
            }
            (Content::Connection(connection), _) => {
                (Profile::connect(current, connection), connection.remarks.clone())
            }
        };
        match &verdict {
            Verdict::Foreign => {
                let owner = current.map_or("", |profile| &profile.provider);
                remarks.push(format!("the profile belongs to provider {owner}"));
            }
            Verdict::Late { .. } => {
                let has_time = submission.report().is_some_and(|it| it.occurred_at.is_some());
                let older = if has_time {
                    "its event time is older than that of what was applied"
                } else {
                    "it waited in the spool while a newer one was applied"
                };
                remarks.push(older.to_owned());
            }
            Verdict::Unplaced => remarks.push(UNPLACED.to_owned()),
            Verdict::Moved { .. }
            | Verdict::Repeated(_)
            | Verdict::Unrecognised(_)
            | Verdict::Connected(_) => {}
        }
        let outcome = verdict.outcome();
        let (profile, transition) = verdict.into_parts();
        match (profile, place.and_then(|place| self.profiles.get_mut(place))) {
            (Some(profile), Some(planned)) => {
                planned.profile = profile;
                planned.is_touched = true;
            }
            (Some(profile), None) => {
                self.add(Planned { profile, read: None, is_touched: true });
            }
            (None, _) => {}
        }
        self.transitions.extend(transition.map(|transition| (index, transition)));
        let reason = (!remarks.is_empty()).then(|| remarks.join("; "));
        Judgement::of(outcome, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::submission::of_gigastore as submission;
    use super::*;
    use crate::domain::TransitionKind;

    const A: &str = "89480100000472018362";
    const B: &str = "89972123300991848961";

    fn report(iccid: &str, state: &str) -> Submission {
        submission(&format!(r#"{{"iccid":"{iccid}","profileState":"{state}"}}"#))
    }

    fn refs(batch: &[Submission]) -> Vec<&Submission> {
        batch.iter().collect()
    }

    fn plan(batch: &[Submission], known: Vec<Profile>) -> Plan {
        let known = known.into_iter().map(|profile| (profile, Revision(1))).collect();
        Plan::of(&refs(batch), known, &HashMap::new(), &vec![None; batch.len()], &HashSet::new())
    }

    /// A profile as an earlier batch left it.
    fn stored(iccid: &str, state: &str) -> Profile {
        let earlier = plan(&[report(iccid, state)], Vec::new());
        earlier.new_profiles()[0].clone()
    }

    fn outcomes(plan: &Plan) -> Vec<Outcome> {
        plan.judgements.iter().map(|judgement| judgement.outcome).collect()
    }

    #[test]
    fn several_changes_of_one_profile_in_one_batch_are_several_transitions_in_the_order_of_arrival()
    {
        let states = ["RELEASED", "INSTALLED", "INSTALLED", "RELEASED", "INSTALLED"];
        let batch: Vec<_> = states.map(|state| report(A, state)).into();
        let plan = plan(&batch, Vec::new());
        let steps: Vec<_> = plan.transitions.iter().map(|(index, it)| (*index, it.seq)).collect();
        assert_eq!(steps, [(0, 1), (1, 2), (3, 3), (4, 4)]);
        assert_eq!(plan.judgements[2].outcome, Outcome::Repeated);
        let [profile] = plan.new_profiles()[..] else { panic!("{plan:?}") };
        assert_eq!((profile.seq, profile.installs_seen, profile.deliveries), (4, 2, 5));
        assert!(plan.changed_profiles().is_empty() && plan.unchanged_profiles().is_empty());
    }

    #[test]
    fn profiles_of_one_batch_do_not_mix() {
        let batch = [report(A, "INSTALLED"), report(B, "RELEASED"), report(A, "DISABLED")];
        let plan = plan(&batch, vec![stored(B, "INSTALLED")]);
        let [new] = plan.new_profiles()[..] else { panic!("{plan:?}") };
        let [Changed { profile: changed, before, .. }] = plan.changed_profiles()[..] else {
            panic!("{plan:?}")
        };
        assert_eq!((before.provider, before.state), ("gigastore", ProfileState::Installed));
        assert_eq!((new.iccid.as_str(), new.seq), (A, 2));
        assert_eq!((changed.iccid.as_str(), changed.seq), (B, 2));
        let kinds: Vec<_> = plan.transitions.iter().map(|(_, it)| it.kind).collect();
        assert_eq!(kinds, [TransitionKind::Normal; 3]);
    }

    #[test]
    fn a_profile_that_nothing_is_said_about_is_not_written() {
        let batch = [submission(&format!(r#"{{"iccid":"{A}","balanceAmountInByte":7}}"#))];
        let plan = plan(&batch, vec![stored(A, "INSTALLED")]);
        assert_eq!(outcomes(&plan), [Outcome::Ignored]);
        assert!(plan.new_profiles().is_empty() && plan.changed_profiles().is_empty());
        assert!(plan.judgements[0].reason.is_some());
    }

    #[test]
    fn a_malformed_body_moves_nothing() {
        let plan = plan(&[submission("[]"), report(A, "INSTALLED")], Vec::new());
        assert_eq!(outcomes(&plan), [Outcome::Malformed, Outcome::Moved]);
        assert!(plan.judgements[0].reason.is_some());
        assert_eq!(plan.transitions[0].0, 1);
    }

    #[test]
    fn an_unknown_word_makes_no_profile() {
        let plan = plan(&[report(A, "SUSPENDED")], Vec::new());
        assert_eq!(outcomes(&plan), [Outcome::Unrecognised]);
        assert!(plan.new_profiles().is_empty());
    }

    #[test]
    fn an_event_that_was_seen_before_changes_nothing_and_says_if_its_body_differs() {
        let batch = [report(A, "INSTALLED"), report(A, "RELEASED"), report(A, "RELEASED")];
        let seen = [Some(Seen::SameContent), Some(Seen::OtherContent), None];
        let plan = Plan::of(&refs(&batch), Vec::new(), &HashMap::new(), &seen, &HashSet::new());
        assert_eq!(outcomes(&plan), [Outcome::Duplicate, Outcome::Duplicate, Outcome::Moved]);
        let is_reused = |it: &Judgement| it.reason.as_deref() == Some(REUSED_EVENT_ID);
        let reused: Vec<_> = plan.judgements.iter().map(is_reused).collect();
        assert_eq!(reused, [false, true, false]);
        assert_eq!(plan.new_profiles()[0].deliveries, 1);
    }

    #[test]
    fn another_providers_profile_is_named_and_left_alone() {
        let theirs = Profile { provider: "other".to_owned(), ..stored(A, "INSTALLED") };
        let plan = plan(&[report(A, "RELEASED")], vec![theirs]);
        assert_eq!(outcomes(&plan), [Outcome::Foreign]);
        assert!(plan.changed_profiles().is_empty() && plan.transitions.is_empty());
        let judgement = &plan.judgements[0];
        assert!(judgement.reason.as_ref().is_some_and(|reason| reason.contains("provider other")));
    }

    #[test]
    fn an_erased_profile_does_not_come_back() {
        let iccid = Iccid::parse(A).unwrap();
        let batch = [report(A, "INSTALLED"), report(B, "INSTALLED")];
        let erased = HashSet::from([&iccid]);
        let plan = Plan::of(&refs(&batch), Vec::new(), &HashMap::new(), &[None, None], &erased);
        assert_eq!(outcomes(&plan), [Outcome::Ignored, Outcome::Moved]);
        assert!(plan.judgements[0].erased && !plan.judgements[1].erased);
        assert_eq!(plan.new_profiles()[0].iccid.as_str(), B);
    }

    #[test]
    fn what_waited_is_late_only_if_the_state_was_reported_clearly_later() {
        let delayed = Submission { arrival: Arrival::Delayed, ..report(A, "INSTALLED") };
        // Five seconds are for clocks that differ. The delivery was received at 10:00:00.
        for (reported_at, outcome) in [
            (None, Outcome::Moved),
            (Some("2026-11-23T10:00:05Z"), Outcome::Moved),
            (Some("2026-11-23T10:00:06Z"), Outcome::Late),
        ] {
            let at = |text| (Iccid::parse(A).unwrap(), Timestamp::parse(text).unwrap());
            let last_reports = reported_at.map(at).into_iter().collect();
            let known = vec![(stored(A, "RELEASED"), Revision(1))];
            let plan = Plan::of(&[&delayed], known, &last_reports, &[None], &HashSet::new());
            assert_eq!(outcomes(&plan), [outcome], "{reported_at:?}");
        }
    }

    #[test]
    fn what_waited_since_before_an_erasure_is_not_about_the_next_life() {
        let (before, after) = ("2026-11-23T09:59:59Z", "2026-11-23T10:00:01Z");
        let delayed = |state| Submission { arrival: Arrival::Delayed, ..report(A, state) };
        for (erased_at, submission, outcome) in [
            (after, delayed("INSTALLED"), Outcome::Ignored),
            (before, delayed("INSTALLED"), Outcome::Moved),
            // The clock of the replica that received it is behind.
            (after, report(A, "INSTALLED"), Outcome::Moved),
        ] {
            let erased_at = Some(Timestamp::parse(erased_at).unwrap());
            let known = Profile { erased_at, ..stored(A, "RELEASED") };
            let plan = plan(&[submission], vec![known]);
            assert_eq!(outcomes(&plan), [outcome]);
            assert_eq!(plan.judgements[0].erased, outcome == Outcome::Ignored);
        }
    }

    #[test]
    fn no_reason_names_an_identifier() {
        let bodies = [
            format!(r#"{{"iccid":"{A}x","profileState":"INSTALLED"}}"#),
            format!(r#"{{"iccid":"{A}","profileState":"{B}"}}"#),
            format!(r#"{{"iccid":"{A}","profileState":"INSTALLED","eid":"x{B}","imsi":"{B}"}}"#),
            format!(r#"{{"iccid":"{A}","newCountry":"{B}"}}"#),
        ];
        let batch: Vec<_> = bodies.iter().map(|body| submission(body)).collect();
        for judgement in plan(&batch, Vec::new()).judgements {
            let reason = judgement.reason.unwrap_or_else(|| panic!("each has a reason"));
            assert!(!reason.contains(A) && !reason.contains(B), "{reason}");
        }
    }
}
