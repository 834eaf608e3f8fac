//! Those that are measured, and how each is started.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::deliveries::secret;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::{interrupt, settings};

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who takes the load, in the order of a round. The ordinary handler comes first: what it can take sets a rate for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Contender {
    /// axum and sqlx, a transaction a request
    Ordinary,
    /// axum and sqlx, one statement a request
    OneStatement,
    /// esim-status itself
    Service,
    /// Verifies and parses, and has no database
    Limit,
    /// Express with pg, a process for each core
    Express,
    /// `FastAPI` with asyncpg, a process for each core
    Fastapi,
    /// No server: pgbench, one statement an event
    Pgbench,
    /// No server: one connection that writes batches of 256
    Batches,
}

impl Contender {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "esim-status",
            Self::Limit => "limit: verify and parse only",
            Self::Ordinary => "axum + sqlx, a transaction each",
            Self::OneStatement => "axum + sqlx, a statement each",
            Self::Express => "Express + pg, clustered",
            Self::Fastapi => "FastAPI + asyncpg, clustered",
            Self::Pgbench => "pgbench, a statement each",
            Self::Batches => "the database alone, batches of 256",
        }
    }

    /// How it is started, where it is a server.
    fn command(self, programs: &Path) -> Option<Vec<String>> {
        let built = |name: &str| programs.join(name).display().to_string();
        let with = |program: String, rest: &[&str]| {
            let rest = rest.iter().map(|part| (*part).to_owned());
            std::iter::once(program).chain(rest).collect()
        };
        Some(match self {
            Self::Service => with(built("esim-status"), &["serve"]),
            Self::Limit => with(built("limit"), &[]),
            Self::Ordinary => with(built("ordinary"), &[]),
            Self::OneStatement => with(built("ordinary"), &["--one-statement"]),
            Self::Express => with("node".to_owned(), &["target/bench/express/server.js"]),
            Self::Fastapi => {
                with("target/bench/venv/bin/python".to_owned(), &["bench/peers/fastapi/server.py"])
            }
            Self::Pgbench | Self::Batches => return None,
        })
    }
}

/// Where a server is started, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The database server.
    pub postgres: &'a Postgres,
    /// Its database.
    pub database: &'a str,
    /// Where settings and logs go.
    pub folder: &'a Path,
    /// How many connections to the database a peer may have, all its processes together.
    pub pool: u32,
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    process: Process,
    /// Where it takes the load.
    pub address: SocketAddr,
    /// Where it tells whether it is ready; the service only.
    pub admin: SocketAddr,
}

impl Running {
    /// Starts it without waiting for anything. What it logs goes to a file of its name.
    ///
    /// # Errors
    /// What failed.
    pub fn start(contender: Contender, place: &Place) -> anyhow::Result<Self> {
        let Place { postgres, database, folder, pool } = *place;
        let command = contender.command(&programs()?).context("that is no server")?;
        let [address, admin] = free_addresses()?;
        let hooks = folder.join("hooks.toml");
        std::fs::write(&hooks, settings::hooks())?;
        let mut environment = vec![("DATABASE_URL", postgres.url(database))];
        if contender == Contender::Service {
            environment.extend(settings::environment(&hooks));
            environment.push(("ESIM_STATUS_LISTEN", address.to_string()));
            environment.push(("ESIM_STATUS_ADMIN_LISTEN", admin.to_string()));
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

    /// Waits until it answers: one that has processes of its own listens before they do.
    ///
    /// # Errors
    /// Where it ends instead.
    pub fn wait(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.answers().is_err() {
            interrupt::sleep(Duration::from_millis(20))?;
            if !self.process.runs()? || begun.elapsed() > PATIENCE {
                bail!("it does not answer; see its log in target/bench");
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

    /// The number of its first process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The folder of our own programs: where this one is.
fn programs() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("a program is in a folder")?.to_owned())
}

/// Two that nobody listens on.
fn free_addresses() -> anyhow::Result<[SocketAddr; 2]> {
    let [first, second] = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([first.local_addr()?, second.local_addr()?])
}
