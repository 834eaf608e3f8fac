//! How other servers are called: by the commands that call a running service, by the questions to providers, and by outgoing webhooks,
//! which have a client of their own.

use std::time::Duration;

use url::Url;

use crate::config::is_this_machine;

/// Has TLS use ring in this process.
pub fn use_ring() {
    // It fails if another part of the process has installed a provider already, which serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Creates a client for this address. It times out after ten seconds, and follows no redirects: a credential must not travel to
/// another address. It uses no proxy for this machine: Docker sets `HTTP_PROXY` in every container.
///
/// # Errors
/// If TLS cannot be set up.
pub fn new(base: &Url) -> reqwest::Result<reqwest::Client> {
    use_ring();
    let builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none());
    let builder = if is_this_machine(base) { builder.no_proxy() } else { builder };
    builder.build()
}
