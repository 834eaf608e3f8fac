//! eSIM Go over HTTP: signatures in both encodings, a life, facts that are reported twice, connections, and bodies of other shapes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use esim_status::clock;
use esim_status::config::Settings;
use esim_status::delivery::{Encoding, Scheme, Secrets};
use esim_status_testing::{Answer, TestApp};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use super::declared::hook_of;
use super::{ICCID, iccid};

const KEY: &str = "Zt5nQ0xR7bLc2VwK8mHdYp3s";
const HOOK: &str = "esim-go/events";
const EID: &str = "89049032000000000000000000000045";

pub(super) fn with_esim_go(settings: &mut Settings) {
    let scheme = Scheme::HmacSha256 {
        header: http::HeaderName::from_static("x-signature-sha256"),
        encoding: Encoding::Either,
        prefix: String::new(),
        secrets: Secrets::parse("test", [KEY]).unwrap(),
    };
    hook_of(settings, "esim-go", HOOK, scheme);
}

fn mac(key: &str, body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

async fn send(app: &TestApp, signatures: &[String], body: Vec<u8>) -> Answer {
    let mut request = app.anybody.request(Method::POST, &format!("/webhooks/{HOOK}"));
    for signature in signatures {
        request = request.header("X-Signature-SHA256", signature);
    }
    Answer::of(request.body(body)).await
}

/// Sends a body with the right signature: as the guide says, in hexadecimal digits, or as the reference says, in base64.
pub(super) async fn deliver(app: &TestApp, body: impl Into<Vec<u8>>) -> Answer {
    let body = body.into();
    let mac = mac(KEY, &body);
    let written =
        if body.len().is_multiple_of(2) { hex::encode(mac) } else { STANDARD.encode(mac) };
    send(app, &[written], body).await
}

/// This many seconds after an hour ago.
fn at(seconds: i64) -> String {
    clock::now().plus_seconds(seconds - 3_600).to_string()
}

pub(super) fn event(iccid: &str, status: &str, seconds: i64) -> Value {
    json!({
        "alertType": "ProfileStatusChange", "timestamp": at(seconds), "iccid": iccid,
        "profileStatus": status,
        "device": { "IMEI": "353285100000018", "EID": EID, "TAC": "35328510", "make": "Apple", "model": "iPhone 15" },
    })
}

fn gone(iccid: &str, seconds: i64) -> Value {
    json!({ "date": at(seconds), "event": "esim.deleted", "iccid": iccid })
}

#[tokio::test]
async fn a_life_of_an_esim_go_profile_is_followed_and_a_fact_reported_twice_is_one_transition() {
    let app = TestApp::start_with(with_esim_go).await;
    let installed = event(ICCID, "Installed", 20);
    let mut by_date = event(ICCID, "installed", 20);
    by_date["date"] = by_date["timestamp"].take();
    by_date["event"] = by_date["alertType"].take();
    for (body, outcome, state) in [
        (event(ICCID, "Downloaded", 10), "moved", "DOWNLOADED"),
        (installed.clone(), "moved", "INSTALLED"),
        (installed.clone(), "repeated", "INSTALLED"),
        (by_date, "repeated", "INSTALLED"),
        (event(ICCID, "Downloaded", 10), "late", "INSTALLED"),
        // Two seconds apart.
        (event(ICCID, "Released", 22), "moved", "DELETED"),
        (event(ICCID, "Installed", 24), "moved", "INSTALLED"),
        (event(ICCID, "Released", 22), "late", "INSTALLED"),
        (event(ICCID, "Enabled", 30), "unrecognised", "INSTALLED"),
        (event(ICCID, "Released", 40), "moved", "DELETED"),
        (gone(ICCID, 50), "moved", "UNAVAILABLE"),
        (gone(ICCID, 50), "repeated", "UNAVAILABLE"),
        (installed, "late", "UNAVAILABLE"),
    ] {
        assert_eq!(deliver(&app, body.to_string()).await.outcome(), outcome, "{body}");
        assert_eq!(app.profile(ICCID).await["state"], state, "{body}");
    }
    assert_eq!(app.profile(ICCID).await["eid"], EID);
    app.assert_straight(ICCID).await;
    assert_eq!(app.transitions(ICCID).await.len(), 9);

    let twice = event(&iccid(1), "Installed", 20).to_string();
    let answers = tokio::join!(deliver(&app, twice.clone()), deliver(&app, twice));
    let mut answers = [answers.0.outcome(), answers.1.outcome()];
    answers.sort();
    assert_eq!(answers, ["moved", "repeated"]);
}

#[tokio::test]
async fn attachments_and_countries_are_evidence_of_a_connection_and_move_no_state() {
    let app = TestApp::start_with(with_esim_go).await;
    let first = json!({ "alertType": "FirstAttachment", "iccid": ICCID });
    let country = |code: &str| json!({ "alertType": "CountryChange", "iccid": ICCID, "timestamp": at(60), "country": { "code": code, "name": "Poland" } });
    assert_eq!(deliver(&app, first.to_string()).await.outcome(), "ignored", "it is not known yet");
    assert_eq!(deliver(&app, event(ICCID, "Installed", 0).to_string()).await.outcome(), "moved");
    for (body, known) in [
        (first, json!(null)),
        (country("PL"), json!("PL")),
        // It comes again every 24 hours.
        (country("PL"), json!("PL")),
        (country("POL"), json!("PL")),
    ] {
        assert_eq!(deliver(&app, body.to_string()).await.outcome(), "connected", "{body}");
        let profile = app.profile(ICCID).await;
        assert_eq!((&profile["state"], &profile["country"]), (&json!("INSTALLED"), &known));
        assert!(profile["firstConnectedAt"].is_string());
    }
    let usage =
        json!({ "alertType": "Utilisation", "iccid": ICCID, "bundle": { "name": "esim_1GB" } });
    assert_eq!(deliver(&app, usage.to_string()).await.outcome(), "ignored");
    assert_eq!(app.profile(ICCID).await["seq"], 1);
}

#[tokio::test]
async fn the_kind_of_the_device_is_kept_shown_to_backends_only_and_erased() {
    let app = TestApp::start_with(with_esim_go).await;
    let installed = |seconds, device: Value| {
        let mut body = event(ICCID, "Installed", seconds);
        body["device"] = device;
        body.to_string()
    };
    let path = format!("/v1/profiles/{ICCID}");
    let kind =
        |make: &str, model: &str, tac: &str| json!({ "make": make, "model": model, "tac": tac });
    let phone = json!({ "IMEI": "353285100000018", "EID": EID, "TAC": "35328510", "make": "Apple", "model": "iPhone 15" });
    assert_eq!(deliver(&app, installed(0, json!({ "EID": EID }))).await.outcome(), "moved");
    let before = app.backend.get(&path).await;
    assert_eq!(before.json()["device"], json!(null));

    // It is learned from a repeated report, and an answer from before is no longer valid.
    assert_eq!(deliver(&app, installed(1, phone)).await.outcome(), "repeated");
    let tag = before.header("etag");
    let learned = app.backend.get_with(&path, "if-none-match", tag).await;
    assert_eq!(learned.json()["device"], kind("Apple", "iPhone 15", "35328510"));

    for (body, device) in [
        // Neither a body that says less, nor an odd one, nor a late one takes away what is known.
        (installed(2, json!({ "EID": EID })), kind("Apple", "iPhone 15", "35328510")),
        (
            installed(3, json!({ "make": 7, "model": "", "TAC": [] })),
            kind("Apple", "iPhone 15", "35328510"),
        ),
        (
            installed(4, json!({ "model": "353285100000018" })),
            kind("Apple", "iPhone 15", "35328510"),
        ),
        (installed(-9, json!({ "make": "Nokia" })), kind("Apple", "iPhone 15", "35328510")),
        // Another phone, of which nothing more is said.
        (installed(5, json!({ "EID": "89049032000000000000000000000046" })), json!(null)),
        (
            installed(6, json!({ "TAC": 35_328_511, "make": "Google", "model": "Pixel 8" })),
            kind("Google", "Pixel 8", "35328511"),
        ),
    ] {
        assert_eq!(deliver(&app, body.clone()).await.status, 200);
        assert_eq!(app.profile(ICCID).await["device"], device, "{body}");
    }
    app.assert_straight(ICCID).await;

    let listed = app.backend.get("/v1/profiles").await.json();
    assert_eq!(listed["items"][0]["device"]["model"], "Pixel 8");
    let user = app.user(ICCID);
    for part in ["", "/journey", "/transitions"] {
        let shown = user.get(&format!("/v1/profiles/self{part}")).await;
        assert_eq!(shown.status, 200);
        assert!(!shown.text.contains("device") && !shown.text.contains("Pixel"), "{shown:?}");
    }
    let stored = "SELECT device::text FROM profiles";
    let stored = app.database.scalar::<String>(stored).await;
    assert_eq!(
        serde_json::from_str::<Value>(&stored).unwrap(),
        kind("Google", "Pixel 8", "35328511")
    );
    assert_eq!(app.backend.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM profiles").await, 0);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
}

#[tokio::test]
async fn a_wrong_signature_is_refused_and_leaves_nothing() {
    let app = TestApp::start_with(with_esim_go).await;
    let body = event(ICCID, "Installed", 0).to_string().into_bytes();
    let right = hex::encode(mac(KEY, &body));
    let base64 = STANDARD.encode(mac(KEY, &body));
    for signatures in [
        vec![],
        vec![String::new()],
        vec![hex::encode(mac(KEY, b"{}"))],
        vec![hex::encode(mac("Zt5nQ0xR7bLc2VwK8mHdYp3t", &body))],
        vec![STANDARD.encode(mac("Zt5nQ0xR7bLc2VwK8mHdYp3t", &body))],
        vec![right[..62].to_owned()],
        vec![base64[..40].to_owned()],
        vec![format!("sha256={right}")],
        vec![right.clone(), right.clone()],
        vec![right.clone(), base64.clone()],
        vec![KEY.to_owned()],
    ] {
        let answer = send(&app, &signatures, body.clone()).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (401, "not-authentic"));
    }
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
    for (written, outcome) in
        [(right.clone(), "moved"), (right.to_uppercase(), "repeated"), (base64, "repeated")]
    {
        assert_eq!(send(&app, &[written], body.clone()).await.outcome(), outcome);
    }
}

/// Every member takes values that eSIM Go does not send; and bodies are cut, wrapped and doubled.
fn hostile() -> Vec<Vec<u8>> {
    let values = [
        json!(null),
        json!(true),
        json!(7),
        json!(8_943_000_000_000_012_000_u64),
        json!(""),
        json!(" "),
        json!("\u{202e}Released"),
        json!([]),
        json!(["Released"]),
        json!({}),
        json!({ "profileStatus": "Released" }),
        json!("x".repeat(5_000)),
    ];
    let mut bodies = Vec::new();
    let mut other = event(ICCID, "Released", 60);
    other["alertType"] = json!("ProfileUpdate");
    bodies.push(other.to_string().into_bytes());
    for (body, places) in [
        (event(ICCID, "Released", 60), &["/alertType", "/profileStatus", "/iccid"][..]),
        (gone(ICCID, 60), &["/event", "/iccid"]),
    ] {
        let sound = body.to_string();
        for place in places {
            for value in &values {
                let mut body = body.clone();
                *body.pointer_mut(place).unwrap() = value.clone();
                bodies.push(body.to_string().into_bytes());
            }
        }
        for cut in (0..sound.len()).step_by(17) {
            bodies.push(sound.as_bytes()[..cut].to_vec());
        }
        for text in [
            format!("[{sound}]"),
            format!("{sound}{sound}"),
            json!({ "data": body }).to_string(),
            json!({ "alertType": sound }).to_string(),
            sound.replacen('{', r#"{"\u0069ccid":"8943000000000012345","#, 1),
            sound.replacen('{', r#"{"alertType":"Utilisation","event":"esim.deleted","#, 1),
            sound.replace("leased", r"leased\u0000").replace("deleted", r"deleted\u0000"),
            sound.replace("Released", r"\ud800").replace("deleted", r"\ud800"),
            format!("\u{feff}{sound}"),
        ] {
            bodies.push(text.into_bytes());
        }
        bodies.push([sound.as_bytes(), b"\xff"].concat());
    }
    bodies
}

#[tokio::test]
async fn hostile_bodies_of_other_shapes_cause_no_5xx_and_move_no_state() {
    let app = TestApp::start_with(with_esim_go).await;
    assert_eq!(deliver(&app, event(ICCID, "Installed", 0).to_string()).await.outcome(), "moved");
    let bodies = hostile();
    assert!(bodies.len() > 90, "{}", bodies.len());
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
    }
    let read = app.profile(ICCID).await;
    assert_eq!((&read["state"], &read["seq"]), (&json!("INSTALLED"), &json!(1)));
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM profiles").await, 1);

    // Odd devices and times cost no event, and freeze no profile.
    for (number, value) in [json!(null), json!(0), json!("2099-01-01T00:00:00Z"), json!("infinity")]
        .into_iter()
        .chain([json!("2026-02-30T00:00:00Z"), json!([]), json!({})])
        .enumerate()
    {
        let iccid = iccid(number + 1);
        for status in ["Installed", "Released"] {
            let mut body = event(&iccid, status, 0);
            (body["timestamp"], body["device"]) = (value.clone(), value.clone());
            assert_eq!(deliver(&app, body.to_string()).await.outcome(), "moved", "{body}");
        }
        let sound = event(&iccid, "Downloaded", 60);
        assert_eq!(deliver(&app, sound.to_string()).await.outcome(), "moved", "{value}");
    }
}
