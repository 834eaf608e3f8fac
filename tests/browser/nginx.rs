//! The page behind a real nginx, under a path prefix, compressed and with changed entity tags; and two eSIMs in one
//! browser.

use esim_status_testing::front::Front;
use esim_status_testing::{TestApp, unix_now};
use serde_json::json;

use super::browser::{Browser, DESKTOP};
use super::profile::{ICCID, see_it_installed_and_turned_off, start, token};

const OTHER: &str = "8997212330099184896";

/// Makes nginx compress answers, which turns their entity tags into weak ones.
const COMPRESSED: &str = "gzip on; gzip_proxied any; gzip_min_length 1; \
    gzip_types application/json text/css text/javascript application/javascript;";

#[tokio::test]
async fn behind_nginx_with_a_prefix_and_compression_the_page_is_complete_and_live() {
    let app = start().await;
    let nginx = Front::nginx(app.service.public, "/esim/", COMPRESSED).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}/esim/install#{}", nginx.url, token(600))).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    browser.wait_for_text(".link", "Live").await;
    browser.wait_for("return find('.qr img')?.naturalWidth > 0").await;
    see_it_installed_and_turned_off(&app, &browser, "h1").await;
    // A read with the ETag that nginx has changed is answered 304, and the browser uses its own copy.
    let read = format!(
        "const ask = () => fetch('v1/profiles/self', {{ headers: {{ Authorization: 'Bearer {}' }}, cache: 'no-cache' }});
         ask().then(async (first) => {{
             await first.text();
             const again = await (await ask()).json();
             done([first.headers.get('etag').startsWith('W/'), again.state]);
         }}, (error) => done(String(error)))",
        token(600)
    );
    assert_eq!(browser.run_async(&read).await, json!([true, "DISABLED"]));
    browser.assert_clean().await;
    assert_eq!(nginx.errors(), "");
}

/// Both profiles have the same `seq`, and `self` is the same URL for both: a cache that compares only these would
/// confuse the profiles.
#[tokio::test]
async fn two_esims_in_one_browser_each_show_their_own_state() {
    let app = start().await;
    for iccid in [ICCID, OTHER] {
        app.report(iccid, "INSTALLED").await;
    }
    app.report(OTHER, "DISABLED").await;
    let expiry = unix_now() + 600;
    let other = TestApp::token(&json!({ "aud": "esim-status", "sub": OTHER, "exp": expiry }));
    let nginx = Front::nginx(app.service.public, "/", COMPRESSED).await;
    let browser = Browser::start(DESKTOP).await;
    for origin in [format!("http://{}", app.service.public), nginx.url.clone()] {
        browser.open(&format!("{origin}/problems")).await;
        let script = format!(
            "const [one, other] = ['{}', '{other}'];
             const ask = async (token, part) => {{
                 const answer = await fetch('/v1/profiles/self' + part, {{ headers: {{ Authorization: 'Bearer ' + token }} }});
                 const body = await answer.json();
                 return body.iccid ?? body.items[0].toState;
             }};
             (async () => {{
                 const seen = [];
                 for (const part of ['', '/journey', '/transitions']) {{
                     for (const token of [one, other, one, other, one]) seen.push(await ask(token, part));
                 }}
                 done(seen);
             }})().catch((error) => done(String(error)))",
            token(600)
        );
        let five = |one: &str, other: &str| [one, other, one, other, one].map(str::to_owned);
        let expected =
            [five(ICCID, OTHER), five(ICCID, OTHER), five("RELEASED", "INSTALLED")].concat();
        assert_eq!(browser.run_async(&script).await, json!(expected), "{origin}");
    }
}
