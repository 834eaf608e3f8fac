//! The server's processes: what ends them when we end, and how they are stopped.
//!
//! This file relies on two mechanisms. **The leash**: each process is started by a shell that leaves a guard process
//! behind. The guard reads from a pipe that only we hold open. However we end, the pipe closes, and the guard
//! interrupts the server. **The log**: it is locked, and then given to the server as its standard error. The lock
//! belongs to the open file, which every process of the server inherits. So the lock is free exactly when the last of
//! these processes is gone.

use std::env;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::user::RunAs;

/// The shell part of the leash. If the guard reads a line, the server was shut down in order; at the end of the file,
/// we are gone. The guard closes the log, because the lock must not outlive the server.
const ON_A_LEASH: &str = r#"exec 3<&0 </dev/null
( exec >/dev/null 2>&1; { read -r _ <&3 || kill -INT $$; } & )
exec "$@" 3<&-"#;

/// The steps to end a server: fast shutdown, immediate shutdown, kill.
const LADDER: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(10)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// The pause between two checks of something that sends no wake-up.
const PAUSE: Duration = Duration::from_millis(3);

/// A PostgreSQL program that runs on our leash.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    leash: Option<ChildStdin>,
}

impl Process {
    /// Starts a program in a folder. Its output goes to `log`, whose lock it holds from now on.
    pub fn start(command: &[&str], folder: &Path, user: &RunAs, log: File) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", ON_A_LEASH, "sh"]).args(command).current_dir(folder);
        // A separate process group, so that we handle Ctrl-C on the terminal.
        shell.process_group(0).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        for (name, _) in
            env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG"))
        {
            shell.env_remove(name);
        }
        shell.env("LC_ALL", "C");
        user.put_on(&mut shell);
        let mut child = shell.spawn()?;
        let leash = child.stdin.take();
        Ok(Self { child, leash })
    }

    /// The pid of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some()
            && let Some(mut leash) = self.leash.take()
        {
            // The guard may be gone already. It has nothing left to do.
            let _ = leash.write_all(b"\n");
        }
        Ok(status)
    }

    /// Waits until the process ends by itself.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Shuts the process down, less and less gently, and waits until it has ended.
    pub fn stop(&mut self) -> io::Result<()> {
        let pid = self.pid();
        end(pid, |patience| wait_until(patience, || Ok(self.ended()?.is_some())))
    }

    /// Kills the process, as a machine failure would, and waits until it has ended.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.wait().map(drop)
    }
}

/// Sends the signals in order, until `gone` says that one was enough.
fn end(pid: u32, mut gone: impl FnMut(Duration) -> io::Result<bool>) -> io::Result<()> {
    let pid = Pid::from_raw(pid.cast_signed());
    for (signal, patience) in LADDER {
        // The process may be gone already, while its children are not.
        let _ = kill(pid, signal);
        if gone(patience)? {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {pid} does not end")))
}

/// Opens the log and locks it. If a previous server still holds the lock, because its owner was killed a moment ago,
/// ends that server first; `leftover` returns its pid.
pub(super) fn take_log(path: &Path, leftover: impl Fn() -> Option<u32>) -> io::Result<File> {
    let log = OpenOptions::new().create(true).append(true).open(path)?;
    if lock_is_free(&log)? {
        return Ok(log);
    }
    let gone = |patience| wait_until(patience, || lock_is_free(&log));
    match leftover() {
        Some(pid) => end(pid, gone)?,
        None if gone(LADDER[0].1)? => (),
        None => {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a previous server still runs"));
        }
    }
    Ok(log)
}

/// Locks the file, unless another process holds its lock.
pub(super) fn lock_is_free(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Checks the condition every few milliseconds. Returns whether it became true in time.
pub(super) fn wait_until(
    patience: Duration,
    mut condition: impl FnMut() -> io::Result<bool>,
) -> io::Result<bool> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > patience {
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
    Ok(true)
}

/// The last lines of a log, to quote in an error.
pub(super) fn tail(path: &Path) -> String {
    const BYTES: i64 = 2_000;
    let read = || -> io::Result<Vec<u8>> {
        let mut log = File::open(path)?;
        let length = log.metadata()?.len().cast_signed();
        log.seek(SeekFrom::End(-length.min(BYTES)))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) => format!("its log cannot be read: {error}"),
    }
}
