//! eSIM Access over HTTP: the portal's test, a life, facts that are reported twice, steps that are not executed, and bodies of other
//! shapes.

use esim_status::clock;
use esim_status::config::Settings;
use esim_status::delivery::{Scheme, Secrets};
use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::declared::hook_of;
use super::{ICCID, iccid};

const SECRET: &str = "c07b8e11d94a4d2f86a3";
const HOOK: &str = "esim-access/events";

fn with_esim_access(settings: &mut Settings) {
    let scheme = Scheme::UrlSecret(Secrets::parse("test", [SECRET]).unwrap());
    hook_of(settings, "esim-access", HOOK, scheme);
}

async fn send(app: &TestApp, secret: &str, body: &Value) -> Answer {
    let request = app.anybody.request(Method::POST, &format!("/webhooks/{HOOK}/{secret}"));
    Answer::of(request.body(body.to_string())).await
}

async fn outcome(app: &TestApp, body: &Value) -> String {
    send(app, SECRET, body).await.outcome()
}

/// This many seconds after an hour ago.
fn at(seconds: i64) -> String {
    clock::now().plus_seconds(seconds - 3_600).to_string()
}

fn event(id: &str, iccid: &str, smdp: &str, notify: Option<&str>, seconds: i64) -> Value {
    json!({
        "notifyType": "SMDP_EVENT", "notifyId": id, "eventGenerateTime": at(seconds),
        "content": {
            "iccid": iccid, "eid": "89049032000000000000000000000045", "orderNo": "B26042200010001",
            "transactionId": "7542454845768-1-GR_1_7", "esimStatus": "IN_USE", "smdpStatus": smdp,
            "timestamp": at(seconds), "seqNumber": 113, "notifyStatus": notify,
        },
    })
}

fn status(id: &str, iccid: &str, smdp: &str, esim: &str) -> Value {
    json!({
        "notifyType": "ESIM_STATUS", "notifyId": id,
        "content": { "iccid": iccid, "orderNo": "B26042200010001", "esimStatus": esim, "smdpStatus": smdp },
    })
}

#[tokio::test]
async fn the_portals_test_is_answered_200_and_a_wrong_secret_401() {
    let app = TestApp::start_with(with_esim_access).await;
    let test = json!({ "notifyType": "CHECK_HEALTH", "notifyId": "c41d", "content": { "orderNo": "B0", "orderStatus": "Test" } });
    assert_eq!(outcome(&app, &test).await, "ignored");
    assert_eq!(send(&app, "c07b8e11d94a4d2f86a4", &test).await.problem(), "not-authentic");
}

#[tokio::test]
async fn a_life_is_followed_and_a_fact_that_is_reported_twice_is_one_transition() {
    let app = TestApp::start_with(with_esim_access).await;
    let done = Some("Executed-Success");
    for (body, outcome_of_it, state) in [
        (status("s-0", ICCID, "RELEASED", "GOT_RESOURCE"), "moved", "RELEASED"),
        (event("e-1", ICCID, "DOWNLOAD", None, 10), "moved", "DOWNLOADED"),
        (event("e-2", ICCID, "DOWNLOAD", done, 11), "repeated", "DOWNLOADED"),
        (event("e-3", ICCID, "INSTALLATION", None, 20), "repeated", "DOWNLOADED"),
        (event("e-4", ICCID, "INSTALLATION", done, 21), "moved", "INSTALLED"),
        (status("s-4", ICCID, "INSTALLATION", "IN_USE"), "ignored", "INSTALLED"),
        (event("e-5", ICCID, "ENABLED", done, 30), "moved", "INSTALLED"),
        (status("s-5", ICCID, "ENABLED", "IN_USE"), "repeated", "INSTALLED"),
        // The provider sends it again.
        (event("e-5", ICCID, "ENABLED", done, 30), "duplicate", "INSTALLED"),
        (event("e-2", ICCID, "DOWNLOAD", done, 11), "duplicate", "INSTALLED"),
        (event("e-9", ICCID, "DOWNLOAD", done, 12), "late", "INSTALLED"),
        (status("s-6", ICCID, "ENABLED", "USED_UP"), "repeated", "INSTALLED"),
        (status("s-7", ICCID, "ENABLED", "REVOKED"), "repeated", "INSTALLED"),
        (event("e-10", ICCID, "DISABLED", done, 40), "moved", "DISABLED"),
        (event("e-11", ICCID, "DELETED", Some("Executed-Failed"), 50), "unrecognised", "DISABLED"),
        (event("e-12", ICCID, "DELETED", None, 51), "ignored", "DISABLED"),
        (event("e-13", ICCID, "DELETED", done, 52), "moved", "DELETED"),
        (status("s-8", ICCID, "DELETED", "REVOKED"), "moved", "UNAVAILABLE"),
    ] {
        assert_eq!(outcome(&app, &body).await, outcome_of_it, "{body}");
        assert_eq!(app.profile(ICCID).await["state"], state, "{body}");
    }
    app.assert_straight(ICCID).await;
    assert_eq!(app.transitions(ICCID).await.len(), 8);
}

/// Every member takes every value of another shape: never a fault of the service, and no state that the event does not report.
#[tokio::test]
async fn bodies_of_other_shapes_are_kept_and_move_nothing_wrongly() {
    let app = TestApp::start_with(with_esim_access).await;
    let done = Some("Executed-Success");
    let first = event("e-0", ICCID, "ENABLED", done, 0);
    assert_eq!(outcome(&app, &first).await, "moved");
    let values = [
        json!(null),
        json!(true),
        json!(7),
        json!(""),
        json!(" "),
        json!("\u{202e}"),
        json!([]),
        json!({}),
        json!({ "iccid": ICCID }),
        json!("x".repeat(5_000)),
    ];
    let places = [
        "/notifyType",
        "/content",
        "/content/iccid",
        "/content/smdpStatus",
        "/content/notifyStatus",
        "/content/esimStatus",
    ];
    let mut number = 0;
    for place in places {
        for value in &values {
            number += 1;
            for mut body in [
                event(&format!("h-{number}"), ICCID, "DELETED", done, 60),
                status(&format!("i-{number}"), ICCID, "DELETED", "IN_USE"),
            ] {
                let is_status = body["notifyType"] == "ESIM_STATUS";
                // Neither says anything about the deletion.
                if (is_status
                    && !["/content/iccid", "/content/smdpStatus", "/content", "/notifyType"]
                        .contains(&place))
                    || (!is_status && place == "/content/esimStatus")
                {
                    continue;
                }
                *body.pointer_mut(place).unwrap() = value.clone();
                let answer = send(&app, SECRET, &body).await;
                assert!([200, 400].contains(&answer.status.as_u16()), "{body}: {answer:?}");
                assert_eq!(app.profile(ICCID).await["state"], "INSTALLED", "{body}");
            }
        }
    }
    assert!(number >= 40, "{number}");
    assert_eq!(app.backend.get(&format!("/v1/profiles/{}", iccid(1))).await.status, 404);
}
