//! Seals credentials and the secrets of endpoints at rest: with XChaCha20-Poly1305, under the first data key, bound to the ICCID or
//! the name of the endpoint. Every configured key can open.
//!
//! Without a data key, they are stored in plain text, and `serve` and `doctor` say so.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::StoreError;
use crate::domain::{ActivationCode, Credentials, Iccid};

const NONCE: usize = 24;

/// The data keys; may be empty.
#[derive(Default)]
pub struct Vault {
    keys: Vec<Key>,
}

struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
}

/// Credentials as they are stored.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The key that sealed them; `None` if they are plain.
    pub key_id: Option<String>,
    /// Nonce and ciphertext, or plain JSON.
    pub bytes: Vec<u8>,
}

/// The JSON that is sealed.
#[derive(Default, Serialize, Deserialize)]
struct Plain {
    activation_code: Option<String>,
    apple_link: Option<String>,
    installation_url: Option<String>,
}

impl Vault {
    /// A vault with these keys. The first one seals, all of them open.
    pub fn new(keys: impl IntoIterator<Item = Zeroizing<[u8; 32]>>) -> Self {
        let key = |key: Zeroizing<[u8; 32]>| Key {
            id: id_of(&key),
            cipher: XChaCha20Poly1305::new(&(*key).into()),
        };
        Self { keys: keys.into_iter().map(key).collect() }
    }

    /// Whether this is one of the keys.
    pub fn has(&self, key: &[u8; 32]) -> bool {
        self.opens(&id_of(key))
    }

    /// Whether credentials are encrypted.
    pub fn seals(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The id of the key that seals new credentials.
    pub fn current_key(&self) -> Option<&str> {
        self.keys.first().map(|key| key.id.as_str())
    }

    /// Whether the key with this id is configured.
    pub fn opens(&self, key_id: &str) -> bool {
        self.keys.iter().any(|key| key.id == key_id)
    }

    /// Seals credentials for storage.
    ///
    /// # Errors
    /// If encryption fails.
    pub fn seal(&self, iccid: &Iccid, credentials: &Credentials) -> Result<Sealed, StoreError> {
        let plain = Plain {
            activation_code: (credentials.activation_code.as_ref())
                .map(|code| code.as_str().to_owned()),
            apple_link: credentials.apple_link.clone(),
            installation_url: credentials.installation_url.clone(),
        };
        let plain = serde_json::to_vec(&plain).map_err(|_| StoreError::Sealing)?;
        self.seal_bytes(iccid.as_str(), plain)
    }

    /// Opens sealed credentials.
    ///
    /// # Errors
    /// If the key is not configured, or the bytes were not sealed for this profile.
    pub fn open(&self, iccid: &Iccid, sealed: &Sealed) -> Result<Credentials, StoreError> {
        let plain = self.open_bytes(iccid.as_str(), sealed)?;
        let corrupt = || StoreError::Corrupt { column: "sealed" };
        let plain: Plain = serde_json::from_slice(&plain).map_err(|_| corrupt())?;
        let code = plain.activation_code.as_deref().map(ActivationCode::parse).transpose();
        Ok(Credentials {
            activation_code: code.map_err(|_| corrupt())?,
            apple_link: plain.apple_link,
            installation_url: plain.installation_url,
        })
    }

    /// Seals bytes for the row of this name, for storage.
    ///
    /// # Errors
    /// If encryption fails.
    pub fn seal_bytes(&self, name: &str, plain: Vec<u8>) -> Result<Sealed, StoreError> {
        let Some(key) = self.keys.first() else {
            return Ok(Sealed { key_id: None, bytes: plain });
        };
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: &plain, aad: name.as_bytes() };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.map_err(|_| StoreError::Sealing)?);
        Ok(Sealed { key_id: Some(key.id.clone()), bytes })
    }

    /// Opens what was sealed for the row of this name.
    ///
    /// # Errors
    /// If the key is not configured, or the bytes were not sealed for this name.
    pub fn open_bytes(&self, name: &str, sealed: &Sealed) -> Result<Vec<u8>, StoreError> {
        let Some(id) = &sealed.key_id else { return Ok(sealed.bytes.clone()) };
        let key = self.keys.iter().find(|key| key.id == *id);
        let key = key.ok_or_else(|| StoreError::UnknownDataKey(id.clone()))?;
        let corrupt = StoreError::Corrupt { column: "sealed" };
        let Some((nonce, bytes)) = sealed.bytes.split_first_chunk::<NONCE>() else {
            return Err(corrupt);
        };
        let payload = Payload { msg: bytes, aad: name.as_bytes() };
        key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| corrupt)
    }
}

/// Identifies a key without revealing it: a hash of 256 random bits.
fn id_of(key: &[u8; 32]) -> String {
    hex::encode(&Sha256::digest(key)[..6])
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iccid(text: &str) -> Iccid {
        Iccid::parse(text).unwrap()
    }

    fn credentials() -> Credentials {
        Credentials {
            activation_code: Some(ActivationCode::parse("LPA:1$smdp.io$CODE-1").unwrap()),
            apple_link: None,
            installation_url: Some("https://install.example/#t".to_owned()),
        }
    }

    fn key(byte: u8) -> Zeroizing<[u8; 32]> {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn what_was_sealed_opens_under_any_live_key_and_for_its_own_profile_only() {
        let own = iccid("89972123300991848961");
        let old = Vault::new([key(1)]);
        let sealed = old.seal(&own, &credentials()).unwrap();
        assert!(!sealed.bytes.windows(6).any(|window| window == b"CODE-1"));

        let rotated = Vault::new([key(2), key(1)]);
        assert_eq!(rotated.open(&own, &sealed).unwrap(), credentials());
        assert!(rotated.open(&iccid("89972123300991848979"), &sealed).is_err());

        let lost = Vault::new([key(2)]);
        assert!(matches!(lost.open(&own, &sealed), Err(StoreError::UnknownDataKey(_))));
    }

    #[test]
    fn tampering_is_noticed() {
        let own = iccid("89972123300991848961");
        let vault = Vault::new([key(1)]);
        let mut sealed = vault.seal(&own, &credentials()).unwrap();
        for place in 0..sealed.bytes.len() {
            sealed.bytes[place] ^= 1;
            assert!(vault.open(&own, &sealed).is_err(), "{place}");
            sealed.bytes[place] ^= 1;
        }
        sealed.bytes.truncate(3);
        assert!(vault.open(&own, &sealed).is_err());
    }

    #[test]
    fn without_a_key_they_are_stored_as_they_are_and_a_key_added_later_still_reads_them() {
        let own = iccid("89972123300991848961");
        let sealed = Vault::default().seal(&own, &credentials()).unwrap();
        assert_eq!(sealed.key_id, None);
        assert_eq!(Vault::new([key(1)]).open(&own, &sealed).unwrap(), credentials());
    }
}
