//! Faults, made for real: the real binary, a real Postgres of its own, real signals, real sockets.
//!
//! Each file is one kind of fault. What a test measures, it says on standard error, captured or not; a measurement fails a test
//! only where it is far beyond what `docs/operations.md` promises. One fault at a time: they would disturb each other's figures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test that calls it"
)]

mod history;
mod numbered;
mod postgres;
mod proxy;
mod senders;

mod cut;
mod disk;
mod failover;
mod hangup;
mod held;
mod hosts;
mod hung_commit;
mod kill;
mod migrations;
mod overload;
mod panic;
mod replicas;
mod sigterm;
mod silence;
mod slow;
mod stall;
mod streams;

use esim_status_testing::{service, turn, wire};

/// One of many profiles.
fn iccid(number: usize) -> String {
    format!("8997212330099{number:07}")
}
