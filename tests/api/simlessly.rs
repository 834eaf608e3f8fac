//! Simlessly RSP over HTTP: its signature over headers and body, ids that count once, a life, steps that failed, and bodies of other
//! shapes.

use esim_status::config::Settings;
use esim_status::delivery::{AccessKey, Scheme, Secrets};
use esim_status_testing::{Answer, TestApp, unix_now};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use sha2::Sha256;
use uuid::Uuid;

use super::declared::hook_of;
use super::{ICCID, iccid};

const KEY: &str = "ak-204417";
const SECRET: &str = "a41c07d95be8823f6610";
const HOOK: &str = "simlessly/events";

fn with_simlessly(settings: &mut Settings) {
    let scheme = Scheme::Simlessly {
        access_key: AccessKey::parse(KEY).unwrap(),
        secrets: Secrets::parse("test", [SECRET]).unwrap(),
    };
    hook_of(settings, "simlessly", HOOK, scheme);
}

/// The headers of a request, as Simlessly's documentation says.
struct Headers(Vec<(&'static str, Vec<u8>)>);

impl Headers {
    fn signed(secret: &str, time: &str, id: &str, body: &[u8]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        for part in [time.as_bytes(), id.as_bytes(), KEY.as_bytes(), body] {
            mac.update(part);
        }
        let signature = hex::encode_upper(mac.finalize().into_bytes());
        let headers = [
            ("Access-Key", KEY),
            ("Sign-Method", "SHA256"),
            ("Timestamp", time),
            ("Request-ID", id),
            ("Signature", &signature),
        ];
        Self(headers.map(|(name, value)| (name, value.into())).to_vec())
    }

    fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.0.iter_mut().find(|(it, _)| *it == name).unwrap().1 = value.into();
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(it, _)| *it != name);
        self
    }

    fn twice(mut self, name: &str) -> Self {
        self.0.extend(self.0.iter().find(|(it, _)| *it == name).cloned());
        self
    }
}

fn now_ms() -> String {
    format!("{}000", unix_now())
}

async fn send(app: &TestApp, headers: Headers, body: Vec<u8>) -> Answer {
    let mut request = app.anybody.request(Method::POST, &format!("/webhooks/{HOOK}"));
    for (name, value) in headers.0 {
        request = request.header(name, HeaderValue::from_bytes(&value).unwrap());
    }
    Answer::of(request.body(body)).await
}

/// Sends a body with a right signature under this id.
async fn deliver_as(app: &TestApp, id: &str, body: &str) -> Answer {
    let headers = Headers::signed(SECRET, &now_ms(), id, body.as_bytes());
    send(app, headers, body.into()).await
}

/// Sends a body with a right signature under a new id.
async fn deliver(app: &TestApp, body: &str) -> Answer {
    deliver_as(app, &Uuid::new_v4().simple().to_string(), body).await
}

/// An event of the newer shape, this many seconds after an hour ago.
fn event(iccid: &str, kind: &str, status: &str, seconds: u64) -> String {
    json!({
        "type": "PROFILE_EVENT_NOTIFICATION", "notificationType": kind,
        "notificationStatus": { "status": status, "message": "" },
        "eid": "89086030202200000022000000000012", "iccid": iccid,
        "timestamp": format!("{}000", unix_now() - 3_600 + seconds),
        "clientIp": "192.0.2.17", "installedTimes": 1, "deviceName": "Phone 9",
    })
    .to_string()
}

/// The same of the older shape.
fn older(iccid: &str, kind: &str, status: &str, seconds: u64) -> String {
    json!({
        "eid": "89086030202200000022000000000012", "iccid": iccid,
        "timestamp": format!("{}000", unix_now() - 3_600 + seconds),
        "matchingId": "794A-7F21-0C", "configName": "basic", "NotificationType": kind,
        "notificationStatus": { "status": status, "message": "Profile has not been released." },
    })
    .to_string()
}

#[tokio::test]
async fn a_life_of_a_simlessly_profile_is_followed_and_a_failed_step_changes_nothing() {
    let app = TestApp::start_with(with_simlessly).await;
    for (body, outcome, state, enabled) in [
        (event(ICCID, "DOWNLOADED", "SUCCESS", 10), "moved", "DOWNLOADED", json!(null)),
        (event(ICCID, "INSTALLED", "FAILED", 12), "moved", "ERROR", json!(null)),
        (event(ICCID, "DOWNLOADED", "SUCCESS", 20), "moved", "DOWNLOADED", json!(null)),
        (older(ICCID, "INSTALLED", "Success", 30), "moved", "INSTALLED", json!(null)),
        (older(ICCID, "ENABLE", "Failed", 40), "ignored", "INSTALLED", json!(null)),
        (event(ICCID, "ENABLE", "SUCCESS", 41), "moved", "INSTALLED", json!(true)),
        // The same fact in the other shape, under another id.
        (older(ICCID, "ENABLE", "success", 41), "repeated", "INSTALLED", json!(true)),
        // Two seconds apart.
        (event(ICCID, "DISABLE", "SUCCESS", 43), "moved", "DISABLED", json!(false)),
        (event(ICCID, "ENABLE", "SUCCESS", 45), "moved", "INSTALLED", json!(true)),
        (event(ICCID, "DISABLE", "SUCCESS", 44), "late", "INSTALLED", json!(true)),
        (event(ICCID, "DOWNLOADED", "FAILED", 15), "late", "INSTALLED", json!(true)),
        (event(ICCID, "DISABLE", "FAILED", 50), "ignored", "INSTALLED", json!(true)),
        (event(ICCID, "DELETE", "FAILED", 51), "ignored", "INSTALLED", json!(true)),
        (older(ICCID, "DELETE", "failed", 52), "ignored", "INSTALLED", json!(true)),
        (event(ICCID, "DELETE", "PENDING", 53), "unrecognised", "INSTALLED", json!(true)),
        (event(ICCID, "DELETE", "SUCCESS", 60), "moved", "DELETED", json!(null)),
    ] {
        assert_eq!(deliver(&app, &body).await.outcome(), outcome, "{body}");
        let profile = app.profile(ICCID).await;
        assert_eq!((&profile["state"], &profile["enabled"]), (&json!(state), &enabled), "{body}");
    }
    app.assert_straight(ICCID).await;
    assert_eq!(app.transitions(ICCID).await.len(), 10);
}

#[tokio::test]
async fn a_request_id_counts_once_on_every_replica_and_with_another_time() {
    let app = TestApp::start_with(with_simlessly).await;
    let (enable, delete) =
        (event(ICCID, "ENABLE", "SUCCESS", 10), event(ICCID, "DELETE", "SUCCESS", 20));
    let headers = || Headers::signed(SECRET, &now_ms(), "4ce9d9cd", enable.as_bytes());
    let (once, again) = (headers(), headers());
    let mut answers = [
        send(&app, once, enable.clone().into()).await.outcome(),
        send(&app, again, enable.clone().into()).await.outcome(),
        deliver_as(&app, "4ce9d9cd", &enable).await.outcome(),
        // Other content under the same id.
        deliver_as(&app, "4ce9d9cd", &delete).await.outcome(),
    ];
    assert_eq!(answers, ["moved", "duplicate", "duplicate", "duplicate"]);
    assert_eq!(app.profile(ICCID).await["state"], "INSTALLED");

    let replica = TestApp::start_on(app.database.clone(), with_simlessly).await;
    assert_eq!(deliver_as(&replica, "4ce9d9cd", &delete).await.outcome(), "duplicate");
    answers = at_the_same_time(&app, &replica, &delete).await;
    answers.sort();
    assert_eq!(answers, ["duplicate", "duplicate", "duplicate", "moved"]);
    assert_eq!(app.profile(ICCID).await["state"], "DELETED");
    app.assert_straight(ICCID).await;
}

/// Sends one body under one id four times at the same time, to two replicas.
async fn at_the_same_time(app: &TestApp, replica: &TestApp, body: &str) -> [String; 4] {
    let answers = tokio::join!(
        deliver_as(app, "7f21", body),
        deliver_as(replica, "7f21", body),
        deliver_as(app, "7f21", body),
        deliver_as(replica, "7f21", body),
    );
    [answers.0, answers.1, answers.2, answers.3].map(|answer| answer.outcome())
}

#[tokio::test]
async fn wrong_stale_and_odd_headers_are_refused_and_leave_nothing() {
    let app = TestApp::start_with(with_simlessly).await;
    let body = event(ICCID, "DELETE", "SUCCESS", 10);
    let at = |time: &str| Headers::signed(SECRET, time, "4ce9d9cd", body.as_bytes());
    let (now, time) = (unix_now(), now_ms());
    let right = || at(&time);
    let mut refused = vec![
        ("another secret", Headers::signed("a41c07d95be8823f6611", &time, "4ce9", body.as_bytes())),
        ("another body", Headers::signed(SECRET, &time, "4ce9", b"{}")),
        ("over ten minutes ago", at(&format!("{}000", now - 601))),
        ("over ten minutes ahead", at(&format!("{}000", now + 610))),
        ("in seconds", at(&now.to_string())),
        ("in microseconds", at(&format!("{now}000000"))),
        ("a leading zero", at(&format!("0{time}"))),
        ("a sign", at(&format!("+{time}"))),
        ("a fraction", at(&format!("{time}.0"))),
        ("the minimum of i64", at(&i64::MIN.to_string())),
        ("400 digits", at(&"1".repeat(400))),
        ("another access key", right().with("Access-Key", "ak-204418")),
        ("another id", right().with("Request-ID", "4ce9d9ce")),
        ("another time", right().with("Timestamp", format!("{now}001"))),
        ("another method", right().with("Sign-Method", "MD5")),
        ("half a signature", right().with("Signature", "ab".repeat(16))),
        ("a signature of other characters", right().with("Signature", "g".repeat(64))),
        // The first ten digits are a time in seconds, and the others begin the id.
        (
            "cut elsewhere",
            right().with("Timestamp", now.to_string()).with("Request-ID", "0004ce9d9cd"),
        ),
        (
            "cut within the access key",
            right().with("Request-ID", "4ce9d9cda").with("Access-Key", &KEY[1..]),
        ),
    ];
    for id in [&b""[..], b"a b", b"a{", b"\xff", &[b'x'; 257]] {
        refused.push(("an odd id", right().with("Request-ID", id)));
    }
    for name in ["Access-Key", "Timestamp", "Request-ID", "Signature", "Sign-Method"] {
        refused.push((name, right().twice(name)));
        refused.push((name, right().with(name, "")));
        refused.push((name, right().with(name, b"\xff\xfe".to_vec())));
        if name != "Sign-Method" {
            refused.push((name, right().without(name)));
        }
    }
    for (why, headers) in refused {
        let answer = send(&app, headers, body.clone().into()).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (401, "not-authentic"), "{why}");
    }
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM event_ids").await, 0);
    for time in [format!("{}000", now - 590), format!("{}999", now + 599)] {
        let headers = Headers::signed(SECRET, &time, &time, body.as_bytes()).without("Sign-Method");
        assert_eq!(send(&app, headers, body.clone().into()).await.status, 200, "{time}");
    }
}

/// Every member takes values that Simlessly does not send, in both shapes; and bodies are cut, wrapped and doubled.
fn hostile() -> Vec<Vec<u8>> {
    let values = [
        json!(true),
        json!(7),
        json!(""),
        json!(" "),
        json!("\u{202e}DELETE"),
        json!([]),
        json!(["DELETE"]),
        json!({}),
        json!({ "status": "FAILED" }),
        json!("x".repeat(5_000)),
    ];
    let mut bodies = Vec::new();
    for sound in [event(ICCID, "DELETE", "SUCCESS", 60), older(ICCID, "DELETE", "Success", 60)] {
        let body: Value = serde_json::from_str(&sound).unwrap();
        for place in ["/notificationType", "/NotificationType", "/notificationStatus", "/iccid"]
            .into_iter()
            .chain(["/notificationStatus/status", "/type"])
        {
            for value in values.iter().chain([&json!(null)]) {
                let mut body = body.clone();
                let Some(member) = body.pointer_mut(place) else { continue };
                // An absent `type` is the older shape.
                if place == "/type" && value.is_null() {
                    continue;
                }
                *member = value.clone();
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
            json!({ "event": sound }).to_string(),
            sound.replacen('{', r#"{"\u0069ccid":"8986000000000012345","#, 1),
            sound.replacen('{', r#"{"notificationType":"ENABLE","NotificationType":"DELETE","#, 1),
            sound.replace("DELETE", r"DELETE\u0000"),
            sound.replace("DELETE", r"\ud800"),
            sound.replace("otificationStatus", "OTIFICATIONSTATUS"),
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
    let app = TestApp::start_with(with_simlessly).await;
    assert_eq!(deliver(&app, &event(ICCID, "ENABLE", "SUCCESS", 0)).await.outcome(), "moved");
    let bodies = hostile();
    assert!(bodies.len() > 140, "{}", bodies.len());
    for body in bodies {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let id = Uuid::new_v4().to_string();
        let answer = send(&app, Headers::signed(SECRET, &now_ms(), &id, &body), body).await;
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

    // A time that cannot be true orders nothing and freezes no profile.
    for (number, time) in
        ["0", "1", "4070908800000", "infinity", "9".repeat(30).as_str()].into_iter().enumerate()
    {
        let iccid = iccid(number);
        for kind in ["ENABLE", "DISABLE"] {
            let mut body: Value = serde_json::from_str(&event(&iccid, kind, "SUCCESS", 0)).unwrap();
            body["timestamp"] = json!(time);
            assert_eq!(deliver(&app, &body.to_string()).await.outcome(), "moved", "{time}");
        }
        let sound = event(&iccid, "DELETE", "SUCCESS", 60);
        assert_eq!(deliver(&app, &sound).await.outcome(), "moved", "{time}");
    }
}
