//! The endpoints of the TOML file, and the networks that endpoints may be in.

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::args::ServeArgs;
use super::secrets::all_secrets;
use super::toml_file::TomlFile;
use crate::delivery::StandardSecrets;
use crate::domain::{ChangeKind, EndpointUrl, Filter, Reach, check_description};
use crate::providers::Providers;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    endpoints: Vec<Spanned<Entry>>,
    #[serde(default, rename = "hooks")]
    _hooks: IgnoredAny,
    #[serde(default, rename = "providers")]
    _providers: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    url: String,
    description: Option<String>,
    #[serde(default)]
    kinds: Vec<ChangeKind>,
    #[serde(default)]
    providers: Vec<String>,
    #[serde(default)]
    secrets: Vec<String>,
    secrets_file: Option<PathBuf>,
}

/// An endpoint of the configuration file.
#[derive(Debug, Clone)]
pub struct ConfiguredEndpoint {
    /// Its name.
    pub id: String,
    /// Where changes are sent.
    pub url: EndpointUrl,
    /// Which changes it wants.
    pub filter: Filter,
    /// What it is for.
    pub description: Option<String>,
    /// All of them sign.
    pub secrets: Arc<StandardSecrets>,
}

/// Reads `ESIM_STATUS_ENDPOINT_NETWORKS`.
///
/// # Errors
/// Says what is wrong, and what to write instead.
pub(super) fn reach(networks: &[String]) -> Result<Reach, String> {
    let networks = networks.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    let networks = networks.map(|text| {
        text.parse::<IpNet>().map_err(|_| {
            format!(
                "ESIM_STATUS_ENDPOINT_NETWORKS: `{}` is not a network; write an address and the length of its prefix, such as 10.8.0.0/16",
                text.escape_debug()
            )
        })
    });
    Ok(Reach::new(networks.collect::<Result<_, _>>()?))
}

/// Reads the endpoints of the configuration file.
///
/// # Errors
/// Says what is wrong, in which line, and what to write instead.
pub(super) fn load(
    args: &ServeArgs,
    providers: &Providers,
    reach: &Reach,
) -> Result<Vec<ConfiguredEndpoint>, String> {
    let Some(path) = &args.config else { return Ok(Vec::new()) };
    let file = TomlFile::read("ESIM_STATUS_CONFIG", path)?;
    let mut endpoints: Vec<ConfiguredEndpoint> = Vec::new();
    for entry in file.parse::<File>()?.endpoints {
        let place = file.place(Some(entry.span()));
        let endpoint = endpoint(entry.into_inner(), providers, reach);
        let endpoint = endpoint.map_err(|why| format!("{place}: {why}"))?;
        if endpoints.iter().any(|known| known.id == endpoint.id) {
            return Err(format!("{place}: two endpoints have the name {}; keep one", endpoint.id));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn endpoint(
    entry: Entry,
    providers: &Providers,
    reach: &Reach,
) -> Result<ConfiguredEndpoint, String> {
    let id = entry.name;
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=64).contains(&id.len()) || !id.bytes().all(is_plain) {
        return Err("name must be 1 to 64 characters of a-z, 0-9 and -, such as shop".to_owned());
    }
    let url = EndpointUrl::parse(&entry.url, reach).map_err(|error| format!("url {error}"))?;
    if entry.providers.iter().any(|slug| providers.find(slug).is_none()) {
        let known = providers.slugs().join(", ");
        return Err(format!("providers must be of: {known}"));
    }
    let name = format!("the endpoint {id}");
    let secrets = all_secrets(&name, entry.secrets, entry.secrets_file)?;
    let secrets = StandardSecrets::parse(&name, secrets).map_err(|error| error.to_string())?;
    let filter = Filter::new(entry.kinds, entry.providers);
    let description = check_description(entry.description);
    let description = description.map_err(|wanted| format!("description {wanted}"))?;
    Ok(ConfiguredEndpoint { id, url, filter, description, secrets: Arc::new(secrets) })
}
