//! The install page in a real browser, against a real service and a real Postgres.
//!
//! Needs Chromium and `chromedriver`, and Node.js with npm; `scripts/test` brings them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here fails the test that calls it"
)]

mod axe;
mod browser;
mod calm;
mod embedding;
mod follow;
mod install;
mod live;
mod nginx;
mod pictures;
mod profile;
mod proxy;
mod states;
