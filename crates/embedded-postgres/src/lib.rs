#![doc = include_str!("../README.md")]

use std::io;
use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use cluster::{Cluster, PORT, SUPERUSER};
use folder::Folder;
use process::Process;
use user::RunAs;

pub use error::EmbeddedError;
pub use folder::default_data_dir;

mod error;

mod locate;

mod user;

mod folder;

mod process;

mod cluster;

/// A PostgreSQL server that runs as long as this value lives.
#[derive(Debug)]
pub struct Embedded {
    server: Option<Process>,
    pid: u32,
    cluster: Cluster,
    /// The folder of the socket, if it is not `home`.
    runtime: Option<Folder>,
    home: Folder,
}

impl Embedded {
    /// Starts the server in a folder that is kept. Creates the folder if it does not exist.
    ///
    /// # Errors
    /// [`EmbeddedError::InUse`] if another process holds the folder; otherwise what failed, and what to do about it.
    pub fn start_in(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let user = RunAs::choose()?;
        let home = Folder::kept(data_dir, &user)?;
        // The given path may be too long for a socket.
        let runtime = Folder::temporary(&user)?;
        Self::start(user, home, Some(runtime))
    }

    /// Starts the server in a temporary folder, which is removed with it.
    ///
    /// # Errors
    /// Says what failed, and what to do about it.
    pub fn start_ephemeral() -> Result<Self, EmbeddedError> {
        let user = RunAs::choose()?;
        let home = Folder::temporary(&user)?;
        Self::start(user, home, None)
    }

    fn start(user: RunAs, home: Folder, runtime: Option<Folder>) -> Result<Self, EmbeddedError> {
        let cluster = Cluster::open(&home, user)?;
        let mut this = Self { server: None, pid: 0, cluster, runtime, home };
        this.start_server()?;
        Ok(this)
    }

    /// The options to connect to one of its databases.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.socket_dir())
            .port(PORT)
            .username(SUPERUSER)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// The same as a `DATABASE_URL`, which psql understands too.
    pub fn url(&self, database: &str) -> String {
        let folder = percent_encoded(&self.socket_dir().to_string_lossy());
        format!("postgres://{SUPERUSER}@{folder}:{PORT}/{}", percent_encoded(database))
    }

    /// The pid of the server's first process; of the last one, if the server is stopped.
    pub fn server_pid(&self) -> u32 {
        self.pid
    }

    /// The folder of PostgreSQL's programs.
    pub fn bin_dir(&self) -> &Path {
        self.cluster.bin_dir()
    }

    /// Shuts the server down and gives up the folder, as dropping it does, but reports a failure.
    ///
    /// # Errors
    /// If the server cannot be ended.
    pub fn stop(mut self) -> Result<(), EmbeddedError> {
        self.stop_server()
    }

    /// Shuts the server down in order: its connections are cut, nothing is lost. The folder stays ours.
    ///
    /// # Errors
    /// If the server cannot be ended.
    pub fn stop_server(&mut self) -> Result<(), EmbeddedError> {
        self.end_server(Process::stop)
    }

    /// Kills the server, as a machine failure would, and waits until all its processes are gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill_server(&mut self) -> Result<(), EmbeddedError> {
        self.end_server(Process::kill)
    }

    /// Starts the server again, in the same folder and on the same socket, unless it is running.
    ///
    /// # Errors
    /// Says what failed, with the end of PostgreSQL's log.
    pub fn start_server(&mut self) -> Result<(), EmbeddedError> {
        if let Some(server) = &mut self.server {
            let ended = server.ended().map_err(|error| self.cluster.io("watch postgres", error))?;
            if ended.is_none() {
                return Ok(());
            }
        }
        let server = self.cluster.start(self.socket_dir())?;
        self.pid = server.pid();
        self.server = Some(server);
        Ok(())
    }

    /// Shuts the server down in order and starts it again.
    ///
    /// # Errors
    /// The errors of [`Self::stop_server`] and [`Self::start_server`].
    pub fn restart_server(&mut self) -> Result<(), EmbeddedError> {
        self.stop_server()?;
        self.start_server()
    }

    fn end_server(
        &mut self,
        how: impl FnOnce(&mut Process) -> io::Result<()>,
    ) -> Result<(), EmbeddedError> {
        match self.server.take() {
            Some(server) => self.cluster.end(server, how),
            None => Ok(()),
        }
    }

    fn socket_dir(&self) -> &Path {
        self.runtime.as_ref().unwrap_or(&self.home).path()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // There is no one left to report a failure to.
        let _ = self.stop_server();
    }
}

/// Encodes everything as `%xx` except characters that are allowed anywhere in a URL.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests;
