//! The hooks of the TOML file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderName;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::secrets::all_secrets;
use super::toml_file::TomlFile;
use crate::delivery::{AccessKey, Authenticator, Encoding, Scheme, Secrets, StandardSecrets};
use crate::hook::{Hook, Hooks};
use crate::providers::Providers;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    hooks: Vec<Spanned<Entry>>,
    #[serde(default, rename = "providers")]
    _providers: IgnoredAny,
    #[serde(default, rename = "endpoints")]
    _endpoints: IgnoredAny,
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
    Simlessly {
        access_key: String,
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
pub(super) fn load(path: &Path, providers: &Providers) -> Result<Hooks, String> {
    let file = TomlFile::read("ESIM_STATUS_CONFIG", path)?;
    let mut hooks = Hooks::new();
    for entry in file.parse::<File>()?.hooks {
        let place = file.place(Some(entry.span()));
        let hook = hook(entry.into_inner(), providers).map_err(|why| format!("{place}: {why}"))?;
        if hooks.contains_key(&hook.path) {
            return Err(format!("{place}: two hooks have the path {}; keep one", hook.path));
        }
        hooks.insert(hook.path.clone(), Arc::new(hook));
    }
    Ok(hooks)
}

fn hook(entry: Entry, providers: &Providers) -> Result<Hook, String> {
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
    let provider = providers.find(&entry.provider).ok_or_else(|| {
        let known = providers.slugs().join(", ");
        format!("the provider is unknown; declare it under [[providers]], or name one of: {known}")
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
    let plain =
        |secrets, file| Secrets::parse(name, all_secrets(name, secrets, file)?).map_err(text);
    Ok(match auth {
        Auth::UrlSecret { secrets, secrets_file } => {
            Scheme::UrlSecret(plain(secrets, secrets_file)?)
        }
        Auth::Header { header, secrets, secrets_file } => {
            let secrets =
                Secrets::parse_for_header(name, all_secrets(name, secrets, secrets_file)?);
            Scheme::Header { name: header_name(&header)?, secrets: secrets.map_err(text)? }
        }
        Auth::HmacSha256 { header, encoding, prefix, secrets, secrets_file } => {
            let (header, secrets) = (header_name(&header)?, plain(secrets, secrets_file)?);
            Scheme::HmacSha256 { header, encoding, prefix, secrets }
        }
        Auth::StandardWebhooks { secrets, secrets_file } => {
            let secrets = all_secrets(name, secrets, secrets_file)?;
            Scheme::StandardWebhooks(StandardSecrets::parse(name, secrets).map_err(text)?)
        }
        Auth::Simlessly { access_key, secrets, secrets_file } => {
            let access_key = AccessKey::parse(&access_key).ok_or_else(|| {
                "access_key must be the Access-Key that Simlessly's portal shows, without spaces"
                    .to_owned()
            })?;
            Scheme::Simlessly { access_key, secrets: plain(secrets, secrets_file)? }
        }
        Auth::None {} => Scheme::None,
    })
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse()
        .map_err(|_| "header must be the name of an HTTP header, such as X-Signature".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err needs")]
fn text(error: impl ToString) -> String {
    error.to_string()
}
