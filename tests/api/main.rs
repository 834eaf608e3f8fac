//! The service over a socket, with a real router and a real Postgres; one file for each resource.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test that calls it"
)]

mod access;
mod admin;
mod concurrency;
mod database_down;
mod deliveries;
mod drain;
mod erasure;
mod esim;
mod event_ids;
mod events;
mod hostile;
mod journey;
mod lists;
mod long_poll;
mod page;
mod problems;
mod profiles;
mod proofs;
mod qr;
mod raw_socket;
mod registration;
mod retention;
mod sse;
mod stroke;
mod summary;
mod tokens;
mod webhooks;

/// A profile whose number passes every check.
const ICCID: &str = "89972123300991848961";

/// One of many profiles.
fn iccid(number: usize) -> String {
    format!("8997212330099{number:07}")
}
