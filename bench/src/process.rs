//! Programs that end with us, however we end.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt;

/// The program reads from a pipe that only we hold open, through a guard: when we are gone, the guard ends it.
const ON_A_LEASH: &str = r#"exec 3<&0 </dev/null
( exec >/dev/null 2>&1; { read -r _ <&3 || kill -TERM $$; } & )
exec "$@" 3<&-"#;

/// How long a program may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks at something that nothing wakes us for.
const PAUSE: Duration = Duration::from_millis(20);

/// A program that runs; ended when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    leash: Option<ChildStdin>,
}

impl Process {
    /// Starts it, with what it prints in `log`.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn start(
        command: &[String],
        environment: &[(&str, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = File::create(log).with_context(|| log.display().to_string())?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", ON_A_LEASH, "sh"]).args(command);
        shell.envs(environment.iter().map(|(name, value)| (name, value)));
        // A group of its own, so that Ctrl-C on the terminal is ours to answer.
        shell.process_group(0).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = shell.spawn()?;
        let leash = child.stdin.take();
        Ok(Self { child, leash })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn runs(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid().cast_signed());
        let asked = Instant::now();
        // It may be gone already.
        let _ = kill(pid, Signal::SIGTERM);
        while self.runs()? {
            if asked.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            std::thread::sleep(PAUSE);
        }
        if let Some(mut leash) = self.leash.take() {
            // The guard need not be there any more; it has nothing left to do.
            let _ = leash.write_all(b"\n");
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.end();
    }
}

/// Runs a program that ends by itself and gives back what it printed.
///
/// # Errors
/// Where it fails; with what it complained of.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{name} is missing"))?;
    while child.try_wait()?.is_none() {
        if let Err(interrupted) = interrupt::check() {
            child.kill()?;
            child.wait()?;
            return Err(interrupted);
        }
        std::thread::sleep(PAUSE);
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed: {}", complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
