//! A cluster, which is PostgreSQL's word for a data folder: how it is created, served and shut down.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::EmbeddedError;
use super::folder::{Folder, LOG};
use super::locate::Installation;
use super::process::{self, Process};
use super::user::RunAs;

/// The database's superuser.
pub(super) const SUPERUSER: &str = "esim_status";

/// The port number, which is part of the socket's name.
pub(super) const PORT: u16 = 5432;

/// How long a server may take until it accepts connections.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(30);

/// The settings of the server. Some packagers send the log elsewhere; we need it where we can quote its end.
const SETTINGS: [&str; 5] = [
    "listen_addresses=",
    "max_connections=200",
    "fsync=on",
    "logging_collector=off",
    "log_destination=stderr",
];

/// A cluster in a folder of ours, and the installation that serves it.
#[derive(Debug)]
pub(super) struct Cluster {
    home: PathBuf,
    data: PathBuf,
    user: RunAs,
    installation: Installation,
}

impl Cluster {
    /// Opens the cluster of a folder, and creates it if there is none. Ends a server that a killed process left in it.
    pub fn open(home: &Folder, user: RunAs) -> Result<Self, EmbeddedError> {
        let data = home.path().join("postgres");
        let version = fs::read_to_string(data.join("PG_VERSION")).ok();
        let installation = Installation::find(version.and_then(|it| it.trim().parse().ok()))?;
        let this = Self { home: home.path().to_owned(), data, user, installation };
        let log = this.take_log()?;
        // Empty the log: it would otherwise grow forever.
        log.set_len(0).map_err(|error| this.io("empty the log", error))?;
        if !this.data.exists() {
            this.make(log, home.is_temporary())?;
        }
        Ok(this)
    }

    /// Creates the cluster under another name first, so that an interrupted creation is never taken for a complete
    /// cluster.
    fn make(&self, log: File, temporary: bool) -> Result<(), EmbeddedError> {
        let new = self.home.join("postgres.new");
        if new.exists() {
            fs::remove_dir_all(&new)
                .map_err(|error| self.io("remove an incomplete cluster", error))?;
        }
        let [initdb, folder] = [self.program("initdb"), new.display().to_string()];
        let mut command = vec![&*initdb, "-D", &folder, "-U", SUPERUSER, "-A", "trust"];
        command.extend(["-E", "UTF8", "--no-locale"]);
        if temporary {
            command.push("--no-sync");
        }
        let status = Process::start(&command, &self.home, &self.user, log)
            .and_then(|mut initdb| initdb.wait())
            .map_err(|error| self.io("run initdb", error))?;
        if !status.success() {
            return Err(self.failed("initdb", format!("ended with {status}")));
        }
        let place = fs::rename(&new, &self.data).and_then(|()| {
            // Without this fsync, a crash of the machine could undo the rename, and lose what was committed since.
            if temporary { Ok(()) } else { File::open(&self.home)?.sync_all() }
        });
        place.map_err(|error| self.io("put the cluster in place", error))
    }

    /// Starts the server, and returns when it accepts connections on its socket in `sockets`.
    pub fn start(&self, sockets: &Path) -> Result<Process, EmbeddedError> {
        let sockets = format!("unix_socket_directories={}", sockets.display());
        let [postgres, data] = [self.program("postgres"), self.data.display().to_string()];
        let port = PORT.to_string();
        let mut command = vec![&*postgres, "-D", &data, "-p", &port, "-c", &sockets];
        command.extend(SETTINGS.iter().flat_map(|setting| ["-c", setting]));

        let log = self.take_log()?;
        let mut server = Process::start(&command, &self.home, &self.user, log)
            .map_err(|error| self.io("start postgres", error))?;
        let mut ended = None;
        let settled = process::wait_until(START_PATIENCE, || {
            ended = server.ended()?;
            Ok(ended.is_some() || self.accepts(server.pid()))
        });
        match (settled.map_err(|error| self.io("watch postgres", error))?, ended) {
            (true, None) => Ok(server),
            (_, Some(status)) => Err(self.failed("postgres", format!("ended with {status}"))),
            (false, None) => {
                let failure = self.failed("postgres", format!("took over {START_PATIENCE:?}"));
                self.end(server, Process::stop)?;
                Err(failure)
            }
        }
    }

    /// Ends the server in the way given, and returns when all its processes are gone.
    pub fn end(
        &self,
        mut server: Process,
        how: impl FnOnce(&mut Process) -> io::Result<()>,
    ) -> Result<(), EmbeddedError> {
        how(&mut server).map_err(|error| self.io("end postgres", error))?;
        self.take_log().map(drop)
    }

    /// The folder of PostgreSQL's programs.
    pub fn bin_dir(&self) -> &Path {
        &self.installation.bin
    }

    /// An error of the system in this folder.
    pub fn io(&self, doing: &'static str, source: io::Error) -> EmbeddedError {
        EmbeddedError::io(doing, &self.home, source)
    }

    fn failed(&self, program: &'static str, what: String) -> EmbeddedError {
        EmbeddedError::Failed { program, what, log: process::tail(&self.home.join(LOG)) }
    }

    /// Locks the log. While the lock is held by us, no server runs here.
    fn take_log(&self) -> Result<File, EmbeddedError> {
        let leftover = || self.pid_file()?.lines().next()?.trim().parse().ok();
        process::take_log(&self.home.join(LOG), leftover)
            .map_err(|error| self.io("wait for the end of a previous server", error))
    }

    /// Whether the server with this pid reports in `postmaster.pid` that it accepts connections.
    fn accepts(&self, pid: u32) -> bool {
        let Some(file) = self.pid_file() else {
            return false;
        };
        let mut lines = file.lines().map(str::trim);
        lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready")
    }

    fn pid_file(&self) -> Option<String> {
        fs::read_to_string(self.data.join("postmaster.pid")).ok()
    }

    fn program(&self, name: &str) -> String {
        self.installation.bin.join(name).display().to_string()
    }
}
