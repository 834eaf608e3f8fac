//! The TOML file with further hooks. An error names the line of what is unknown or wrong, and never echoes a secret.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderName;
use serde::Deserialize;
use toml::Spanned;

use super::secrets::read_lines;
use crate::delivery::{Authenticator, Encoding, Scheme, Secrets, StandardSecrets};
use crate::hook::{Hook, Hooks};
use crate::providers;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    hooks: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    provider: String,
    auth: Auth,
    #[serde(default)]
    test_deliveries: TestDeliveries,
}

/// How to answer the empty POST by which some portals test a URL before they save it.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum TestDeliveries {
    #[default]
    Refuse,
    Accept,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Auth {
    UrlSecret {
        #[serde(default)]
        secrets: Vec<String>,
        secrets_file: Option<PathBuf>,
    },
    Header {
        header: String,
        #[serde(default)]
        secrets: Vec<String>,
        secrets_file: Option<PathBuf>,
    },
    HmacSha256 {
        header: String,
        #[serde(default = "either")]
        encoding: Encoding,
        #[serde(default)]
        prefix: String,
        #[serde(default)]
        secrets: Vec<String>,
        secrets_file: Option<PathBuf>,
    },
    StandardWebhooks {
        #[serde(default)]
        secrets: Vec<String>,
        secrets_file: Option<PathBuf>,
    },
    None {},
}

fn either() -> Encoding {
    Encoding::Either
}

/// Reads the hooks of a configuration file.
///
/// # Errors
/// Says what is wrong, in which line, and what to write instead.
pub(super) fn load(path: &Path) -> Result<Hooks, String> {
    let name = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| format!("ESIM_STATUS_CONFIG: the file {name} cannot be read: {error}"))?;
    let at = |span: Option<Range<usize>>| {
        let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("{name}, line {}", before.matches('\n').count() + 1)
    };
    // The error's `Display` would quote the line, which may contain a secret.
    let file: File = toml::from_str(&text)
        .map_err(|error| format!("{}: {}", at(error.span()), without_value(error.message())))?;
    let mut hooks = Hooks::new();
    for entry in file.hooks {
        let place = at(Some(entry.span()));
        let hook = hook(entry.into_inner()).map_err(|why| format!("{place}: {why}"))?;
        if hooks.contains_key(&hook.path) {
            return Err(format!("{place}: two hooks have the path {}; keep one", hook.path));
        }
        hooks.insert(hook.path.clone(), Arc::new(hook));
    }
    Ok(hooks)
}

/// Removes the value that serde's message quotes as unexpected: it may be a secret.
fn without_value(message: &str) -> String {
    let shows = ["invalid type", "invalid value", "unknown variant"];
    let shows = shows.iter().any(|kind| message.starts_with(kind));
    match message.rsplit_once(", expected ") {
        Some((_, "a sequence")) if shows => {
            "a value of another type than expected; write a list, such as [\"…\"]".to_owned()
        }
        Some((_, wanted)) if shows => format!("a value that does not fit; expected {wanted}"),
        _ => message.to_owned(),
    }
}

fn hook(entry: Entry) -> Result<Hook, String> {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let two_parts = entry.path.split_once('/').is_some_and(|(a, b)| plain(a) && plain(b));
    if !two_parts {
        return Err(
            "path must be two words of a-z, 0-9 and -, such as gigastore/esim-status".to_owned()
        );
    }
    let provider = providers::find(&entry.provider).ok_or_else(|| {
        format!("the provider is unknown; it must be one of: {}", providers::slugs().join(", "))
    })?;
    let path: Arc<str> = Arc::from(entry.path);
    let scheme = scheme(&format!("the hook {path}"), entry.auth)?;
    Ok(Hook {
        path,
        provider,
        authenticator: Arc::new(Authenticator::new(scheme)),
        takes_tests: entry.test_deliveries == TestDeliveries::Accept,
    })
}

fn scheme(name: &str, auth: Auth) -> Result<Scheme, String> {
    let plain = |secrets, file| Secrets::parse(name, all(name, secrets, file)?).map_err(text);
    Ok(match auth {
        Auth::UrlSecret { secrets, secrets_file } => {
            Scheme::UrlSecret(plain(secrets, secrets_file)?)
        }
        Auth::Header { header, secrets, secrets_file } => {
            let secrets = Secrets::parse_for_header(name, all(name, secrets, secrets_file)?);
            Scheme::Header { name: header_name(&header)?, secrets: secrets.map_err(text)? }
        }
        Auth::HmacSha256 { header, encoding, prefix, secrets, secrets_file } => {
            let (header, secrets) = (header_name(&header)?, plain(secrets, secrets_file)?);
            Scheme::HmacSha256 { header, encoding, prefix, secrets }
        }
        Auth::StandardWebhooks { secrets, secrets_file } => {
            let secrets = all(name, secrets, secrets_file)?;
            Scheme::StandardWebhooks(StandardSecrets::parse(name, secrets).map_err(text)?)
        }
        Auth::None {} => Scheme::None,
    })
}

fn all(name: &str, mut secrets: Vec<String>, file: Option<PathBuf>) -> Result<Vec<String>, String> {
    if let Some(file) = file {
        secrets.extend(read_lines(name, &file)?);
    }
    Ok(secrets)
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse()
        .map_err(|_| "header must be the name of an HTTP header, such as X-Signature".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err needs")]
fn text(error: impl ToString) -> String {
    error.to_string()
}
