//! Helper: a hook whose sender assigns ids to its events.

use std::sync::Arc;

use esim_status::clock::now;
use esim_status::config::Settings;
use esim_status::delivery::{Authenticator, Scheme, StandardSecrets};
use esim_status::hook::Hook;
use esim_status::providers::Gigastore;
use esim_status_testing::{Answer, TestApp};
use reqwest::Method;

/// The path of the hook.
const HOOK: &str = "gigastore/relayed";

fn authenticator() -> Authenticator {
    let secrets = StandardSecrets::parse("test", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    Authenticator::new(Scheme::StandardWebhooks(secrets.unwrap()))
}

/// Adds the hook to the settings.
pub(crate) fn with_hook(settings: &mut Settings) {
    let path: Arc<str> = Arc::from(HOOK);
    let hook = Hook {
        path: path.clone(),
        provider: &Gigastore,
        authenticator: Arc::new(authenticator()),
        takes_tests: false,
    };
    settings.hooks.insert(path, Arc::new(hook));
}

/// Delivers an event with this id.
pub(crate) async fn deliver(app: &TestApp, id: &str, body: String) -> Answer {
    let credentials = authenticator().credentials_for(id, now(), body.as_bytes());
    let request = app.anybody.request(Method::POST, &format!("/webhooks/{HOOK}"));
    Answer::of(request.headers(credentials.headers.into_iter().collect()).body(body)).await
}
