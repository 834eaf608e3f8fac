//! Helper: runs every command against a database that it cannot use, and checks what the command says and how soon.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use esim_status_testing::process::reap;
use esim_status_testing::turn::Turn;
use esim_status_testing::{leashed, serving};
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

/// How soon each command must end: once the server has answered, there is nothing to wait for.
const SOON: Duration = Duration::from_secs(5);

/// Runs every command that uses the database, `serve` also with a spool. Asserts that each fails soon and that its
/// output contains all these words. Returns how long the slowest took.
pub(crate) async fn refused_everywhere(turn: &Turn, url: &str, words: &[&str]) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let runs = [("serve", false), ("serve", true), ("migrate", false), ("doctor", false)];
    let runs = runs.map(|(name, has_spool)| {
        let mut command = leashed(&[name]);
        serving(&mut command, url);
        if has_spool {
            command.env("ESIM_STATUS_SPOOL_DIR", folder.path().join("spool"));
        }
        let log = log_of(&folder, name, has_spool);
        spawn_blocking(move || (format!("{name}, spool: {has_spool}"), end_of(command, log)))
    });
    let mut slowest = Duration::ZERO;
    for ended in join_all(runs).await {
        let (what, (took, said)) = ended.unwrap();
        for word in words {
            assert!(said.contains(word), "the output of {what} lacks `{word}`:\n{said}");
        }
        assert!(took < SOON + turn.slack(), "{what} took {took:.2?}:\n{said}");
        slowest = slowest.max(took);
    }
    slowest
}

fn log_of(folder: &TempDir, name: &str, has_spool: bool) -> PathBuf {
    folder.path().join(format!("{name}.{has_spool}"))
}

/// Runs a command that must fail; returns how long it took, and its output. Kills a command that does not end.
fn end_of(mut command: Command, log: PathBuf) -> (Duration, String) {
    let file = File::create(&log).unwrap();
    let begun = Instant::now();
    let mut child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let status = loop {
        let status = child.try_wait().unwrap();
        if status.is_some() || begun.elapsed() > 3 * SOON {
            break status;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let took = begun.elapsed();
    drop(child.kill());
    reap(&mut child);
    let said = fs::read_to_string(log).unwrap();
    assert!(status.is_none_or(|status| !status.success()), "the command succeeded:\n{said}");
    (took, said)
}
