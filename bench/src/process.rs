//! Programs that end with this process, however it ends.

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

/// A shell script that starts a guard and then becomes the program. The guard reads from a pipe that only this process
/// holds open; when this process ends, the guard stops the program.
const ON_A_LEASH: &str = r#"exec 3<&0 </dev/null
( exec >/dev/null 2>&1; { read -r _ <&3 || kill -TERM $$; } & )
exec "$@" 3<&-"#;

/// How long a program may take to stop after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pause between two polls.
const PAUSE: Duration = Duration::from_millis(20);

/// A running program. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    leash: Option<ChildStdin>,
}

impl Process {
    /// Starts a program; its output goes to `log`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn start(
        command: &[String],
        environment: &[(&str, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = File::create(log).with_context(|| log.display().to_string())?;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", ON_A_LEASH, "sh"]).args(command);
        shell.envs(environment.iter().map(|(name, value)| (name, value)));
        // In its own process group, so that Ctrl-C on the terminal reaches only this process.
        shell.process_group(0).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = shell.spawn()?;
        let leash = child.stdin.take();
        Ok(Self { child, leash })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program still runs.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn runs(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid().cast_signed());
        let asked = Instant::now();
        // The program may have ended already.
        let _ = kill(pid, Signal::SIGTERM);
        while self.runs()? {
            if asked.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            std::thread::sleep(PAUSE);
        }
        if let Some(mut leash) = self.leash.take() {
            // The guard may have ended already.
            let _ = leash.write_all(b"\n");
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error cannot be reported here.
        let _ = self.end();
    }
}

/// Runs a program to its end, and returns its standard output.
///
/// # Errors
/// If it fails; the error contains its standard error.
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
