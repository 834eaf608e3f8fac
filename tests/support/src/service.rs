//! `Service`: the real binary as a separate process, which may be killed and started again.

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

/// How long a start or a stop may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running service.
pub struct Service {
    child: Child,
    command: Command,
    folder: TempDir,
    starts: usize,
    public: watch::Sender<SocketAddr>,
    admin: SocketAddr,
}

impl Service {
    /// Starts `serve` on this database; returns when the service listens.
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

    /// Starts a service that must refuse to start, and returns its log.
    pub async fn refusal(url: &str) -> String {
        Self::refusal_with(url, &[]).await
    }

    /// The same with further settings.
    pub async fn refusal_with(url: &str, more: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut command = leashed(&["serve"]);
        serving(&mut command, url).envs(more.iter().copied());
        let mut child = spawn(&mut command, log_of(&folder, 1));
        let mut status = None;
        wait_until("the service gives up", || {
            status = child.try_wait().unwrap();
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        assert!(!status.unwrap().success());
        fs::read_to_string(log_of(&folder, 1)).unwrap()
    }

    /// Starts the service again after it has ended, with the same settings. It gets new ports, because the old ones may
    /// be in use by now.
    pub async fn start_again(&mut self) {
        reap(&mut self.child);
        self.starts += 1;
        self.child = spawn(&mut self.command, log_of(&self.folder, self.starts));
        self.listens().await;
    }

    /// Waits until the service logs where it listens.
    async fn listens(&mut self) {
        let begun = Instant::now();
        let line = loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains("\"serving\"")) {
                break serde_json::from_str::<Value>(line).unwrap();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "the service does not start:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
        self.admin = address("admin");
        self.public.send_replace(address("public"));
    }

    /// The log since the last start.
    pub fn log(&self) -> String {
        let log = fs::read(log_of(&self.folder, self.starts)).unwrap_or_default();
        // The last line may be incomplete, even within a character, so it is left out.
        let whole = log.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8_lossy(&log[..whole]).into_owned()
    }

    /// The current address of the public listener.
    pub fn address(&self) -> SocketAddr {
        *self.public.borrow()
    }

    /// The address of the public listener, which changes with each start.
    pub fn public(&self) -> watch::Receiver<SocketAddr> {
        self.public.subscribe()
    }

    /// Calls the public listener with the API key.
    pub fn backend(&self) -> Client {
        Client::new(format!("http://{}", self.address())).with_bearer(API_KEY)
    }

    /// The current address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Calls the admin listener.
    pub fn admin(&self) -> Client {
        Client::new(format!("http://{}", self.admin))
    }

    /// Waits until the service is ready.
    pub async fn ready(&self) {
        let admin = self.admin();
        wait_until("the service is ready", async || admin.get("/readyz").await.status == 200).await;
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.admin().get("/metrics").await.text;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(metric, _)| *metric == name)?.1.parse().ok()
    }

    /// Kills the service with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        reap(&mut self.child);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        signal(self.pid(), Signal::SIGTERM);
    }

    /// Waits until the service has ended.
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

    /// Asserts that the process has not ended.
    pub fn assert_lives(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the service ended with {ended:?}:\n{}", self.log());
    }

    /// The resident memory of the process, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }

    /// The process id.
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
