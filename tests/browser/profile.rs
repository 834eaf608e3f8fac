//! Helper: a service with a company's brand, and the profile whose page is opened.

use esim_status::config::Brand;
use esim_status::config::Settings;
use esim_status_testing::{Answer, TestApp, unix_now};
use reqwest::Method;
use serde_json::{Value, json};

use super::browser::Browser;

pub const ICCID: &str = "89972123300991848961";
pub const ACTIVATION_CODE: &str = "LPA:1$rsp.example.com$JQ-209U6H-6I82J5";

/// A company's brand.
pub fn branded(settings: &mut Settings) {
    settings.brand = Brand {
        name: "Nordwind <Mobile>".to_owned(),
        color: "#0a6e6e".to_owned(),
        support_url: "https://help.example.com/?a=1&b=2".to_owned(),
    };
}

/// A service with a brand and one registered profile that is ready to be installed.
pub async fn start() -> TestApp {
    let app = TestApp::start_with(branded).await;
    register(&app).await;
    app
}

/// Registers the profile, like a backend that has just ordered it.
pub async fn register(app: &TestApp) {
    let request = app.backend.request(Method::PUT, &format!("/v1/profiles/{ICCID}"));
    let answer = Answer::of(request.json(&esim_object())).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

/// The provider's eSIM object of the profile.
pub fn esim_object() -> Value {
    json!({
        "iccid": ICCID, "imsi": "260060145143896", "activationCode": ACTIVATION_CODE, "state": "RELEASED",
        "uid": "7555cab8-72bc-4e85-b56a-6cdf60e2d6e4", "active": true, "lastSeen": null, "activatedAt": null,
    })
}

/// The URL of the page, with a token that is valid for this many seconds.
pub fn page(app: &TestApp, seconds: i64) -> String {
    format!("http://{}/install#{}", app.service.public, token(seconds))
}

pub fn token(seconds: i64) -> String {
    let expiry = unix_now().saturating_add_signed(seconds);
    TestApp::token(&json!({ "aud": "esim-status", "sub": ICCID, "exp": expiry }))
}

/// Reports two changes, and waits until the page shows each in the element `heading`.
pub async fn see_it_installed_and_turned_off(app: &TestApp, browser: &Browser, heading: &str) {
    for (state, title) in
        [("INSTALLED", "Your eSIM is installed"), ("DISABLED", "Turn your eSIM on")]
    {
        assert_eq!(app.report(ICCID, state).await, "moved");
        browser.wait_for_text(heading, title).await;
    }
}
