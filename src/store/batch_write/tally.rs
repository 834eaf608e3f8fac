//! What a write changes in the counts: the rows that it appends to `count_changes`.

use time::Date;

use super::{BatchWrite, Before};
use crate::domain::{Advance, Milestone, Outcome, Profile, ProfileState};

/// A row of `count_changes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountChange<'a> {
    /// The provider of the deliveries and profiles.
    pub provider: &'a str,
    /// The day of receipt in UTC and the outcome, if this is about deliveries.
    pub delivered: Option<(Date, Outcome)>,
    /// The state that profiles were in before.
    pub from: Option<ProfileState>,
    /// The state that they are in now.
    pub to: Option<ProfileState>,
    /// What they have newly reached.
    pub reached: Option<Reached>,
    /// How many.
    pub n: i64,
}

/// What profiles have newly reached on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// The day in UTC on which they were ready.
    pub ready_on: Date,
    /// The sum of the milestones.
    pub milestones: i16,
    /// How long the install took.
    pub took: Option<i16>,
}

impl From<Advance> for Reached {
    fn from(advance: Advance) -> Self {
        Self {
            ready_on: advance.ready_at.as_datetime().date(),
            milestones: advance.milestones().map(Milestone::bit).sum(),
            took: advance.took.map(|took| took.0),
        }
    }
}

/// One row for each kind of change; for a single delivery one row in all. A profile that changes several times within the
/// batch is counted from the state that was read to the state that is saved.
pub(super) fn of<'a>(write: &BatchWrite<'a>) -> Vec<CountChange<'a>> {
    let profile = |provider, from, to, reached: Option<Advance>| CountChange {
        provider,
        delivered: None,
        from,
        to,
        reached: reached.map(Reached::from),
        n: 1,
    };
    let delivered = write.deliveries.iter().map(|it| {
        let day = it.received_at.as_datetime().date();
        let delivered = Some((day, it.outcome));
        CountChange { provider: it.provider, delivered, from: None, to: None, reached: None, n: 1 }
    });
    let enter = |now: &'a Profile, before| {
        profile(&now.provider, None, Some(now.state), Advance::between(before, now))
    };
    let new = write.new.iter().map(|it| enter(it, None));
    let changed = write.changed.iter().flat_map(|it| {
        let Before { provider, state, headway } = it.before;
        let now = it.profile;
        if provider != now.provider {
            return [Some(profile(provider, Some(state), None, None)), Some(enter(now, headway))];
        }
        let (from, to) = (state != now.state).then_some((state, now.state)).unzip();
        let reached = Advance::between(headway, now);
        let is_any = from.is_some() || reached.is_some();
        [is_any.then(|| profile(provider, from, to, reached)), None]
    });
    let mut tally: Vec<CountChange<'a>> = Vec::new();
    for change in delivered.chain(new).chain(changed.flatten()) {
        let kind = |it: &CountChange<'a>| (it.provider, it.delivered, it.from, it.to, it.reached);
        match tally.iter_mut().find(|known| kind(known) == kind(&change)) {
            Some(known) => known.n += change.n,
            None => tally.push(change),
        }
    }
    if let [delivery, profile] = tally[..]
        && (delivery.provider, delivery.n) == (profile.provider, profile.n)
        && delivery.delivered.is_some()
        && profile.delivered.is_none()
    {
        tally = vec![CountChange { delivered: delivery.delivered, ..profile }];
    }
    tally
}

/// The columns of the rows, one array for each, as `UNNEST` expects them.
pub(super) struct CountColumns<'a> {
    pub provider: Vec<&'a str>,
    pub day: Vec<Option<Date>>,
    pub outcome: Vec<Option<&'a str>>,
    pub from_state: Vec<Option<&'a str>>,
    pub to_state: Vec<Option<&'a str>>,
    pub ready_on: Vec<Option<Date>>,
    pub milestones: Vec<Option<i16>>,
    pub took: Vec<Option<i16>>,
    pub n: Vec<i64>,
}

impl<'a> CountColumns<'a> {
    pub fn of(changes: &[CountChange<'a>]) -> Self {
        let each = || changes.iter();
        Self {
            provider: each().map(|it| it.provider).collect(),
            day: each().map(|it| it.delivered.map(|(day, _)| day)).collect(),
            outcome: each().map(|it| it.delivered.map(|(_, outcome)| outcome.as_str())).collect(),
            from_state: each().map(|it| it.from.map(ProfileState::as_str)).collect(),
            to_state: each().map(|it| it.to.map(ProfileState::as_str)).collect(),
            ready_on: each().map(|it| it.reached.map(|it| it.ready_on)).collect(),
            milestones: each().map(|it| it.reached.map(|it| it.milestones)).collect(),
            took: each().map(|it| it.reached.and_then(|it| it.took)).collect(),
            n: each().map(|it| it.n).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::Changed;
    use super::*;
    use crate::domain::{Connections, Iccid, Profile, Timestamp};
    use crate::store::deliveries::NewDelivery;
    use crate::store::profiles::Revision;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn profile(provider: &str, state: ProfileState) -> Profile {
        Profile {
            iccid: Iccid::parse("89972123300991848961").unwrap(),
            provider: provider.to_owned(),
            state,
            enabled: None,
            raw_state: state.to_string(),
            imsi: None,
            eid: None,
            device: None,
            since: at("2026-11-23T10:00:00Z"),
            seq: 1,
            installs_seen: 0,
            deliveries: 1,
            last_delivery_at: None,
            last_occurred_at: None,
            connections: Connections::default(),
            headway: None,
            erased_at: None,
        }
    }

    fn delivery(received_at: &str, outcome: Outcome) -> NewDelivery<'static> {
        NewDelivery {
            id: Uuid::nil(),
            received_at: at(received_at),
            hook: "h",
            provider: "a",
            iccid: None,
            outcome,
            reason: None,
            event_id: None,
            headers: "{}",
            body: b"",
        }
    }

    fn changed<'a>(now: &'a Profile, (provider, state): (&'a str, ProfileState)) -> Changed<'a> {
        let before = Before { provider, state, headway: None };
        Changed { profile: now, revision: Revision(1), before }
    }

    #[test]
    fn a_delivery_that_moves_its_profile_is_one_row() {
        let now = profile("a", ProfileState::Installed);
        let write = BatchWrite {
            changed: vec![changed(&now, ("a", ProfileState::Released))],
            deliveries: vec![delivery("2026-11-23T23:59:59Z", Outcome::Moved)],
            ..BatchWrite::default()
        };
        let [row] = of(&write)[..] else { panic!("{:?}", of(&write)) };
        let (day, outcome) = row.delivered.unwrap();
        assert_eq!((day.to_string().as_str(), outcome), ("2026-11-23", Outcome::Moved));
        assert_eq!(
            (row.from, row.to),
            (Some(ProfileState::Released), Some(ProfileState::Installed))
        );
        assert_eq!((row.provider, row.n), ("a", 1));
    }

    #[test]
    fn a_batch_has_a_row_for_each_kind_of_change() {
        let new = [ProfileState::Released, ProfileState::Released].map(|it| profile("a", it));
        let same = profile("a", ProfileState::Error);
        let write = BatchWrite {
            changed: vec![changed(&same, ("a", ProfileState::Error))],
            new: new.iter().collect(),
            deliveries: vec![
                delivery("2026-11-23T23:59:59Z", Outcome::Moved),
                delivery("2026-11-24T00:00:00Z", Outcome::Moved),
                delivery("2026-11-24T00:00:01Z", Outcome::Moved),
            ],
            ..BatchWrite::default()
        };
        let rows: Vec<_> = of(&write).iter().map(|row| (row.delivered.is_some(), row.n)).collect();
        assert_eq!(rows, [(true, 1), (true, 2), (false, 2)]);
    }

    #[test]
    fn a_profile_that_gets_another_provider_leaves_one_and_enters_the_other() {
        let now = profile("b", ProfileState::Released);
        let write = BatchWrite {
            changed: vec![changed(&now, ("a", ProfileState::Released))],
            ..BatchWrite::default()
        };
        let rows: Vec<_> = of(&write).iter().map(|row| (row.provider, row.from, row.to)).collect();
        let released = Some(ProfileState::Released);
        assert_eq!(rows, [("a", released, None), ("b", None, released)]);
    }
}
