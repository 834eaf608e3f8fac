//! A program that is a part of the stand: it ends with its test, whatever happens to either.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{children, on_a_leash, reap, signal};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

/// How long a program may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running program, in a process group of its own.
#[derive(Debug)]
pub struct Part {
    child: Child,
}

impl Part {
    /// Starts a program; what it says goes to this file.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = unprivileged(Path::new("/bin/sh"));
        on_a_leash(&mut command).arg(program).args(arguments).process_group(0);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap() }
    }

    /// Kills it and its children with −9, all at the same moment, as a machine that loses its power does.
    pub fn kill(mut self) {
        let pid = self.child.id().cast_signed();
        // Stopped, it has no more children.
        signal(pid, Signal::SIGSTOP);
        for child in children(pid) {
            signal(child, Signal::SIGKILL);
        }
        self.child.kill().unwrap();
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let (pid, begun) = (self.child.id().cast_signed(), Instant::now());
        if self.runs() {
            signal(pid, Signal::SIGQUIT);
        }
        while self.runs() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        // The group, with what the program has left in it.
        signal(-pid, Signal::SIGKILL);
        reap(&mut self.child);
    }
}

/// Where a program is, which for servers may be a folder that is in the path of root only.
pub fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(servers).map(|it| it.join(program));
    places.find(|it| it.exists()).expect("scripts/test installs it")
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

/// A temporary folder of the user that such commands run as.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("field-").tempdir().unwrap();
    give(folder.path());
    folder
}

/// Makes a file or folder theirs.
pub fn give(path: &Path) {
    if let Some(user) = other_user() {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// Runs a command to its end, and gives back what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn other_user() -> Option<User> {
    geteuid().is_root().then(|| User::from_name("postgres").unwrap().expect("a user `postgres`"))
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
