//! What a provider claims about a profile, in our words, and the outcome of the claim.

use super::words::words;
use super::{Device, Eid, Iccid, Imsi, ProfileState, Timestamp};

/// One provider's claim about one profile, as its adapter read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The profile that it is about.
    pub iccid: Iccid,
    /// The provider's slug.
    pub provider: &'static str,
    /// The provider's own word for the state, exactly as it was sent.
    pub raw_state: String,
    /// What the word means; `None` if the adapter does not know it.
    pub claim: Option<Claim>,
    /// The device, if the body names one.
    pub eid: Option<Eid>,
    /// What kind of device it is, if the body says so.
    pub device: Option<Device>,
    /// The subscription, if the body names one.
    pub imsi: Option<Imsi>,
    /// The provider's event time, if it sends one.
    pub occurred_at: Option<Timestamp>,
    /// When we received the delivery.
    pub received_at: Timestamp,
    /// Oddities that did not invalidate the event, for support.
    pub remarks: Vec<String>,
}

impl Report {
    /// A report that says nothing but this.
    pub fn new(
        iccid: Iccid,
        provider: &'static str,
        raw_state: String,
        claim: Option<Claim>,
        received_at: Timestamp,
    ) -> Self {
        Self {
            iccid,
            provider,
            raw_state,
            claim,
            eid: None,
            device: None,
            imsi: None,
            occurred_at: None,
            received_at,
            remarks: Vec::new(),
        }
    }
}

/// A state, and whether the profile is switched on, if the provider says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The canonical state.
    pub state: ProfileState,
    /// Whether it is switched on; `None` if the provider, or the state, does not say.
    pub enabled: Option<bool>,
}

words! {
    /// What became of one authentic delivery.
    pub enum Outcome or UnknownOutcome {
        /// Applied: the state, the switch or the device changed.
        Moved = "moved",
        /// Nothing new.
        Repeated = "repeated",
        /// A connection to a network was noted. The state is as it was.
        Connected = "connected",
        /// The sender's event id was seen before.
        Duplicate = "duplicate",
        /// Older than what was applied: in the history, and the state stays.
        Late = "late",
        /// A state word that the adapter does not know, or a report that could not be applied: kept, not applied.
        Unrecognised = "unrecognised",
        /// An event that is not about state: kept, not applied.
        Ignored = "ignored",
        /// About a profile that belongs to another provider: kept, not applied.
        Foreign = "foreign",
        /// Authentic, but not an object of the right shape: the raw bytes are kept.
        Malformed = "malformed",
    }
}
