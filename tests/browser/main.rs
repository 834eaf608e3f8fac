//! The install page in a real browser, against a real service and a real Postgres.
//!
//! Needs Chromium and `chromedriver`, and npm for axe-core; `scripts/test` brings the former.

#![expect(clippy::expect_used, reason = "what fails here fails the test that calls it")]

mod axe;
mod browser;
mod embedding;
mod install;
mod live;
mod pictures;
mod profile;
mod states;
