//! Secrets from a flag, an environment variable or a file with one secret a line. Each may be a list, for rotation.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

/// The secrets that authenticate callers.
#[derive(Clone, Default, Args)]
pub struct SecretArgs {
    /// URL secrets of the hook `gigastore/esim-status`, comma-separated
    #[arg(
        long,
        env = "ESIM_STATUS_GIGASTORE_SECRETS",
        hide_env_values = true,
        value_name = "SECRETS"
    )]
    gigastore_secrets: Option<String>,

    /// A file with the same, one a line
    #[arg(long, env = "ESIM_STATUS_GIGASTORE_SECRETS_FILE", value_name = "FILE")]
    gigastore_secrets_file: Option<PathBuf>,

    /// API keys of backends and support, comma-separated, each `name:key`, `name[read+support]:key` or `key`
    #[arg(long, env = "ESIM_STATUS_API_KEYS", hide_env_values = true, value_name = "KEYS")]
    api_keys: Option<String>,

    /// A file with the same, one a line
    #[arg(long, env = "ESIM_STATUS_API_KEYS_FILE", value_name = "FILE")]
    api_keys_file: Option<PathBuf>,
}

/// The secrets of access tokens.
#[derive(Clone, Default, Args)]
pub struct TokenSecretArgs {
    /// Secrets of access tokens, comma-separated; the first signs, all verify
    #[arg(long, env = "ESIM_STATUS_TOKEN_SECRETS", hide_env_values = true, value_name = "SECRETS")]
    token_secrets: Option<String>,

    /// A file with the same, one a line
    #[arg(long, env = "ESIM_STATUS_TOKEN_SECRETS_FILE", value_name = "FILE")]
    token_secrets_file: Option<PathBuf>,
}

/// The data keys.
#[derive(Clone, Default, Args)]
pub struct DataKeyArgs {
    /// Keys that encrypt activation codes and links at rest, comma-separated, each the base64 of 32 bytes; the first encrypts,
    /// all decrypt; without a key they are stored in plain text
    #[arg(long, env = "ESIM_STATUS_DATA_KEYS", hide_env_values = true, value_name = "KEYS")]
    data_keys: Option<String>,

    /// A file with the same, one a line
    #[arg(long, env = "ESIM_STATUS_DATA_KEYS_FILE", value_name = "FILE")]
    data_keys_file: Option<PathBuf>,
}

/// The keys that sign evidence sheets.
#[derive(Clone, Default, Args)]
pub struct EvidenceKeyArgs {
    /// Keys that sign evidence sheets, comma-separated, each the base64 of 32 bytes; the first signs, the public keys of all are
    /// at `/.well-known/jwks.json`; without a key the sheets are not signed
    #[arg(long, env = "ESIM_STATUS_EVIDENCE_KEYS", hide_env_values = true, value_name = "KEYS")]
    evidence_keys: Option<String>,

    /// A file with the same, one a line
    #[arg(long, env = "ESIM_STATUS_EVIDENCE_KEYS_FILE", value_name = "FILE")]
    evidence_keys_file: Option<PathBuf>,
}

/// The values are secrets.
impl std::fmt::Debug for SecretArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretArgs(…)")
    }
}

/// The values are secrets.
impl std::fmt::Debug for TokenSecretArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenSecretArgs(…)")
    }
}

/// The values are secrets.
impl std::fmt::Debug for DataKeyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKeyArgs(…)")
    }
}

/// The values are secrets.
impl std::fmt::Debug for EvidenceKeyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EvidenceKeyArgs(…)")
    }
}

/// The source of one kind of secrets.
pub struct SecretSource<'a> {
    name: &'static str,
    list: Option<&'a str>,
    file: Option<&'a Path>,
}

impl SecretArgs {
    /// Where the URL secrets of the built-in hook come from.
    pub fn gigastore_secrets(&self) -> SecretSource<'_> {
        let name = "ESIM_STATUS_GIGASTORE_SECRETS";
        source(name, self.gigastore_secrets.as_ref(), self.gigastore_secrets_file.as_ref())
    }

    /// Where the API keys come from.
    pub fn api_keys(&self) -> SecretSource<'_> {
        source("ESIM_STATUS_API_KEYS", self.api_keys.as_ref(), self.api_keys_file.as_ref())
    }
}

impl TokenSecretArgs {
    /// Where the secrets of access tokens come from.
    pub fn token_secrets(&self) -> SecretSource<'_> {
        let name = "ESIM_STATUS_TOKEN_SECRETS";
        source(name, self.token_secrets.as_ref(), self.token_secrets_file.as_ref())
    }
}

impl DataKeyArgs {
    /// The source of the data keys; there may be none.
    pub fn data_keys(&self) -> SecretSource<'_> {
        source("ESIM_STATUS_DATA_KEYS", self.data_keys.as_ref(), self.data_keys_file.as_ref())
    }
}

impl EvidenceKeyArgs {
    /// The source of the keys that sign evidence sheets; there may be none.
    pub fn evidence_keys(&self) -> SecretSource<'_> {
        let name = "ESIM_STATUS_EVIDENCE_KEYS";
        source(name, self.evidence_keys.as_ref(), self.evidence_keys_file.as_ref())
    }
}

fn source<'a>(
    name: &'static str,
    list: Option<&'a String>,
    file: Option<&'a PathBuf>,
) -> SecretSource<'a> {
    let list = list.map(String::as_str).filter(|list| !list.is_empty());
    let file = file.map(PathBuf::as_path).filter(|file| !file.as_os_str().is_empty());
    SecretSource { name, list, file }
}

impl SecretSource<'_> {
    /// Whether a list or a file is set.
    pub fn is_given(&self) -> bool {
        self.list.is_some() || self.file.is_some()
    }

    /// Reads and parses the secrets.
    ///
    /// # Errors
    /// If there are none, if both a list and a file are set, or if `parse` fails; never echoes a value.
    pub fn required<T, E: std::fmt::Display>(
        &self,
        parse: impl FnOnce(Vec<String>) -> Result<T, E>,
    ) -> Result<T, String> {
        let name = self.name;
        let values = match (self.list, self.file) {
            (Some(_), Some(_)) => {
                return Err(format!("{name} and {name}_FILE are both set: keep one of them"));
            }
            (Some(list), None) => list.split(',').map(str::to_owned).collect(),
            (None, Some(file)) => read_lines(name, file)?,
            (None, None) => {
                return Err(format!(
                    "{name} is missing: generate a secret with `openssl rand -hex 32`, and set {name}, or {name}_FILE to a file that contains it"
                ));
            }
        };
        parse(values).map_err(|error| error.to_string())
    }
}

/// The secrets of a list, and those of a file.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn all_secrets(
    name: &str,
    mut secrets: Vec<String>,
    file: Option<PathBuf>,
) -> Result<Vec<String>, String> {
    if let Some(file) = file {
        secrets.extend(read_lines(name, &file)?);
    }
    Ok(secrets)
}

/// Reads one secret a line; skips empty lines.
///
/// # Errors
/// If the file cannot be read, or if it contains a byte order mark or a comment: we would take either for a part of a
/// secret, against the operator's intention.
pub(super) fn read_lines(name: &str, file: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("{name}: the file {} cannot be read: {error}", file.display()))?;
    if text.starts_with('\u{feff}') {
        return Err(format!(
            "{name}: the file {}, line 1: begins with a byte order mark, which would become part of the secret; save the file as UTF-8 without one",
            file.display()
        ));
    }
    let mut secrets = Vec::new();
    for (index, line) in
        text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty())
    {
        if line.starts_with('#') {
            return Err(format!(
                "{name}: the file {}, line {}: begins with #, but every line is a secret; remove comments",
                file.display(),
                index + 1
            ));
        }
        secrets.push(line.to_owned());
    }
    Ok(secrets)
}
