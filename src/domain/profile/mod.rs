//! The state machine: what one report does to one profile. It refuses nothing, and marks what is odd.

use super::words::words;
use super::{
    Claim, Connections, Device, Eid, Headway, Iccid, Imsi, Outcome, OverdueReason, ProfileState,
    Report, Timestamp,
};

/// How far a provider's event time may be ahead of our clock and still order reports. Beyond that, reports are applied
/// in the order of arrival, so that one wrong clock cannot freeze a profile.
const CLOCK_TOLERANCE_SECONDS: i64 = 300;

/// The max difference between the clocks of two replicas, in seconds.
pub const REPLICA_TOLERANCE_SECONDS: i64 = 5;

/// What we currently believe about an eSIM profile. Its state is that of its last transition that was not late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its ICCID.
    pub iccid: Iccid,
    /// The slug of its provider.
    pub provider: String,
    /// The canonical state.
    pub state: ProfileState,
    /// Whether it is switched on, if known.
    pub enabled: Option<bool>,
    /// The provider's latest word for the state.
    pub raw_state: String,
    /// The subscription. Once known, it is kept.
    pub imsi: Option<Imsi>,
    /// The number of the device's chip, which tells devices apart. Once known, it is kept until another is named.
    pub eid: Option<Eid>,
    /// What kind of device it is, if the provider has said so.
    pub device: Option<Device>,
    /// When it entered this state (or moved to this device), by our clock.
    pub since: Timestamp,
    /// The number of its last transition. The numbers have no gaps. They begin with 1, or continue after those before
    /// an erasure.
    pub seq: i64,
    /// How often we saw it installed on a device.
    pub installs_seen: i32,
    /// How many deliveries reported on it; duplicates and those of other providers do not count.
    pub deliveries: i64,
    /// When the last of them was received, or its provider last answered a question: the age of the evidence.
    pub last_delivery_at: Option<Timestamp>,
    /// The newest event time that was applied, if the provider sends event times.
    pub last_occurred_at: Option<Timestamp>,
    /// What is known of its connections.
    pub connections: Connections,
    /// How far it has come since it was ready.
    pub headway: Option<Headway>,
    /// When it was last erased. Deliveries that were received earlier do not concern it.
    pub erased_at: Option<Timestamp>,
}

/// One entry in a profile's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Its number in the profile's history.
    pub seq: i64,
    /// The state before; `None` for the first transition.
    pub from_state: Option<ProfileState>,
    /// The reported state.
    pub to_state: ProfileState,
    /// Whether the profile is switched on, if reported.
    pub enabled: Option<bool>,
    /// The provider's word for the state.
    pub raw_state: String,
    /// Whether it was expected, and whether it was applied.
    pub kind: TransitionKind,
    /// What did not happen, if the kind is `overdue`.
    pub reason: Option<OverdueReason>,
    /// Where it comes from; `None` if the kind is `overdue`.
    pub source: Option<Source>,
    /// The provider's event time, if it sends one that can be true.
    pub occurred_at: Option<Timestamp>,
    /// When we received the delivery, or found that the profile is overdue.
    pub received_at: Timestamp,
    /// The slug of the provider that reported it.
    pub provider: String,
}

words! {
    /// How a transition fits into a profile's life. No transition is illegal.
    pub enum TransitionKind or UnknownKind {
        /// A step that profiles usually take.
        Normal = "normal",
        /// Applied, but some step between was not reported.
        Unexpected = "unexpected",
        /// Older than what was applied before: kept in the history, not applied.
        Late = "late",
        /// Something should have happened and did not. The state stays.
        Overdue = "overdue",
    }
}

words! {
    /// Where a transition comes from.
    pub enum Source or UnknownSource {
        /// The provider sent a webhook.
        Webhook = "webhook",
        /// A backend registered the profile.
        Registration = "registration",
        /// The provider was asked.
        ProviderApi = "provider-api",
        /// A stored webhook was read again.
        Reread = "reread",
    }
}

/// What a report or a connection does to a profile: the profile as it is to be saved, and what to append to its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The report was applied.
    Moved {
        /// As it is now.
        profile: Profile,
        /// What changed.
        transition: Transition,
    },
    /// The report is older than what was applied: it is kept in the history, and the profile's state stays.
    Late {
        /// With the delivery counted.
        profile: Profile,
        /// What the report says.
        transition: Transition,
    },
    /// The report says what was known already.
    Repeated(Profile),
    /// The provider's word for the state is not one that we know. `None` if the profile is not known either.
    Unrecognised(Option<Profile>),
    /// A connection was noted.
    Connected(Profile),
    /// A connection of a profile that is not known.
    Unplaced,
    /// The profile belongs to another provider, and is left alone.
    Foreign,
}

impl Verdict {
    /// What the sender is answered.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Moved { .. } => Outcome::Moved,
            Self::Late { .. } => Outcome::Late,
            Self::Repeated(_) => Outcome::Repeated,
            Self::Unrecognised(_) => Outcome::Unrecognised,
            Self::Connected(_) => Outcome::Connected,
            Self::Unplaced => Outcome::Ignored,
            Self::Foreign => Outcome::Foreign,
        }
    }

    /// The profile as it is to be saved, and what to append to its history.
    pub fn into_parts(self) -> (Option<Profile>, Option<Transition>) {
        match self {
            Self::Moved { profile, transition } | Self::Late { profile, transition } => {
                (Some(profile), Some(transition))
            }
            Self::Repeated(profile) | Self::Connected(profile) => (Some(profile), None),
            Self::Unrecognised(profile) => (profile, None),
            Self::Unplaced | Self::Foreign => (None, None),
        }
    }
}

impl Profile {
    /// Judges `report` against what is `known` about its profile. `None` is an ICCID that was never seen, which is
    /// normal: a webhook may arrive before the customer's own order is stored.
    pub fn observe(known: Option<&Self>, report: &Report) -> Verdict {
        Self::judge(known, report, false)
    }

    /// The same for a report that has waited, or that was not understood when it arrived. `is_overtaken` is whether a
    /// newer report about the state was applied since: then it is late, unless its event time says otherwise.
    pub fn observe_delayed(known: Option<&Self>, report: &Report, is_overtaken: bool) -> Verdict {
        Self::judge(known, report, is_overtaken && event_time(report).is_none())
    }

    fn judge(known: Option<&Self>, report: &Report, is_overtaken: bool) -> Verdict {
        match (known, report.claim) {
            (Some(profile), _) if profile.provider != report.provider => Verdict::Foreign,
            (known, None) => Verdict::Unrecognised(known.map(|profile| profile.touched(report))),
            (None, Some(claim)) => {
                let (profile, transition) = Self::first(claim, report);
                Verdict::Moved { profile, transition }
            }
            (Some(profile), Some(claim)) => profile.apply(claim, report, is_overtaken),
        }
    }

    pub(super) fn first(claim: Claim, report: &Report) -> (Self, Transition) {
        let profile = Self {
            iccid: report.iccid.clone(),
            provider: report.provider.to_owned(),
            state: claim.state,
            enabled: claim.enabled,
            raw_state: report.raw_state.clone(),
            imsi: report.imsi.clone(),
            eid: report.eid.clone(),
            device: report.device.clone(),
            since: report.received_at,
            seq: 1,
            installs_seen: i32::from(claim.state.is_on_device()),
            deliveries: 1,
            last_delivery_at: Some(report.received_at),
            last_occurred_at: event_time(report),
            connections: Connections::default(),
            headway: None,
            erased_at: None,
        }
        .advanced(None, report.received_at);
        (profile, transition(1, None, claim, TransitionKind::Normal, report))
    }

    /// Applies the claim, unless the report is late.
    fn apply(&self, claim: Claim, report: &Report, is_overtaken: bool) -> Verdict {
        let mut profile = self.touched(report);
        if is_overtaken || self.is_behind(claim, report) {
            profile.seq += 1;
            let kind = TransitionKind::Late;
            let transition = transition(profile.seq, Some(self.state), claim, kind, report);
            return Verdict::Late { profile, transition };
        }

        profile.raw_state.clone_from(&report.raw_state);
        profile.last_occurred_at = self.last_occurred_at.max(event_time(report));
        profile.imsi = report.imsi.clone().or(profile.imsi);
        profile.eid = report.eid.clone().or(profile.eid);
        let other_device = self.is_other_device(report);
        profile.device = self.device_after(report);
        if claim == self.claim() && !other_device {
            return Verdict::Repeated(profile);
        }

        profile.seq += 1;
        profile.state = claim.state;
        profile.enabled = claim.enabled;
        if claim.state != self.state || other_device {
            profile.since = report.received_at;
        }
        if claim.state.is_on_device() && (!self.state.is_on_device() || other_device) {
            profile.installs_seen += 1;
        }
        let kind = kind_of(self.state, claim.state, other_device);
        let transition = transition(profile.seq, Some(self.state), claim, kind, report);
        let profile = profile.advanced(Some(self.state), report.received_at);
        Verdict::Moved { profile, transition }
    }

    fn claim(&self) -> Claim {
        Claim { state: self.state, enabled: self.enabled }
    }

    /// Learning the first device is no change. A device other than the known one is.
    fn is_other_device(&self, report: &Report) -> bool {
        matches!((&self.eid, &report.eid), (Some(known), Some(named)) if known != named)
    }

    /// What kind of device it is, as far as that is known after the report. Of another device, only what the report
    /// says.
    fn device_after(&self, report: &Report) -> Option<Device> {
        let known = self.device.as_ref().filter(|_| !self.is_other_device(report));
        match (known, &report.device) {
            (Some(known), Some(named)) => Some(known.updated(named)),
            (known, named) => named.as_ref().or(known).cloned(),
        }
    }

    /// Whether the report is older than what was applied. Of two reports with the same event time, the one further
    /// along in a profile's life counts as newer, in whichever order they arrive.
    fn is_behind(&self, claim: Claim, report: &Report) -> bool {
        match (event_time(report), self.last_occurred_at) {
            (Some(theirs), Some(applied)) => {
                let device = |eid: &Option<Eid>| eid.as_ref().map(|e| e.as_str().to_lowercase());
                let named = device(&report.eid).or(device(&self.eid));
                (theirs, claim, named) < (applied, self.claim(), device(&self.eid))
            }
            _ => false,
        }
    }

    /// The profile with this delivery counted.
    fn touched(&self, report: &Report) -> Self {
        Self {
            deliveries: self.deliveries + 1,
            last_delivery_at: self.last_delivery_at.max(Some(report.received_at)),
            ..self.clone()
        }
    }
}

/// The event time, unless it is further in the future than clocks may differ.
fn event_time(report: &Report) -> Option<Timestamp> {
    let latest = report.received_at.plus_seconds(CLOCK_TOLERANCE_SECONDS);
    report.occurred_at.filter(|at| *at <= latest)
}

fn transition(
    seq: i64,
    from_state: Option<ProfileState>,
    claim: Claim,
    kind: TransitionKind,
    report: &Report,
) -> Transition {
    Transition {
        seq,
        from_state,
        to_state: claim.state,
        enabled: claim.enabled,
        raw_state: report.raw_state.clone(),
        kind,
        reason: None,
        source: Some(Source::Webhook),
        occurred_at: event_time(report),
        received_at: report.received_at,
        provider: report.provider.to_owned(),
    }
}

/// The expected steps: RELEASED → (DOWNLOADED →) INSTALLED ⇄ DISABLED → RELEASED or DELETED → INSTALLED again; any →
/// ERROR; ERROR → RELEASED. Also expected: PREPARING → RELEASED, and learning whether the profile is switched on. A
/// profile that appears on another device must have been removed from the first one, and that was not reported.
fn kind_of(from: ProfileState, to: ProfileState, other_device: bool) -> TransitionKind {
    use ProfileState::{
        Deleted, Disabled, Downloaded, Error, Installed, Preparing, Released, Unavailable,
    };
    let on_the_way = match from {
        Preparing | Error => matches!(to, Released),
        Released => matches!(to, Downloaded | Installed),
        Downloaded | Deleted => matches!(to, Installed),
        Installed => matches!(to, Disabled | Released | Deleted),
        Disabled => matches!(to, Installed | Released | Deleted),
        Unavailable => false,
    };
    let moved_away = other_device && from.is_on_device();
    let expected = on_the_way || to == Error || (from == to && !other_device);
    if expected && !moved_away { TransitionKind::Normal } else { TransitionKind::Unexpected }
}

#[cfg(test)]
mod tests;
