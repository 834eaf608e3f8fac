//! The HTTP client of the commands that play somebody else.

use std::time::Duration;

use url::Url;

use crate::config::is_this_machine;

/// A client for this address that gives up after ten seconds and follows no redirect: the service never sends one. What runs on this
/// machine is never asked through a proxy: Docker puts its own `HTTP_PROXY` into every container.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn new(base: &Url) -> reqwest::Result<reqwest::Client> {
    // Installed before by another part of the process is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none());
    let builder = if is_this_machine(base) { builder.no_proxy() } else { builder };
    builder.build()
}
