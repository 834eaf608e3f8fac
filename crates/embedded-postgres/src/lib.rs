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

/// A PostgreSQL that runs as long as this lives.
#[derive(Debug)]
pub struct Embedded {
    server: Option<Process>,
    pid: u32,
    cluster: Cluster,
    /// The socket's folder, where that is not `home`.
    runtime: Option<Folder>,
    home: Folder,
}

impl Embedded {
    /// Starts it in a folder that stays, and makes the folder if it is not there.
    ///
    /// # Errors
    /// [`EmbeddedError::InUse`] if another process has the folder; otherwise what failed, and what to do about it.
    pub fn start_in(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let user = RunAs::choose()?;
        let home = Folder::kept(data_dir, &user)?;
        // A path of the reader's choice may be too long for a socket.
        let runtime = Folder::temporary(&user)?;
        Self::start(user, home, Some(runtime))
    }

    /// Starts it in a folder for temporary files, which goes with it.
    ///
    /// # Errors
    /// What failed, and what to do about it.
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

    /// How to connect to one of its databases.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.socket_dir())
            .port(PORT)
            .username(SUPERUSER)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// The same as a `DATABASE_URL`, for psql too.
    pub fn url(&self, database: &str) -> String {
        let folder = percent_encoded(&self.socket_dir().to_string_lossy());
        format!("postgres://{SUPERUSER}@{folder}:{PORT}/{}", percent_encoded(database))
    }

    /// The number of the server's first process; of the last one, if it is stopped.
    pub fn server_pid(&self) -> u32 {
        self.pid
    }

    /// The folder of the programs of PostgreSQL.
    pub fn bin_dir(&self) -> &Path {
        self.cluster.bin_dir()
    }

    /// Stops the server in order and gives the folder up, as dropping it does; but tells of a failure.
    ///
    /// # Errors
    /// If the server cannot be ended.
    pub fn stop(mut self) -> Result<(), EmbeddedError> {
        self.stop_server()
    }

    /// Stops the server in order: its connections are cut, nothing is lost. The folder stays ours.
    ///
    /// # Errors
    /// If the server cannot be ended.
    pub fn stop_server(&mut self) -> Result<(), EmbeddedError> {
        self.end_server(Process::stop)
    }

    /// Kills the server, as a failing machine would, and waits until all its processes are gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill_server(&mut self) -> Result<(), EmbeddedError> {
        self.end_server(Process::kill)
    }

    /// Starts the server again, on the same folder and the same socket, unless it runs.
    ///
    /// # Errors
    /// What failed, with the end of PostgreSQL's log.
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

    /// Stops the server in order and starts it again.
    ///
    /// # Errors
    /// Those of [`Self::stop_server`] and [`Self::start_server`].
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
        // Nobody is left to be told.
        let _ = self.stop_server();
    }
}

/// Everything but what a URL takes anywhere, as `%xx`.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests;
