//! What the API answers, whole: one story of one eSIM, and every answer about it as a caller sees it.
//!
//! Times, ids and tokens differ from run to run and are replaced by their kind. All else is exactly what is sent, so this file is
//! the place to look up an answer, and a change of any member shows here.

use esim_status_testing::{Answer, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use super::ICCID;

const IMSI: &str = "260060147200183";
const EID: &str = "89049032004008882600012345678912";

/// Checks that an answer is JSON with this status, and shows it without what differs from run to run.
fn shown(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text);
    without_times(answer.json())
}

fn without_times(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let kind = match name.as_str() {
                    _ if value.is_null() => None,
                    "id" | "deliveryId" | "requestId" => Some("(id)"),
                    "token" => Some("(token)"),
                    "installUrl" => Some("(URL with the token)"),
                    "day" => Some("(day)"),
                    "p50" | "p90" => Some("(seconds)"),
                    name if ["since", "at"].contains(&name) || name.ends_with("At") => {
                        Some("(time)")
                    }
                    "type" => Some("(URL of the problem)"),
                    _ => None,
                };
                (name, kind.map_or_else(|| without_times(value), Value::from))
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(without_times).collect(),
        value => value,
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "every answer is shown whole")]
async fn every_answer_about_one_esim() {
    let app = TestApp::start().await;
    let profile = format!("/v1/profiles/{ICCID}");
    let object = json!({
        "iccid": ICCID,
        "imsi": IMSI,
        "activationCode": "LPA:1$smdp.example$K2-204",
        "state": "RELEASED",
        "uid": "c-204",
    });
    let put = app.backend.request(Method::PUT, &profile).body(object.to_string());
    insta::assert_json_snapshot!(shown(&Answer::of(put).await, 201), @r#"
    {
      "iccid": "89972123300991848961",
      "state": "RELEASED",
      "enabled": null,
      "rawState": "RELEASED",
      "provider": "gigastore",
      "since": "(time)",
      "seq": 1,
      "lastDeliveryAt": null,
      "deliveries": 0,
      "installsSeen": 0,
      "firstConnectedAt": null,
      "lastConnectedAt": null,
      "country": null,
      "overdue": null,
      "registered": true,
      "checks": {
        "iccidLuhn": true
      },
      "imsi": "260060147200183",
      "eid": null,
      "device": null,
      "uid": "c-204",
      "activatedAt": null,
      "lastSeen": null,
      "reference": null,
      "expectedFrom": null,
      "replaces": null,
      "replacedBy": null,
      "remarks": []
    }
    "#);
    let body = json!({ "iccid": ICCID, "imsi": IMSI, "eid": EID, "profileState": "INSTALLED" });
    let webhook = app.deliver(body.to_string()).await;
    insta::assert_json_snapshot!(shown(&webhook, 200), @r#"
    {
      "deliveryId": "(id)",
      "outcome": "moved"
    }
    "#);
    insta::assert_json_snapshot!(shown(&app.deliver("{").await, 400), @r#"
    {
      "type": "(URL of the problem)",
      "title": "The webhook's body is not what this provider sends",
      "status": 400,
      "code": "malformed",
      "detail": "the body is not one strict JSON object: EOF while parsing an object at line 1 column 1",
      "requestId": "(id)",
      "deliveryId": "(id)"
    }
    "#);
    insta::assert_json_snapshot!(shown(&app.backend.get(&profile).await, 200), @r#"
    {
      "iccid": "89972123300991848961",
      "state": "INSTALLED",
      "enabled": true,
      "rawState": "INSTALLED",
      "provider": "gigastore",
      "since": "(time)",
      "seq": 2,
      "lastDeliveryAt": "(time)",
      "deliveries": 1,
      "installsSeen": 1,
      "firstConnectedAt": null,
      "lastConnectedAt": null,
      "country": null,
      "overdue": null,
      "registered": true,
      "checks": {
        "iccidLuhn": true,
        "eidMod97": false
      },
      "imsi": "260060147200183",
      "eid": "89049032004008882600012345678912",
      "device": null,
      "uid": "c-204",
      "activatedAt": null,
      "lastSeen": null,
      "reference": null,
      "expectedFrom": null,
      "replaces": null,
      "replacedBy": null
    }
    "#);
    let token = app.backend.post(&format!("{profile}/tokens"), "").await;
    insta::assert_json_snapshot!(shown(&token, 200), @r#"
    {
      "token": "(token)",
      "expiresAt": "(time)",
      "installUrl": "(URL with the token)"
    }
    "#);
    let user = app.user(ICCID);
    insta::assert_json_snapshot!(shown(&user.get("/v1/profiles/self").await, 200), @r#"
    {
      "iccid": "89972123300991848961",
      "state": "INSTALLED",
      "enabled": true,
      "rawState": "INSTALLED",
      "provider": "gigastore",
      "since": "(time)",
      "seq": 2,
      "lastDeliveryAt": "(time)",
      "deliveries": 1,
      "installsSeen": 1,
      "firstConnectedAt": null,
      "lastConnectedAt": null,
      "country": null,
      "overdue": null,
      "registered": true,
      "checks": {
        "iccidLuhn": true
      }
    }
    "#);
    insta::assert_json_snapshot!(shown(&user.get("/v1/profiles/self/transitions").await, 200), @r#"
    {
      "items": [
        {
          "seq": 1,
          "fromState": null,
          "toState": "RELEASED",
          "enabled": null,
          "rawState": "RELEASED",
          "kind": "normal",
          "source": "registration",
          "receivedAt": "(time)",
          "provider": "gigastore"
        },
        {
          "seq": 2,
          "fromState": "RELEASED",
          "toState": "INSTALLED",
          "enabled": true,
          "rawState": "INSTALLED",
          "kind": "normal",
          "source": "webhook",
          "receivedAt": "(time)",
          "provider": "gigastore"
        }
      ],
      "nextCursor": null
    }
    "#);
    insta::assert_json_snapshot!(shown(&user.get("/v1/profiles/self/journey").await, 200), @r#"
    {
      "iccid": "89972123300991848961",
      "state": "INSTALLED",
      "step": "done",
      "title": "Your eSIM is installed",
      "detail": "Turn on data roaming for it in your phone's settings, and choose it for mobile data when you arrive.",
      "since": "(time)",
      "lastDeliveryAt": "(time)",
      "steps": [
        {
          "key": "ready",
          "status": "done",
          "at": "(time)"
        },
        {
          "key": "installed",
          "status": "done",
          "at": "(time)"
        }
      ],
      "installsSeen": 1,
      "installLimit": 5
    }
    "#);
    insta::assert_json_snapshot!(shown(&app.backend.get("/v1/profiles?limit=1").await, 200), @r#"
    {
      "items": [
        {
          "iccid": "89972123300991848961",
          "state": "INSTALLED",
          "enabled": true,
          "rawState": "INSTALLED",
          "provider": "gigastore",
          "since": "(time)",
          "seq": 2,
          "lastDeliveryAt": "(time)",
          "deliveries": 1,
          "installsSeen": 1,
          "firstConnectedAt": null,
          "lastConnectedAt": null,
          "country": null,
          "overdue": null,
          "registered": true,
          "checks": {
            "iccidLuhn": true,
            "eidMod97": false
          },
          "imsi": "260060147200183",
          "eid": "89049032004008882600012345678912",
          "device": null,
          "uid": "c-204",
          "activatedAt": null,
          "lastSeen": null,
          "reference": null,
          "expectedFrom": null,
          "replaces": null,
          "replacedBy": null
        }
      ],
      "nextCursor": null
    }
    "#);
    insta::assert_json_snapshot!(shown(&app.backend.get(&format!("{profile}/deliveries")).await, 200), @r#"
    {
      "items": [
        {
          "id": "(id)",
          "receivedAt": "(time)",
          "hook": "gigastore/esim-status",
          "provider": "gigastore",
          "iccid": "89972123300991848961",
          "outcome": "moved",
          "reason": null,
          "eventId": null,
          "headers": {},
          "body": "{\"iccid\":\"89972123300991848961\",\"imsi\":\"260060147200183\",\"eid\":\"89049032004008882600012345678912\",\"profileState\":\"INSTALLED\"}"
        }
      ],
      "nextCursor": null
    }
    "#);
    insta::assert_json_snapshot!(shown(&app.backend.get(&format!("{profile}/evidence")).await, 200), @r#"
    {
      "sheet": {
        "issuedAt": "(time)",
        "iccid": "89972123300991848961",
        "provider": "gigastore",
        "state": "INSTALLED",
        "enabled": true,
        "rawState": "INSTALLED",
        "since": "(time)",
        "registeredAt": "(time)",
        "reference": null,
        "firstConnectedAt": null,
        "lastConnectedAt": null,
        "country": null,
        "transitions": [
          {
            "seq": 1,
            "fromState": null,
            "toState": "RELEASED",
            "enabled": null,
            "rawState": "RELEASED",
            "kind": "normal",
            "source": "registration",
            "receivedAt": "(time)",
            "provider": "gigastore",
            "deliveryId": null,
            "hook": null,
            "eventId": null,
            "bodySha256": null
          },
          {
            "seq": 2,
            "fromState": "RELEASED",
            "toState": "INSTALLED",
            "enabled": true,
            "rawState": "INSTALLED",
            "kind": "normal",
            "source": "webhook",
            "receivedAt": "(time)",
            "provider": "gigastore",
            "deliveryId": "(id)",
            "hook": "gigastore/esim-status",
            "eventId": null,
            "bodySha256": "7d46508c09b16d2e6bb3d408fc98b43b89190037291de82f57afa1da730cc6f1"
          }
        ],
        "transitionsComplete": true,
        "deliveriesGone": 0,
        "otherDeliveries": [],
        "otherDeliveriesComplete": true
      },
      "signed": null
    }
    "#);
    insta::assert_json_snapshot!(shown(&app.anybody.get("/.well-known/jwks.json").await, 200), @r#"
    {
      "keys": []
    }
    "#);
    insta::assert_json_snapshot!(shown(&app.backend.get("/v1/summary").await, 200), @r#"
    {
      "states": [
        {
          "provider": "gigastore",
          "state": "INSTALLED",
          "profiles": 1
        }
      ],
      "days": [
        {
          "day": "(day)",
          "provider": "gigastore",
          "outcome": "malformed",
          "deliveries": 1
        },
        {
          "day": "(day)",
          "provider": "gigastore",
          "outcome": "moved",
          "deliveries": 1
        }
      ],
      "funnel": [
        {
          "day": "(day)",
          "provider": "gigastore",
          "ready": 1,
          "opened": 0,
          "linkTapped": 0,
          "qrShown": 0,
          "downloaded": 1,
          "installed": 1,
          "connected": 0,
          "secondsToInstall": {
            "p50": "(seconds)",
            "p90": "(seconds)"
          }
        }
      ],
      "stuck": []
    }
    "#);
    insta::assert_json_snapshot!(shown(&app.anybody.get(&profile).await, 401), @r#"
    {
      "type": "(URL of the problem)",
      "title": "The request has no valid API key or access token",
      "status": 401,
      "code": "unauthenticated",
      "detail": "Send `Authorization: Bearer …` with an API key, or with an access token that has not expired.",
      "requestId": "(id)"
    }
    "#);
}
