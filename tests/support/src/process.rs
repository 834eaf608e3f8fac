//! Processes that a test starts and that must not outlive it.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A shell script that starts a guard and then becomes the program. The guard reads from a pipe that only this process
/// holds open. When this process ends, in any way, the pipe closes and the guard stops the program. If the guard reads
/// a line instead, the program has already ended.
const ON_A_LEASH: &str = r#"exec 3<&0 </dev/null
( exec >/dev/null 2>&1; { read -r _ <&3 || kill -QUIT $$; } & )
exec "$@" 3<&-"#;

/// Makes a shell run the program that its arguments name, so that the program ends with this process, even if this
/// process is killed.
pub fn on_a_leash(shell: &mut Command) -> &mut Command {
    shell.args(["-c", ON_A_LEASH, "sh"]).stdin(Stdio::piped())
}

/// Reaps a process that was started like this and has ended, or is about to end.
pub fn reap(child: &mut Child) {
    if let Some(mut leash) = child.stdin.take() {
        // The guard may have ended as well.
        let _ = leash.write_all(b"\n");
    }
    drop(child.wait());
}

/// Sends a signal. Ignores that the process may have just ended.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Kills a process and its children with SIGKILL at the same moment, like a power failure.
pub fn kill_with_children(pid: i32) {
    // While it is stopped, it cannot start more children.
    signal(pid, Signal::SIGSTOP);
    for child in children(pid) {
        signal(child, Signal::SIGKILL);
    }
    signal(pid, Signal::SIGKILL);
}

/// The child processes of this process id.
pub fn children(pid: i32) -> Vec<i32> {
    let listing = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    let pair = |line: &str| {
        let (pid, parent) = line.trim().split_once(char::is_whitespace)?;
        Some((pid.parse::<i32>().ok()?, parent.trim().parse::<i32>().ok()?))
    };
    listing.lines().filter_map(pair).filter(|(_, it)| *it == pid).map(|(pid, _)| pid).collect()
}
