//! Signs documents with Ed25519 as compact JWS (RFC 7515, RFC 8037), so that others can check them with the public keys.
//! Pure.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};

/// The keys; there may be none. The first one signs, and all of them are published.
#[derive(Default)]
pub struct SigningKeys(Vec<Key>);

struct Key {
    id: String,
    public: String,
    pair: Ed25519KeyPair,
}

/// What a verifier needs of a key.
#[derive(Debug, Clone, Copy)]
pub struct PublicKey<'a> {
    /// The thumbprint of the key (RFC 7638).
    pub id: &'a str,
    /// The public key, in the base64 of URLs: the member `x` of its JWK.
    pub x: &'a str,
}

impl SigningKeys {
    /// The keys of these secret seeds.
    pub fn new(seeds: impl IntoIterator<Item = Zeroizing<[u8; 32]>>) -> Self {
        Self(seeds.into_iter().map(|seed| Key::of(&seed)).collect())
    }

    /// Signs these exact bytes with the first key; `None` if there is no key. `kind` is the `typ` of the header, which
    /// keeps the signature from being taken for one of another kind of document.
    pub fn sign(&self, kind: &str, payload: &[u8]) -> Option<String> {
        let key = self.0.first()?;
        let header = serde_json::json!({ "alg": "EdDSA", "kid": key.id, "typ": kind });
        let mut text = URL_SAFE_NO_PAD.encode(header.to_string());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        let signature = key.pair.sign(text.as_bytes());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Some(text)
    }

    /// The public keys, the one that signs first.
    pub fn public(&self) -> impl Iterator<Item = PublicKey<'_>> {
        self.0.iter().map(|Key { id, public, .. }| PublicKey { id, x: public })
    }
}

impl Key {
    #[expect(clippy::expect_used, reason = "ring refuses only seeds of another length")]
    fn of(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed has 32 bytes");
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        // The members that identify the key, in the order and form that RFC 7638 prescribes.
        let identity = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(identity));
        Self { id, public, pair }
    }
}

/// The keys are secret.
impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8037, appendix A.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

    fn keys() -> SigningKeys {
        let seed = URL_SAFE_NO_PAD.decode(SEED).unwrap();
        SigningKeys::new([Zeroizing::new(seed.try_into().unwrap())])
    }

    #[test]
    fn the_key_of_rfc_8037_has_its_public_key_and_thumbprint() {
        let keys = keys();
        let public: Vec<_> = keys.public().map(|key| (key.x, key.id)).collect();
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(public, [(x, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")]);
    }

    #[test]
    fn the_header_names_the_key_and_the_payload_is_signed_as_it_is() {
        let signed = keys().sign("example+jws", b"Example of Ed25519 signing").unwrap();
        let parts: Vec<_> = signed.split('.').map(|it| URL_SAFE_NO_PAD.decode(it)).collect();
        let [Ok(header), Ok(payload), Ok(signature)] = &parts[..] else { panic!("{signed}") };
        let expected = r#"{"alg":"EdDSA","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","typ":"example+jws"}"#;
        assert_eq!(std::str::from_utf8(header).unwrap(), expected);
        assert_eq!((&payload[..], signature.len()), (&b"Example of Ed25519 signing"[..], 64));
    }

    #[test]
    fn without_a_key_nothing_is_signed_and_no_key_is_shown() {
        assert_eq!(SigningKeys::default().sign("example+jws", b""), None);
        assert_eq!(format!("{:?}", keys()), "SigningKeys(1 keys)");
    }
}
