//! The module in a page of another origin, as in docs/embedding.md.
//!
//! The other origin is the same service under another host name; the page imports the module and adds the element.

use std::net::TcpListener;

use esim_status_testing::TestApp;
use serde_json::json;

use super::browser::{Browser, DESKTOP};
use super::profile::{ICCID, register, see_it_installed_and_turned_off, token};

#[tokio::test]
async fn another_site_follows_a_profile_and_shows_the_element() {
    // The other origin is this service under another name, so the port must be known before it starts.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port();
    let site = format!("http://localhost:{port}");
    let app = TestApp::start_with(|settings| {
        settings.listen.set_port(port);
        settings.allowed_origins = vec![site.parse().unwrap()];
    })
    .await;
    register(&app).await;
    let browser = Browser::start(DESKTOP).await;
    // A device whose clock is wrong: the age of the last delivery must be computed with the service's clock.
    let ahead = "const now = Date.now; Date.now = () => now() + 3 * 3600 * 1000;";
    browser.before_each_page(ahead).await;
    browser.open(&format!("{site}/problems")).await;
    let embedded = format!(
        "import('http://127.0.0.1:{port}/assets/esim-status.js').then(({{ follow }}) => {{
            self.states = [];
            self.following = follow('{token}', (profile) => states.push(profile.state));
            const element = document.createElement('esim-install');
            element.setAttribute('token', '{token}');
            document.body.replaceChildren(element);
            done(true);
        }}, (error) => done(String(error)))",
        token = token(600),
    );
    assert_eq!(browser.run_async(&embedded).await, true);
    browser.wait_for_text("h2", "Install your eSIM").await;
    browser.wait_for_text(".link", "Live").await;
    browser.wait_for("return find('.qr img')?.naturalWidth > 0").await;
    see_it_installed_and_turned_off(&app, &browser, "h2").await;
    browser.wait_for_text(".heard", "Last heard from the network just now").await;
    browser.wait_for("return states.length === 3").await;
    assert_eq!(browser.run("return states").await, json!(["RELEASED", "INSTALLED", "DISABLED"]));
    browser.run("following.close()").await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    browser.wait_for_text("h2", "Your eSIM is installed").await;
    assert_eq!(browser.run("return states.length").await, 3);
}
