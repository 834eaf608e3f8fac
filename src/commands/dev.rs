//! `esim-status dev`: runs everything on this machine, with an embedded PostgreSQL and generated secrets.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::{Deserialize, Serialize};
use sqlx::{ConnectOptions, Executor};
use url::Url;

use super::SAMPLE_ICCID;
use super::serve::Signals;
use super::welcome::{self, Welcome};
use crate::access::{Access, ApiKeys, Rights, Scope};
use crate::budget;
use crate::config::{self, DatabaseArgs, LogArgs, Settings};
use crate::delivery::Secrets;
use crate::domain::Reach;
use crate::http_client;
use crate::service::{Service, StartError};
use crate::signing::SigningKeys;
use crate::store::Connector;
use crate::telemetry;
use embedded_postgres::{Embedded, EmbeddedError, default_data_dir};

/// The database within the embedded server.
const DATABASE: &str = "esim_status";

/// The arguments of `dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(flatten)]
    database: DatabaseArgs,

    /// Folder of the database and the secrets [default: a folder in your data directory]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,

    /// Keep nothing: use a temporary database and new secrets
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,

    /// Address of webhooks, API and install page [default: 127.0.0.1:8080, or any free port]
    #[arg(long, env = "ESIM_STATUS_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// Address of /livez, /readyz and /metrics [default: 127.0.0.1:9090, or any free port]
    #[arg(long, env = "ESIM_STATUS_ADMIN_LISTEN", value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,

    /// Max live streams; further ones are answered 503
    #[arg(long, env = "ESIM_STATUS_MAX_STREAMS", default_value_t = 512, value_name = "COUNT")]
    max_streams: usize,

    #[command(flatten)]
    log: LogArgs,
}

/// The secrets of `dev`. They are generated, so a developer has nothing to set, and no secret is the same elsewhere.
#[derive(Serialize, Deserialize)]
struct DevSecrets {
    pub hook: String,
    pub api_key: String,
    pub token: String,
    /// Empty in a folder from before there were evidence sheets.
    #[serde(default)]
    pub evidence_key: String,
}

impl DevSecrets {
    fn generate() -> Self {
        let secret = || hex::encode(rand::random::<[u8; 24]>());
        Self {
            hook: secret(),
            api_key: secret(),
            token: secret(),
            evidence_key: Self::generate_key(),
        }
    }

    fn generate_key() -> String {
        STANDARD.encode(rand::random::<[u8; 32]>())
    }

    /// Reads the secrets of the folder. The first start generates them, readable by their owner only.
    fn kept_in(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("secrets.toml");
        if file.exists() {
            let text = fs::read_to_string(&file)?;
            let mut secrets: Self = toml::from_str(&text).map_err(|_| {
                anyhow::anyhow!(
                    "{} is damaged: delete it, and the next start generates new secrets",
                    file.display()
                )
            })?;
            if secrets.evidence_key.is_empty() {
                secrets.evidence_key = Self::generate_key();
                fs::write(&file, toml::to_string(&secrets)?)?;
            }
            return Ok(secrets);
        }
        let secrets = Self::generate();
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)?
            .write_all(toml::to_string(&secrets)?.as_bytes())?;
        Ok(secrets)
    }
}

/// The secrets and the database of `dev`.
struct Home {
    secrets: DevSecrets,
    /// The embedded server, unless `DATABASE_URL` names another one.
    server: Option<Embedded>,
    database: Connector,
    /// The folder that keeps them; `None` if nothing is kept.
    kept: Option<PathBuf>,
}

/// Serves until a signal arrives, and leaves nothing running.
///
/// # Errors
/// If PostgreSQL is not installed, or a requested address is in use; says what to do.
pub async fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    telemetry::log_to_stderr(args.log.log_format);
    let exporting = telemetry::export(http_client::new);
    let ended = serve_until_a_signal(args).await;
    exporting.stop(budget::LAST_TELEMETRY).await;
    ended
}

async fn serve_until_a_signal(args: &DevArgs) -> anyhow::Result<ExitCode> {
    // Listen before anything starts: otherwise a signal during the database's start would leave it running.
    let mut signals = Signals::listen()?;
    let home = open_home(args).await?;
    let serving = tokio::select! {
        served = serve(args, &home) => Some(served?),
        () = signals.any() => None,
    };
    let mut is_well = true;
    if let Some(mut service) = serving {
        is_well = tokio::select! {
            () = signals.any() => true,
            _ = service.task_died() => false,
        };
        service.stop().await;
    }
    if let Some(server) = home.server {
        tokio::task::spawn_blocking(|| server.stop()).await??;
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts the service, registers the sample profile, and prints what can be done with it.
async fn serve(args: &DevArgs, home: &Home) -> anyhow::Result<Service> {
    let service = match Service::start(settings(args, home)?).await {
        // Another process has taken the default port between our check and our `listen`: choose again.
        Err(StartError::Listen { .. }) if args.listen.is_none() || args.admin_listen.is_none() => {
            Service::start(settings(args, home)?).await?
        }
        started => started?,
    };
    let page = register_sample(&service, &home.secrets).await?;
    welcome::print(&Welcome {
        base: &format!("http://{}", service.public),
        admin: &format!("http://{}", service.admin),
        hook: &home.secrets.hook,
        key: &home.secrets.api_key,
        page: &page,
        kept: home.kept.as_deref(),
    });
    Ok(service)
}

async fn open_home(args: &DevArgs) -> anyhow::Result<Home> {
    let folder = args.data_dir.clone().unwrap_or_else(|| default_data_dir("esim-status/dev"));
    if args.database.database_url.is_some() {
        let database = args.database.connector().map_err(anyhow::Error::msg)?;
        fs::create_dir_all(&folder)?;
        let secrets =
            if args.ephemeral { DevSecrets::generate() } else { DevSecrets::kept_in(&folder)? };
        return Ok(Home { secrets, server: None, database, kept: Some(folder) });
    }
    let (ephemeral, may_differ) = (args.ephemeral, args.data_dir.is_none());
    let postgres = folder.join("postgres");
    let start = move || {
        if ephemeral {
            return Embedded::start_ephemeral().map(|server| (server, false));
        }
        match Embedded::start_in(&postgres) {
            Err(EmbeddedError::InUse { .. }) if may_differ => {
                tracing::warn!(
                    "another `esim-status dev` uses the data folder, so this one keeps nothing: to keep data, name another folder with --data-dir"
                );
                Embedded::start_ephemeral().map(|server| (server, false))
            }
            started => started.map(|server| (server, true)),
        }
    };
    let (server, keeps) = tokio::task::spawn_blocking(start).await??;
    let secrets = if keeps { DevSecrets::kept_in(&folder)? } else { DevSecrets::generate() };
    create_database(&server).await.context("the embedded database could not be set up")?;
    let database = server.connect_options(DATABASE).into();
    Ok(Home { secrets, database, server: Some(server), kept: keeps.then_some(folder) })
}

async fn create_database(server: &Embedded) -> Result<(), sqlx::Error> {
    let mut connection = server.connect_options("postgres").connect().await?;
    let found = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(DATABASE)
        .fetch_optional(&mut connection)
        .await?;
    if found.is_none() {
        connection.execute("CREATE DATABASE esim_status").await?;
    }
    Ok(())
}

fn settings(args: &DevArgs, home: &Home) -> anyhow::Result<Settings> {
    let secrets = Secrets::parse("the generated secret", [&home.secrets.hook])?;
    let hooks = config::hooks_with(secrets);
    let access = Access {
        api_keys: ApiKeys::new(
            Secrets::parse("the generated API key", [&home.secrets.api_key])?,
            vec![Rights::new("dev", Scope::ALL)],
        ),
        token_secrets: Secrets::parse("the generated token secret", [&home.secrets.token])?,
    };
    let evidence_key = config::random_key("the generated key", &home.secrets.evidence_key);
    let evidence_key = evidence_key.map_err(anyhow::Error::msg)?;
    Ok(Settings {
        listen: args.listen.unwrap_or_else(|| free_address(8080)),
        admin_listen: args.admin_listen.unwrap_or_else(|| free_address(9090)),
        max_connections: args.max_streams + 1_024,
        max_streams: args.max_streams,
        evidence_keys: SigningKeys::new([evidence_key]),
        // A developer's server is on this machine, and has no certificate.
        reach: Reach::this_machine(),
        ..Settings::usual(home.database.clone(), hooks, access)
    })
}

/// Registers the sample profile as a backend would. Returns the URL of its install page, which is valid for a day.
async fn register_sample(service: &Service, secrets: &DevSecrets) -> anyhow::Result<String> {
    let profile = Url::parse(&format!("http://{}/v1/profiles/{SAMPLE_ICCID}", service.public))?;
    let client = http_client::new(&profile)?;
    let object = serde_json::json!({
        "iccid": SAMPLE_ICCID,
        "imsi": "260060145143896",
        "activationCode": "LPA:1$domain.tld$1234567890ABCDEF123456",
        "state": "RELEASED",
        "uid": "sample",
    });
    let put = client.put(profile.as_str()).bearer_auth(&secrets.api_key).json(&object);
    put.send().await?.error_for_status()?;
    let ttl = serde_json::json!({ "ttlSeconds": 86_400 });
    let post = client.post(format!("{profile}/tokens")).bearer_auth(&secrets.api_key).json(&ttl);
    let token: serde_json::Value = post.send().await?.error_for_status()?.json().await?;
    Ok(token["installUrl"].as_str().unwrap_or_default().to_owned())
}

/// The default port, or any free one if it is in use.
fn free_address(port: u16) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}
