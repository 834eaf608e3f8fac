//! What a provider claims about one profile, in our words, and what became of the claim.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Eid, Iccid, Imsi, ProfileState, Timestamp};

/// One provider's claim about one profile, as its adapter read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The profile it speaks of.
    pub iccid: Iccid,
    /// The provider's slug.
    pub provider: &'static str,
    /// The provider's own word for the state, exactly as it was sent.
    pub raw_state: String,
    /// What the word means; `None` where the adapter does not know it.
    pub claim: Option<Claim>,
    /// The device, where the body named one.
    pub eid: Option<Eid>,
    /// The subscription, where the body named one.
    pub imsi: Option<Imsi>,
    /// The provider's event time, where it sends one.
    pub occurred_at: Option<Timestamp>,
    /// When the delivery reached us.
    pub received_at: Timestamp,
    /// What was odd but did not cost the event, for support.
    pub remarks: Vec<String>,
}

/// A state, and whether the profile is switched on where the provider says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The canonical state.
    pub state: ProfileState,
    /// Switched on or off; `None` for a provider, or a state, that does not say.
    pub enabled: Option<bool>,
}

/// What became of one authentic delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Applied: the state, the switch or the device changed.
    Moved,
    /// Nothing new.
    Repeated,
    /// The sender's event id was seen before.
    Duplicate,
    /// Older than what was applied: in the history, not applied.
    Late,
    /// A state word that the adapter does not know: kept, not applied.
    Unrecognised,
    /// An event that is not about state: kept, not applied.
    Ignored,
    /// About a profile that belongs to another provider: kept, not applied.
    Foreign,
    /// Authentic, but not an object of the right shape: the raw bytes are kept.
    Malformed,
}

/// A text that names no [`Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of moved, repeated, duplicate, late, unrecognised, ignored, foreign, malformed"
)]
pub struct UnknownOutcome;

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 8] = [
        Self::Moved,
        Self::Repeated,
        Self::Duplicate,
        Self::Late,
        Self::Unrecognised,
        Self::Ignored,
        Self::Foreign,
        Self::Malformed,
    ];

    /// The outcome's name in JSON, in the database and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Repeated => "repeated",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Unrecognised => "unrecognised",
            Self::Ignored => "ignored",
            Self::Foreign => "foreign",
            Self::Malformed => "malformed",
        }
    }
}

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text).ok_or(UnknownOutcome)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
