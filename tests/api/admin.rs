//! The admin listener: `/livez`, `/readyz`, `/metrics`.
//!
//! A real service receives requests of every kind; then the tests read its metrics as Prometheus would.

use esim_status_testing::{HOOK_SECRET, TestApp};
use serde_json::json;

use super::{ICCID, iccid};

#[tokio::test]
async fn a_service_with_its_database_is_live_and_ready() {
    let app = TestApp::start().await;
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let answer = app.admin.get(path).await;
        assert_eq!((answer.status.as_u16(), &*answer.text), (200, text));
    }
}

#[tokio::test]
async fn every_metric_is_exposed_with_its_labels_and_a_help_text() {
    let app = TestApp::start().await;
    app.report(ICCID, "INSTALLED").await;
    app.report(ICCID, "INSTALLED").await;
    app.report(ICCID, "TELEPORTED").await;
    app.deliver("{").await;
    app.anybody.post("/webhooks/gigastore/esim-status/wrong", "{}").await;
    app.backend.get(&format!("/v1/profiles/{ICCID}")).await;
    app.backend.get("/nothing").await;

    let metrics = app.admin.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for series in [
        r#"esim_status_deliveries_total{provider="gigastore",outcome="moved"}"#,
        r#"esim_status_deliveries_total{provider="gigastore",outcome="repeated"}"#,
        r#"esim_status_deliveries_total{provider="gigastore",outcome="unrecognised"}"#,
        r#"esim_status_deliveries_total{provider="gigastore",outcome="malformed"}"#,
        r#"esim_status_transitions_total{provider="gigastore",state="INSTALLED",kind="normal"}"#,
        r#"esim_status_unknown_words_total{provider="gigastore"}"#,
        r#"esim_status_not_authentic_total{hook="gigastore/esim-status",reason="wrong"}"#,
        r#"esim_status_connections_refused_total{reason="no-room"}"#,
        r#"esim_status_unknown_hooks_total{provider="gigastore"}"#,
        r#"esim_status_problems_total{code="malformed"}"#,
        r#"esim_status_problems_total{code="not-authentic"}"#,
        r#"esim_status_problems_total{code="unknown-path"}"#,
        r#"esim_status_request_duration_seconds_count{method="POST",route="/webhooks/{provider}/{topic}/{secret}",status="200"}"#,
        r#"esim_status_request_duration_seconds_count{method="GET",route="/v1/profiles/{iccid}",status="200"}"#,
        r#"esim_status_request_duration_seconds_count{method="GET",route="unmatched",status="404"}"#,
        r#"esim_status_request_duration_seconds_bucket{method="GET",route="unmatched",status="404",le="2.5"}"#,
        r#"esim_status_batch_deliveries_bucket{le="512"}"#,
        "esim_status_commit_duration_seconds_count",
        "esim_status_queue_deliveries",
        "esim_status_queue_room_deliveries",
        r#"esim_status_pool_connections{pool="writes",use="open"}"#,
        r#"esim_status_pool_connections{pool="reads",use="idle"}"#,
        r#"esim_status_pool_connections{pool="outgoing",use="open"}"#,
        r#"esim_status_newest_delivery_age_seconds{hook="gigastore/esim-status"}"#,
    ] {
        let line = metrics
            .text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        assert!(line.is_some(), "{series} is missing in:\n{}", metrics.text);
    }
    for name in metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = name.split(' ').next().unwrap_or_default();
        assert!(metrics.text.contains(&format!("# HELP {name} ")), "{name} has no HELP line");
    }
}

#[tokio::test]
async fn metrics_contain_no_identifiers_and_no_text_from_requests() {
    let app = TestApp::start().await;
    let number = iccid(7);
    let body = json!({ "iccid": number, "profileState": "UNHEARD-OF-7", "imsi": "001010123456789", "eid": "89049032123451234512345678901235" });
    app.deliver(body.to_string()).await;
    app.report(&number, "INSTALLED").await;
    app.backend.get(&format!("/v1/profiles/{number}?x=1")).await;
    app.anybody.post(&format!("/webhooks/nobody/{number}/{HOOK_SECRET}"), "{}").await;
    app.anybody.get(&format!("/made-up-{number}")).await;
    let method = reqwest::Method::from_bytes(b"MADEUP").unwrap();
    drop(app.anybody.request(method, "/made-up").send().await.unwrap());
    let metrics = app.admin.get("/metrics").await.text;
    for secret in [
        &number,
        "001010123456789",
        "89049032123451234512345678901235",
        HOOK_SECRET,
        "UNHEARD",
        "MADEUP",
        "made-up",
        "nobody",
    ] {
        assert!(!metrics.contains(secret), "{secret}");
    }
    assert!(metrics.contains(r#"method="other""#));
}
