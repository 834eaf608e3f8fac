//! The HTTP API, tested from outside.
//!
//! Every test starts a real service with its own database on a real Postgres, and calls it over a socket. There is one
//! file for each resource or topic.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here fails the test that calls it"
)]

mod access;
mod admin;
mod authentication;
mod batch_write;
mod changes;
mod concurrency;
mod connections;
mod console;
mod console_endpoints;
mod contract;
mod database_down;
mod declared;
mod deliveries;
mod drain;
mod endpoints;
mod erasure;
mod esim;
mod esim_access;
mod esim_go;
mod event_ids;
mod events;
mod evidence;
mod export;
mod funnel;
mod hostile;
mod inquiries;
mod journey;
mod languages;
mod lists;
mod long_poll;
mod orders;
mod overdue;
mod page;
mod problems;
mod profiles;
mod qr;
mod raw_socket;
mod registration;
mod reread;
mod retention;
mod roamify;
mod simlessly;
mod sse;
mod summary;
mod tokens;
mod webhooks;

/// The ICCID of a profile, which passes every check.
const ICCID: &str = "89972123300991848961";

/// The ICCID of one of many profiles.
fn iccid(number: usize) -> String {
    format!("8997212330099{number:07}")
}
