//! The processes of the server: what ends them with us, and how they are stopped.
//!
//! Two devices carry this file. **The leash**: each process is started by a shell that leaves a guard behind, which
//! reads from a pipe that only we hold open. However we end, the pipe closes, and the guard interrupts the server.
//! **The log**: it is locked when it is handed to the server as its standard error, and a lock is held by the open
//! file, which every process of the server inherits. So the lock is free exactly when the last of them is gone.

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

/// The shell's part of the leash. A line read means that the server was stopped in order; the end of the file, that we
/// are gone. The guard gives up the log, whose lock must not outlive the server.
const ON_A_LEASH: &str = r#"exec 3<&0 </dev/null
( exec >/dev/null 2>&1; { read -r _ <&3 || kill -INT $$; } & )
exec "$@" 3<&-"#;

/// How a server is ended: fast shutdown, immediate shutdown, no more patience.
const LADDER: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(10)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// Between two looks at something that nothing wakes us for.
const PAUSE: Duration = Duration::from_millis(3);

/// A program of PostgreSQL, running on our leash.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    leash: Option<ChildStdin>,
}

impl Process {
    /// Starts a program in a folder, with its output in `log`, whose lock it holds from now on.
    pub fn start(command: &[&str], folder: &Path, user: &RunAs, log: File) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", ON_A_LEASH, "sh"]).args(command).current_dir(folder);
        // A group of its own, so that Ctrl-C on the terminal is ours to answer.
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

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some()
            && let Some(mut leash) = self.leash.take()
        {
            // The guard need not be there any more; it has nothing left to do.
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

    /// Shuts the process down, ever less gently, and waits for its end.
    pub fn stop(&mut self) -> io::Result<()> {
        let pid = self.pid();
        end(pid, |patience| wait_until(patience, || Ok(self.ended()?.is_some())))
    }

    /// Kills the process as a failing machine would, and waits for its end.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.wait().map(drop)
    }
}

/// Goes down the ladder until `gone` says that it was enough.
fn end(pid: u32, mut gone: impl FnMut(Duration) -> io::Result<bool>) -> io::Result<()> {
    let pid = Pid::from_raw(pid.cast_signed());
    for (signal, patience) in LADDER {
        // It may be gone already, and only its children are not.
        let _ = kill(pid, signal);
        if gone(patience)? {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {pid} does not end")))
}

/// Opens the log and locks it. Where a former server still holds it (its owner was killed a moment ago), that one is
/// ended first: `leftover` tells its number.
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
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a former server still runs"));
        }
    }
    Ok(log)
}

/// Locks the file, if nobody else holds it.
pub(super) fn lock_is_free(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Asks every few milliseconds. Tells whether the condition came true in time.
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

/// The last lines of a log, for an error.
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
