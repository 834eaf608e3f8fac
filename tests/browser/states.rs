//! The page of every state, in light and dark, wide and narrow.
//!
//! Chromium opens the page of a real service while webhooks report each state, and axe-core checks its accessibility.

use serde_json::{Value, json};

use super::axe::assert_accessible;
use super::browser::{Browser, DESKTOP, SMALL};
use super::profile::{ICCID, page, start};

/// The reported states, in order; the title that follows; the status of each step; and whether the page links to
/// support.
const STATES: [(&[&str], &str, &[&str], bool); 7] = [
    (&["ALLOCATED"], "Your eSIM is being prepared", &["current", "upcoming"], false),
    (&["RELEASED"], "Install your eSIM", &["done", "current"], false),
    (&["DOWNLOADED"], "Finish on your phone", &["done", "done", "current"], false),
    (&["ERROR"], "The install failed", &["done", "done", "problem"], true),
    (&["INSTALLED"], "Your eSIM is installed", &["done", "done", "done"], false),
    (&["DISABLED"], "Turn your eSIM on", &["done", "done", "done", "current"], false),
    (
        &["INSTALLED", "RELEASED"],
        "Your eSIM was removed from the phone",
        &["done", "current"],
        false,
    ),
];

#[tokio::test]
async fn every_state_shows_its_steps_and_is_accessible() {
    for device in [DESKTOP, SMALL] {
        let app = start().await;
        let browser = Browser::start(device).await;
        browser.open(&page(&app, 600)).await;
        browser.wait_for_text(".link", "Live").await;
        for (reports, title, steps, needs_support) in STATES {
            for report in reports {
                app.report(ICCID, report).await;
            }
            browser.wait_for_text("h1", title).await;
            let statuses =
                browser.run("return all('.steps li').map((step) => step.className)").await;
            assert_eq!(statuses, json!(steps), "{title}");
            let button = browser.run("return find('a.button')?.href ?? null").await;
            let support = json!("https://help.example.com/?a=1&b=2");
            assert_eq!(button, if needs_support { support } else { Value::Null }, "{title}");
            for scheme in ["light", "dark"] {
                let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
                browser.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
                assert_accessible(&browser, &format!("{title}, {scheme}, {}", device.width)).await;
            }
            browser.assert_clean().await;
        }
    }
}

#[tokio::test]
async fn the_page_of_an_unknown_profile_waits_for_it() {
    let app = esim_status_testing::TestApp::start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text("h1", "We do not see this eSIM yet").await;
    assert_accessible(&browser, "unknown").await;
    super::profile::register(&app).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
}
