//! API keys, token secrets and data keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

use super::{DataKeyArgs, SecretArgs, TokenSecretArgs};
use crate::delivery::Secrets;
use crate::store::Vault;

/// What an API key without a name is called.
const NAMELESS: &str = "(no name)";

/// The API keys, and what the operator calls them. Each is `name:key` or `key`.
pub(super) fn api_keys(args: &SecretArgs) -> Result<(Secrets, Vec<String>), String> {
    args.api_keys().required(|values| {
        let pairs = values.iter().enumerate().map(|(index, value)| {
            match value.split_once(':') {
                None => Ok((NAMELESS, value.as_str())),
                Some((name, key)) if is_name(name.trim()) => Ok((name.trim(), key)),
                // The whole of it may be meant as the key, and only what is behind the colon would ever match.
                Some(_) => Err(format!(
                    "ESIM_STATUS_API_KEYS: what stands before the colon of key number {} is no name: write name:key, with a name of at most 32 letters, digits, `-`, `_` and `.` that begins with a letter",
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
    // Rather the first half of a key.
    let is_random = text.len() >= 16 && text.bytes().any(|b| b.is_ascii_digit());
    !is_random
        && text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(plain)
}

/// The secrets of access tokens; the first signs.
///
/// # Errors
/// Where there are none, or one is weak.
pub fn token_secrets(args: &TokenSecretArgs) -> Result<Secrets, String> {
    args.token_secrets().required(|values| Secrets::parse("ESIM_STATUS_TOKEN_SECRETS", values))
}

/// The data keys; none is allowed, and said.
///
/// # Errors
/// Where one is not the base64 of 32 bytes; never echoes it.
pub fn vault(args: &DataKeyArgs) -> Result<Vault, String> {
    const WANTED: &str = "ESIM_STATUS_DATA_KEYS: each key must be the base64 of 32 bytes, such as `openssl rand -base64 32` prints";
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
                // Thirty-two equal bytes are nobody's random key.
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
