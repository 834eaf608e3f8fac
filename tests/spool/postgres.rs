//! The Postgres server of one test, which can be stopped without affecting other tests.

use std::fs;

use embedded_postgres::Embedded;
use esim_status::store;
use esim_status_testing::Database;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::block_in_place;

/// The server and its database.
pub struct Postgres {
    server: Embedded,
    pub database: Database,
}

impl Postgres {
    pub async fn start() -> Self {
        let this = Self::start_empty();
        store::migrate(&this.database.connector()).await.expect("the migrations apply");
        this
    }

    /// Starts a server with a database without any table.
    pub fn start_empty() -> Self {
        let server =
            block_in_place(|| Embedded::start_ephemeral().expect("PostgreSQL is installed"));
        let database = Database { options: server.connect_options("postgres") };
        Self { server, database }
    }

    pub fn url(&self) -> String {
        self.server.url("postgres")
    }

    pub fn stop(&mut self) {
        block_in_place(|| self.server.stop_server().unwrap());
    }

    pub fn kill(&mut self) {
        block_in_place(|| self.server.kill_server().unwrap());
    }

    pub fn start_again(&mut self) {
        block_in_place(|| self.server.start_server().unwrap());
    }

    /// Stops every process of the server with SIGSTOP, the main process first, so that it starts no more.
    pub fn freeze(&self) {
        let first = self.server.server_pid();
        signal(first, Signal::SIGSTOP);
        for pid in children(first) {
            signal(pid, Signal::SIGSTOP);
        }
    }

    /// Lets all processes continue.
    pub fn thaw(&self) {
        let first = self.server.server_pid();
        for pid in children(first) {
            signal(pid, Signal::SIGCONT);
        }
        signal(first, Signal::SIGCONT);
    }
}

impl Drop for Postgres {
    /// A frozen server could not be stopped in order.
    fn drop(&mut self) {
        self.thaw();
    }
}

/// Sends a signal. Ignores that the process may have just ended.
fn signal(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name, in parentheses, may contain spaces; after it come the state and the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
