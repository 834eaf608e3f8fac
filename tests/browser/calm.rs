//! The page where the service is ill, behind a prefix, or in an old browser.

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
async fn a_journey_that_fails_is_asked_for_by_one_timer_whatever_happens_meanwhile() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}install#{}", proxy.base("ill"), token(600))).await;
    browser.wait_for_text(".link", "Live").await;
    // Whatever makes the page read the journey at other times.
    browser
        .run("setInterval(() => document.dispatchEvent(new Event('visibilitychange')), 100)")
        .await;
    for number in 2..=6 {
        let state = if number % 2 == 0 { "INSTALLED" } else { "DISABLED" };
        assert_eq!(app.report(ICCID, state).await, "moved");
        wait_until("it is asked for again", async || proxy.asked("ill", JOURNEY).len() >= number)
            .await;
    }
    let asked = proxy.asked("ill", JOURNEY);
    let pauses: Vec<_> = asked.windows(2).map(|two| two[1].at - two[0].at).collect();
    // The refusals say `Retry-After: 3`; the fifth pause is long by itself.
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(3)), "{pauses:?}");
    proxy.heal();
    browser.wait_for_text("h1", "Your eSIM is installed").await;
}

/// In CI 20 s; `ESIM_STATUS_ILL_SECONDS=300` is as long as an outage may be.
#[tokio::test]
async fn five_pages_ask_a_service_that_is_ill_a_few_times_a_minute() {
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
    wait_until("each has asked", async || proxy.asked("ill", JOURNEY).len() >= PAGES).await;
    let begun = proxy.asked("ill", JOURNEY)[0].at;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let minute = |number: u32| {
        let asked = proxy.asked("ill", JOURNEY).into_iter();
        asked.filter(|it| (it.at - begun).as_secs() / 60 == u64::from(number)).count()
    };
    let minutes: Vec<_> = (0..=u32::try_from(seconds / 60).unwrap()).map(minute).collect();
    measured(
        &format!("the journey at 503 for {seconds} s in {PAGES} pages"),
        format!("asked for {minutes:?} times in each minute"),
    );
    // Each pause is 3 s at least, and later ones are longer.
    let most = PAGES * usize::try_from(2 + seconds.min(60) / 3).unwrap();
    assert!(minutes.iter().all(|count| *count <= most), "{minutes:?}");
    proxy.heal();
    let titles = "return [...document.querySelectorAll('esim-install')]
        .every(({ shadowRoot }) => shadowRoot.querySelector('h2')?.textContent === 'Install your eSIM')";
    browser.wait_for(titles).await;
}

#[tokio::test]
async fn behind_a_prefix_everything_is_found() {
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
async fn behind_a_proxy_that_empties_streams_the_page_follows_by_polling() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}install#{}", proxy.base("empty"), token(600))).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    see_it_installed_and_turned_off(&app, &browser, "h1").await;
    browser.assert_clean().await;
}

#[tokio::test]
async fn a_browser_without_constructable_sheets_shows_the_page_with_its_look() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    // As Safari before 16.4 is.
    let old = "delete Document.prototype.adoptedStyleSheets; delete ShadowRoot.prototype.adoptedStyleSheets;
        self.CSSStyleSheet = class { constructor() { throw new TypeError('Illegal constructor'); } };
        delete self.TextDecoderStream;";
    browser.before_each_page(old).await;
    browser.open(&format!("{}install#{}", proxy.base("esim"), token(600))).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    browser.wait_for_text(".link", "Live").await;
    browser.wait_for("return getComputedStyle(find('.card')).borderRadius === '20px'").await;
    // Computed from the brand's colour.
    let button = "return getComputedStyle(find('.done .dot')).backgroundColor";
    assert_eq!(browser.run(button).await, "rgb(10, 110, 110)");
    browser
        .wait_for("return find('.card').style.getPropertyValue('--_computed-on') === '#fff'")
        .await;
    browser.assert_clean().await;
    // Without style sheets made by scripts, axe writes an inline one itself, which the policy refuses.
    assert_accessible(&browser, "an old browser").await;
}

#[tokio::test]
async fn a_browser_that_cannot_read_the_script_says_what_to_do() {
    let app = start().await;
    let proxy = Proxy::start(app.service.public).await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("{}install#{}", proxy.base("old"), token(600))).await;
    let stuck = "return getComputedStyle(document.querySelector('.stuck')).visibility";
    assert_eq!(browser.run(stuck).await, "hidden");
    browser.wait_for(&format!("{stuck} === 'visible'")).await;
}

#[tokio::test]
async fn the_page_of_the_api_asks_nobody_else() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    // Swagger UI spares `localhost` what it does elsewhere.
    browser.open(&format!("http://esim.test:{}/docs/", app.service.public.port())).await;
    browser.wait_for("return document.querySelectorAll('.opblock').length > 5").await;
    browser.wait_for("return document.readyState === 'complete'").await;
    let foreign = "return performance.getEntriesByType('resource').map(({ name }) => name)
        .concat([...document.querySelectorAll('[src], link[href]')].map((element) => element.src ?? element.href))
        .filter((name) => !name.startsWith(location.origin) && !/^(blob|data):/.test(name))";
    assert_eq!(browser.run(foreign).await, json!([]));
}
