//! The install page in a real browser, with a real service and a real Postgres; and the TypeScript client.
//!
//! Needs Chromium and `chromedriver`, and Node.js with npm; `scripts/test` installs them.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here fails the test that calls it"
)]

mod axe;
mod browser;
mod calm;
mod client;
mod console;
mod embedding;
mod follow;
mod install;
mod languages;
mod live;
mod nginx;
mod pictures;
mod profile;
mod proxy;
mod states;
