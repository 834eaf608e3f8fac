//! The secrets of an endpoint as they are stored: sealed, like install credentials.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::vault::{Sealed, Vault};
use crate::domain::Timestamp;

/// How many secrets before the present one are kept at most.
const MAX_EARLIER: usize = 4;

/// The secrets that sign the requests to one endpoint.
#[derive(Debug)]
pub struct EndpointSecrets {
    /// The present one.
    pub current: SecretString,
    /// Those before, the latest first, each with the time until which it also signs.
    earlier: Vec<(SecretString, Timestamp)>,
}

/// The JSON that is sealed.
#[derive(Serialize, Deserialize)]
struct Plain<'a> {
    current: &'a str,
    #[serde(borrow, default)]
    earlier: Vec<(&'a str, Timestamp)>,
}

impl EndpointSecrets {
    /// One secret.
    pub fn new(current: SecretString) -> Self {
        Self { current, earlier: Vec::new() }
    }

    /// Another secret is the present one now. Every secret that signs also signs until then: its answer may have been lost, and the
    /// receiver knows an earlier one.
    #[must_use]
    pub fn rotated(self, current: SecretString, until: Timestamp, now: Timestamp) -> Self {
        let mut earlier = vec![(self.current, until)];
        earlier.extend(self.earlier.into_iter().filter(|(_, until)| now < *until));
        earlier.truncate(MAX_EARLIER);
        Self { current, earlier }
    }

    /// The secrets that sign now, the present one first. No other signs after `until`.
    pub fn signing(
        &self,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> impl Iterator<Item = &SecretString> {
        let is_any = until.is_some_and(|until| now < until);
        let earlier = self.earlier.iter().filter(move |(_, until)| is_any && now < *until);
        std::iter::once(&self.current).chain(earlier.map(|(secret, _)| secret))
    }

    /// Seals them for the endpoint with this id.
    ///
    /// # Errors
    /// If encryption fails.
    pub fn seal(&self, vault: &Vault, id: &str) -> Result<Sealed, StoreError> {
        let earlier = self.earlier.iter().map(|(secret, until)| (secret.expose_secret(), *until));
        let plain = Plain { current: self.current.expose_secret(), earlier: earlier.collect() };
        let plain = serde_json::to_vec(&plain).map_err(|_| StoreError::Sealing)?;
        vault.seal_bytes(id, plain)
    }

    /// Opens the secrets of the endpoint with this id.
    ///
    /// # Errors
    /// If the data key is not configured, or they are those of another endpoint.
    pub fn open(vault: &Vault, id: &str, sealed: &Sealed) -> Result<Self, StoreError> {
        let plain = vault.open_bytes(id, sealed)?;
        let plain: Plain<'_> =
            serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt { column: "sealed" })?;
        let earlier = plain.earlier.into_iter().map(|(secret, until)| (secret.into(), until));
        Ok(Self { current: plain.current.into(), earlier: earlier.collect() })
    }
}
