//! `?lang=` and `Accept-Language`: the journey, the install page and its texts in the language of their reader.

use std::collections::BTreeSet;

use esim_status::texts::Language;
use esim_status_testing::{Answer, TestApp};
use http::HeaderValue;
use serde_json::Value;

use super::ICCID;
use super::esim::{object, register};

const JOURNEY: &str = "/v1/profiles/self/journey";

/// All values of `Vary`, in lower case.
fn vary(answer: &Answer) -> String {
    let values = answer.headers.get_all("vary").iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(", ").to_lowercase()
}

#[tokio::test]
async fn the_journey_is_in_every_language_and_differs_only_in_its_texts() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let user = app.user(ICCID);
    let mut titles = BTreeSet::new();
    let strip = |mut journey: Value| {
        journey["title"].take();
        journey["detail"].take();
        journey
    };
    let english = strip(user.get(JOURNEY).await.json());
    for language in Language::ALL {
        let answer = user.get(&format!("{JOURNEY}?lang={}", language.tag())).await;
        assert_eq!(answer.header("content-language"), language.tag());
        assert_eq!(vary(&answer), "accept-language");
        assert_eq!(answer.header("cache-control"), "no-store");
        let journey = answer.json();
        titles.insert(journey["title"].to_string());
        assert_eq!(strip(journey), english);
    }
    assert_eq!(titles.len(), Language::ALL.len());
}

#[tokio::test]
async fn the_parameter_is_preferred_to_the_header_and_english_to_what_is_unknown() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let user = app.user(ICCID);
    for (query, accepted, expected) in [
        ("", "de-AT,de;q=0.9,en;q=0.5", "de"),
        ("?lang=fr", "de", "fr"),
        ("?lang=zh-TW", "de", "zh-Hant"),
        ("?lang=pt-PT", "", "pt-BR"),
        ("", "sv, it;q=0.2", "it"),
        ("", "sv", "en"),
        ("", "", "en"),
        ("", "zh-HK", "zh-Hant"),
        ("", "zh-CN,zh;q=0.9", "zh-Hans"),
        ("", "; q==,,;", "en"),
    ] {
        let path = format!("{JOURNEY}{query}");
        let answer = user.get_with(&path, "accept-language", accepted).await;
        assert_eq!(answer.header("content-language"), expected, "{query} {accepted}");
    }
    // Backends may ask for a language too.
    let path = format!("/v1/profiles/{ICCID}/journey?lang=de");
    assert_eq!(app.backend.get(&path).await.json()["title"], "Installieren Sie Ihre eSIM");
}

#[tokio::test]
async fn an_unknown_language_is_a_problem_that_names_the_parameter() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    for lang in ["sv", "", "english", "%00", "*", "de,en"] {
        let answer = app.user(ICCID).get(&format!("{JOURNEY}?lang={lang}")).await;
        assert_eq!(answer.problem(), "invalid-parameter", "{lang}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("lang") && detail.contains("zh-Hant"), "{detail}");
    }
    let twice = app.user(ICCID).get(&format!("{JOURNEY}?lang=de&lang=de")).await;
    assert_eq!(twice.problem(), "invalid-parameter");
}

#[tokio::test]
async fn an_answer_for_another_origin_varies_by_both() {
    const SHOP: &str = "https://shop.example.test";
    let app = TestApp::start_with(|settings| {
        settings.allowed_origins = vec![HeaderValue::from_static(SHOP)];
    })
    .await;
    app.report(ICCID, "RELEASED").await;
    for path in [JOURNEY, "/install"] {
        let answer = app.user(ICCID).get_with(path, "origin", SHOP).await;
        let vary = vary(&answer);
        assert!(vary.contains("origin") && vary.contains("accept-language"), "{path}: {vary}");
    }
    let texts = app.anybody.get_with("/assets/esim-status.de.json", "origin", SHOP).await;
    assert_eq!(texts.header("access-control-allow-origin"), SHOP);
}

#[tokio::test]
async fn the_install_page_is_in_the_language_of_its_reader() {
    let app = TestApp::start().await;
    for language in Language::ALL {
        let tag = language.tag();
        let asked = app.anybody.get(&format!("/install?lang={tag}")).await;
        let accepted = app.anybody.get_with("/install", "accept-language", tag).await;
        assert_eq!(asked.text, accepted.text, "{tag}");
        assert_eq!(asked.header("content-language"), tag);
        assert!(vary(&asked).contains("accept-language"));
        let root = format!("<html lang=\"{tag}\" dir=\"{}\">", language.direction());
        assert!(asked.text.contains(&root), "{}", asked.text);
        assert!(asked.text.contains(language.texts().early.footer), "{tag}");
        assert!(!asked.text.contains("{{"), "{tag}");
        // English is in the module; the texts of another language are loaded while the module is.
        let file = format!("assets/esim-status.{tag}.json");
        let texts = app.anybody.get(&format!("/{file}")).await;
        assert_eq!(asked.text.contains(&file), tag != "en", "{tag}");
        assert_eq!(texts.status, if tag == "en" { 404 } else { 200 }, "{tag}");
        if tag == "en" {
            continue;
        }
        assert_eq!(texts.header("content-type"), "application/json");
        assert_eq!(texts.json()["language"], tag);
        let etag = texts.header("etag");
        let again = app.anybody.get_with(&format!("/{file}"), "if-none-match", etag).await;
        assert_eq!((again.status.as_u16(), &*again.text), (304, ""));
    }
    // A person gets the page whatever a link says.
    let odd = app.anybody.get_with("/install?lang=xx&utm=1", "accept-language", "de").await;
    assert_eq!((odd.status.as_u16(), odd.header("content-language")), (200, "de"));
    assert_eq!(app.anybody.get("/assets/esim-status.xx.json").await.status, 404);
}

/// The language is no part of what a profile is.
#[tokio::test]
async fn a_profiles_tag_does_not_depend_on_the_language() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let user = app.user(ICCID);
    let plain = user.get("/v1/profiles/self").await;
    let german = user.get_with("/v1/profiles/self", "accept-language", "de").await;
    assert_eq!(plain.header("etag"), german.header("etag"));
    assert_eq!(german.header("content-language"), "");
}
