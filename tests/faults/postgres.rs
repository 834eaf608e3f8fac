//! The Postgres server of one test, which may be stopped, stalled and killed without affecting other tests.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use embedded_postgres::Embedded;
use esim_status_testing::process::{children, signal};
use esim_status_testing::{Database, wait_until};
use nix::sys::signal::Signal;
use sqlx::ConnectOptions;
use tokio::task::block_in_place;

/// The server.
#[derive(Debug)]
pub(crate) struct Postgres {
    server: Embedded,
}

impl Postgres {
    /// Starts a fresh server.
    pub(crate) fn start() -> Self {
        let start = || Embedded::start_ephemeral().expect("PostgreSQL is installed");
        Self { server: block_in_place(start) }
    }

    /// Starts a server in this folder, which is not deleted.
    pub(crate) fn start_in(folder: &Path) -> Self {
        let start = || Embedded::start_in(folder).expect("PostgreSQL starts in this folder");
        Self { server: block_in_place(start) }
    }

    /// The `DATABASE_URL` of the server.
    pub(crate) fn url(&self) -> String {
        self.server.url("postgres")
    }

    /// The database, for the test's own queries.
    pub(crate) fn database(&self) -> Database {
        Database { options: self.server.connect_options("postgres") }
    }

    /// Stops the server in order.
    pub(crate) fn stop(&mut self) {
        block_in_place(|| self.server.stop_server()).expect("the server stops");
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        block_in_place(|| self.server.kill_server()).expect("the server is killed");
    }

    /// Starts the server again.
    pub(crate) fn start_again(&mut self) {
        block_in_place(|| self.server.start_server()).expect("the server starts again");
    }

    /// Stops all processes of the server with SIGSTOP, until the returned value is dropped.
    pub(crate) fn stall(&mut self) -> Stalled<'_> {
        let first = self.server.server_pid().cast_signed();
        signal(first, Signal::SIGSTOP);
        // The stopped process starts no more children, so these are all of them.
        let stopped = children(first);
        for pid in &stopped {
            signal(*pid, Signal::SIGSTOP);
        }
        Stalled { postgres: self, stopped }
    }

    /// Kills one backend with SIGKILL. Postgres then terminates all other backends and recovers; this returns when it
    /// answers again.
    pub(crate) async fn kill_a_backend(&self) {
        let mut witness = self.database().connect().await;
        let writer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'
                      AND pid <> pg_backend_pid() ORDER BY application_name DESC LIMIT 1";
        let pid: i32 = self.database().scalar(writer).await;
        signal(pid, Signal::SIGKILL);
        let slept = sqlx::query("SELECT pg_sleep(60)").execute(&mut witness).await;
        assert!(slept.is_err(), "Postgres did not terminate the other backends");
        let options = self.database().options;
        wait_until("Postgres has recovered", async || options.connect().await.is_ok()).await;
    }
}

/// A server whose processes are stopped. They continue when this is dropped.
#[derive(Debug)]
pub(crate) struct Stalled<'a> {
    postgres: &'a mut Postgres,
    stopped: Vec<i32>,
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        for pid in &self.stopped {
            signal(*pid, Signal::SIGCONT);
        }
        signal(self.postgres.server.server_pid().cast_signed(), Signal::SIGCONT);
    }
}

impl Deref for Stalled<'_> {
    type Target = Postgres;

    fn deref(&self) -> &Postgres {
        self.postgres
    }
}

impl DerefMut for Stalled<'_> {
    fn deref_mut(&mut self) -> &mut Postgres {
        self.postgres
    }
}
