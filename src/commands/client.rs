//! The HTTP client of the commands that play somebody else.

use std::time::Duration;

/// A client that gives up after ten seconds and follows no redirect: the service never sends one.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn new() -> reqwest::Result<reqwest::Client> {
    // Installed before by another part of the process is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .build()
}
