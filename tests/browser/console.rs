//! The console for support: every page in light and dark, wide and narrow, by its accessibility; and the page of a profile, which
//! follows the profile.

use serde_json::json;

use esim_status_testing::{API_KEY, TestApp};

use super::axe::assert_accessible;
use super::browser::{Browser, DESKTOP, SMALL};
use super::profile::{ICCID, start};

/// Fills in a field and sends its form, as a person does.
async fn send(browser: &Browser, field: &str, value: &str) {
    let script = format!(
        "const field = document.querySelector('#{field}'); field.value = '{value}';
         field.form.querySelector('button').click()"
    );
    browser.run(&script).await;
}

async fn wait_for_title(browser: &Browser, title: &str) {
    browser
        .wait_for(&format!("return document.querySelector('h1')?.textContent === '{title}'"))
        .await;
}

async fn assert_usable(browser: &Browser, what: &str) {
    for scheme in ["light", "dark"] {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
        assert_accessible(browser, &format!("{what}, {scheme}")).await;
    }
    browser.assert_clean().await;
}

/// Signs in, and finds the profile.
async fn find(app: &TestApp, browser: &Browser) {
    browser.open(&format!("http://{}/console", app.service.public)).await;
    wait_for_title(browser, "Sign in").await;
    send(browser, "key", API_KEY).await;
    wait_for_title(browser, "Find a profile").await;
    send(browser, "wanted", ICCID).await;
    wait_for_title(browser, ICCID).await;
}

#[tokio::test]
async fn every_page_of_the_console_is_accessible() {
    for device in [DESKTOP, SMALL] {
        let app = start().await;
        for report in ["INSTALLED", "GREEN", "ERROR"] {
            app.report(ICCID, report).await;
        }
        let browser = Browser::start(device).await;
        browser.open(&format!("http://{}/console", app.service.public)).await;
        assert_usable(&browser, "sign in").await;
        send(&browser, "key", "not-a-key-at-all-0000").await;
        browser.wait_for("return document.querySelector('[role=alert]') !== null").await;
        assert_usable(&browser, "wrong key").await;
        find(&app, &browser).await;
        assert_usable(&browser, "profile").await;
        browser.run("document.querySelector('form[action$=\"/link\"] button').click()").await;
        browser
            .wait_for("return document.querySelector('#url')?.value.includes('/install#')")
            .await;
        assert_usable(&browser, "install link").await;
        browser.run("document.querySelector('form[action$=\"/body\"] button').click()").await;
        wait_for_title(&browser, "The body of a webhook").await;
        assert_usable(&browser, "body").await;
        for (page, title) in [
            ("", "Find a profile"),
            ("/overdue", "Overdue"),
            ("/refused", "Refused and not understood"),
            ("/hooks", "Hooks"),
            ("/endpoints", "Endpoints"),
            ("/funnel", "How far profiles come"),
        ] {
            browser.open(&format!("http://{}/console{page}", app.service.public)).await;
            wait_for_title(&browser, title).await;
            assert_usable(&browser, title).await;
        }
    }
}

#[tokio::test]
async fn the_page_of_a_profile_follows_it_and_a_key_leaves_no_trace() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    find(&app, &browser).await;
    let state = "return document.querySelector('#live .state').textContent ===";
    browser.wait_for(&format!("{state} 'RELEASED'")).await;
    app.report(ICCID, "INSTALLED").await;
    browser.wait_for(&format!("{state} 'INSTALLED'")).await;
    app.report(ICCID, "DISABLED").await;
    browser.wait_for(&format!("{state} 'DISABLED'")).await;
    let address = browser.run("return location.href").await.to_string();
    assert!(!address.contains(&ICCID[8..]), "{address}");
    assert_eq!(browser.run("return document.cookie").await, "");
    browser.assert_clean().await;
}
