//! The page follows the state without a reload, and survives restarts of the service, lost networks and expired links.
//!
//! Chromium shows the page of a real service while the tests send webhooks, restart the service, or take the network
//! away.

use std::time::SystemTime;

use esim_status_testing::{TestApp, wait_until};
use serde_json::json;

use super::axe::assert_accessible;
use super::browser::{Browser, DESKTOP};
use super::profile::{
    ICCID, branded, page, register, see_it_installed_and_turned_off, start, token,
};

#[tokio::test]
async fn a_webhook_changes_the_page_to_installed_without_a_reload() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for("return find('.qr img')?.naturalWidth > 0").await;
    browser.wait_for_text(".link", "Live").await;
    browser.run("self.isSamePage = true; find('.copy').focus()").await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    browser.wait_for_text("h1", "Your eSIM is installed").await;
    assert_eq!(browser.run("return self.isSamePage").await, true);
    // The QR code and the copy buttons are gone; the focus, which was on a button, has moved to the heading.
    assert_eq!(browser.run("return find('.qr')").await, json!(null));
    assert_eq!(browser.run("return root.activeElement.localName").await, "h1");
    let said = browser.text("[role=status].hidden").await;
    assert!(said.starts_with("Your eSIM is installed."), "{said}");
    assert_eq!(browser.text(".heard").await, "Last heard from the network just now");
    assert_accessible(&browser, "installed").await;
    browser.assert_clean().await;
}

#[tokio::test]
async fn without_streams_the_page_polls() {
    let app = TestApp::start_with(|settings| {
        branded(settings);
        settings.max_streams = 0;
    });
    let app = app.await;
    register(&app).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    see_it_installed_and_turned_off(&app, &browser, "h1").await;
}

#[tokio::test]
async fn the_page_survives_a_restart_of_the_service_and_misses_nothing() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text(".link", "Live").await;
    let (address, database) = (app.service.public, app.database.clone());
    assert!(app.stop().await.all_answered);
    browser.wait_for_text(".link", "Reconnecting…").await;
    assert_eq!(browser.text("h1").await, "Install your eSIM");
    let restarted = TestApp::start_on(database, |settings| {
        branded(settings);
        settings.listen = address;
    });
    let app = restarted.await;
    assert_eq!(app.report(ICCID, "DISABLED").await, "moved");
    browser.wait_for_text("h1", "Turn your eSIM on").await;
    browser.wait_for_text(".link", "Live").await;
}

#[tokio::test]
async fn being_offline_is_explained_until_the_network_is_back() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text(".link", "Live").await;
    let conditions = |offline: bool| json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    let regions =
        "return all('[role=status]').map((region) => getComputedStyle(region).display !== 'none')";
    assert_eq!(
        browser.run(regions).await,
        json!([true]),
        "the status region must exist before its text"
    );
    browser.cdp("Network.enable", json!({})).await;
    browser.cdp("Network.emulateNetworkConditions", conditions(true)).await;
    wait_until("the page says that it is offline", async || {
        browser.text(".notice").await.starts_with("You are offline.")
    })
    .await;
    // Screen readers announce the text because the region existed before it; the notice itself is only visual.
    let said = browser.text("[role=status].hidden").await;
    assert!(said.starts_with("You are offline."), "{said}");
    assert_eq!(browser.run("return all('[role=status]').length").await, 1);
    assert_accessible(&browser, "offline").await;
    browser.cdp("Network.emulateNetworkConditions", conditions(false)).await;
    browser.wait_for_text(".notice", "").await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    browser.wait_for_text("h1", "Your eSIM is installed").await;
}

#[tokio::test]
async fn an_expired_link_is_explained_and_a_fresh_one_works() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&page(&app, -3_600)).await;
    browser.wait_for_text("h1", "This link has expired").await;
    assert_eq!(browser.run("return find('.qr')").await, json!(null));
    assert_accessible(&browser, "expired").await;
    browser.run(&format!("location.hash = '{}'", token(600))).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    browser.run("location.hash = ''").await;
    browser.wait_for_text("h1", "This link is not complete").await;
    assert_accessible(&browser, "no token").await;
}

/// Also prints how long each change took: `cargo test --test browser fifty -- --nocapture`. `ESIM_STATUS_ROUNDS`
/// repeats the test.
#[tokio::test]
async fn fifty_webhooks_reach_the_page_one_by_one() {
    let rounds = std::env::var("ESIM_STATUS_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        follow_fifty().await;
    }
}

async fn follow_fifty() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text(".link", "Live").await;
    // The stream may be live before the first journey is read, and the first title must not count as a change.
    browser.wait_for_text("h1", "Install your eSIM").await;
    browser
        .run(
            "self.changes = [];
             new MutationObserver(() => changes.push([Date.now(), find('h1').textContent]))
                 .observe(find('h1'), { childList: true, characterData: true, subtree: true });",
        )
        .await;
    let (mut from_sending, mut from_answer) = (Vec::new(), Vec::new());
    for number in 0..50 {
        let (state, title) = match number % 2 {
            0 => ("INSTALLED", "Your eSIM is installed"),
            _ => ("DISABLED", "Turn your eSIM on"),
        };
        let sent = now();
        assert_eq!(app.report(ICCID, state).await, "moved");
        let answered = now();
        browser.wait_for(&format!("return changes.length > {number}")).await;
        let change = browser.run("return changes.at(-1)").await;
        assert_eq!(change[1], title);
        let seen = change[0].as_f64().expect("a change has its time");
        from_sending.push(seen - sent);
        from_answer.push((seen - answered).max(0.0));
    }
    assert_eq!(browser.run("return changes.length").await, 50);
    for (from, mut times) in [("sending it", from_sending), ("its answer", from_answer)] {
        times.sort_by(f64::total_cmp);
        println!(
            "webhook to DOM, from {from}: median {:.0} ms, worst {:.0} ms",
            times[25], times[49]
        );
    }
}

/// Milliseconds since 1970, as the browser counts them.
#[expect(clippy::disallowed_methods, reason = "compared with the clock of the browser")]
pub fn now() -> f64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    time.unwrap_or_default().as_secs_f64() * 1_000.0
}

/// From ready to connected: the last step is there once the provider tells of connections, and is done only by one.
#[tokio::test]
async fn the_page_says_connected_only_on_evidence() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    let shows = |step: &'static str| {
        format!("return all('.steps li').some((it) => it.textContent.includes('{step}'))")
    };
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    assert_eq!(browser.run(&shows("onnect")).await, false);
    // The provider tells of another profile's connection.
    let other = "89972123300990000007";
    assert_eq!(app.report(other, "INSTALLED").await, "moved");
    let country = |iccid: &str| {
        json!({ "iccid": iccid, "previousCountry": null, "newCountry": "PL" }).to_string()
    };
    assert_eq!(app.deliver(country(other)).await.outcome(), "connected");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    browser.wait_for_text("h1", "Your eSIM is installed").await;
    browser.wait_for(&shows("Connect")).await;
    assert_eq!(browser.run(&shows("Connected")).await, false);
    assert!(browser.text(".hero").await.contains("data roaming"));
    assert_eq!(app.deliver(country(ICCID)).await.outcome(), "connected");
    browser.wait_for_text("h1", "Your eSIM is connected").await;
    browser.wait_for(&shows("Connected")).await;
    assert_accessible(&browser, "connected").await;
    browser.assert_clean().await;
}
