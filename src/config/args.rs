//! The flags and environment variables of the commands that serve.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use super::{DataKeyArgs, SecretArgs, TokenSecretArgs};
use crate::telemetry::LogFormat;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How to reach the database.
#[derive(Debug, Clone, Default, Args)]
pub struct DatabaseArgs {
    /// Postgres 15 or newer, such as `postgres://user:password@host/database`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
}

/// How the install page presents itself.
#[derive(Debug, Clone, Default, Args)]
pub struct BrandArgs {
    /// The company's name on the install page
    #[arg(long, env = "ESIM_STATUS_BRAND_NAME", value_name = "NAME")]
    pub brand_name: Option<String>,

    /// Its colour, such as #0a7d5a
    #[arg(long, env = "ESIM_STATUS_BRAND_COLOR", value_name = "COLOUR")]
    pub brand_color: Option<String>,

    /// Where its users find help
    #[arg(long, env = "ESIM_STATUS_SUPPORT_URL", value_name = "URL")]
    pub support_url: Option<String>,
}

/// Everything that `serve` takes.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// How to reach the database.
    #[command(flatten)]
    pub database: DatabaseArgs,

    /// Where webhooks, API and page are served
    #[arg(long, env = "ESIM_STATUS_LISTEN", default_value_t = SocketAddr::new(LOOPBACK, 8080), value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Where /livez, /readyz and /metrics are served; keep it away from the internet
    #[arg(long, env = "ESIM_STATUS_ADMIN_LISTEN", default_value_t = SocketAddr::new(LOOPBACK, 9090), value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,

    /// The secrets of those who call.
    #[command(flatten)]
    pub secrets: SecretArgs,

    /// The secrets of access tokens.
    #[command(flatten)]
    pub tokens: TokenSecretArgs,

    /// The data keys.
    #[command(flatten)]
    pub data: DataKeyArgs,

    /// A TOML file with further hooks
    #[arg(long, env = "ESIM_STATUS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How the world sees the service; used in the links it makes [default: http://<listen>]
    #[arg(long, env = "ESIM_STATUS_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,

    /// Origins that browsers may call from, comma-separated
    #[arg(
        long,
        env = "ESIM_STATUS_ALLOWED_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGINS"
    )]
    pub allowed_origins: Vec<String>,

    /// How many days raw deliveries are kept
    #[arg(
        long, env = "ESIM_STATUS_DELIVERY_RETENTION_DAYS", default_value_t = 90, value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=3650)
    )]
    pub delivery_retention_days: u32,

    /// Where deliveries wait while the database is away, on a durable disk of this replica's own; without it they are refused
    #[arg(long, env = "ESIM_STATUS_SPOOL_DIR", value_name = "FOLDER")]
    pub spool_dir: Option<PathBuf>,

    /// How many megabytes of deliveries may wait there; further ones are refused
    #[arg(
        long, env = "ESIM_STATUS_SPOOL_MAX_MB", default_value_t = 1024, value_name = "MB",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub spool_max_mb: u32,

    /// How many writers commit batches at once, sharded by ICCID; more help only where the database has cores to spare
    #[arg(long, env = "ESIM_STATUS_WRITERS", default_value_t = 2, value_name = "COUNT", value_parser = writers)]
    pub writers: usize,

    /// How many database connections the read API may use
    #[arg(
        long, env = "ESIM_STATUS_READERS", default_value_t = 8, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(2..=200)
    )]
    pub readers: u32,

    /// How many connections may be open at once on the public listener; further ones are answered 503
    #[arg(
        long,
        env = "ESIM_STATUS_MAX_CONNECTIONS",
        default_value_t = 16_384,
        value_name = "COUNT"
    )]
    pub max_connections: usize,

    /// How many seconds an idle connection of a client is kept; what keeps connections for reuse, such as a load balancer, must
    /// give them up earlier
    #[arg(
        long, env = "ESIM_STATUS_IDLE_SECONDS", default_value_t = 75, value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub idle_seconds: u32,

    /// How many seconds new work is still taken after SIGTERM, while `/readyz` is 503: longer than whoever routes here takes to see it
    #[arg(
        long = "shutdown-notice-seconds", env = "ESIM_STATUS_SHUTDOWN_NOTICE_SECONDS", default_value = "0.5", value_name = "SECONDS",
        value_parser = notice
    )]
    pub shutdown_notice: Duration,

    /// How many live streams may be open at once; further ones are told to follow otherwise
    #[arg(long, env = "ESIM_STATUS_MAX_STREAMS", default_value_t = 10_000, value_name = "COUNT")]
    pub max_streams: usize,

    /// How the install page presents itself.
    #[command(flatten)]
    pub brand: BrandArgs,

    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,

    /// The secrets among these that were given on the command line, by their variables.
    #[arg(skip)]
    pub on_command_line: Vec<&'static str>,
}

impl ServeArgs {
    /// Notes which secrets came from the command line.
    pub fn note_command_line(&mut self, matches: &ArgMatches) {
        let secrets = [
            ("database_url", "DATABASE_URL"),
            ("gigastore_secrets", "ESIM_STATUS_GIGASTORE_SECRETS"),
            ("api_keys", "ESIM_STATUS_API_KEYS"),
            ("token_secrets", "ESIM_STATUS_TOKEN_SECRETS"),
            ("data_keys", "ESIM_STATUS_DATA_KEYS"),
        ];
        let given = secrets
            .into_iter()
            .filter(|(id, _)| matches.value_source(id) == Some(ValueSource::CommandLine));
        self.on_command_line = given.map(|(_, name)| name).collect();
    }
}

/// How a command logs.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct LogArgs {
    /// How log lines look on standard error [default: text on a terminal, else json]; `RUST_LOG` filters them
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
