//! The benchmark's own PostgreSQL server, configured as a careful operator would on a small machine.

use std::path::Path;

use crate::kinds::Kind;
use crate::machine;
use embedded_postgres::Embedded;
use esim_status::clock;
use esim_status::store::{self, Connector, Session};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::runtime::Runtime;

/// The settings, which are the same for all contenders. They keep full durability: `fsync` and `synchronous_commit` are
/// on. `shared_buffers` is set in addition, to a quarter of the memory, and so are those that differ by
/// kind of load.
const SETTINGS: [(&str, &str); 5] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("max_wal_size", "8GB"),
    ("min_wal_size", "2GB"),
];

/// How many WAL segments exist before anything is measured: 1.5 GB.
const LOG_FILES: u32 = 96;

/// The retention of deliveries: the service's default.
const RETENTION_DAYS: u32 = 90;

/// The server.
#[derive(Debug)]
pub struct Postgres {
    embedded: Embedded,
    runtime: Runtime,
}

impl Postgres {
    /// Starts the server in a folder that is kept.
    ///
    /// # Errors
    /// If a step fails.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        let embedded = Embedded::start_in(folder)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut this = Self { embedded, runtime };
        let buffers = format!("{}MB", (machine::memory_mib() / 4).clamp(256, 8_192));
        let buffers = [("shared_buffers", buffers.as_str())];
        this.set(SETTINGS.into_iter().chain(buffers).chain(Kind::Webhooks.settings()))?;
        this.embedded.restart_server()?;
        this.fill_log()?;
        Ok(this)
    }

    /// Changes settings, and makes those effective that need no restart.
    ///
    /// # Errors
    /// The error of the server.
    pub fn set<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> anyhow::Result<()> {
        for (name, value) in settings {
            self.execute("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"))?;
        }
        self.execute("postgres", "SELECT pg_reload_conf()")
    }

    /// Creates WAL segments. A server that has run for a while reuses its segments of 16 MB, but a fresh one must
    /// create them, which stalls everything for as long as the disk takes.
    fn fill_log(&self) -> anyhow::Result<()> {
        for _ in 0..LOG_FILES {
            self.execute("postgres", "SELECT pg_logical_emit_message(false, 'bench', '')")?;
            self.execute("postgres", "SELECT pg_switch_wal()")?;
        }
        self.execute("postgres", "CHECKPOINT")
    }

    /// The server's main process.
    pub fn pid(&self) -> u32 {
        self.embedded.server_pid()
    }

    /// How to connect to a database.
    pub fn url(&self, database: &str) -> String {
        self.embedded.url(database)
    }

    /// The environment variables that libpq and similar clients read.
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

    /// Runs statements, one after the other.
    ///
    /// # Errors
    /// The error of the server.
    pub fn execute(&self, database: &str, statements: &str) -> anyhow::Result<()> {
        let options = self.embedded.connect_options(database);
        self.runtime.block_on(async {
            let mut connection = options.connect().await?;
            connection.execute(AssertSqlSafe(statements.to_owned())).await?;
            Ok(())
        })
    }

    /// Runs a query, and returns its only row.
    ///
    /// # Errors
    /// The error of the server.
    pub fn ask(&self, database: &str, query: &str) -> anyhow::Result<PgRow> {
        let options = self.embedded.connect_options(database);
        self.runtime.block_on(async {
            let mut connection = options.connect().await?;
            Ok(connection.fetch_one(AssertSqlSafe(query.to_owned())).await?)
        })
    }

    /// Recreates a database with the schema and no data.
    ///
    /// # Errors
    /// If a step fails.
    pub fn make(&self, database: &str) -> anyhow::Result<()> {
        self.remove(database)?;
        self.execute("postgres", &format!("CREATE DATABASE {database}"))?;
        self.migrate(database)
    }

    /// Migrates a database, and creates the partitions that the service would create.
    ///
    /// # Errors
    /// If a step fails.
    pub fn migrate(&self, database: &str) -> anyhow::Result<()> {
        let connector = Connector::from(self.embedded.connect_options(database));
        self.runtime.block_on(async {
            store::migrate(&connector).await?;
            let mut connection = connector.connect(Session::Reads).await?;
            store::upkeep::prepare(&mut connection, clock::now(), RETENTION_DAYS).await?;
            Ok(connection.close().await?)
        })
    }

    /// Drops a database, even if clients are connected.
    ///
    /// # Errors
    /// If a step fails.
    pub fn remove(&self, database: &str) -> anyhow::Result<()> {
        self.execute("postgres", &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"))
    }
}
