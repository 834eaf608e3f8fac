//! The page of a profile that is ready to be installed: a link on phones, a QR code elsewhere, the details everywhere.
//!
//! Chromium emulates phones and a desktop, opens the page of a real service, and is used by mouse and keyboard.

use esim_status_testing::{TestApp, wait_until};
use serde_json::json;
use thirtyfour::Key;

use super::axe::assert_accessible;
use super::browser::{ANDROID, Browser, DESKTOP, Device, IPHONE, OLD_IPHONE};
use super::profile::{ACTIVATION_CODE, page, start};

#[tokio::test]
async fn a_desktop_shows_the_qr_code_and_the_details() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    browser.wait_for("return find('.qr img')?.naturalWidth > 0").await;
    assert_eq!(browser.run("return find('.qr img').src.split(':')[0]").await, "blob");
    let codes = browser.run("return all('.action code').map((code) => code.textContent)").await;
    assert_eq!(codes, json!(["rsp.example.com", "JQ-209U6H-6I82J5", ACTIVATION_CODE]));
    assert_eq!(browser.run("return find('a.button')").await, json!(null));
    assert_eq!(browser.run("return find('.action details').open").await, true);
    // The page's template has escaped the brand correctly.
    assert_eq!(browser.run("return document.title").await, "Install your eSIM · Nordwind <Mobile>");
    assert_eq!(
        browser.run("return find('.foot a').href").await,
        "https://help.example.com/?a=1&b=2"
    );
    // The token stays in the URL, so a reload works.
    browser.reload().await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    browser.wait_for_text(".link", "Live").await;
    assert_accessible(&browser, "the QR code").await;
    browser.assert_clean().await;
}

#[tokio::test]
async fn a_phone_shows_the_link_for_its_system_first() {
    let app = start().await;
    let link = |system| {
        format!(
            "https://esimsetup.{system}.com/esim_qrcode_provisioning?carddata={ACTIVATION_CODE}"
        )
    };
    for (device, expected) in [(IPHONE, link("apple")), (ANDROID, link("android"))] {
        let browser = opened(&page(&app, 600), device).await;
        browser.wait_for("return Boolean(find('a.button'))").await;
        let first = "const link = find('.action').firstElementChild; return [link.localName, link.href, link.rel]";
        assert_eq!(browser.run(first).await, json!(["a", expected, "noreferrer"]));
        // A phone cannot scan its own screen, but another phone can.
        assert_eq!(browser.run("return find('.action details').open").await, false);
        browser.run("find('.action summary').click()").await;
        browser.wait_for("return find('.qr img')?.checkVisibility()").await;
        assert_accessible(&browser, device.user_agent).await;
        browser.assert_clean().await;
    }
}

#[tokio::test]
async fn a_phone_without_link_support_shows_the_details() {
    let app = start().await;
    let browser = opened(&page(&app, 600), OLD_IPHONE).await;
    browser.wait_for("return find('.qr img')?.checkVisibility()").await;
    assert_eq!(browser.run("return find('a.button')").await, json!(null));
    assert_eq!(browser.run("return find('.action details').open").await, true);
}

#[tokio::test]
async fn the_details_can_be_copied_by_keyboard_and_copying_is_announced() {
    let app = start().await;
    let browser = opened(&page(&app, 600), DESKTOP).await;
    browser.wait_for("return Boolean(find('.copy'))").await;
    let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.cdp("Browser.grantPermissions", permissions).await;
    let mut copied = Vec::new();
    for _ in 0..20 {
        browser.press(Key::Tab).await;
        let focused = "const focused = root.activeElement;
            return focused && [focused.className, getComputedStyle(focused).outlineStyle]";
        let focused = browser.run(focused).await;
        if focused.is_null() {
            break;
        }
        assert_eq!(focused[1], "solid", "the focus must be visible on every element");
        if focused[0] == "copy" {
            browser.press(Key::Enter).await;
            browser.wait_for("return root.activeElement.textContent.startsWith('Copied')").await;
            let said = browser.text("[role=status].hidden").await;
            let text = browser.run_async("navigator.clipboard.readText().then(done)").await;
            copied.push(json!([said, text]));
        }
    }
    let expected = json!([
        ["SM-DP+ address copied", "rsp.example.com"],
        ["Activation code copied", "JQ-209U6H-6I82J5"],
        ["Both in one line copied", ACTIVATION_CODE],
        ["eSIM number (ICCID) copied", super::profile::ICCID],
    ]);
    assert_eq!(json!(copied), expected);
}

/// What the page has reported of its user.
async fn intents(app: &TestApp) -> String {
    let all = "SELECT coalesce(string_agg(intent, ' ' ORDER BY intent), '') FROM intents";
    app.database.scalar::<String>(all).await
}

#[tokio::test]
async fn the_page_reports_what_its_user_does_once() {
    for (device, at_first, then) in [
        (DESKTOP, "opened qr-shown", "opened qr-shown"),
        (IPHONE, "opened", "link-tapped opened qr-shown"),
    ] {
        let app = start().await;
        let browser = opened(&page(&app, 600), device).await;
        browser.wait_for("return find('.qr img')?.naturalWidth > 0").await;
        wait_until("the page reports", async || intents(&app).await == at_first).await;
        // The link leads out of the browser; only the tap matters here.
        let tap = "const link = find('a.button'); link?.addEventListener('click', (event) => event.preventDefault());
                   link?.click(); link && find('.action summary').click()";
        browser.run(tap).await;
        wait_until("the page reports", async || intents(&app).await == then).await;
        browser.reload().await;
        browser.wait_for_text("h1", "Install your eSIM").await;
        browser.assert_clean().await;
        assert_eq!(intents(&app).await, then);
    }
}

async fn opened(url: &str, device: Device) -> Browser {
    let browser = Browser::start(device).await;
    browser.open(url).await;
    browser
}
