//! The contenders: what is measured, and how each is started.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::deliveries::secret;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::{interrupt, settings, sink};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is measured, in the order of a round. The ordinary handler comes first, because the service is measured at
/// its rate too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Contender {
    /// axum and sqlx, one transaction for each request
    Ordinary,
    /// axum and sqlx, one statement for each request
    OneStatement,
    /// esim-status itself
    Service,
    /// esim-status that records one trace in a hundred, only with --only
    TracedSome,
    /// esim-status that records every trace, only with --only
    Traced,
    /// Verifies and parses, without a database
    Limit,
    /// Express with pg, one process for each core; needs Node.js
    Express,
    /// `FastAPI` with asyncpg, one process for each core; needs Python
    Fastapi,
}

impl Contender {
    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "esim-status",
            Self::TracedSome => "esim-status, 1 % traced",
            Self::Traced => "esim-status, 100 % traced",
            Self::Limit => "limit: verify and parse only",
            Self::Ordinary => "axum + sqlx, a transaction each",
            Self::OneStatement => "axum + sqlx, a statement each",
            Self::Express => "Express + pg, clustered",
            Self::Fastapi => "FastAPI + asyncpg, clustered",
        }
    }

    /// Whether the build makes it. The others need a language's own tools.
    pub fn is_rust(self) -> bool {
        !matches!(self, Self::Express | Self::Fastapi)
    }

    /// The share of its traces that it records, if it is the service.
    fn traced(self) -> Option<&'static str> {
        match self {
            Self::Service => Some("0"),
            Self::TracedSome => Some("0.01"),
            Self::Traced => Some("1"),
            _ => None,
        }
    }

    /// Whether it is measured without being named.
    pub fn is_usual(self) -> bool {
        !matches!(self, Self::TracedSome | Self::Traced)
    }

    /// The command that starts it.
    fn command(self, programs: &Path) -> Vec<String> {
        let built = |name: &str| programs.join(name).display().to_string();
        let with = |program: String, rest: &[&str]| {
            let rest = rest.iter().map(|part| (*part).to_owned());
            std::iter::once(program).chain(rest).collect()
        };
        match self {
            Self::Service | Self::TracedSome | Self::Traced => {
                with(built("esim-status"), &["serve"])
            }
            Self::Limit => with(built("limit"), &[]),
            Self::Ordinary => with(built("ordinary"), &[]),
            Self::OneStatement => with(built("ordinary"), &["--one-statement"]),
            Self::Express => with("node".to_owned(), &["target/bench/express/server.js"]),
            Self::Fastapi => {
                with("target/bench/venv/bin/python".to_owned(), &["bench/peers/fastapi/server.py"])
            }
        }
    }
}

/// What a server is started with.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The database server.
    pub postgres: &'a Postgres,
    /// Its database.
    pub database: &'a str,
    /// Where settings and logs go.
    pub folder: &'a Path,
    /// The max number of connections to the database of a peer, with all its processes.
    pub pool: u32,
}

/// A running server.
#[derive(Debug)]
pub struct Running {
    process: Process,
    /// The address for the load.
    pub address: SocketAddr,
    /// The address of the admin listener; only the service has one.
    pub admin: SocketAddr,
}

impl Running {
    /// Starts a server without waiting for it. Its log goes to a file with its name.
    ///
    /// # Errors
    /// If a step fails.
    pub fn start(contender: Contender, place: &Place) -> anyhow::Result<Self> {
        let Place { postgres, database, folder, pool } = *place;
        let command = contender.command(&programs()?);
        let [address, admin] = free_addresses()?;
        let hooks = folder.join("hooks.toml");
        std::fs::write(&hooks, settings::hooks())?;
        let mut environment = vec![("DATABASE_URL", postgres.url(database))];
        if let Some(share) = contender.traced() {
            environment.extend(settings::environment(&hooks));
            environment.push(("ESIM_STATUS_LISTEN", address.to_string()));
            environment.push(("ESIM_STATUS_ADMIN_LISTEN", admin.to_string()));
            if share != "0" {
                let collector = format!("http://{}", sink::address()?);
                environment.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector));
                environment.push(("OTEL_TRACES_SAMPLER", "traceidratio".to_owned()));
                environment.push(("OTEL_TRACES_SAMPLER_ARG", share.to_owned()));
            }
        } else {
            environment.extend(postgres.environment(database));
            environment.push(("PORT", address.port().to_string()));
            environment.push(("NODE_ENV", "production".to_owned()));
            environment.push(("PYTHONDONTWRITEBYTECODE", "1".to_owned()));
            environment.push(("CONNECTIONS", pool.to_string()));
            environment.push(("HOOK_SECRET", secret("hook")));
            environment.push(("API_KEY", secret("api")));
        }
        let log = folder.join(format!("{contender:?}.log").to_lowercase());
        let process = Process::start(&command, &environment, &log)?;
        Ok(Self { process, address, admin })
    }

    /// Waits until the server answers. A server with several processes listens before it can answer.
    ///
    /// # Errors
    /// If the server ends instead.
    pub fn wait(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.answers().is_err() {
            interrupt::sleep(Duration::from_millis(20))?;
            if !self.process.runs()? || begun.elapsed() > PATIENCE {
                bail!("the server does not answer; see its log in target/bench");
            }
        }
        Ok(())
    }

    fn answers(&self) -> io::Result<()> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(b"GET /v1/profiles/0 HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        socket.read_exact(&mut [0; 12])
    }

    /// The id of its main process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The folder of the benchmark's programs, which is that of this program.
///
/// # Errors
/// If the system does not know it.
pub fn programs() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("a program is in a folder")?.to_owned())
}

/// Two free addresses.
fn free_addresses() -> anyhow::Result<[SocketAddr; 2]> {
    let [first, second] = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([first.local_addr()?, second.local_addr()?])
}
