//! `POST /webhooks/{provider}/{topic}`: the outcome of a report, and which sizes, encodings and methods are refused.
//!
//! Real webhooks are sent to a real service; the tests compare the outcomes with the profile and the stored deliveries.

use std::sync::Arc;

use bytes::Bytes;
use esim_status_testing::{Answer, HOOK_SECRET, TestApp};
use futures_util::stream;
use reqwest::{Body, Method};
use serde_json::json;

use super::{ICCID, iccid};

const EID: &str = "89049032123451234512345678901235";
const OTHER_EID: &str = "89049032007108882600047715498532";
const IMSI: &str = "260216611193634";

/// The vendor's published sample, including its trailing comma.
const VENDORS_SAMPLE: &str = r#"{
  "iccid": "89361123300836129514",
  "imsi": "260216611193634",
  "profileState": "INSTALLED",
  "eid": "74088234238931452",
}"#;

#[tokio::test]
async fn install_remove_install_again_is_three_transitions() {
    let app = TestApp::start().await;
    for state in ["INSTALLED", "RELEASED", "INSTALLED"] {
        assert_eq!(app.report(ICCID, state).await, "moved");
        assert_eq!(app.report(ICCID, state).await, "repeated");
    }
    let profile = app.profile(ICCID).await;
    assert_eq!(
        (&profile["seq"], &profile["installsSeen"], &profile["deliveries"]),
        (&3.into(), &2.into(), &6.into())
    );
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn a_portals_test_request_is_accepted_if_the_hook_allows_it() {
    const TRIES: [&str; 4] = ["", " \n", "{}", r#"{"event":"ping"}"#];
    const FAULTS: [&str; 4] = ["{", "[]", r#"{"iccid":"1"}"#, r#"{"profileState":"INSTALLED"}"#];
    let strict = TestApp::start().await;
    for body in TRIES.into_iter().chain(FAULTS) {
        assert_eq!(strict.deliver(body.to_owned()).await.problem(), "malformed", "{body}");
    }
    let app = TestApp::start_with(|settings| {
        settings.hooks.values_mut().for_each(|hook| {
            Arc::get_mut(hook).unwrap().takes_tests = true;
        });
    })
    .await;
    for body in TRIES {
        assert_eq!(app.deliver(body.to_owned()).await.outcome(), "ignored", "{body}");
    }
    for body in FAULTS {
        assert_eq!(app.deliver(body.to_owned()).await.problem(), "malformed", "{body}");
    }
    let unproved = app.anybody.post("/webhooks/gigastore/esim-status", "{}").await;
    assert_eq!(unproved.problem(), "not-authentic");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
}

#[tokio::test]
async fn an_accepted_webhook_is_answered_with_its_delivery_id() {
    let app = TestApp::start().await;
    let path = format!("/v1/profiles/{ICCID}");
    assert_eq!(app.backend.get(&path).await.problem(), "unknown-profile");
    let body = json!({ "iccid": ICCID, "profileState": "RELEASED" }).to_string();
    let answer = app.deliver(body.clone()).await;
    assert_eq!(answer.outcome(), "moved");
    let kept = app.backend.get(&format!("{path}/deliveries")).await.json();
    assert_eq!(kept["items"][0]["id"], answer.json()["deliveryId"]);
    assert_eq!(kept["items"][0]["body"], body);
}

#[tokio::test]
async fn every_state_of_the_vendor_is_mapped_in_any_case_and_stored_as_sent() {
    let app = TestApp::start().await;
    let rows: [(&str, &str, Option<bool>); 17] = [
        ("CREATED", "PREPARING", None),
        ("AVAILABLE", "PREPARING", None),
        ("ALLOCATED", "PREPARING", None),
        ("LINKED", "PREPARING", None),
        ("CONFIRMED", "PREPARING", None),
        ("RELEASED", "RELEASED", None),
        ("DOWNLOADED", "DOWNLOADED", None),
        ("INSTALLED", "INSTALLED", Some(true)),
        ("ENABLED", "INSTALLED", Some(true)),
        ("DISABLED", "DISABLED", Some(false)),
        ("DELETED", "DELETED", None),
        ("ERROR", "ERROR", None),
        ("UNAVAILABLE", "UNAVAILABLE", None),
        ("QUARANTINE", "UNAVAILABLE", None),
        ("installed", "INSTALLED", Some(true)),
        ("Disabled", "DISABLED", Some(false)),
        ("  released\t", "RELEASED", None),
    ];
    for (number, (word, state, enabled)) in rows.into_iter().enumerate() {
        let iccid = iccid(number);
        assert_eq!(app.report(&iccid, word).await, "moved", "{word}");
        let profile = app.profile(&iccid).await;
        assert_eq!(profile["state"], state, "{word}");
        assert_eq!(profile["rawState"], word);
        assert_eq!(profile["enabled"], json!(enabled), "{word}");
    }
}

#[tokio::test]
async fn an_unknown_state_is_stored_and_not_applied() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    for word in ["UNKNOWN", "TELEPORTED", "INSTALLED2", "zurückgesetzt"] {
        assert_eq!(app.report(ICCID, word).await, "unrecognised", "{word}");
    }
    let profile = app.profile(ICCID).await;
    assert_eq!(profile["state"], "INSTALLED");
    assert_eq!(profile["rawState"], "INSTALLED");
    assert_eq!(profile["deliveries"], 5);
    app.assert_straight(ICCID).await;

    let never_seen = iccid(1);
    assert_eq!(app.report(&never_seen, "TELEPORTED").await, "unrecognised");
    let answer = app.backend.get(&format!("/v1/profiles/{never_seen}")).await;
    assert_eq!(answer.problem(), "unknown-profile");
    let kept = app.backend.get(&format!("/v1/profiles/{never_seen}/deliveries")).await;
    assert_eq!(kept.json()["items"][0]["outcome"], "unrecognised");
}

#[tokio::test]
async fn the_vendors_other_events_are_stored_and_ignored() {
    let app = TestApp::start().await;
    for body in [
        json!({ "imsi": IMSI, "iccid": ICCID, "previousCountry": null, "newCountry": "FR" }),
        json!({ "uid": "u1", "iccid": ICCID, "imsi": IMSI, "timestamp": "2022-08-21T10:15:30Z", "balanceAmountInByte": 93_618_231 }),
        json!({ "uid": "u1", "activatedItem": "EU 1 GB", "activatedAt": null, "expiresAt": null }),
    ] {
        assert_eq!(app.deliver(body.to_string()).await.outcome(), "ignored", "{body}");
    }
    assert_eq!(app.backend.get("/v1/profiles").await.json()["items"], json!([]));
    let kept = app.backend.get("/v1/deliveries?outcome=ignored").await.json();
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn the_vendors_sample_is_accepted_only_without_its_trailing_comma_which_the_detail_locates() {
    let app = TestApp::start().await;
    let refused = app.deliver(VENDORS_SAMPLE).await;
    assert_eq!((refused.status.as_u16(), &*refused.problem()), (400, "malformed"));
    let detail = refused.json()["detail"].to_string();
    assert!(detail.contains("trailing comma at line 6 column 1"), "{detail}");

    let mended = VENDORS_SAMPLE.replace("\",\n}", "\"\n}");
    assert_eq!(app.deliver(mended).await.outcome(), "moved");
    let profile = app.profile("89361123300836129514").await;
    assert_eq!(profile["eid"], "74088234238931452");
    assert_eq!(profile["imsi"], IMSI);
    assert_eq!(profile["checks"], json!({ "iccidLuhn": false, "eidMod97": false }));
}

#[tokio::test]
async fn a_known_eid_or_imsi_stays_until_another_is_reported() {
    let app = TestApp::start().await;
    let rows = [
        ("none yet", json!({}), "moved", None, None),
        ("first named", json!({ "eid": EID, "imsi": IMSI }), "repeated", Some(EID), Some(IMSI)),
        ("absent", json!({}), "repeated", Some(EID), Some(IMSI)),
        ("null", json!({ "eid": null, "imsi": null }), "repeated", Some(EID), Some(IMSI)),
        ("empty", json!({ "eid": "", "imsi": "" }), "repeated", Some(EID), Some(IMSI)),
        (
            "no shape",
            json!({ "eid": "x".repeat(32), "imsi": "1" }),
            "repeated",
            Some(EID),
            Some(IMSI),
        ),
        (
            "too long",
            json!({ "eid": "1".repeat(65), "imsi": "1".repeat(16) }),
            "repeated",
            Some(EID),
            Some(IMSI),
        ),
        ("other type", json!({ "eid": [EID], "imsi": true }), "repeated", Some(EID), Some(IMSI)),
        (
            "other IMSI",
            json!({ "imsi": "001010123456789" }),
            "repeated",
            Some(EID),
            Some("001010123456789"),
        ),
        (
            "other device",
            json!({ "eid": OTHER_EID }),
            "moved",
            Some(OTHER_EID),
            Some("001010123456789"),
        ),
        (
            "of 17 digits",
            json!({ "eid": &EID[..17] }),
            "moved",
            Some(&EID[..17]),
            Some("001010123456789"),
        ),
    ];
    for (name, members, outcome, eid, imsi) in rows {
        let mut body = json!({ "iccid": ICCID, "profileState": "INSTALLED" });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        assert_eq!(app.deliver(body.to_string()).await.outcome(), outcome, "{name}");
        let profile = app.profile(ICCID).await;
        assert_eq!((&profile["eid"], &profile["imsi"]), (&json!(eid), &json!(imsi)), "{name}");
    }
    assert_eq!(app.profile(ICCID).await["installsSeen"], 3);
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn a_portals_get_or_head_probe_is_answered_without_a_body() {
    let app = TestApp::start().await;
    for path in [TestApp::hook_path().as_str(), "/webhooks/gigastore/esim-status"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = Answer::of(app.anybody.request(method, path)).await;
            assert_eq!((answer.status.as_u16(), &*answer.text), (200, ""), "{path}");
        }
    }
}

#[tokio::test]
async fn other_methods_get_a_405_that_lists_the_allowed_ones() {
    let app = TestApp::start().await;
    for name in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let method = Method::from_bytes(name.as_bytes()).unwrap();
        let answer = Answer::of(app.anybody.request(method, &TestApp::hook_path())).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (405, "method-not-allowed"));
        let mut allowed: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["GET", "HEAD", "POST"], "{name}");
    }
}

#[tokio::test]
async fn a_path_that_is_not_a_hook_is_unknown_and_never_redirected() {
    let app = TestApp::start().await;
    for (path, code) in [
        (format!("/webhooks/gigastore/other/{HOOK_SECRET}"), "unknown-hook"),
        (format!("/webhooks/other/esim-status/{HOOK_SECRET}"), "unknown-hook"),
        (format!("/webhooks/GIGASTORE/esim-status/{HOOK_SECRET}"), "unknown-hook"),
        (format!("/webhooks/gigastore%2Fesim-status/{HOOK_SECRET}"), "unknown-hook"),
        // A segment that is not UTF-8 names no hook.
        ("/webhooks/gigastore/esim-status/%ff%fe".to_owned(), "unknown-hook"),
        ("/webhooks/gigastore".to_owned(), "unknown-path"),
        ("/webhooks".to_owned(), "unknown-path"),
    ] {
        let answer = app.anybody.post(&path, "{}").await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (404, code), "{path}");
    }
    // A secret may contain slashes, so these paths contain other secrets.
    for more in ["//", "/more", "/more/"] {
        let answer = app.anybody.post(&format!("{}{more}", TestApp::hook_path()), "{}").await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (401, "not-authentic"), "{more}");
    }
}

#[tokio::test]
async fn a_body_may_have_at_most_65_536_bytes() {
    let app = TestApp::start().await;
    let padded = |length: usize| {
        let body = json!({ "iccid": ICCID, "profileState": "INSTALLED", "x": "" }).to_string();
        let pad = "x".repeat(length - body.len());
        body.replace(r#""x":"""#, &format!(r#""x":"{pad}""#))
    };
    let chunked = |body: String| {
        let bytes = Bytes::from(body);
        let halves = [bytes.slice(..30_000), bytes.slice(30_000..)];
        Body::wrap_stream(stream::iter(halves.map(Ok::<_, std::io::Error>)))
    };
    for (name, body) in [
        ("by length", Body::from(padded(65_537))),
        ("by chunks", chunked(padded(65_537))),
        ("by a large margin", Body::from("x".repeat(1 << 20))),
    ] {
        let answer = app.deliver(body).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (413, "too-large"), "{name}");
    }
    assert_eq!(app.deliver(padded(65_536)).await.outcome(), "moved");
    assert_eq!(app.deliver(chunked(padded(65_536))).await.outcome(), "repeated");
    assert_eq!(app.profile(ICCID).await["deliveries"], 2);
}

#[tokio::test]
async fn compressed_bodies_are_refused_and_content_types_do_not_matter() {
    let app = TestApp::start().await;
    let path = TestApp::hook_path();
    let deliver = |name: &'static str, value: &'static str| {
        let body = json!({ "iccid": ICCID, "profileState": "INSTALLED" }).to_string();
        Answer::of(app.anybody.request(Method::POST, &path).header(name, value).body(body))
    };
    for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip", "X-Gzip"] {
        let answer = deliver("content-encoding", encoding).await;
        let told = (answer.status.as_u16(), answer.problem());
        assert_eq!(told, (415, "unsupported-encoding".to_owned()), "{encoding}");
    }
    assert_eq!(deliver("content-encoding", "identity").await.outcome(), "moved");
    // Some senders put these values there; the bytes of the body are not encoded.
    for encoding in ["", "UTF-8", "identity, utf-8", "none"] {
        let outcome = deliver("content-encoding", encoding).await.outcome();
        assert_eq!(outcome, "repeated", "{encoding}");
    }
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense"]
    {
        assert_eq!(deliver("content-type", kind).await.outcome(), "repeated", "{kind}");
    }
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_hooks_url_changes_nothing() {
    let app = TestApp::start().await;
    let path = format!("{}/", TestApp::hook_path());
    let body = json!({ "iccid": ICCID, "profileState": "INSTALLED" }).to_string();
    assert_eq!(app.anybody.post(&path, body.clone()).await.outcome(), "moved");
    assert_eq!(app.anybody.get(&path).await.status, 200);
    let bare = app.anybody.post("/webhooks/gigastore/esim-status/", body.clone()).await;
    assert_eq!(bare.problem(), "not-authentic");
    let unknown = app.anybody.post("/webhooks/gigastore/nothing/", body).await;
    assert_eq!(unknown.problem(), "unknown-hook");
}

#[tokio::test]
async fn a_webhook_to_a_wrong_path_is_counted_if_the_path_names_a_provider() {
    let app = TestApp::start().await;
    // No other test of this process delivers to a wrong path of this provider.
    let series = r#"esim_status_unknown_hooks_total{provider="simlessly"} "#;
    let counted = async || {
        let text = app.admin.get("/metrics").await.text;
        let value = text.lines().find_map(|line| line.strip_prefix(series)).map(str::to_owned);
        value.unwrap_or_else(|| panic!("{series} is missing in {text}"))
    };
    assert_eq!(counted().await, "0");
    let path = "/webhooks/simlessly/esim-status/secret";
    assert_eq!(app.anybody.get(path).await.problem(), "unknown-hook");
    assert_eq!(app.anybody.post("/webhooks/nobody/esim-status/secret", "{}").await.status, 404);
    assert_eq!(counted().await, "0");
    for (path, count) in [(path, "1"), ("/webhooks/simlessly", "2"), ("/webhooks/simlessly/", "3")]
    {
        assert_eq!(app.anybody.post(path, "{}").await.status, 404);
        assert_eq!(counted().await, count, "{path}");
    }
}
