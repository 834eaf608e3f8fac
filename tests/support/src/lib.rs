//! Shared by the tests: a real Postgres server, started once for each test binary, and a real service over a socket
//! with its own database.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a failure here fails the test that calls it"
)]

mod app;

mod client;

mod database;

mod disk;

mod program;

pub mod front;

pub mod history;

pub mod part;

pub mod process;

pub mod receiver;

pub mod service;

pub mod turn;

pub mod wire;

pub use app::{API_KEY, HOOK_SECRET, TOKEN_SECRET, TestApp, settings, unix_now};
pub use client::{Answer, Client};
pub use database::{Database, server, wait_until};
pub use disk::SmallDisk;
pub use program::{binary, leashed, program, serving};
