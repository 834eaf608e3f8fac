//! The flags and environment variables of `serve`, some of which other commands share.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::{ApiArgs, DataKeyArgs, EvidenceKeyArgs, SecretArgs, TokenSecretArgs};
use crate::domain::{Allowance, Patience};
use crate::telemetry::LogFormat;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How to reach the database.
#[derive(Debug, Clone, Default, Args)]
pub struct DatabaseArgs {
    /// Postgres 15 or newer: `postgres://user:password@host/database`; several hosts as `h1:5432,h2:5432`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
}

/// The branding of the install page.
#[derive(Debug, Clone, Default, Args)]
pub struct BrandArgs {
    /// The company's name on the install page [default: neutral]
    #[arg(long, env = "ESIM_STATUS_BRAND_NAME", value_name = "NAME")]
    pub brand_name: Option<String>,

    /// The colour of the install page, such as `#0a7d5a` [default: neutral]
    #[arg(long, env = "ESIM_STATUS_BRAND_COLOR", value_name = "COLOUR")]
    pub brand_color: Option<String>,

    /// The link of the install page to where users find help
    #[arg(long, env = "ESIM_STATUS_SUPPORT_URL", value_name = "URL")]
    pub support_url: Option<String>,
}

/// When a profile is overdue.
#[derive(Debug, Clone, Args)]
pub struct OverdueArgs {
    /// After how many hours a profile that can be installed and was not is overdue, 0 to 8760; from its day of travel on, if that is
    /// later. `24,roamify=72` if it differs for a provider
    #[arg(
        long = "overdue-not-installed-hours",
        env = "ESIM_STATUS_OVERDUE_NOT_INSTALLED_HOURS",
        default_value = "24",
        value_name = "HOURS"
    )]
    pub not_installed: Allowance,

    /// After how many hours a profile that was downloaded and whose install was not finished is overdue, 0 to 8760, likewise
    #[arg(
        long = "overdue-not-finished-hours",
        env = "ESIM_STATUS_OVERDUE_NOT_FINISHED_HOURS",
        default_value = "1",
        value_name = "HOURS"
    )]
    pub not_finished: Allowance,

    /// After how many hours a profile whose install failed is overdue, 0 to 8760, likewise
    #[arg(
        long = "overdue-failed-hours",
        env = "ESIM_STATUS_OVERDUE_FAILED_HOURS",
        default_value = "0",
        value_name = "HOURS"
    )]
    pub failed: Allowance,

    /// After how many hours, from the begin of its day of travel, an installed profile without a connection is overdue, 0 to 8760,
    /// likewise
    #[arg(
        long = "overdue-not-connected-hours",
        env = "ESIM_STATUS_OVERDUE_NOT_CONNECTED_HOURS",
        default_value = "48",
        value_name = "HOURS"
    )]
    pub not_connected: Allowance,
}

impl OverdueArgs {
    /// How long each may take.
    pub fn patience(&self) -> Patience {
        let Self { not_installed, not_finished, failed, not_connected } = self.clone();
        Patience { not_installed, not_finished, failed, not_connected }
    }
}

/// The arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// How to reach the database.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Address of webhooks, API and install page
    #[arg(long, env = "ESIM_STATUS_LISTEN", default_value_t = SocketAddr::new(LOOPBACK, 8080), value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Address of /livez, /readyz and /metrics; keep it away from the internet
    #[arg(long, env = "ESIM_STATUS_ADMIN_LISTEN", default_value_t = SocketAddr::new(LOOPBACK, 9090), value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,

    /// The secrets that authenticate callers.
    #[command(flatten)]
    pub secrets: SecretArgs,

    /// The secrets of access tokens.
    #[command(flatten)]
    pub tokens: TokenSecretArgs,

    /// The data keys.
    #[command(flatten)]
    pub data: DataKeyArgs,

    /// The keys that sign evidence sheets.
    #[command(flatten)]
    pub evidence: EvidenceKeyArgs,

    /// A TOML file with further hooks, providers and endpoints
    #[arg(long, env = "ESIM_STATUS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Networks besides public addresses that endpoints may be in, comma-separated, such as `10.8.0.0/16`; in these, also without TLS
    #[arg(
        long,
        env = "ESIM_STATUS_ENDPOINT_NETWORKS",
        value_delimiter = ',',
        value_name = "NETWORKS"
    )]
    pub endpoint_networks: Vec<String>,

    /// A folder of TOML files, each with further providers
    #[arg(long, env = "ESIM_STATUS_PROVIDERS_DIR", value_name = "FOLDER")]
    pub providers_dir: Option<PathBuf>,

    /// The address under which callers reach the service; links begin with it [default: http://<listen>]
    #[arg(long, env = "ESIM_STATUS_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,

    /// Origins whose pages may call from a browser, comma-separated
    #[arg(
        long,
        env = "ESIM_STATUS_ALLOWED_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGINS"
    )]
    pub allowed_origins: Vec<String>,

    /// How many days raw deliveries are kept, 1 to 3650
    #[arg(
        long, env = "ESIM_STATUS_DELIVERY_RETENTION_DAYS", default_value_t = 90, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=3650)
    )]
    pub delivery_retention_days: u32,

    /// Where deliveries wait while the database is away: a durable disk for this replica alone; without it they are answered 503
    #[arg(long, env = "ESIM_STATUS_SPOOL_DIR", value_name = "FOLDER")]
    pub spool_dir: Option<PathBuf>,

    /// Max megabytes of deliveries in the spool; further ones are answered 503
    #[arg(
        long, env = "ESIM_STATUS_SPOOL_MAX_MB", default_value_t = 1024, value_name = "MB",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub spool_max_mb: u32,

    /// How many writers commit concurrently, sharded by ICCID, 1 to 32; more help only if the database has idle cores
    #[arg(long, env = "ESIM_STATUS_WRITERS", default_value_t = 2, value_name = "COUNT", value_parser = writers)]
    pub writers: usize,

    /// Database connections of the read API, 2 to 200
    #[arg(
        long, env = "ESIM_STATUS_READERS", default_value_t = 8, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(2..=200)
    )]
    pub readers: u32,

    /// Max connections on the public listener; the longest idle ones make room, and further ones are answered 503
    #[arg(
        long,
        env = "ESIM_STATUS_MAX_CONNECTIONS",
        default_value_t = 16_384,
        value_name = "COUNT"
    )]
    pub max_connections: usize,

    /// How many seconds an idle client connection is kept, 1 to 3600; a load balancer that reuses connections must close
    /// them earlier
    #[arg(
        long, env = "ESIM_STATUS_IDLE_SECONDS", default_value_t = 75, value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub idle_seconds: u32,

    /// How many seconds new work is accepted after SIGTERM, while `/readyz` is 503, 0 to 300: longer than a load balancer takes
    /// to see it
    #[arg(
        long = "shutdown-notice-seconds", env = "ESIM_STATUS_SHUTDOWN_NOTICE_SECONDS", default_value = "0.5", value_name = "SECONDS",
        value_parser = notice
    )]
    pub shutdown_notice: Duration,

    /// Max live streams; further ones are answered 503
    #[arg(long, env = "ESIM_STATUS_MAX_STREAMS", default_value_t = 10_000, value_name = "COUNT")]
    pub max_streams: usize,

    /// How to reach the provider's API.
    #[command(flatten)]
    pub api: ApiArgs,

    /// When a profile is overdue.
    #[command(flatten)]
    pub overdue: OverdueArgs,

    /// The branding of the install page.
    #[command(flatten)]
    pub brand: BrandArgs,

    /// How the service logs.
    #[command(flatten)]
    pub log: LogArgs,

    /// The secrets that were given on the command line, by their variables.
    #[arg(skip)]
    pub on_command_line: Vec<String>,

    /// The settings that are in effect, secrets left out, as `VARIABLE=value`.
    #[arg(skip)]
    pub effective: Vec<String>,
}

impl ServeArgs {
    /// The arguments of a command line without any, whatever the environment holds.
    ///
    /// # Panics
    /// If a default is refused, which the tests would find.
    #[expect(
        clippy::expect_used,
        reason = "no flag of `serve` is required, so nothing can be missing"
    )]
    pub fn defaults() -> Self {
        // No variable has this name.
        let command = definitions().mut_args(|arg| arg.env(""));
        let matches = command.get_matches_from([""]);
        Self::from_arg_matches(&matches).expect("defaults are valid")
    }

    /// Notes where the settings came from, and their values.
    pub fn note_values(&mut self, matches: &ArgMatches) {
        for arg in definitions().get_arguments() {
            let Some(variable) = arg.get_env().map(|name| name.to_string_lossy()) else { continue };
            let id = arg.get_id().as_str();
            if arg.is_hide_env_values_set() {
                if matches.value_source(id) == Some(ValueSource::CommandLine) {
                    self.on_command_line.push(variable.into_owned());
                }
            } else if let Ok(Some(values)) = matches.try_get_raw(id) {
                let values: Vec<_> = values.map(OsStr::to_string_lossy).collect();
                self.effective.push(format!("{variable}={}", values.join(",")));
            }
        }
    }
}

/// One setting of `serve`, for the operations guide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub variable: String,
    /// The default value, or what stands for it; `None` if there is none.
    pub default: Option<String>,
    /// What it does, as `--help` says it.
    pub meaning: String,
}

/// Every setting of `serve`, in the order of `--help`.
pub fn settings() -> Vec<Setting> {
    let settings = definitions();
    let setting = |arg: &Arg| {
        let variable = arg.get_env()?.to_string_lossy().into_owned();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
        let default = values.collect::<Vec<_>>().join(",");
        let default = (!default.is_empty()).then_some(default);
        // If clap knows no default, because it depends on something, the help text states it.
        let (meaning, stated) = match help.split_once(" [default: ") {
            Some((meaning, stated)) => (meaning.to_owned(), stated.strip_suffix(']')),
            None => (help, None),
        };
        let default = default.or(stated.map(str::to_owned));
        Some(Setting { variable, default, meaning })
    };
    settings.get_arguments().filter_map(setting).collect()
}

/// The flags of `serve`. Each setting is defined once, above; help, documents and log come from it.
fn definitions() -> Command {
    ServeArgs::augment_args(Command::new("serve"))
}

/// How a command logs.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct LogArgs {
    /// Format of the log on standard error; `RUST_LOG` filters its lines [default: text on a terminal, else json]
    #[arg(long, env = "ESIM_STATUS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

fn writers(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(count @ 1..=32) => Ok(count),
        _ => Err("must be a number from 1 to 32"),
    }
}

fn notice(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=300.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("must be a number of seconds from 0 to 300")
}
