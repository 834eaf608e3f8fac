//! Real faults: the real binary, a separate real Postgres, real signals, real sockets.
//!
//! Each file tests one kind of fault. Tests print what they measure to standard error, past the capture of the test
//! harness. A measurement fails a test only if it is far beyond what `docs/operations.md` promises. Tests that would
//! disturb each other's figures take turns (see `turn`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here fails the test that calls it"
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
mod outgoing;
mod overload;
mod panic;
mod replicas;
mod sigterm;
mod silence;
mod slow;
mod stall;
mod streams;

use esim_status_testing::{service, turn, wire};

/// The ICCID of one of many profiles.
fn iccid(number: usize) -> String {
    format!("8997212330099{number:07}")
}
