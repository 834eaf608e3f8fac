//! The page in every language, and in no two of them; the steps of each phone; and what to do about what a phone says.
//!
//! Chromium opens the page of a real service in each language and at each step, and axe-core checks its accessibility.

use std::collections::BTreeSet;
use std::path::Path;

use esim_status::texts::Language;
use esim_status_testing::{Answer, TestApp, unix_now, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use super::axe::assert_accessible;
use super::browser::{ANDROID, Browser, DESKTOP, Device, IPHONE};
use super::profile::{ICCID, branded, esim_object, page, start, token};

/// Samsung's own browser, which says so.
const SAMSUNG: Device = Device {
    user_agent: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) \
                 SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
    ..ANDROID
};

/// A browser that tells neither a maker nor a model.
const FIREFOX: Device = Device {
    user_agent: "Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0",
    ..ANDROID
};

/// A web view, whose user agent has the model.
const PIXEL: Device = Device {
    user_agent: "Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP4A.250205.002; wv) AppleWebKit/537.36 \
                 (KHTML, like Gecko) Version/4.0 Chrome/140.0.0.0 Mobile Safari/537.36",
    ..ANDROID
};

/// What leads to each step, and the step.
const STEPS: [(&[&str], &str); 7] = [
    (&["ALLOCATED"], "wait"),
    (&["RELEASED"], "install"),
    (&["DOWNLOADED"], "finish"),
    (&["ERROR"], "contact-support"),
    (&["INSTALLED"], "done"),
    (&["DISABLED"], "turn-on"),
    (&["RELEASED"], "reinstall"),
];

/// Every text that a person can read or hear in the page, of this element and of the page around it. Each select shows one
/// option, but all can be read.
const SEEN: &str = "
    const texts = [];
    const walk = (node) => {
        if (node.nodeType === Node.TEXT_NODE && node.parentElement?.closest('script, style, code') === null) texts.push(node.data);
        if (node.nodeType === Node.ELEMENT_NODE) {
            for (const name of ['alt', 'aria-label', 'title', 'placeholder']) {
                if (node.hasAttribute(name)) texts.push(node.getAttribute(name));
            }
            if (node.shadowRoot) walk(node.shadowRoot);
        }
        if (node.nodeName !== 'NOSCRIPT') node.childNodes.forEach(walk);
    };
    walk(document.body);
    return texts.map((text) => text.trim()).filter(Boolean);";

/// Words of every language: names, and what is copied.
const NAMES: [&str; 9] = [
    "Nordwind <Mobile>",
    "Samsung Galaxy",
    "Google Pixel",
    "Live",
    "Offline",
    "Roaming",
    "Data roaming",
    "QR code",
    "",
];

fn words(language: Language) -> Value {
    serde_json::from_str(language.page()).expect("the texts are JSON")
}

/// All texts of English, in the page and in the service.
fn english() -> BTreeSet<String> {
    fn collect(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => {
                into.insert(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            Value::Object(members) => members.values().for_each(|member| collect(member, into)),
            _ => {}
        }
    }
    let mut texts = BTreeSet::new();
    collect(&words(Language::English), &mut texts);
    let early = &Language::English.texts().early;
    texts.extend([early.footer, early.name, early.loading].map(str::to_owned));
    texts.retain(|text| !NAMES.contains(&text.as_str()));
    texts
}

/// Whether a text has two English words in a row that no other language has. Templates never appear whole in the page, so
/// texts are not only compared whole.
fn sounds_english(text: &str) -> bool {
    const COMMON: [&str; 12] = [
        "the",
        "your",
        "you",
        "this",
        "and",
        "of",
        "with",
        "phone",
        "installed",
        "it",
        "page",
        "open",
    ];
    let own: Vec<_> = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect();
    own.windows(2).any(|two| two.iter().all(|word| COMMON.contains(&word.as_str())))
}

/// The title that the service gives the profile's step in a language.
async fn title(app: &TestApp, iccid: &str, language: Language) -> String {
    let path = format!("/v1/profiles/{iccid}/journey?lang={}", language.tag());
    app.backend.get(&path).await.json()["title"].as_str().unwrap_or_default().to_owned()
}

/// Registers one more profile and returns the URL of its page in a language.
async fn page_in(app: &TestApp, iccid: &str, language: Language) -> String {
    let mut esim = esim_object();
    esim["iccid"] = iccid.into();
    let request = app.backend.request(Method::PUT, &format!("/v1/profiles/{iccid}"));
    assert!(Answer::of(request.json(&esim)).await.status.is_success());
    let expiry = unix_now().saturating_add(600);
    let token = TestApp::token(&json!({ "aud": "esim-status", "sub": iccid, "exp": expiry }));
    format!("http://{}/install?lang={}#{token}", app.service.public, language.tag())
}

#[tokio::test]
async fn every_language_is_whole_at_every_step_and_accessible() {
    let app = TestApp::start_with(branded).await;
    let (wide, narrow) = (Browser::start(DESKTOP).await, Browser::start(SAMSUNG).await);
    for (index, language) in Language::ALL.iter().enumerate() {
        // A profile for each, because the streams of one profile are limited.
        let iccid = format!("899721233009910{index:05}");
        let url = page_in(&app, &iccid, *language).await;
        for browser in [&wide, &narrow] {
            browser.open(&url).await;
        }
        for (reports, step) in STEPS {
            for report in reports {
                app.report(&iccid, report).await;
            }
            let expected = title(&app, &iccid, *language).await;
            let what = format!("{} {step}", language.tag());
            for browser in [&wide, &narrow] {
                browser.wait_for_text("h1", &expected).await;
                assert_whole(browser, *language, &what).await;
            }
            assert_accessible(&narrow, &what).await;
            if step == "done" {
                assert_accessible(&wide, &what).await;
            }
            if let Ok(folder) = std::env::var("ESIM_STATUS_LANGUAGE_PICTURES") {
                let file = Path::new(&folder).join(format!("{}-{step}.png", language.tag()));
                std::fs::write(file, narrow.whole_page().await).unwrap();
            }
        }
        for browser in [&wide, &narrow] {
            browser.assert_clean().await;
        }
    }
}

/// Asserts that all that can be seen and heard is in one language, and runs in its direction.
async fn assert_whole(browser: &Browser, language: Language, what: &str) {
    browser.wait_for("return find('.link').textContent !== ''").await;
    browser.wait_for("return all('.qr').every((qr) => qr.querySelector('img')?.complete)").await;
    let open = "all('details').forEach((it) => { it.open = true; }); find('input')?.click()";
    browser.run(open).await;
    let attributes = "const { lang, dir } = document.documentElement;
        return [lang, dir, find('.card').lang, find('.card').dir]";
    let (tag, direction) = (language.tag(), language.direction());
    assert_eq!(browser.run(attributes).await, json!([tag, direction, tag, direction]));
    let codes = "return all('code').every((code) => getComputedStyle(code).direction === 'ltr')";
    assert_eq!(browser.run(codes).await, true, "{what}");
    let seen = browser.run(SEEN).await;
    let seen: Vec<_> = seen.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(seen.len() > 8, "{what}: {seen:?}");
    let english = english();
    for text in seen {
        assert!(!text.contains(['{', '}']), "{what}: {text}");
        let is_english = english.contains(text) || sounds_english(text);
        assert!(language == Language::English || !is_english, "{what}: {text}");
    }
}

#[tokio::test]
async fn the_browsers_language_is_chosen_and_only_its_texts_are_loaded() {
    let app = start().await;
    for (accepted, expected) in [
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("sv,zh-TW;q=0.5", "zh-Hant"),
        ("sv", "en"),
        ("en-GB,de;q=0.9", "en"),
    ] {
        let browser = Browser::start(DESKTOP).await;
        let agent = browser.run("return navigator.userAgent").await;
        let override_ = json!({ "userAgent": agent, "acceptLanguage": accepted });
        browser.cdp("Emulation.setUserAgentOverride", override_).await;
        browser.open(&page(&app, 600)).await;
        browser.wait_for(&format!("return find('.card')?.lang === '{expected}'")).await;
        browser.wait_for("return find('.qr img')?.naturalWidth > 0").await;
        let loaded = browser
            .run("return performance.getEntriesByType('resource').map(({ name }) => name.split('/').pop())
                .filter((name) => name.endsWith('.json'))")
            .await;
        let own = format!("esim-status.{expected}.json");
        let expected = if expected == "en" { json!([]) } else { json!([own]) };
        assert_eq!(loaded, expected, "{accepted}");
        browser.assert_clean().await;
    }
}

/// A page that embeds the element is in a language already, and may name another one or replace texts.
#[tokio::test]
async fn an_embedded_element_follows_its_page_and_takes_the_texts_of_a_brand() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.open(&format!("http://{}/problems", app.service.public)).await;
    let embed = format!(
        "import('/assets/esim-status.js').then(() => {{
            document.documentElement.lang = 'fr-CA';
            const element = document.createElement('esim-install');
            element.setAttribute('token', '{}');
            element.words = {{ iccid: 'N°', languages: {{ de: {{ copy: 'Abschreiben' }}, fr: {{ copy: 'Recopier' }} }} }};
            document.body.replaceChildren(element);
            done(true);
        }}, (error) => done(String(error)))",
        token(600)
    );
    assert_eq!(browser.run_async(&embed).await, true);
    let shown = |copy: &'static str, iccid: &'static str| {
        format!(
            "return find('.copy')?.firstChild.textContent === '{copy}' && all('dt').at(-1).textContent === '{iccid}'"
        )
    };
    browser.wait_for_text("h2", "Installez votre eSIM").await;
    browser.wait_for(&shown("Recopier", "N°")).await;
    browser.run("document.querySelector('esim-install').lang = 'de'").await;
    browser.wait_for_text("h2", "Installieren Sie Ihre eSIM").await;
    browser.wait_for(&shown("Abschreiben", "N°")).await;
    // A language of which there are no texts: those of the page, and what it leaves out in English.
    browser
        .run("const element = document.querySelector('esim-install'); element.lang = 'sv';
              element.words = { language: 'sv', copy: 'Kopiera', journey: { install: ['Installera', ''] } }")
        .await;
    browser.wait_for_text("h2", "Installera").await;
    browser.wait_for(&shown("Kopiera", "N°")).await;
    assert_eq!(browser.text("summary").await, "Type the details in");
}

/// If the texts cannot be loaded, all of the page is in English.
#[tokio::test]
async fn without_its_texts_the_page_is_english_and_not_half_english() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    browser.cdp("Network.enable", json!({})).await;
    browser.cdp("Network.setBlockedURLs", json!({ "urls": ["*esim-status.de.json"] })).await;
    browser.open(&format!("http://{}/problems", app.service.public)).await;
    let embed = format!(
        "import('/assets/esim-status.js').then(() => {{
            const element = document.createElement('esim-install');
            element.lang = 'de';
            element.setAttribute('token', '{}');
            document.body.replaceChildren(element);
            done(true);
        }}, (error) => done(String(error)))",
        token(600)
    );
    assert_eq!(browser.run_async(&embed).await, true);
    browser.wait_for_text("h2", "Install your eSIM").await;
    assert_eq!(browser.run("return find('.card').lang").await, "en");
    assert_eq!(browser.text("summary").await, "Type the details in");
    // An expired link of that language says so too.
    browser.run("document.querySelector('esim-install').setAttribute('token', 'expired')").await;
    browser.wait_for_text("h2", "This link has expired").await;
    // The whole install page, not only its card.
    let german = page(&app, 600).replace("/install", "/install?lang=de");
    browser.open(&german).await;
    browser.wait_for_text("h1", "Install your eSIM").await;
    assert_eq!(browser.run("return document.documentElement.lang").await, "en");
    assert_eq!(browser.run("return location.search").await, "?lang=en");
    assert_eq!(browser.run("return document.querySelector('main').children.length").await, 1);
}

/// The texts come later than the answer that the link has expired.
#[tokio::test]
async fn an_expired_link_says_so_in_the_users_language_even_if_the_texts_come_late() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    let expired = page(&app, -10).replace("/install", "/install?lang=de");
    browser.cdp("Network.enable", json!({})).await;
    browser.cdp("Network.setCacheDisabled", json!({ "cacheDisabled": true })).await;
    browser.open(&expired).await;
    browser.wait_for_text("h1", words(Language::German)["expired"][0].as_str().unwrap()).await;
    assert_eq!(browser.run("return find('.card').lang").await, "de");
}

#[tokio::test]
async fn each_phone_gets_its_own_steps_and_the_user_can_choose_another() {
    let app = start().await;
    app.report(ICCID, "INSTALLED").await;
    let paths = |phone: &str| match phone {
        "apple" => {
            "Open Settings › Cellular (or Mobile Service).|Choose this eSIM.|Switch on “Data Roaming”."
        }
        "samsung" => "Open Settings › Connections › Mobile networks.|Switch on “Data roaming”.",
        "pixel" => {
            "Open Settings › Network & internet › SIMs.|Choose this eSIM.|Switch on “Roaming”."
        }
        _ => {
            "Open the phone’s settings and look for SIM or eSIM.|Choose this eSIM.|Switch on data roaming."
        }
    };
    let steps = "return all('.how-to li').map((step) => step.textContent).join('|')";
    let with_model = |device: Device, model| Device { model, ..device };
    for (device, phone) in [
        (IPHONE, "apple"),
        (SAMSUNG, "samsung"),
        (PIXEL, "pixel"),
        (FIREFOX, "other"),
        (ANDROID, "other"),
        (DESKTOP, "other"),
        // Chromium hides the model in the user agent, and tells it if it is asked.
        (with_model(ANDROID, "SM-S931B"), "samsung"),
        (with_model(ANDROID, "Pixel 9 Pro"), "pixel"),
        (with_model(ANDROID, "2201117TY"), "other"),
        // Samsung's browser on another phone.
        (with_model(SAMSUNG, "Pixel 9"), "pixel"),
        (with_model(SAMSUNG, "2201117TY"), "other"),
    ] {
        let browser = Browser::start(device).await;
        browser.open(&page(&app, 600)).await;
        browser.wait_for_text("h1", "Your eSIM is installed").await;
        let what = format!("{device:?}");
        wait_until(&format!("{what}: {phone}"), async || browser.run(steps).await == paths(phone))
            .await;
        assert_eq!(browser.run("return find('select').value").await, phone, "{what}");
        // The choice is kept at the next step.
        browser
            .run(
                "const select = find('select'); select.focus(); select.value = 'samsung';
                  select.dispatchEvent(new Event('change'))",
            )
            .await;
        assert_eq!(browser.run(steps).await, paths("samsung"), "{what}");
    }
    let browser = Browser::start(FIREFOX).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for("return Boolean(find('select'))").await;
    browser
        .run("const select = find('select'); select.focus(); select.value = 'pixel'; select.dispatchEvent(new Event('change'))")
        .await;
    assert_eq!(browser.run("return root.activeElement.localName").await, "select");
    app.report(ICCID, "DISABLED").await;
    browser.wait_for_text("h1", "Turn your eSIM on").await;
    let turn_on =
        "Open Settings › Network & internet › SIMs.|Choose this eSIM.|Switch on “Use SIM”.";
    assert_eq!(browser.run(steps).await, turn_on);
    assert_eq!(browser.run("return find('select').value").await, "pixel");
}

/// The function itself, for each message at each step, with and without a code on the page.
#[tokio::test]
async fn the_answer_depends_on_the_message_and_on_what_is_known() {
    const PHONE: &str = include_str!("../../src/web/page/esim-status/phone.js");
    let rows = [
        ("wait", false, ["wait", "wait", "unlock", "connect"]),
        ("install", true, ["restart", "lookUp", "unlock", "connect"]),
        // There is no code on the page.
        ("install", false, ["lookUp", "lookUp", "unlock", "connect"]),
        ("reinstall", true, ["restart", "lookUp", "unlock", "connect"]),
        ("reinstall", false, ["lookUp", "lookUp", "unlock", "connect"]),
        ("finish", false, ["lookUp", "lookUp", "unlock", "connect"]),
        ("turn-on", false, ["turnOn", "turnOn", "unlock", "turnOn"]),
        ("done", false, ["installed", "installed", "unlock", "roaming"]),
        ("contact-support", false, ["support", "support", "unlock", "support"]),
    ];
    let browser = Browser::start(DESKTOP).await;
    for (step, has_code, expected) in rows {
        let install = has_code.then(|| json!({ "activationCode": "LPA:1$smdp.io$X" }));
        let journey = json!({ "step": step, "install": install });
        let script =
            format!("{PHONE}; return MESSAGES.map((message) => answerTo(message, {journey}))");
        assert_eq!(browser.run(&script).await, json!(expected), "{journey}");
    }
    let messages = browser.run(&format!("{PHONE}; return MESSAGES")).await;
    assert_eq!(messages, json!(["cannot-add", "code-used", "locked", "no-internet"]));
}

/// The page and the service read tags alike.
#[tokio::test]
async fn the_script_reads_tags_of_languages_as_the_service_does() {
    const WORDS: &str = include_str!("../../src/web/page/esim-status/words.js");
    let browser = Browser::start(DESKTOP).await;
    let regions = "AT BR CH CN DE HK IL Hans Hant Hans-HK Hant-CN MO PT SG TW US 419";
    let primaries = "en de fr es it pt nl pl tr ru uk ar he iw vi zh ja ko sv yue EN Zh";
    let mut tags: Vec<String> = vec![String::new(), "*".to_owned(), "x-de".to_owned()];
    for primary in primaries.split(' ') {
        tags.push(primary.to_owned());
        tags.extend(regions.split(' ').map(|region| format!("{primary}-{region}")));
        tags.push(format!("{primary}_TW"));
    }
    let script = format!("{WORDS}; return {}.map((tag) => languageOf(tag) ?? null)", json!(tags));
    let read = browser.run(&script).await;
    let expected: Vec<_> =
        tags.iter().map(|tag| Language::parse(tag).ok().map(Language::tag)).collect();
    assert_eq!(read, json!(expected));
}

/// Each message of a phone at each step that the page shows, and the answer.
#[tokio::test]
async fn every_message_of_a_phone_has_one_answer_at_every_step() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    let answers = &words(Language::English)["answers"];
    // The columns are: cannot-add, code-used, locked, no-internet.
    let rows: [(&[&str], &str, [&str; 4]); 8] = [
        (&["RELEASED"], "install", ["restart", "lookUp", "unlock", "connect"]),
        (&["DOWNLOADED"], "finish", ["lookUp", "lookUp", "unlock", "connect"]),
        (&["ERROR"], "contact-support", ["support", "support", "unlock", "support"]),
        (&["INSTALLED"], "done", ["installed", "installed", "unlock", "roaming"]),
        (&["DISABLED"], "turn-on", ["turnOn", "turnOn", "unlock", "turnOn"]),
        (&["RELEASED"], "reinstall", ["restart", "lookUp", "unlock", "connect"]),
        (&["INSTALLED", "DELETED"], "contact-support", ["support", "support", "unlock", "support"]),
        (
            &["RELEASED", "INSTALLED", "RELEASED"],
            "reinstall",
            ["restart", "lookUp", "unlock", "connect"],
        ),
    ];
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text(".link", "Live").await;
    for (reports, step, expected) in rows {
        for report in reports {
            app.report(ICCID, report).await;
        }
        browser.wait_for_text("h1", &title(&app, ICCID, Language::English).await).await;
        browser.run("find('.help details').open = true").await;
        for (message, key) in
            ["cannot-add", "code-used", "locked", "no-internet"].iter().zip(expected)
        {
            browser.run(&format!("find('input[value={message}]').click()")).await;
            let (said, heard) =
                (browser.text(".answer").await, browser.text("[role=status]").await);
            assert_eq!(said, answers[key], "{message} at {step}");
            assert_eq!(heard, said, "an answer is announced");
        }
    }
    app.report(ICCID, "ALLOCATED").await;
    browser.wait_for_text("h1", "Your eSIM is being prepared").await;
    assert_eq!(
        browser.run("return find('.help').childElementCount").await,
        0,
        "nothing can be tried yet"
    );
}

#[tokio::test]
async fn a_user_who_says_that_it_is_installed_is_told_that_the_page_looks() {
    let app = start().await;
    let browser = Browser::start(DESKTOP).await;
    // The page looks every ten seconds, and says after some minutes that nothing came. Here the seconds are shorter, and the
    // minutes pass when the test says so.
    let fast = "const later = setTimeout; self.setTimeout = (work, time, ...rest) => later(work, time === 10_000 ? 100 : time, ...rest);
        self.passed = 0; const now = performance.now.bind(performance); performance.now = () => now() + passed;";
    browser.before_each_page(fast).await;
    browser.open(&page(&app, 600)).await;
    browser.wait_for_text(".link", "Live").await;
    let texts = words(Language::English);
    let text = |name: &str| texts[name].as_str().unwrap_or_default().to_owned();
    browser.wait_for_text(".help button", &text("installedIt")).await;
    assert_eq!(browser.text(".help > p").await, "");
    browser.run("find('.help button').focus(); find('.help button').click()").await;
    assert_eq!(browser.text(".help > p").await, text("looking"));
    assert_eq!(browser.text("[role=status]").await, text("looking"));
    assert_accessible(&browser, "looking").await;
    let asked = "return performance.getEntriesByType('resource').filter(({ name }) => name.includes('/journey')).length";
    let before = browser.run(asked).await.as_i64().unwrap();
    wait_until("the page looks again and again", async || {
        browser.run(asked).await.as_i64().unwrap() > before + 2
    })
    .await;
    assert_eq!(browser.text(".help > p").await, text("looking"));
    browser.run("self.passed = 150_000").await;
    browser.wait_for_text(".help > p", &text("notYet")).await;
    app.report(ICCID, "INSTALLED").await;
    browser.wait_for_text("h1", "Your eSIM is installed").await;
    assert_eq!(browser.run("return find('.help > button')").await, json!(null));
    assert_eq!(browser.run("return root.activeElement.localName").await, "h1");
}
