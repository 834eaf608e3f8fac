//! API keys, token secrets and data keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

use super::{DataKeyArgs, SecretArgs, TokenSecretArgs};
use crate::delivery::Secrets;
use crate::store::Vault;

/// What the log shows for an API key without a name.
const NAMELESS: &str = "(no name)";

/// Reads the API keys and the names that the operator gave them. Each is `name:key` or `key`.
pub(super) fn api_keys(args: &SecretArgs) -> Result<(Secrets, Vec<String>), String> {
    args.api_keys().required(|values| {
        let pairs = values.iter().enumerate().map(|(index, value)| {
            match value.split_once(':') {
                None => Ok((NAMELESS, value.as_str())),
                Some((name, key)) if is_name(name.trim()) => Ok((name.trim(), key)),
                // The operator may mean the whole value as the key; but only the part after the colon would match.
                Some(_) => Err(format!(
                    "ESIM_STATUS_API_KEYS: the text before the colon of key number {} is not a name: write name:key, with a name that begins with a letter and has at most 32 letters, digits, `-`, `_` and `.`; or generate a key without a colon with `openssl rand -hex 32`",
                    index + 1
                )),
            }
        });
        let (names, keys): (Vec<_>, Vec<_>) = pairs.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let keys = Secrets::parse_for_header("ESIM_STATUS_API_KEYS", keys);
        let own = names.into_iter().map(str::to_owned).collect();
        keys.map(|keys| (keys, own)).map_err(|error| error.to_string())
    })
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    // This is more likely the first half of a key.
    let is_random = text.len() >= 16 && text.bytes().any(|b| b.is_ascii_digit());
    !is_random
        && text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(plain)
}

/// Reads the secrets of access tokens; the first signs.
///
/// # Errors
/// If there are none, or one is weak.
pub fn token_secrets(args: &TokenSecretArgs) -> Result<Secrets, String> {
    args.token_secrets().required(|values| Secrets::parse("ESIM_STATUS_TOKEN_SECRETS", values))
}

/// Reads the data keys. There may be none; [`super::Settings::warnings`] then says so.
///
/// # Errors
/// If one is not the base64 of 32 bytes; never echoes it.
pub fn vault(args: &DataKeyArgs) -> Result<Vault, String> {
    const WANTED: &str = "ESIM_STATUS_DATA_KEYS: each key must be the base64 of 32 random bytes: generate one with `openssl rand -base64 32`";
    let source = args.data_keys();
    if !source.is_given() {
        return Ok(Vault::default());
    }
    let keys = source.required(|values| {
        values
            .into_iter()
            .map(|value| {
                let bytes = Zeroizing::new(STANDARD.decode(value.trim()).map_err(|_| WANTED)?);
                let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| WANTED)?;
                // Thirty-two equal bytes are not a random key.
                if key.iter().all(|byte| *byte == key[0]) {
                    Err(WANTED)
                } else {
                    Ok(Zeroizing::new(key))
                }
            })
            .collect::<Result<Vec<_>, &str>>()
    })?;
    Ok(Vault::new(keys))
}
