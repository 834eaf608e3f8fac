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
        // Of more, those between go: each was replaced within a day, and a receiver whose answers were lost knows the earliest.
        if earlier.len() > MAX_EARLIER {
            earlier.drain(1..=earlier.len() - MAX_EARLIER);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_secrets_the_first_and_the_last_sign_for_a_day() {
        let now = Timestamp::parse("2026-11-27T10:00:00Z").unwrap();
        let until = now.plus_seconds(86_400);
        let secret = |n: usize| SecretString::from(format!("secret-{n}"));
        let secrets =
            (1..8).fold(EndpointSecrets::new(secret(0)), |it, n| it.rotated(secret(n), until, now));
        let signing = |until, now| -> Vec<String> {
            secrets.signing(until, now).map(|it| it.expose_secret().to_owned()).collect()
        };
        assert_eq!(
            signing(Some(until), now),
            ["secret-7", "secret-6", "secret-2", "secret-1", "secret-0"]
        );
        assert_eq!(signing(Some(until), until), ["secret-7"]);
        assert_eq!(signing(None, now), ["secret-7"]);
    }
}
