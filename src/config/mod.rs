//! Every setting, typed and checked against the others. Missing and unsafe settings are all reported in one error, each
//! with its remedy.

mod api;

mod args;

mod brand;

mod built_in;

mod endpoints;

mod keys;

mod known;

mod hooks;

mod providers;

mod toml_file;

mod secrets;

mod urls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

pub use keys::{evidence_keys, random_key, token_secrets, vault};
pub use known::is_this_machine;

pub use api::{ApiArgs, ApiSettings};
pub use args::{BrandArgs, DatabaseArgs, LogArgs, ServeArgs, Setting, settings};
pub use endpoints::ConfiguredEndpoint;
pub use providers::{OwnProvider, own_providers, providers};

pub use brand::Brand;
pub use built_in::{BUILT_IN_HOOK, hooks_with, url_secret_hook};
pub use secrets::{DataKeyArgs, EvidenceKeyArgs, SecretArgs, SecretSource, TokenSecretArgs};

use crate::access::Access;
use crate::domain::{OverdueReason, Patience, Reach};
use crate::hook::Hooks;
use crate::providers::Providers;
use crate::signing::SigningKeys;
use crate::store::{Connector, Vault};

use urls::{check_origins, check_public_url, is_cut_in_a_url};

/// How long after the start the first upkeep of the tables comes. No operator has to choose this.
const FIRST_UPKEEP: Duration = Duration::from_secs(10);

/// The checked settings of `serve`.
#[derive(Debug)]
pub struct Settings {
    /// How to reach Postgres.
    pub database: Connector,
    /// The address of webhooks, API and install page.
    pub listen: SocketAddr,
    /// The address of health and metrics.
    pub admin_listen: SocketAddr,
    /// The providers that are understood.
    pub providers: Providers,
    /// The hooks.
    pub hooks: Hooks,
    /// The endpoints.
    pub endpoints: Vec<ConfiguredEndpoint>,
    /// Where changes may be sent.
    pub reach: Reach,
    /// API keys and token secrets.
    pub access: Access,
    /// The address under which callers reach the service, without a slash at the end; `None`: `http://<listen>`.
    pub public_url: Option<String>,
    /// Origins whose pages may call the API from a browser.
    pub allowed_origins: Vec<HeaderValue>,
    /// How many days raw deliveries are kept.
    pub retention_days: u32,
    /// How long after the start the first upkeep of the tables comes; `None`: there is none, because the caller does it.
    pub first_upkeep: Option<Duration>,
    /// When a profile is overdue.
    pub patience: Patience,
    /// How to ask Gigastore about a profile; `None`: it is not asked.
    pub api: Option<ApiSettings>,
    /// Where deliveries wait while the database is away; `None`: they are answered 503.
    pub spool: Option<SpoolSettings>,
    /// The number of writers, sharded by ICCID.
    pub writers: usize,
    /// The max number of database connections of the read API.
    pub readers: u32,
    /// The keys that encrypt credentials at rest.
    pub vault: Vault,
    /// The keys that sign evidence sheets.
    pub evidence_keys: SigningKeys,
    /// The branding of the install page.
    pub brand: Brand,
    /// The max number of live streams.
    pub max_streams: usize,
    /// The max number of connections on the public listener.
    pub max_connections: usize,
    /// The secrets that were given on the command line, by their variables.
    pub on_command_line: Vec<String>,
    /// The settings that were given or are defaults, secrets left out, as `VARIABLE=value`.
    pub effective: Vec<String>,
    /// How long an idle connection of the public listener is kept.
    pub idle: Duration,
    /// How long the service still accepts new work after SIGTERM, until the load balancer notices that it is not ready.
    pub notice: Duration,
}

/// Where deliveries wait while the database is away.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// The folder, which no other process may use.
    pub folder: PathBuf,
    /// The max number of bytes of deliveries in it.
    pub max_bytes: u64,
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Collects what is wrong, so that an operator can fix everything in one go.
#[derive(Debug, Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn note<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.0.push(error.to_string())).ok()
    }
}

impl Settings {
    /// Parses and checks the arguments.
    ///
    /// # Errors
    /// [`ConfigError`], which names everything that is missing or unsafe.
    pub fn load(args: &ServeArgs) -> Result<Self, ConfigError> {
        let mut complaints = Complaints::default();
        let database = complaints.note(args.database.connector());
        let providers = complaints.note(providers(args));
        // A hook may name a provider whose declaration is wrong. That is one fault, not two.
        let hooks = providers.as_ref().map(|providers| built_in::load_hooks(args, providers));
        let hooks = hooks.and_then(|hooks| complaints.note(hooks)).unwrap_or_default();
        let reach = complaints.note(endpoints::reach(&args.endpoint_networks)).unwrap_or_default();
        let endpoints = providers.as_ref().map(|it| endpoints::load(args, it, &reach));
        let endpoints = endpoints.and_then(|it| complaints.note(it)).unwrap_or_default();
        if let Some(providers) = &providers {
            complaints.note(check_named(&args.overdue.patience(), providers));
        }
        let api_keys = complaints.note(keys::api_keys(&args.secrets));
        let token_secrets = complaints.note(token_secrets(&args.tokens));
        let public_url = args.public_url.as_deref().map(check_public_url).transpose();
        let public_url = complaints.note(public_url).flatten();
        let allowed_origins = complaints.note(check_origins(&args.allowed_origins));
        if let (Some(api_keys), Some(token_secrets)) = (&api_keys, &token_secrets) {
            let all = known::All { hooks: &hooks, api_keys, token_secrets };
            complaints.note(all.check_apart());
            complaints.note(all.check_example(args.listen, public_url.as_deref()));
        }
        let vault = complaints.note(vault(&args.data));
        let no_vault = Vault::default();
        let known_vault = vault.as_ref().unwrap_or(&no_vault);
        let evidence_keys = complaints.note(evidence_keys(&args.evidence, known_vault));
        let brand = complaints.note(brand::check(&args.brand));
        let api = complaints.note(args.api.settings()).flatten();
        let all = (
            database,
            providers,
            api_keys,
            token_secrets,
            allowed_origins,
            vault,
            evidence_keys,
            brand,
        );
        match all {
            (
                Some(database),
                Some(providers),
                Some(api_keys),
                Some(token_secrets),
                Some(allowed_origins),
                Some(vault),
                Some(evidence_keys),
                Some(brand),
            ) if complaints.0.is_empty() => {
                let access = Access { api_keys, token_secrets };
                let settings = Self::of(args, database, hooks, access);
                Ok(Self {
                    providers,
                    endpoints,
                    reach,
                    public_url,
                    allowed_origins,
                    api,
                    vault,
                    evidence_keys,
                    brand,
                    ..settings
                })
            }
            _ => Err(ConfigError(complaints.0)),
        }
    }

    /// The settings of a service for which nothing else is set.
    pub fn usual(database: Connector, hooks: Hooks, access: Access) -> Self {
        Self::of(&ServeArgs::defaults(), database, hooks, access)
    }

    /// The settings that need no check, beside those that were checked.
    fn of(args: &ServeArgs, database: Connector, hooks: Hooks, access: Access) -> Self {
        Self {
            database,
            listen: args.listen,
            admin_listen: args.admin_listen,
            providers: Providers::default(),
            hooks,
            endpoints: Vec::new(),
            reach: Reach::default(),
            access,
            public_url: None,
            allowed_origins: Vec::new(),
            retention_days: args.delivery_retention_days,
            first_upkeep: Some(FIRST_UPKEEP),
            patience: args.overdue.patience(),
            api: None,
            spool: spool(args),
            writers: args.writers,
            readers: args.readers,
            vault: Vault::default(),
            evidence_keys: SigningKeys::default(),
            brand: Brand::default(),
            max_streams: args.max_streams,
            max_connections: args.max_connections,
            on_command_line: args.on_command_line.clone(),
            effective: args.effective.clone(),
            idle: Duration::from_secs(args.idle_seconds.into()),
            notice: args.shutdown_notice,
        }
    }

    /// Logs the effective settings without their secrets, and warns of unsafe ones.
    pub fn log(&self) {
        let hooks: Vec<_> = self
            .hooks
            .values()
            .map(|hook| format!("/webhooks/{} ({})", hook.path, hook.authenticator.scheme_name()))
            .collect();
        let api_keys: Vec<_> =
            self.access.api_keys.iter().map(|(_, rights)| rights.to_string()).collect();
        tracing::info!(
            hooks = hooks.join(", "),
            api_keys = api_keys.join(", "),
            token_secrets = self.access.token_secrets.len(),
            credentials_encrypted = self.vault.seals(),
            evidence_key = self.evidence_keys.public().next().map(|key| key.id),
            settings = self.effective.join(" "),
            "effective settings"
        );
        for warning in self.known_to_everybody().into_iter().chain(self.warnings()) {
            tracing::warn!("{warning}");
        }
    }

    /// If secrets of `.env.example` are in use, a message that names their settings.
    pub fn known_to_everybody(&self) -> Option<String> {
        let Access { api_keys, token_secrets } = &self.access;
        known::All { hooks: &self.hooks, api_keys, token_secrets }.known_to_everybody()
    }

    /// Warnings of settings that work but are probably not intended, each with its remedy.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = self
            .database
            .warnings()
            .iter()
            .map(|warning| format!("DATABASE_URL: {warning}"))
            .collect();
        if !self.vault.seals() {
            warnings.push("activation codes and links are stored in plain text: set ESIM_STATUS_DATA_KEYS to encrypt them".to_owned());
        }
        if self.public_url.is_none() && !self.listen.ip().is_loopback() {
            warnings.push(format!(
                "links begin with http://{}, which other machines cannot open: set ESIM_STATUS_PUBLIC_URL to the address under which callers reach the service",
                self.listen
            ));
        }
        let in_path = self.hooks.values().filter(|hook| hook.authenticator.takes_url_secret());
        let encoded = in_path.filter(|hook| {
            hook.authenticator.secrets().is_some_and(|secrets| secrets.iter().any(is_cut_in_a_url))
        });
        warnings.extend(encoded.map(|hook| {
            format!(
                "a secret of the hook {} contains characters that must be percent-encoded in the sender's URL: encode them there, or replace the secret with one from `openssl rand -hex 32`",
                hook.path
            )
        }));
        if !self.on_command_line.is_empty() {
            warnings.push(format!(
                "every user of this machine can read secrets of the command line in its list of processes: set {} in the environment or in a file instead",
                self.on_command_line.join(", ")
            ));
        }
        let open = self.hooks.values().filter(|it| it.authenticator.is_open());
        warnings.extend(open.map(|hook| {
            format!("the hook {} accepts webhooks from anybody: give it a secret", hook.path)
        }));
        warnings
    }
}

impl DatabaseArgs {
    /// Parses `DATABASE_URL`.
    ///
    /// # Errors
    /// Says what is missing or wrong, and what to do.
    pub fn connector(&self) -> Result<Connector, String> {
        let url = self.database_url.as_deref().ok_or(
            "DATABASE_URL is missing: set it to your Postgres, such as postgres://user:password@host/database, \
             or run `esim-status dev`, which starts one for you",
        )?;
        Connector::parse(url).map_err(|error| error.to_string())
    }
}

fn spool(args: &ServeArgs) -> Option<SpoolSettings> {
    let folder = args.spool_dir.clone()?;
    Some(SpoolSettings { folder, max_bytes: u64::from(args.spool_max_mb) << 20 })
}

/// Refuses a time of a provider that does not exist: a typing error would leave the usual time in force.
fn check_named(patience: &Patience, providers: &Providers) -> Result<(), String> {
    let mut named = OverdueReason::ALL.into_iter().flat_map(|it| patience.of(it).of_providers());
    match named.find(|(slug, _)| providers.find(slug).is_none()) {
        None => Ok(()),
        Some((slug, _)) => Err(format!(
            "ESIM_STATUS_OVERDUE_…_HOURS: there is no provider `{}`; the providers are {}",
            slug.escape_debug(),
            providers.slugs().join(", ")
        )),
    }
}

#[cfg(test)]
mod tests;
