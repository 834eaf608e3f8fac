//! The real binary as a process of its own, which may be killed and started again.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::process::{reap, signal};
use super::{API_KEY, Client, leashed, serving, wait_until};

/// How long a start or an end may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(1);

/// A service.
pub struct Service {
    child: Child,
    command: Command,
    folder: TempDir,
    starts: usize,
    public: watch::Sender<SocketAddr>,
    admin: SocketAddr,
}

impl Service {
    /// Starts `serve` on this database; returns when it listens.
    pub async fn start(url: &str) -> Self {
        Self::start_with(url, &[]).await
    }

    /// The same with further settings.
    pub async fn start_with(url: &str, more: &[(&str, &str)]) -> Self {
        let mut command = leashed(&["serve"]);
        serving(&mut command, url).envs(more.iter().copied());
        let folder = tempfile::tempdir().unwrap();
        let child = spawn(&mut command, log_of(&folder, 1));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let public = watch::Sender::new(nowhere);
        let mut this = Self { child, command, folder, starts: 1, public, admin: nowhere };
        this.listens().await;
        this
    }

    /// What it says where it does not start.
    pub async fn refusal(url: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut command = leashed(&["serve"]);
        let mut child = spawn(serving(&mut command, url), log_of(&folder, 1));
        let mut status = None;
        wait_until("it gives up", || {
            status = child.try_wait().unwrap();
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        assert!(!status.unwrap().success());
        fs::read_to_string(log_of(&folder, 1)).unwrap()
    }

    /// Starts it again after its end, with the same settings, on ports of the system's choice: the old ones may be taken.
    pub async fn start_again(&mut self) {
        reap(&mut self.child);
        self.starts += 1;
        self.child = spawn(&mut self.command, log_of(&self.folder, self.starts));
        self.listens().await;
    }

    /// Waits until it says where it listens.
    async fn listens(&mut self) {
        let begun = Instant::now();
        let line = loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains("\"serving\"")) {
                break serde_json::from_str::<Value>(line).unwrap();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it does not start:\n{log}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
        self.admin = address("admin");
        self.public.send_replace(address("public"));
    }

    /// What it has said since its last start.
    pub fn log(&self) -> String {
        let log = fs::read(log_of(&self.folder, self.starts)).unwrap_or_default();
        // A line that is being written is none yet, and a character of it may be cut.
        let whole = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8_lossy(&log[..whole]).into_owned()
    }

    /// Where it listens now.
    pub fn address(&self) -> SocketAddr {
        *self.public.borrow()
    }

    /// Where it listens; changes with each start.
    pub fn public(&self) -> watch::Receiver<SocketAddr> {
        self.public.subscribe()
    }

    /// Calls the public listener with the API key.
    pub fn backend(&self) -> Client {
        Client::new(format!("http://{}", self.address())).with_bearer(API_KEY)
    }

    /// Where health and metrics are served now.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Calls the admin listener.
    pub fn admin(&self) -> Client {
        Client::new(format!("http://{}", self.admin))
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        let admin = self.admin();
        wait_until("the service is ready", async || admin.get("/readyz").await.status == 200).await;
    }

    /// A metric without labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.admin().get("/metrics").await.text;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(metric, _)| *metric == name)?.1.parse().ok()
    }

    /// Kills it with −9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        reap(&mut self.child);
    }

    /// Tells it to end.
    pub fn terminate(&self) {
        signal(self.pid(), Signal::SIGTERM);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the service ends", || {
            status = self.child.try_wait().unwrap();
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        status.unwrap()
    }

    /// Asserts that it is the process that was started, still.
    pub fn assert_lives(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended with {ended:?}:\n{}", self.log());
    }

    /// Its resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        reap(&mut self.child);
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<_> = log.lines().rev().take(20).collect();
            eprintln!("the last lines of the service's log, newest first:\n{}", last.join("\n"));
        }
    }
}

fn log_of(folder: &TempDir, start: usize) -> PathBuf {
    folder.path().join(format!("log.{start}"))
}

fn spawn(command: &mut Command, log: PathBuf) -> Child {
    command.stdout(Stdio::null()).stderr(File::create(log).unwrap()).spawn().unwrap()
}
