//! A program that a test runs besides the service, such as nginx or pgbouncer. It ends with its test, even if the test
//! is killed.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{kill_with_children, on_a_leash, reap, signal};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

/// How long a program may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running program, in its own process group.
#[derive(Debug)]
pub struct Part {
    child: Child,
}

impl Part {
    /// Starts a program; its output goes to this file.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = unprivileged(Path::new("/bin/sh"));
        on_a_leash(&mut command).arg(program).args(arguments).process_group(0);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap() }
    }

    /// Kills the program and its children with SIGKILL at the same moment, like a power failure.
    pub fn kill(self) {
        kill_with_children(self.pid());
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether the program still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let (pid, begun) = (self.pid(), Instant::now());
        if self.runs() {
            signal(pid, Signal::SIGQUIT);
        }
        while self.runs() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        // The whole group, including children that the program has left behind.
        signal(-pid, Signal::SIGKILL);
        reap(&mut self.child);
    }
}

/// Finds a program. Servers may be installed in a folder that is in the `PATH` of root only.
pub fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(servers).map(|it| it.join(program));
    places.find(|it| it.exists()).expect("the program is installed; scripts/test installs it")
}

/// A command that does not run as root, which PostgreSQL and pgbouncer refuse.
pub fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    if let Some(user) = other_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// A temporary folder owned by the user that such commands run as.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("field-").tempdir().unwrap();
    give(folder.path());
    folder
}

/// Gives a file or folder to that user.
pub fn give(path: &Path) {
    if let Some(user) = other_user() {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// Runs a command to its end, and returns its standard output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn other_user() -> Option<User> {
    geteuid().is_root().then(|| User::from_name("postgres").unwrap().expect("a user `postgres`"))
}

/// A port that is free at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
