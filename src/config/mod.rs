//! Every setting, typed and cross-checked. What is unsafe or missing is refused, all of it at once, with the remedy.

mod args;

mod keys;

mod known;

mod hooks;

mod secrets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use url::{Origin, Url};

pub use keys::{token_secrets, vault};
pub use known::is_this_machine;

pub use args::{BrandArgs, DatabaseArgs, LogArgs, ServeArgs, Setting, settings};
pub use secrets::{DataKeyArgs, SecretArgs, SecretSource, TokenSecretArgs};

use crate::access::Access;
use crate::delivery::{Authenticator, Scheme, Secret, Secrets};
use crate::hook::{Hook, Hooks};
use crate::providers::{Gigastore, Provider};
use crate::store::{Connector, Vault};

/// The path of the hook that exists without a configuration file.
pub const BUILT_IN_HOOK: &str = "gigastore/esim-status";

/// What `serve` needs, checked.
#[derive(Debug)]
pub struct Settings {
    /// How to reach Postgres.
    pub database: Connector,
    /// Where webhooks, API and page are served.
    pub listen: SocketAddr,
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// The hooks.
    pub hooks: Hooks,
    /// API keys and token secrets.
    pub access: Access,
    /// What the operator calls the API keys, in their order.
    pub api_key_names: Vec<String>,
    /// How the world sees the service, without a slash at the end; `None`: `http://<listen>`.
    pub public_url: Option<String>,
    /// Origins that browsers may call from.
    pub allowed_origins: Vec<HeaderValue>,
    /// How many days raw deliveries are kept.
    pub retention_days: u32,
    /// Where deliveries wait while the database is away; `None`: nowhere.
    pub spool: Option<SpoolSettings>,
    /// How many writers, sharded by ICCID.
    pub writers: usize,
    /// How many database connections the read API may use.
    pub readers: u32,
    /// What seals credentials at rest.
    pub vault: Vault,
    /// How the install page presents itself.
    pub brand: Brand,
    /// How many live streams may be open at once.
    pub max_streams: usize,
    /// How many connections may be open at once on the public listener.
    pub max_connections: usize,
    /// The secrets that were given on the command line, by their variables.
    pub on_command_line: Vec<String>,
    /// The settings that were given or are defaults, secrets left out, as `VARIABLE=value`.
    pub effective: Vec<String>,
    /// How long an idle connection of the public listener is kept.
    pub idle: Duration,
    /// How long a service that is told to end still takes new work, so that whoever routes to it sees that it is not ready.
    pub notice: Duration,
}

/// How the install page presents itself.
#[derive(Debug, Clone, Default)]
pub struct Brand {
    /// The company's name; empty: none.
    pub name: String,
    /// Its colour as `#rrggbb`; empty: a neutral one.
    pub color: String,
    /// Where its users find help; empty: nowhere.
    pub support_url: String,
}

/// Where deliveries wait while the database is away.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// The folder, which no other process may use.
    pub folder: PathBuf,
    /// How many bytes of deliveries may wait.
    pub most_bytes: u64,
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Collects what is wrong, so that an operator mends it in one go.
#[derive(Debug, Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn note<T, E: std::fmt::Display>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.0.push(error.to_string())).ok()
    }
}

impl Settings {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is missing or unsafe.
    pub fn load(args: &ServeArgs) -> Result<Self, ConfigError> {
        let mut complaints = Complaints::default();
        let database = complaints.note(args.database.connector());
        let hooks = complaints.note(load_hooks(args)).unwrap_or_default();
        let api_keys = complaints.note(keys::api_keys(&args.secrets));
        let token_secrets = complaints.note(token_secrets(&args.tokens));
        let public_url = args.public_url.as_deref().map(check_public_url).transpose();
        let public_url = complaints.note(public_url).flatten();
        let allowed_origins = complaints.note(check_origins(&args.allowed_origins));
        if let (Some((api_keys, _)), Some(token_secrets)) = (&api_keys, &token_secrets) {
            let all = known::All { hooks: &hooks, api_keys, token_secrets };
            complaints.note(all.check_apart());
            complaints.note(all.check_example(args.listen, public_url.as_deref()));
        }
        let vault = complaints.note(vault(&args.data));
        let brand = complaints.note(check_brand(&args.brand));
        match (database, api_keys, token_secrets, allowed_origins, vault, brand) {
            (
                Some(database),
                Some((api_keys, api_key_names)),
                Some(token_secrets),
                Some(allowed_origins),
                Some(vault),
                Some(brand),
            ) if complaints.0.is_empty() => Ok(Self {
                database,
                listen: args.listen,
                admin_listen: args.admin_listen,
                hooks,
                access: Access { api_keys, token_secrets },
                api_key_names,
                public_url,
                allowed_origins,
                retention_days: args.delivery_retention_days,
                spool: spool(args),
                writers: args.writers,
                readers: args.readers,
                max_connections: args.max_connections,
                max_streams: args.max_streams,
                idle: Duration::from_secs(args.idle_seconds.into()),
                notice: args.shutdown_notice,
                vault,
                brand,
                on_command_line: args.on_command_line.clone(),
                effective: args.effective.clone(),
            }),
            _ => Err(ConfigError(complaints.0)),
        }
    }

    /// Writes the effective settings to the log, secrets left out, and warns of what is unsafe.
    pub fn log(&self) {
        let hooks: Vec<_> = self
            .hooks
            .values()
            .map(|hook| format!("/webhooks/{} ({})", hook.path, hook.authenticator.scheme_name()))
            .collect();
        tracing::info!(
            hooks = hooks.join(", "),
            api_keys = self.api_key_names.join(", "),
            token_secrets = self.access.token_secrets.len(),
            credentials_encrypted = self.vault.seals(),
            settings = self.effective.join(" "),
            "effective settings"
        );
        for warning in self.known_to_everybody().into_iter().chain(self.warnings()) {
            tracing::warn!("{warning}");
        }
    }

    /// That secrets of `.env.example` are in use, and where.
    pub fn known_to_everybody(&self) -> Option<String> {
        let Access { api_keys, token_secrets } = &self.access;
        known::All { hooks: &self.hooks, api_keys, token_secrets }.known_to_everybody()
    }

    /// What works and is likely not meant, each with the remedy.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<_> = self
            .database
            .warnings()
            .iter()
            .map(|warning| format!("a parameter of DATABASE_URL cannot be honoured: {warning}"))
            .collect();
        if !self.vault.seals() {
            warnings.push("activation codes and links are stored as they are: set ESIM_STATUS_DATA_KEYS to encrypt them".to_owned());
        }
        if self.public_url.is_none() && !self.listen.ip().is_loopback() {
            warnings.push(format!(
                "links begin with http://{}, which nobody else can open: set ESIM_STATUS_PUBLIC_URL to the address that the world uses",
                self.listen
            ));
        }
        let in_path = self.hooks.values().filter(|hook| hook.authenticator.takes_url_secret());
        let encoded = in_path.filter(|hook| {
            hook.authenticator.secrets().is_some_and(|secrets| secrets.iter().any(is_cut_in_a_url))
        });
        warnings.extend(encoded.map(|hook| {
            format!(
                "a secret of the hook {} has characters that a URL does not carry as they are: the sender needs them percent-encoded; simpler is one that `openssl rand -hex 32` prints",
                hook.path
            )
        }));
        if !self.on_command_line.is_empty() {
            warnings.push(format!(
                "every user of this machine can read in its list of processes what is given on the command line: set {} in the environment or in a file instead",
                self.on_command_line.join(", ")
            ));
        }
        let open = self.hooks.values().filter(|it| it.authenticator.is_open());
        warnings.extend(open.map(|hook| {
            format!("the hook {} takes webhooks from anybody: give it a secret", hook.path)
        }));
        warnings
    }
}

impl DatabaseArgs {
    /// Reads `DATABASE_URL`.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn connector(&self) -> Result<Connector, String> {
        let url = self.database_url.as_deref().ok_or(
            "DATABASE_URL is missing: set it to your Postgres, such as postgres://user:password@host/database, \
             or run `esim-status dev`, which brings its own",
        )?;
        Connector::parse(url).map_err(|error| error.to_string())
    }
}

fn spool(args: &ServeArgs) -> Option<SpoolSettings> {
    let folder = args.spool_dir.clone()?;
    Some(SpoolSettings { folder, most_bytes: u64::from(args.spool_max_mb) << 20 })
}

/// The built-in hook and those of the configuration file; one there replaces the built-in one of its path.
fn load_hooks(args: &ServeArgs) -> Result<Hooks, String> {
    let mut hooks = match &args.config {
        Some(path) => hooks::load(path)?,
        None => Hooks::new(),
    };
    let secrets = args.secrets.gigastore_secrets();
    if hooks.contains_key(BUILT_IN_HOOK) {
        return Ok(hooks);
    }
    if secrets.is_given() || hooks.is_empty() {
        let parse = |values| Secrets::parse("ESIM_STATUS_GIGASTORE_SECRETS", values);
        let hook = url_secret_hook(secrets.required(parse)?);
        hooks.insert(hook.path.clone(), Arc::new(hook));
    }
    Ok(hooks)
}

/// The built-in hook with these URL secrets.
pub fn url_secret_hook(secrets: Secrets) -> Hook {
    Hook {
        path: Arc::from(BUILT_IN_HOOK),
        provider: &Gigastore as &dyn Provider,
        authenticator: Authenticator::new(Scheme::UrlSecret(secrets)),
        takes_tests: false,
    }
}

/// Whether a URL with this secret, pasted as it is, arrives without a part of it. A `/` arrives, but at its end.
fn is_cut_in_a_url(secret: &Secret) -> bool {
    let secret = secret.expose();
    secret.ends_with(b"/") || secret.iter().any(|b| !b.is_ascii_graphic() || b"?#%\\".contains(b))
}

fn check_brand(args: &BrandArgs) -> Result<Brand, String> {
    let color = args.brand_color.clone().unwrap_or_default();
    let is_color = color
        .strip_prefix('#')
        .is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if !color.is_empty() && !is_color {
        return Err("ESIM_STATUS_BRAND_COLOR must be a colour such as #0a7d5a".to_owned());
    }
    let support_url = args.support_url.clone().unwrap_or_default();
    let is_link = Url::parse(&support_url)
        .is_ok_and(|url| matches!(url.scheme(), "https" | "http" | "mailto" | "tel"));
    if !support_url.is_empty() && !is_link {
        return Err("ESIM_STATUS_SUPPORT_URL must be a link such as https://help.example.org or mailto:help@example.org".to_owned());
    }
    Ok(Brand { name: args.brand_name.clone().unwrap_or_default(), color, support_url })
}

fn check_public_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let url = url.ok_or(
        "ESIM_STATUS_PUBLIC_URL must be the address that the world uses, such as https://esim.example.org",
    )?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn check_origins(origins: &[String]) -> Result<Vec<HeaderValue>, String> {
    let mut checked = Vec::new();
    for origin in origins.iter().map(|origin| origin.trim()).filter(|origin| !origin.is_empty()) {
        let value = HeaderValue::from_str(origin).ok().filter(|_| is_origin(origin));
        checked.push(value.ok_or_else(|| {
            format!(
                "ESIM_STATUS_ALLOWED_ORIGINS: `{}` is no origin; write scheme, host and port only, such as https://shop.example.org",
                origin.escape_debug()
            )
        })?);
    }
    Ok(checked)
}

/// Whether browsers send such an `Origin`. Web views of apps have schemes of their own, such as `capacitor://localhost`, which are
/// compared as they are.
fn is_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    match url.origin() {
        origin @ Origin::Tuple(..) => origin.ascii_serialization() == text,
        Origin::Opaque(_) => url.host().is_some_and(|host| {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            text == format!("{}://{host}{port}", url.scheme())
        }),
    }
}

#[cfg(test)]
mod tests;
