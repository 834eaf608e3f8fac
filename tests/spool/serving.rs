//! The real binary with a spool, as a process that can be killed and started again at the same address.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};

use esim_status_testing::{Client, program, serving, wait_until};

/// A service with a spool.
pub struct Serving {
    command: Command,
    child: Option<Child>,
    pub address: SocketAddr,
    pub admin: Client,
}

impl Serving {
    pub fn new(database_url: &str, spool: &Path) -> Self {
        let (address, admin) = (free_address(), free_address());
        let mut command = program(env!("CARGO_BIN_EXE_esim-status"), &["serve"]);
        serving(&mut command, database_url)
            .env("ESIM_STATUS_SPOOL_DIR", spool)
            .env("ESIM_STATUS_LISTEN", address.to_string())
            .env("ESIM_STATUS_ADMIN_LISTEN", admin.to_string())
            .env("RUST_LOG", std::env::var_os("RUST_LOG").unwrap_or("off".into()));
        Self { command, child: None, address, admin: Client::new(format!("http://{admin}")) }
    }

    pub fn start(&mut self) {
        self.child = Some(self.command.spawn().unwrap());
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the service is ready, with or without its database.
    pub async fn ready(&self) {
        wait_until("the service is ready", async || {
            let Some(text) = self.text("/readyz").await else { return false };
            text.starts_with("ready")
        })
        .await;
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.text("/metrics").await?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(metric, _)| *metric == name)?.1.parse().ok()
    }

    /// The text that the admin listener answers, if it answers.
    async fn text(&self, path: &str) -> Option<String> {
        let request = self.admin.request(reqwest::Method::GET, path);
        request.send().await.ok()?.text().await.ok()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// An address that is free at the moment.
fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}
