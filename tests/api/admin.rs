//! The admin listener: `/livez`, `/readyz`, `/metrics`.
//!
//! A real service receives requests of every kind; then the tests read its metrics as Prometheus would. Where numbers matter, the
//! service is a separate process: all services of this one count together.

use esim_status_testing::service::Service;
use esim_status_testing::{Answer, Client, Database, HOOK_SECRET, TestApp, server};
use reqwest::Method;
use serde_json::json;

use super::iccid;

#[tokio::test]
async fn a_service_with_its_database_is_live_and_ready() {
    let app = TestApp::start().await;
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let answer = app.admin.get(path).await;
        assert_eq!((answer.status.as_u16(), &*answer.text), (200, text));
    }
}

/// The value of a series.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let mut values =
        metrics.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    values.find_map(|value| value.parse().ok())
}

#[tokio::test]
async fn every_metric_is_exposed_with_its_labels_and_a_help_text_and_counts_what_happened() {
    let database = Database::migrated().await;
    let url = server().url(database.options.get_database().unwrap());
    let service = Service::start(&url).await;
    let (anybody, backend) =
        (Client::new(format!("http://{}", service.address())), service.backend());
    let path = TestApp::hook_path();
    for (number, states) in [
        (0, &["RELEASED", "DOWNLOADED", "INSTALLED", "INSTALLED", "TELEPORTED"][..]),
        (1, &["RELEASED"]),
        (2, &["RELEASED", "INSTALLED"]),
    ] {
        for state in states {
            let body = json!({ "iccid": iccid(number), "profileState": state }).to_string();
            assert_eq!(anybody.post(&path, body).await.status, 200);
        }
    }
    let connected = json!({ "iccid": iccid(2), "imsi": "260060147200183", "newCountry": "PL" });
    assert_eq!(anybody.post(&path, connected.to_string()).await.outcome(), "connected");
    for intent in ["opened", "link-tapped", "qr-shown"] {
        let path = format!("/v1/profiles/{}/intents/{intent}", iccid(1));
        assert_eq!(Answer::of(backend.request(Method::PUT, &path)).await.status, 204);
    }
    anybody.post(&path, "{").await;
    anybody.post("/webhooks/gigastore/esim-status/wrong", "{}").await;
    backend.get(&format!("/v1/profiles/{}", iccid(0))).await;
    backend.get("/nothing").await;

    let metrics = service.admin().get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for (series, expected) in [
        (r#"esim_status_deliveries_total{provider="gigastore",outcome="moved"}"#, 6.0),
        (r#"esim_status_deliveries_total{provider="gigastore",outcome="repeated"}"#, 1.0),
        (r#"esim_status_deliveries_total{provider="gigastore",outcome="unrecognised"}"#, 1.0),
        (r#"esim_status_deliveries_total{provider="gigastore",outcome="connected"}"#, 1.0),
        (r#"esim_status_deliveries_total{provider="gigastore",outcome="malformed"}"#, 1.0),
        (
            r#"esim_status_transitions_total{provider="gigastore",state="INSTALLED",kind="normal"}"#,
            2.0,
        ),
        (r#"esim_status_milestones_total{provider="gigastore",milestone="ready"}"#, 3.0),
        (r#"esim_status_milestones_total{provider="gigastore",milestone="opened"}"#, 1.0),
        (r#"esim_status_milestones_total{provider="gigastore",milestone="link-tapped"}"#, 1.0),
        (r#"esim_status_milestones_total{provider="gigastore",milestone="qr-shown"}"#, 1.0),
        // Who has installed it has downloaded it.
        (r#"esim_status_milestones_total{provider="gigastore",milestone="downloaded"}"#, 2.0),
        (r#"esim_status_milestones_total{provider="gigastore",milestone="installed"}"#, 2.0),
        (r#"esim_status_milestones_total{provider="gigastore",milestone="connected"}"#, 1.0),
        (r#"esim_status_unknown_words_total{provider="gigastore"}"#, 1.0),
        (r#"esim_status_not_authentic_total{hook="gigastore/esim-status",reason="wrong"}"#, 1.0),
        (r#"esim_status_problems_total{code="malformed"}"#, 1.0),
        (r#"esim_status_problems_total{code="not-authentic"}"#, 1.0),
        (r#"esim_status_problems_total{code="unknown-path"}"#, 1.0),
        (
            r#"esim_status_request_duration_seconds_count{method="POST",route="/webhooks/{provider}/{topic}/{secret}",status="200"}"#,
            9.0,
        ),
        (
            r#"esim_status_request_duration_seconds_count{method="GET",route="/v1/profiles/{iccid}",status="200"}"#,
            1.0,
        ),
        (
            r#"esim_status_request_duration_seconds_count{method="GET",route="unmatched",status="404"}"#,
            1.0,
        ),
        (
            r#"esim_status_request_duration_seconds_bucket{method="GET",route="unmatched",status="404",le="2.5"}"#,
            1.0,
        ),
        (r#"esim_status_batch_deliveries_bucket{le="512"}"#, 10.0),
        ("esim_status_commit_duration_seconds_count", 10.0),
        ("esim_status_queue_deliveries", 0.0),
    ] {
        assert_eq!(value(&metrics.text, series), Some(expected), "{series} in:\n{}", metrics.text);
    }
    for series in [
        r#"esim_status_connections_refused_total{reason="no-room"}"#,
        r#"esim_status_unknown_hooks_total{provider="gigastore"}"#,
        r#"esim_status_pool_connections{pool="writes",use="open"}"#,
        r#"esim_status_pool_connections{pool="reads",use="idle"}"#,
        r#"esim_status_pool_connections{pool="outgoing",use="open"}"#,
        r#"esim_status_newest_delivery_age_seconds{hook="gigastore/esim-status"}"#,
    ] {
        let value = value(&metrics.text, series);
        assert!(value.is_some(), "{series} is missing in:\n{}", metrics.text);
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
