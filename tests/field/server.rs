//! Helper: a real PostgreSQL that listens on a TCP port, so that it behaves like a server on another machine, and its
//! standby.

use std::path::PathBuf;

use esim_status_testing::part::{Part, folder, free_port, run, unprivileged};
use esim_status_testing::{Database, server, wait_until};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tempfile::TempDir;

/// The superuser, as in every other test.
pub(crate) const SUPERUSER: &str = "esim_status";

/// The application name of a standby.
const STANDBY: &str = "standby";

/// The server. It ends with the test.
#[derive(Debug)]
pub(crate) struct Server {
    part: Option<Part>,
    /// The folder with `data`, the socket and the log.
    pub folder: TempDir,
    /// The port on 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// Starts a fresh server with these settings.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let mut this = Self::nowhere();
        let arguments = ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"];
        run(unprivileged(&program("initdb")).arg("-D").arg(this.data()).args(arguments));
        this.serve(settings).await;
        this
    }

    /// Starts a standby that follows this server.
    pub(crate) async fn standby(&self) -> Self {
        let mut standby = Self::nowhere();
        let (socket, port) = (self.folder.path().display(), self.port);
        let here = format!("host={socket} port={port} user={SUPERUSER} application_name={STANDBY}");
        let mut copy = unprivileged(&program("pg_basebackup"));
        copy.args(["-d", &here, "-X", "stream", "-c", "fast", "-R", "--no-sync", "-D"]);
        run(copy.arg(standby.data()));
        standby.serve(&[]).await;
        standby
    }

    /// Starts a primary whose commits wait for its standby, and that standby.
    pub(crate) async fn pair() -> (Self, Self) {
        let primary = Self::start(&[&format!("synchronous_standby_names={STANDBY}")]).await;
        let standby = primary.standby().await;
        let database = primary.database("postgres");
        let synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        wait_until("the standby follows", async || database.scalar::<i64>(synchronous).await == 1)
            .await;
        (primary, standby)
    }

    fn nowhere() -> Self {
        Self { part: None, folder: folder(), port: free_port() }
    }

    async fn serve(&mut self, settings: &[&str]) {
        let (data, folder) = (self.data().display().to_string(), self.folder.path().display());
        let fixed = [
            format!("port={}", self.port),
            format!("unix_socket_directories={folder}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "logging_collector=off".to_owned(),
            "log_destination=stderr".to_owned(),
        ];
        let mut arguments = vec!["-D", &*data];
        let fixed = fixed.iter().map(String::as_str);
        arguments.extend(fixed.chain(settings.iter().copied()).flat_map(|it| ["-c", it]));
        let log = self.folder.path().join("server.log");
        let mut part = Part::start(&program("postgres"), &arguments, &log);
        let options = self.options("postgres");
        wait_until("PostgreSQL accepts connections", || {
            assert!(part.runs(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
            let options = options.clone();
            async move { options.connect().await.is_ok() }
        })
        .await;
        self.part = Some(part);
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.folder.path())
            .port(self.port)
            .username(SUPERUSER)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// One of the server's databases, reached over the socket.
    pub(crate) fn database(&self, name: &str) -> Database {
        Database { options: self.options(name) }
    }

    /// Kills the server, like a crash of its machine.
    pub(crate) fn kill(&mut self) {
        self.part.take().expect("the server runs").kill();
    }

    /// Promotes the standby. Returns when it accepts writes.
    pub(crate) fn promote(&self) {
        let promote = ["promote", "-w", "-t", "30", "-D"];
        run(unprivileged(&program("pg_ctl")).args(promote).arg(self.data()));
    }
}

/// The path of a PostgreSQL program.
fn program(name: &str) -> PathBuf {
    server().bin_dir().join(name)
}
