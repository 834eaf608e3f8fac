//! API keys, token secrets, data keys and the keys of evidence sheets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

use super::{DataKeyArgs, EvidenceKeyArgs, SecretArgs, SecretSource, TokenSecretArgs};
use crate::access::{ApiKeys, Rights, Scope};
use crate::delivery::Secrets;
use crate::signing::SigningKeys;
use crate::store::Vault;

/// Reads the API keys, each `name:key`, `name[scope+scope]:key` or `key`. Without scopes, a key may be used for everything.
pub(super) fn api_keys(args: &SecretArgs) -> Result<ApiKeys, String> {
    args.api_keys().required(|values| {
        let pairs = values.iter().enumerate().map(|(index, value)| {
            labelled(value)
                .map_err(|wrong| format!("ESIM_STATUS_API_KEYS: key number {}: {wrong}", index + 1))
        });
        let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
        let (rights, keys): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let keys = Secrets::parse_for_header("ESIM_STATUS_API_KEYS", keys);
        keys.map(|keys| ApiKeys::new(keys, rights)).map_err(|error| error.to_string())
    })
}

/// Splits a value into the rights and the key itself.
fn labelled(value: &str) -> Result<(Rights, &str), &'static str> {
    let Some((label, key)) = value.split_once(':') else {
        // The operator means a name and scopes, perhaps with a comma between these, which ends the value; but the whole value
        // would be the key, and may be used for everything.
        let label = value.split_once('[').filter(|(name, _)| is_name(name.trim()));
        if label.is_some_and(|(_, rest)| scopes(rest.split(']').next().unwrap_or(rest)).is_some()) {
            return Err(
                "its scopes are not followed by a colon: write name[scope+scope]:key, such as helpdesk[read+support]:key, with `+` and no comma between the scopes",
            );
        }
        return Ok((Rights::new(ApiKeys::NAMELESS, Scope::ALL), value));
    };
    let (name, allowed) = match label.trim().split_once('[') {
        None => (label.trim(), Scope::ALL.to_vec()),
        Some((name, words)) => {
            let words = words.strip_suffix(']').unwrap_or_default();
            let scopes = scopes(words).ok_or(
                "the brackets behind its name do not hold scopes: write one or more of read, write and support, joined by `+`, such as helpdesk[read+support]:key",
            )?;
            (name.trim(), scopes)
        }
    };
    if is_name(name) {
        return Ok((Rights::new(name, allowed), key));
    }
    // The operator may mean the whole value as the key; but only the part after the colon would match.
    Err(
        "the text before the colon is not a name: write name:key, with a name that begins with a letter and has at most 32 letters, digits, `-`, `_` and `.`; or generate a key without a colon with `openssl rand -hex 32`",
    )
}

/// The scopes that these words name, with `+` between them.
fn scopes(words: &str) -> Option<Vec<Scope>> {
    words.split('+').map(|word| Scope::parse(word.trim())).collect()
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
    optional_keys("ESIM_STATUS_DATA_KEYS", &args.data_keys()).map(Vault::new)
}

/// Reads the keys that sign evidence sheets. There may be none; the sheets then say so.
///
/// # Errors
/// If one is not the base64 of 32 bytes, or is a data key too; never echoes it.
pub fn evidence_keys(args: &EvidenceKeyArgs, vault: &Vault) -> Result<SigningKeys, String> {
    let keys = optional_keys("ESIM_STATUS_EVIDENCE_KEYS", &args.evidence_keys())?;
    if keys.iter().any(|key| vault.has(key)) {
        return Err("ESIM_STATUS_EVIDENCE_KEYS and ESIM_STATUS_DATA_KEYS have a key in common: generate a separate one with `openssl rand -base64 32`".to_owned());
    }
    Ok(SigningKeys::new(keys))
}

fn optional_keys(name: &str, source: &SecretSource<'_>) -> Result<Vec<RandomKey>, String> {
    if !source.is_given() {
        return Ok(Vec::new());
    }
    source.required(|values| values.iter().map(|value| random_key(name, value)).collect())
}

/// A key of 32 random bytes.
pub type RandomKey = Zeroizing<[u8; 32]>;

/// Reads a key.
///
/// # Errors
/// If it is not the base64 of 32 bytes; never echoes it.
pub fn random_key(name: &str, value: &str) -> Result<RandomKey, String> {
    let decoded = STANDARD.decode(value.trim()).ok().map(Zeroizing::new);
    let key = decoded.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    // Thirty-two equal bytes are not a random key.
    let key = key.filter(|key| key.iter().any(|byte| *byte != key[0]));
    key.map(Zeroizing::new).ok_or_else(|| {
        format!(
            "{name}: each key must be the base64 of 32 random bytes: generate one with `openssl rand -base64 32`"
        )
    })
}
