//! The spool: with a real Postgres that is stopped, frozen and killed, and a service that is killed as well, every
//! acknowledged delivery is applied once and in order.
//!
//! `SPOOL_AWAY_SECONDS=60 cargo test --release --test spool -- --nocapture minute` runs the long form of the outage
//! under load.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here fails the test that calls it"
)]

mod away;
mod damaged;
mod failing_row;
mod full;
mod in_doubt;
mod killed;
mod load;
mod postgres;
mod serving;

/// The ICCID of one of many profiles.
fn iccid(number: usize) -> String {
    format!("8997212330099{number:07}")
}
