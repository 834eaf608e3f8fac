//! The canonical state of a profile. Each provider's adapter maps its own words to it; the words themselves are kept beside it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What we believe of a profile, in our words.
///
/// The order of the variants is the order of a profile's life, and breaks the tie between two reports of one event time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum ProfileState {
    /// Not yet downloadable.
    Preparing,
    /// On no device, ready to be downloaded: never installed, or removed again.
    Released,
    /// Fetched by a device, the install not confirmed.
    Downloaded,
    /// On a device. Not the same as connected.
    Installed,
    /// On a device, switched off by its user.
    Disabled,
    /// Removed; nothing is said on downloading it again.
    Deleted,
    /// The install failed.
    Error,
    /// Can no longer be installed.
    Unavailable,
}

/// A text that names no [`ProfileState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of PREPARING, RELEASED, DOWNLOADED, INSTALLED, DISABLED, DELETED, ERROR, UNAVAILABLE"
)]
pub struct UnknownState;

impl ProfileState {
    /// Every state, in the order of a profile's life.
    pub const ALL: [Self; 8] = [
        Self::Preparing,
        Self::Released,
        Self::Downloaded,
        Self::Installed,
        Self::Disabled,
        Self::Deleted,
        Self::Error,
        Self::Unavailable,
    ];

    /// The state's name in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "PREPARING",
            Self::Released => "RELEASED",
            Self::Downloaded => "DOWNLOADED",
            Self::Installed => "INSTALLED",
            Self::Disabled => "DISABLED",
            Self::Deleted => "DELETED",
            Self::Error => "ERROR",
            Self::Unavailable => "UNAVAILABLE",
        }
    }

    /// Whether the profile is on some device.
    pub fn is_on_device(self) -> bool {
        matches!(self, Self::Installed | Self::Disabled)
    }
}

impl FromStr for ProfileState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

impl fmt::Display for ProfileState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_json_and_text_agree() {
        for state in ProfileState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!("installed".parse::<ProfileState>(), Err(UnknownState));
    }
}
