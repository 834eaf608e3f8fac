//! The canonical state of a profile. Each provider's adapter maps its own words to it; the words are kept beside it.

use super::words::words;

words! {
    /// What we believe of a profile, in our words.
    ///
    /// The order of the variants is the order of a profile's life, and breaks the tie between two reports of one event time.
    pub enum ProfileState or UnknownState {
        /// Not yet downloadable.
        Preparing = "PREPARING",
        /// On no device, ready to be downloaded: never installed, or removed again.
        Released = "RELEASED",
        /// Fetched by a device, the install not confirmed.
        Downloaded = "DOWNLOADED",
        /// On a device. Not the same as connected.
        Installed = "INSTALLED",
        /// On a device, switched off by its user.
        Disabled = "DISABLED",
        /// Removed; nothing is said on downloading it again.
        Deleted = "DELETED",
        /// The install failed.
        Error = "ERROR",
        /// Can no longer be installed.
        Unavailable = "UNAVAILABLE",
    }
}

impl ProfileState {
    /// Whether the profile is on some device.
    pub fn is_on_device(self) -> bool {
        match self {
            Self::Installed | Self::Disabled => true,
            Self::Preparing
            | Self::Released
            | Self::Downloaded
            | Self::Deleted
            | Self::Error
            | Self::Unavailable => false,
        }
    }
}
