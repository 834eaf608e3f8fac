//! The page while the service fails, behind a path prefix, behind a proxy that breaks streams, and in old browsers.
//!
//! A proxy in front of a real service causes the faults and records when each request arrives; some tests remove
//! features of the browser.

use std::time::Duration;

use esim_status_testing::turn::{from_environment, measured};
use esim_status_testing::wait_until;
use serde_json::json;

use super::axe::assert_accessible;
use super::browser::{Browser, DESKTOP};
use super::profile::{ICCID, see_it_installed_and_turned_off, start, token};
use super::proxy::Proxy;

const JOURNEY: &str = "v1/profiles/self/journey";

#[tokio::test]
async fn a_failing_journey_is_retried_by_a_single_timer() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}install#{}", proxy.base("ill"), token(600))).await;
    browser.wait_for_text(".link", "Live").await;
    // Events that make the page read the journey at other times too.
    browser
        .run("setInterval(() => document.dispatchEvent(new Event('visibilitychange')), 100)")
        .await;
    for number in 2..=6 {
        let state = if number % 2 == 0 { "INSTALLED" } else { "DISABLED" };
        assert_eq!(app.report(ICCID, state).await, "moved");
        wait_until("the journey is requested again", async || {
            proxy.asked("ill", JOURNEY).len() >= number
        })
        .await;
    }
    let asked = proxy.asked("ill", JOURNEY);
    let pauses: Vec<_> = asked.windows(2).map(|two| two[1].at - two[0].at).collect();
    // The refusals have `Retry-After: 3`; the backoff makes the fifth pause longer.
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(3)), "{pauses:?}");
    proxy.heal();
    browser.wait_for_text("h1", "Your eSIM is installed").await;
}

/// Lasts 20 s; `ESIM_STATUS_ILL_SECONDS=300` runs it as long as a real outage.
#[tokio::test]
async fn five_pages_send_a_failing_service_only_a_few_requests_a_minute() {
    const PAGES: usize = 5;
    let seconds = from_environment("ESIM_STATUS_ILL_SECONDS", 20);
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}problems", proxy.base("ill"))).await;
    let open = format!(
        "import('./assets/esim-status.js').then(() => {{
            document.body.replaceChildren(...Array.from({{ length: {PAGES} }}, () => {{
                const element = document.createElement('esim-install');
                element.setAttribute('token', '{}');
                return element;
            }}));
            done(true);
        }}, (error) => done(String(error)))",
        token(900)
    );
    assert_eq!(browser.run_async(&open).await, true);
    wait_until("each page has sent a request", async || proxy.asked("ill", JOURNEY).len() >= PAGES)
        .await;
    let begun = proxy.asked("ill", JOURNEY)[0].at;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let minute = |number: u32| {
        let asked = proxy.asked("ill", JOURNEY).into_iter();
        asked.filter(|it| (it.at - begun).as_secs() / 60 == u64::from(number)).count()
    };
    let minutes: Vec<_> = (0..=u32::try_from(seconds / 60).unwrap()).map(minute).collect();
    measured(
        &format!("the journey at 503 for {seconds} s in {PAGES} pages"),
        format!("requested {minutes:?} times in each minute"),
    );
    // Each pause is at least 3 s, and later ones are longer.
    let most = PAGES * usize::try_from(2 + seconds.min(60) / 3).unwrap();
    assert!(minutes.iter().all(|count| *count <= most), "{minutes:?}");
    proxy.heal();
    let titles = "return [...document.querySelectorAll('esim-install')]
        .every(({ shadowRoot }) => shadowRoot.querySelector('h2')?.textContent === 'Install your eSIM')";
    browser.wait_for(titles).await;
}

#[tokio::test]
async fn behind_a_path_prefix_the_page_finds_everything() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}install#{}", proxy.base("esim"), token(600))).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    browser.wait_for_text(".link", "Live").await;
    browser.wait_for("return find('.qr img')?.naturalWidth > 0").await;
    assert_eq!(browser.run("return getComputedStyle(document.body).display").await, "grid");
    let outside = "return performance.getEntriesByType('resource').map(({ name }) => new URL(name))
        .filter(({ protocol, pathname }) => protocol === 'http:' && !pathname.startsWith('/esim/')).map(String)";
    assert_eq!(browser.run(outside).await, json!([]));
    browser.assert_clean().await;
}

#[tokio::test]
async fn behind_a_proxy_that_empties_streams_the_page_polls() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}install#{}", proxy.base("empty"), token(600))).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    see_it_installed_and_turned_off(&app, &browser, "h1").await;
    browser.assert_clean().await;
}

#[tokio::test]
async fn a_browser_without_constructable_style_sheets_shows_the_styled_page() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    // Like Safari before 16.4.
    let old = "delete Document.prototype.adoptedStyleSheets; delete ShadowRoot.prototype.adoptedStyleSheets;
        self.CSSStyleSheet = class { constructor() { throw new TypeError('Illegal constructor'); } };
        delete self.TextDecoderStream;";
    browser.before_each_page(old).await;
    browser.open(&format!("{}install#{}", proxy.base("esim"), token(600))).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    browser.wait_for_text(".link", "Live").await;
    browser.wait_for("return getComputedStyle(find('.card')).borderRadius === '20px'").await;
    // This colour is computed from the brand's colour.
    let button = "return getComputedStyle(find('.done .dot')).backgroundColor";
    assert_eq!(browser.run(button).await, "rgb(10, 110, 110)");
    browser
        .wait_for("return find('.card').style.getPropertyValue('--_computed-on') === '#fff'")
        .await;
    browser.assert_clean().await;
    // Checked last: without constructable style sheets, axe adds an inline one, which the page's policy refuses.
    assert_accessible(&browser, "an old browser").await;
}

#[tokio::test]
async fn a_browser_that_cannot_parse_the_script_shows_what_to_do() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}install#{}", proxy.base("old"), token(600))).await;
    let stuck = "return getComputedStyle(document.querySelector('.stuck')).visibility";
    assert_eq!(browser.run(stuck).await, "hidden");
    browser.wait_for(&format!("{stuck} === 'visible'")).await;
}

#[tokio::test]
async fn the_api_documentation_makes_no_requests_to_other_origins() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    // Swagger UI skips some external requests on `localhost`, so the test uses another name.
    browser.open(&format!("http://esim.test:{}/docs/", app.service.public.port())).await;
    browser.wait_for("return document.querySelectorAll('.opblock').length > 5").await;
    browser.wait_for("return document.readyState === 'complete'").await;
    let foreign = "return performance.getEntriesByType('resource').map(({ name }) => name)
        .concat([...document.querySelectorAll('[src], link[href]')].map((element) => element.src ?? element.href))
        .filter((name) => !name.startsWith(location.origin) && !/^(blob|data):/.test(name))";
    assert_eq!(browser.run(foreign).await, json!([]));
}
