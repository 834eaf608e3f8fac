//! The secrets of an endpoint as they are stored: sealed, like install credentials.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::vault::{Sealed, Vault};

/// The secrets that sign the requests to one endpoint.
#[derive(Debug)]
pub struct EndpointSecrets {
    /// The present one.
    pub current: SecretString,
    /// The one before, while both sign.
    pub previous: Option<SecretString>,
}

/// The JSON that is sealed.
#[derive(Serialize, Deserialize)]
struct Plain<'a> {
    current: &'a str,
    previous: Option<&'a str>,
}

impl EndpointSecrets {
    /// Seals them for the endpoint with this id.
    ///
    /// # Errors
    /// If encryption fails.
    pub fn seal(&self, vault: &Vault, id: &str) -> Result<Sealed, StoreError> {
        let previous = self.previous.as_ref().map(ExposeSecret::expose_secret);
        let plain = Plain { current: self.current.expose_secret(), previous };
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
        let previous = plain.previous.map(SecretString::from);
        Ok(Self { current: plain.current.into(), previous })
    }
}
