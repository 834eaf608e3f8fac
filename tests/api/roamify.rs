//! Roamify, whose declaration the binary has built in, over HTTP: signatures, a life in both shapes, retries, late events, ties, and
//! bodies of other shapes.

use esim_status::config::Settings;
use esim_status::delivery::{Encoding, Scheme, Secrets};
use esim_status::providers::Providers;
use esim_status_testing::{Answer, TestApp, unix_now};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use super::declared::hook_of;
use super::{ICCID, iccid};

const SECRET: &str = "3b9f27c1d85e40a6f2b7";
const ROAMIFY: &str = "roamify/events";

fn with_roamify(settings: &mut Settings) {
    settings.providers = Providers::built_in().unwrap();
    let scheme = Scheme::HmacSha256 {
        header: http::HeaderName::from_static("x-roamify-signature"),
        encoding: Encoding::Hex,
        prefix: String::new(),
        secrets: Secrets::parse("test", [SECRET]).unwrap(),
    };
    hook_of(settings, "roamify", ROAMIFY, scheme);
}

/// As Roamify's documentation says: the HMAC-SHA256 of the raw body, in hexadecimal digits.
fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

async fn send(app: &TestApp, signature: Option<&str>, body: Vec<u8>) -> Answer {
    let request = app.anybody.request(Method::POST, &format!("/webhooks/{ROAMIFY}"));
    let request = match signature {
        Some(signature) => request.header("X-Roamify-Signature", signature),
        None => request,
    };
    Answer::of(request.body(body)).await
}

/// Sends a body with the right signature.
async fn deliver(app: &TestApp, body: impl Into<Vec<u8>>) -> Answer {
    let body = body.into();
    send(app, Some(&signature(SECRET, &body)), body).await
}

/// An event of the older, flat shape.
fn flat(iccid: &str, status: &str, timestamp: u64) -> String {
    json!({
        "event_category": "esim", "event_type": "status", "timestamp": timestamp, "iccid": iccid,
        "esim_id": "c2a9d1f0-63b1-4e0e-9d39-1f0a5a6f7c11", "reference_id": "ref_71",
        "start": timestamp, "end": timestamp + 86_400, "status": status,
    })
    .to_string()
}

/// The same event in the newer shape.
fn nested(iccid: &str, status: &str, timestamp: u64) -> String {
    json!({
        "event_category": "esim", "event_type": "status",
        "data": { "timestamp": timestamp, "iccid": iccid, "status": status, "start": 1, "end": 2 },
    })
    .to_string()
}

async fn outcome(app: &TestApp, body: String) -> String {
    deliver(app, body).await.outcome()
}

#[tokio::test]
async fn a_life_of_a_roamify_profile_is_followed_in_both_shapes() {
    let app = TestApp::start_with(with_roamify).await;
    let begin = unix_now() - 3_600;
    let steps = [
        ("NEW", "RELEASED", json!(null), "normal"),
        ("DOWNLOADED", "DOWNLOADED", json!(null), "normal"),
        ("INSTALLED", "INSTALLED", json!(null), "normal"),
        ("ACTIVATED", "INSTALLED", json!(true), "normal"),
        ("INACTIVE", "DISABLED", json!(false), "normal"),
        ("ACTIVATED", "INSTALLED", json!(true), "normal"),
        ("DELETED", "DELETED", json!(null), "normal"),
        ("REVOKED", "UNAVAILABLE", json!(null), "unexpected"),
    ];
    for (number, (word, state, enabled, _)) in (0_u64..).zip(&steps) {
        let at = begin + 60 * number;
        let shape = if number % 2 == 0 { flat } else { nested };
        assert_eq!(outcome(&app, shape(ICCID, word, at)).await, "moved", "{word}");
        let profile = app.profile(ICCID).await;
        assert_eq!((&profile["state"], &profile["enabled"]), (&json!(state), enabled), "{word}");
        assert_eq!((&profile["rawState"], &profile["provider"]), (&json!(word), &json!("roamify")));
    }
    let history = app.transitions(ICCID).await;
    for (transition, (word, state, _, kind)) in history.iter().zip(&steps) {
        assert_eq!((&transition["toState"], &transition["kind"]), (&json!(state), &json!(kind)));
        assert_eq!(transition["rawState"], *word);
        assert!(transition["occurredAt"].is_string(), "{transition}");
    }
    assert_eq!(history.len(), steps.len());
    app.assert_straight(ICCID).await;
    let metrics = app.admin.get("/metrics").await.text;
    assert!(metrics.contains(r#"provider="roamify""#), "{metrics}");
}

#[tokio::test]
async fn two_reports_of_one_fact_are_one_transition() {
    let app = TestApp::start_with(with_roamify).await;
    let at = unix_now() - 60;
    assert_eq!(outcome(&app, flat(ICCID, "ACTIVATED", at)).await, "moved");
    // In the other shape, three retries, and the same fact a second later.
    assert_eq!(outcome(&app, nested(ICCID, "ACTIVATED", at)).await, "repeated");
    for _ in 0..3 {
        assert_eq!(outcome(&app, flat(ICCID, "ACTIVATED", at)).await, "repeated");
    }
    assert_eq!(outcome(&app, flat(ICCID, "activated", at + 1)).await, "repeated");
    let profile = app.profile(ICCID).await;
    assert_eq!((&profile["seq"], &profile["deliveries"]), (&json!(1), &json!(6)));

    let twice = nested(&iccid(1), "INSTALLED", at);
    let answers = tokio::join!(outcome(&app, twice.clone()), outcome(&app, twice));
    let mut answers = [answers.0, answers.1];
    answers.sort();
    assert_eq!(answers, ["moved", "repeated"]);
    app.assert_straight(&iccid(1)).await;
}

#[tokio::test]
async fn a_late_event_or_retry_changes_nothing_and_is_in_the_history() {
    let app = TestApp::start_with(with_roamify).await;
    let at = unix_now() - 600;
    assert_eq!(outcome(&app, nested(ICCID, "INSTALLED", at)).await, "moved");
    assert_eq!(outcome(&app, nested(ICCID, "DELETED", at + 100)).await, "moved");
    for body in [nested(ICCID, "ACTIVATED", at + 50), nested(ICCID, "INSTALLED", at)] {
        assert_eq!(outcome(&app, body).await, "late");
        assert_eq!(app.profile(ICCID).await["state"], "DELETED");
    }
    let kinds: Vec<_> = app.transitions(ICCID).await.iter().map(|it| it["kind"].clone()).collect();
    assert_eq!(kinds, ["normal", "normal", "late", "late"]);
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn toggles_two_seconds_apart_are_changes_and_a_tie_ends_the_same_in_either_order() {
    let app = TestApp::start_with(with_roamify).await;
    let at = unix_now() - 600;
    for number in 0..10 {
        let word = if number % 2 == 0 { "ACTIVATED" } else { "INACTIVE" };
        assert_eq!(outcome(&app, flat(ICCID, word, at + 2 * number)).await, "moved", "{number}");
    }
    assert_eq!(app.profile(ICCID).await["seq"], 10);
    app.assert_straight(ICCID).await;

    // Within one second their order is not known.
    for (number, words) in [["ACTIVATED", "INACTIVE"], ["INACTIVE", "ACTIVATED"]].iter().enumerate()
    {
        let iccid = iccid(number);
        for word in words {
            deliver(&app, flat(&iccid, word, at)).await.outcome();
        }
        assert_eq!(app.profile(&iccid).await["state"], "DISABLED", "{words:?}");
        app.assert_straight(&iccid).await;
    }
}

#[tokio::test]
async fn times_that_cannot_be_true_order_nothing_and_freeze_no_profile() {
    let app = TestApp::start_with(with_roamify).await;
    let now = unix_now();
    for (number, at) in [0, 1, now * 1_000, 4_070_908_800, u64::MAX].into_iter().enumerate() {
        let iccid = iccid(number);
        let body = |word: &str| {
            let body = json!({ "event_category": "esim", "event_type": "status",
                "iccid": iccid, "status": word, "timestamp": at });
            body.to_string()
        };
        assert_eq!(outcome(&app, body("ACTIVATED")).await, "moved", "{at}");
        assert_eq!(outcome(&app, body("INACTIVE")).await, "moved", "{at}");
        assert_eq!(outcome(&app, body("ACTIVATED")).await, "moved", "{at}");
        let sound = nested(&iccid, "DELETED", now - 10);
        assert_eq!(outcome(&app, sound).await, "moved", "{at}");
        app.assert_straight(&iccid).await;
    }
}

#[tokio::test]
async fn a_wrong_signature_is_refused_and_leaves_nothing() {
    let app = TestApp::start_with(with_roamify).await;
    let body = flat(ICCID, "ACTIVATED", unix_now());
    let right = signature(SECRET, body.as_bytes());
    let other_body = signature(SECRET, flat(ICCID, "DELETED", unix_now()).as_bytes());
    let other_secret = signature("3b9f27c1d85e40a6f2b8", body.as_bytes());
    let base64 = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(hex::decode(&right).unwrap())
    };
    for (name, signature) in [
        ("of another body", other_body.as_str()),
        ("by another secret", &other_secret),
        ("in base64", &base64),
        ("with a prefix", &format!("sha256={right}")),
        ("cut", &right[..63]),
        ("too long", &format!("{right}0")),
        ("the secret itself", SECRET),
        ("empty", ""),
    ] {
        let answer = send(&app, Some(signature), body.clone().into()).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (401, "not-authentic"), "{name}");
    }
    assert_eq!(send(&app, None, body.clone().into()).await.problem(), "not-authentic");
    let in_url = app.anybody.post(&format!("/webhooks/{ROAMIFY}/{SECRET}"), body.clone()).await;
    assert_eq!(in_url.problem(), "not-authentic");
    let request = app.anybody.request(Method::POST, &format!("/webhooks/{ROAMIFY}"));
    let twice = request.header("X-Roamify-Signature", &right).header("X-Roamify-Signature", &right);
    assert_eq!(Answer::of(twice.body(body.clone())).await.problem(), "not-authentic");
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
    let answer = send(&app, Some(&right.to_uppercase()), body.into()).await;
    assert_eq!(answer.outcome(), "moved");
}

#[tokio::test]
async fn facts_of_the_service_other_kinds_and_unknown_words_are_kept_and_move_nothing() {
    let app = TestApp::start_with(with_roamify).await;
    let at = unix_now() - 100;
    assert_eq!(outcome(&app, flat(ICCID, "ACTIVATED", at)).await, "moved");
    let usage = |body: String| body.replace("\"status\",", "\"usage\",");
    for (body, wanted) in [
        (flat(ICCID, "EXPIRED", at + 1), "ignored"),
        (nested(ICCID, "expired", at + 1), "ignored"),
        (usage(flat(ICCID, "INACTIVE", at + 2)), "ignored"),
        (nested(ICCID, "DELETED", at + 2).replace("\"esim\"", "\"partner\""), "ignored"),
        (nested(ICCID, "UNKNOWN", at + 3), "unrecognised"),
        (nested(ICCID, "SUSPENDED", at + 3), "unrecognised"),
        (r#"{"event_category":"test"}"#.to_owned(), "ignored"),
    ] {
        assert_eq!(outcome(&app, body.clone()).await, wanted, "{body}");
        assert_eq!(app.profile(ICCID).await["state"], "INSTALLED", "{body}");
    }
    assert_eq!(app.profile(ICCID).await["seq"], 1);
    let kept = app.backend.get("/v1/deliveries?outcome=ignored").await.json();
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(5));
    assert!(kept["items"][0]["body"].is_string() && kept["items"][0]["reason"].is_string());
    app.assert_straight(ICCID).await;
}

/// Bodies with the members of Roamify's in places, of types and in spellings that Roamify does not send.
fn hostile(at: u64) -> Vec<Vec<u8>> {
    let members = ["event_category", "event_type", "iccid", "status", "timestamp", "data"];
    let values = [
        "null",
        "true",
        "0",
        "-1",
        "1e999",
        "1e30",
        "8991000000000034562",
        "\"\"",
        "\" \"",
        "[]",
        "{}",
        "[\"DELETED\"]",
        "{\"status\":\"DELETED\"}",
        "\"DELETED\\u0000\"",
        "\"\\ud800\"",
        "\"\\u202eDELETED\"",
        "\"infinity\"",
        "\"2026-02-30T00:00:00Z\"",
    ];
    let mut bodies = Vec::new();
    for (template, status) in [(flat(ICCID, "@", at), "\"@\""), (nested(ICCID, "@", at), "\"@\"")] {
        let body: Value = serde_json::from_str(&template).unwrap();
        for member in members {
            for value in values {
                let Some(old) = body.get(member).or(body["data"].get(member)) else { continue };
                let text = template
                    .replace(&format!("\"{member}\":{old}"), &format!("\"{member}\":{value}"));
                bodies.push(text.replace(status, "\"UNKNOWN\"").into_bytes());
                // The same member again, and under a name that differs in case.
                let more = text.replacen('{', &format!("{{\"{member}\":{value},"), 1);
                bodies.push(more.replace(status, "\"UNKNOWN\"").into_bytes());
                let upper = text
                    .replace(&format!("\"{member}\""), &format!("\"{}\"", member.to_uppercase()));
                bodies.push(upper.replace(status, "\"UNKNOWN\"").into_bytes());
            }
        }
        let sound = template.replace('@', "DELETED");
        for cut in (0..sound.len()).step_by(17) {
            bodies.push(sound.as_bytes()[..cut].to_vec());
        }
        bodies.push(format!("[{sound}]").into_bytes());
        bodies.push(format!("{sound}{sound}").into_bytes());
        bodies.push(json!({ "data": sound }).to_string().into_bytes());
        bodies.push(json!({ "event": body }).to_string().into_bytes());
        bodies.push([sound.as_bytes(), b"\xff"].concat());
    }
    let other = json!({ "iccid": iccid(1), "status": "DELETED", "timestamp": at });
    let mut mixed: Value = serde_json::from_str(&flat(ICCID, "DELETED", at)).unwrap();
    mixed["data"] = other;
    bodies.push(mixed.to_string().into_bytes());
    bodies
}

#[tokio::test]
async fn hostile_bodies_of_other_shapes_cause_no_5xx_and_move_no_state() {
    let app = TestApp::start_with(with_roamify).await;
    let at = unix_now() - 60;
    for profile in [ICCID.to_owned(), iccid(1)] {
        assert_eq!(outcome(&app, flat(&profile, "ACTIVATED", at - 60)).await, "moved");
    }
    let bodies = hostile(at);
    assert!(bodies.len() > 300, "{}", bodies.len());
    for body in bodies {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let answer = deliver(&app, body).await;
        match answer.status.as_u16() {
            200 => assert!(
                ["ignored", "unrecognised"].contains(&&*answer.outcome()),
                "{shown}: {answer:?}"
            ),
            400 => assert_eq!(answer.problem(), "malformed", "{shown}"),
            other => panic!("{other}: {shown}"),
        }
        if answer.status == 400 {
            let detail = answer.json()["detail"].to_string();
            assert!(!detail.contains("8997") && !detail.contains("8991"), "{shown}: {detail}");
        }
    }
    for profile in [ICCID.to_owned(), iccid(1)] {
        let read = app.profile(&profile).await;
        assert_eq!((&read["state"], &read["seq"]), (&json!("INSTALLED"), &json!(1)));
        app.assert_straight(&profile).await;
    }
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM profiles").await, 2);
}
