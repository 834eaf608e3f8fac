//! Every language says the same things: the same members, the same placeholders, nothing in English.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// The script's own list of languages.
const SCRIPT: &str = include_str!("../web/page/esim-status/words.js");

/// The table of the makers' words.
const MENU_WORDS: &str = include_str!("../../docs/menu-words.md");

/// Texts that are the same in English and in some other language: names, and words that these languages share.
const SHARED: [&str; 7] = [
    "Live",
    "Offline",
    "iPhone or iPad",
    "Samsung Galaxy",
    "Google Pixel",
    "Roaming",
    "Data roaming",
];

const EVERY_ADVICE: [Advice; 13] = [
    Advice::Wait,
    Advice::Install,
    Advice::Reinstall { seen: 2, limit: Some(5) },
    Advice::Reinstall { seen: 2, limit: None },
    Advice::Finish,
    Advice::Unconfirmed,
    Advice::TurnOn,
    Advice::Installed,
    Advice::Connected,
    Advice::Failed,
    Advice::UsedUp,
    Advice::Deleted,
    Advice::Unavailable,
];

fn page(language: Language) -> Value {
    serde_json::from_str(language.page()).unwrap()
}

/// Every text of `<esim-install>` with the path of its members.
fn leaves(value: &Value, path: &str, into: &mut Vec<(String, Option<String>)>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                leaves(member, &format!("{path}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}/{index}"), into);
            }
        }
        Value::String(text) => into.push((path.to_owned(), Some(text.clone()))),
        Value::Null => into.push((path.to_owned(), None)),
        other => panic!("{path} is {other}"),
    }
}

fn texts_of_page(language: Language) -> Vec<(String, Option<String>)> {
    let mut texts = Vec::new();
    leaves(&page(language), "", &mut texts);
    texts
}

fn texts_of_service(language: Language) -> Vec<String> {
    let texts = language.texts();
    let EarlyTexts { name, loading, stuck, no_script, footer } = texts.early;
    let early = [name, loading, stuck, no_script, footer].map(str::to_owned);
    let advice = EVERY_ADVICE.iter().flat_map(|advice| {
        let (title, detail) = texts.advice(advice);
        [title.to_owned(), detail]
    });
    advice.chain(early).collect()
}

fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

#[test]
fn every_language_has_the_same_members_and_placeholders_as_english() {
    let english = texts_of_page(Language::English);
    for language in Language::ALL {
        let own = texts_of_page(*language);
        let paths = |texts: &[(String, Option<String>)]| {
            texts.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&own), paths(&english), "{}", language.tag());
        for ((path, text), (_, expected)) in own.iter().zip(&english) {
            let what = format!("{} {path}", language.tag());
            match text {
                Some(text) => {
                    let expected = expected.as_deref().unwrap_or_default();
                    assert_eq!(placeholders(text), placeholders(expected), "{what}");
                    assert_eq!(text.is_empty(), path == "/loading/1", "{what}");
                    assert_eq!(text.trim(), text, "{what}");
                }
                // Where the maker's word is not known, the page shows neutral words.
                None => assert!(path.starts_with("/menus/"), "{what}"),
            }
        }
        assert_eq!(page(*language)["language"], language.tag());
    }
}

#[test]
fn every_advice_has_its_text_and_only_a_limit_is_counted() {
    for language in Language::ALL {
        let texts = texts_of_service(*language);
        assert!(texts.iter().all(|text| !text.trim().is_empty()), "{}", language.tag());
        for advice in &EVERY_ADVICE {
            let (_, detail) = language.texts().advice(advice);
            let is_counted = matches!(advice, Advice::Reinstall { limit: Some(_), .. });
            let counts = detail.contains('2') && detail.contains('5');
            assert_eq!(counts, is_counted, "{}: {detail}", language.tag());
            assert!(!detail.contains(['{', '}']), "{}: {detail}", language.tag());
        }
    }
}

#[test]
fn no_text_of_another_language_is_the_english_one() {
    let english: BTreeSet<String> = texts_of_page(Language::English)
        .into_iter()
        .filter_map(|(_, text)| text)
        .chain(texts_of_service(Language::English))
        .filter(|text| !text.is_empty() && !SHARED.contains(&text.as_str()))
        .collect();
    for language in Language::ALL.iter().filter(|it| **it != Language::English) {
        let page = texts_of_page(*language).into_iter().filter_map(|(_, text)| text);
        for text in page.chain(texts_of_service(*language)) {
            assert!(!english.contains(&text), "{}: {text}", language.tag());
        }
    }
}

#[test]
fn english_says_connected_only_of_a_connection_and_never_on_right_now() {
    for advice in EVERY_ADVICE.iter().filter(|it| **it != Advice::Connected) {
        let (title, detail) = Language::English.texts().advice(advice);
        let text = format!("{title}. {detail}").to_lowercase();
        for lie in ["on right now", "connected", "online", "active"] {
            assert!(!text.contains(lie), "{text}");
        }
    }
}

#[test]
fn the_script_knows_the_same_languages() {
    let quoted = |name: &str| -> Vec<&str> {
        let (_, rest) = SCRIPT.split_once(&format!("const {name} = [")).unwrap();
        let (list, _) = rest.split_once(']').unwrap();
        list.split('\'').skip(1).step_by(2).collect()
    };
    let tags = |languages: Vec<Language>| languages.iter().map(|it| it.tag()).collect::<Vec<_>>();
    assert_eq!(quoted("LANGUAGES"), tags(Language::ALL.to_vec()));
    let rtl = Language::ALL.iter().copied().filter(|it| it.direction() == "rtl");
    assert_eq!(quoted("RIGHT_TO_LEFT"), tags(rtl.collect()));
}

/// The table has a row for each language and maker, with exactly the words that the page shows.
#[test]
fn every_word_of_a_menu_is_in_the_table_of_sources() {
    for language in Language::ALL {
        let page = page(*language);
        for (maker, words) in page["menus"].as_object().unwrap() {
            let word = |name: &str| words[name].as_str().unwrap_or("–");
            let row = format!(
                "| {maker} | {} | {} | {} | {} | {} |",
                language.tag(),
                word("sims"),
                word("networks"),
                word("line"),
                word("roaming")
            );
            assert!(MENU_WORDS.lines().any(|line| line == row), "docs/menu-words.md lacks: {row}");
        }
    }
}
