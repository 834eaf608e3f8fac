//! A real PostgreSQL of the benchmark's own, set up as a sane operator sets one up on a small machine.

use std::path::Path;

use crate::machine;
use embedded_postgres::Embedded;
use esim_status::clock;
use esim_status::store::{self, Connector, Session};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::runtime::Runtime;

/// What is set, the same for whoever is measured. Nothing is taken from durability: `fsync` and `synchronous_commit` are on.
/// `shared_buffers` comes to it: a quarter of the memory.
const SETTINGS: [(&str, &str); 6] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("max_wal_size", "8GB"),
    ("min_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
];

/// How many files of the log there are before anything is measured: 1.5 GB.
const LOG_FILES: u32 = 96;

/// For how long deliveries are kept: the service's own default.
const RETENTION_DAYS: u32 = 90;

/// The server.
#[derive(Debug)]
pub struct Postgres {
    embedded: Embedded,
    runtime: Runtime,
}

impl Postgres {
    /// Starts it in a folder that stays.
    ///
    /// # Errors
    /// What failed.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let embedded = Embedded::start_in(folder)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut this = Self { embedded, runtime };
        let buffers = format!("{}MB", (machine::memory_mib() / 4).clamp(256, 8_192));
        for (name, value) in SETTINGS.into_iter().chain([("shared_buffers", buffers.as_str())]) {
            this.execute("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"))?;
        }
        this.embedded.restart_server()?;
        this.fill_log()?;
        Ok(this)
    }

    /// A server that has run for a while writes its log over files that it has; to make a new one of 16 MB, which a fresh server
    /// does, stalls everybody for as long as the disk takes.
    fn fill_log(&self) -> anyhow::Result<()> {
        for _ in 0..LOG_FILES {
            self.execute("postgres", "SELECT pg_logical_emit_message(false, 'bench', '')")?;
            self.execute("postgres", "SELECT pg_switch_wal()")?;
        }
        self.execute("postgres", "CHECKPOINT")
    }

    /// The server's first process.
    pub fn pid(&self) -> u32 {
        self.embedded.server_pid()
    }

    /// The folder of the programs of PostgreSQL.
    pub fn bin_dir(&self) -> &Path {
        self.embedded.bin_dir()
    }

    /// How to connect to a database.
    pub fn url(&self, database: &str) -> String {
        self.embedded.url(database)
    }

    /// How the programs of others learn where a database is.
    pub fn environment(&self, database: &str) -> [(&'static str, String); 4] {
        let options = self.embedded.connect_options(database);
        let socket = options.get_socket().map_or_else(String::new, |it| it.display().to_string());
        [
            ("PGHOST", socket),
            ("PGPORT", options.get_port().to_string()),
            ("PGUSER", options.get_username().to_owned()),
            ("PGDATABASE", database.to_owned()),
        ]
    }

    /// How to connect to a database.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        self.embedded.connect_options(database)
    }

    /// Waits for something that talks to the database.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Runs statements, one after the other.
    ///
    /// # Errors
    /// What the server complains of.
    pub fn execute(&self, database: &str, statements: &str) -> anyhow::Result<()> {
        let options = self.embedded.connect_options(database);
        self.runtime.block_on(async {
            let mut connection = options.connect().await?;
            connection.execute(AssertSqlSafe(statements.to_owned())).await?;
            Ok(())
        })
    }

    /// Asks for one row.
    ///
    /// # Errors
    /// What the server complains of.
    pub fn ask(&self, database: &str, query: &str) -> anyhow::Result<PgRow> {
        let options = self.embedded.connect_options(database);
        self.runtime.block_on(async {
            let mut connection = options.connect().await?;
            Ok(connection.fetch_one(AssertSqlSafe(query.to_owned())).await?)
        })
    }

    /// Makes a database anew, with the schema and nothing in it.
    ///
    /// # Errors
    /// What failed.
    pub fn make(&self, database: &str) -> anyhow::Result<()> {
        self.remove(database)?;
        self.execute("postgres", &format!("CREATE DATABASE {database}"))?;
        self.migrate(database)
    }

    /// Brings a database's schema up to date, with the partitions that the service would make.
    ///
    /// # Errors
    /// What failed.
    pub fn migrate(&self, database: &str) -> anyhow::Result<()> {
        let connector = Connector::from(self.embedded.connect_options(database));
        self.runtime.block_on(async {
            store::migrate(&connector).await?;
            let mut connection = connector.connect(Session::Reads).await?;
            store::upkeep::prepare(&mut connection, clock::now(), RETENTION_DAYS).await?;
            Ok(connection.close().await?)
        })
    }

    /// Removes a database, whoever is connected.
    ///
    /// # Errors
    /// What failed.
    pub fn remove(&self, database: &str) -> anyhow::Result<()> {
        self.execute("postgres", &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"))
    }
}
