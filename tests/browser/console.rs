//! The console for support: every page in light and dark, wide and narrow, by its accessibility; the page of a profile, which follows
//! the profile; and ten questions of `docs/support.md`, answered by a person's clicks.

use esim_status::clock;
use esim_status::domain::Reach;
use esim_status::store::upkeep;
use esim_status_testing::receiver::{Receiver, Reply};
use esim_status_testing::{API_KEY, Answer, TestApp, wait_until};
use reqwest::Method;
use serde_json::json;

use super::axe::assert_accessible;
use super::browser::{Browser, DESKTOP, SMALL};
use super::profile::{ICCID, branded, esim_object, register, start};

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

/// Opens a page of the console.
async fn open(app: &TestApp, browser: &Browser, page: &str, title: &str) {
    browser.open(&format!("http://{}/console{page}", app.service.public)).await;
    wait_for_title(browser, title).await;
}

async fn sign_in(app: &TestApp, browser: &Browser) {
    open(app, browser, "", "Sign in").await;
    send(browser, "key", API_KEY).await;
    wait_for_title(browser, "Find a profile").await;
}

/// Clicks on the first element that matches.
async fn click(browser: &Browser, selector: &str) {
    browser.run(&format!("document.querySelector(`{selector}`).click()")).await;
}

/// Waits until the page has this text.
async fn reads(browser: &Browser, text: &str) {
    browser
        .wait_for(&format!("return document.querySelector('main').innerText.includes(`{text}`)"))
        .await;
}

/// A service that may call this machine, with the profile, and an endpoint that accepts nothing of it.
async fn start_with_endpoint(receiver: &Receiver) -> TestApp {
    let app = TestApp::start_with(|settings| {
        branded(settings);
        settings.reach = Reach::this_machine();
    })
    .await;
    register(&app).await;
    receiver.answers(|request| Reply::status(if request.iccid() == ICCID { 400 } else { 200 }));
    let body = json!({ "url": receiver.url(), "description": "the shop", "after": "beginning" });
    let made = app.backend.post("/v1/endpoints", body.to_string()).await.json();
    let path = format!("/v1/endpoints/{}", made["id"].as_str().unwrap_or_default());
    app.report("89972123300990000007", "RELEASED").await;
    let held = async || app.backend.get(&path).await.json()["heldProfiles"] == 1;
    wait_until("a profile is held back", held).await;
    app
}

/// Signs in, and finds the profile.
pub async fn find(app: &TestApp, browser: &Browser) {
    sign_in(app, browser).await;
    send(browser, "wanted", ICCID).await;
    wait_for_title(browser, ICCID).await;
}

#[tokio::test]
async fn every_page_of_the_console_is_accessible() {
    for device in [DESKTOP, SMALL] {
        let receiver = Receiver::start().await;
        let app = start_with_endpoint(&receiver).await;
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
            open(&app, &browser, page, title).await;
            assert_usable(&browser, title).await;
        }
        open(&app, &browser, "/endpoints", "Endpoints").await;
        click(&browser, "tbody a").await;
        wait_for_title(&browser, &receiver.url()).await;
        reads(&browser, "Profiles held back: 1").await;
        assert_usable(&browser, "endpoint").await;
        click(&browser, "#from-beginning").await;
        click(&browser, "form[action$=replay] button").await;
        wait_for_title(&browser, "Send changes again").await;
        assert_usable(&browser, "replay").await;
        send(&browser, "host", "127.0.0.2").await;
        browser.wait_for("return document.querySelector('[role=alert]') !== null").await;
        assert_usable(&browser, "replay, wrong host").await;
        open(&app, &browser, "/nothing", "Nothing exists at this path").await;
        assert_usable(&browser, "no such page").await;
    }
}

/// The questions of `docs/support.md`, in its order.
#[tokio::test]
async fn support_finds_the_answers_to_ten_questions() {
    let receiver = Receiver::start().await;
    let app = start_with_endpoint(&receiver).await;
    let browser = Browser::start(DESKTOP).await;
    let (browser, app) = (&browser, &app);
    let iccid = |n: usize| format!("8997212330099{n:07}");
    for (n, order, states) in [
        (1, "4710", &[][..]),
        (2, "4711", &["DOWNLOADED", "INSTALLED"]),
        (3, "4712", &["INSTALLED", "DELETED"]),
        (4, "4713", &["INSTALLED", "ERROR"]),
    ] {
        let mut object = esim_object();
        object["iccid"] = iccid(n).into();
        object["reference"] = order.into();
        let request = app.backend.request(Method::PUT, &format!("/v1/profiles/{}", iccid(n)));
        assert!(Answer::of(request.json(&object)).await.status.is_success());
        for state in states {
            app.report(&iccid(n), state).await;
        }
    }
    let hook = TestApp::hook_path();
    for _ in 0..7 {
        assert_eq!(app.anybody.post(&hook[..hook.len() - 1], "{}").await.status, 401);
    }
    assert_eq!(app.deliver("[]").await.status, 400);
    sign_in(app, browser).await;
    let search = async |wanted: &str, n: usize| {
        open(app, browser, "", "Find a profile").await;
        send(browser, "wanted", wanted).await;
        wait_for_title(browser, &iccid(n)).await;
    };

    // The customer says that it was installed yesterday, and the page says that it was not.
    search("4710", 1).await;
    reads(browser, "Their install page says: “Install your eSIM”").await;
    reads(browser, "never: no webhook has come").await;
    // Order 4711 wants a refund: was it ever installed?
    search("4711", 2).await;
    reads(browser, "DOWNLOADED → INSTALLED").await;
    reads(browser, "never reported").await;
    click(browser, "a[href$=evidence]").await;
    browser.wait_for("return document.title.includes('Evidence') || document.body.innerText.includes('Evidence about')").await;
    // Which number ends with 0003?
    upkeep::run_whole(&mut app.database.connect().await, clock::now(), 90).await.unwrap();
    search("0003", 3).await;
    // Why are webhooks refused?
    open(app, browser, "/hooks", "Hooks").await;
    reads(browser, "the secret or signature does not match").await;
    click(browser, "nav a[href$=refused]").await;
    reads(browser, "Not what this provider sends otherwise").await;
    // The customer has a new phone.
    search("4711", 2).await;
    reads(browser, "Installs seen").await;
    click(browser, "form[action$=link] button").await;
    browser.wait_for("return document.querySelector('#url')?.value.includes('/install#')").await;
    // They deleted the eSIM.
    search("4712", 3).await;
    reads(browser, "give out a replacement").await;
    // There is no connection abroad.
    search("4711", 2).await;
    reads(browser, "Is data roaming on for this eSIM").await;
    // Is the shop's endpoint behind?
    open(app, browser, "/endpoints", "Endpoints").await;
    reads(browser, "the shop").await;
    click(browser, "tbody a").await;
    reads(browser, "Profiles held back: 1").await;
    // The customer wants their data erased.
    search("4713", 4).await;
    send(browser, "digits", &iccid(4)[14..]).await;
    reads(browser, "The profile was erased.").await;
    // Did our test delivery arrive?
    app.report(&iccid(2), "INSTALLED").await;
    open(app, browser, "/hooks", "Hooks").await;
    reads(browser, "As usual").await;
    browser.assert_clean().await;
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
