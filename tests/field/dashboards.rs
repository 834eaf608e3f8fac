//! The dashboard `deploy/grafana/esim-status.json`: every panel says what to do, and every expression shows something for a
//! service under load.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use esim_status_testing::service::Service;
use esim_status_testing::turn::measured;
use esim_status_testing::{Client, TestApp, wait_until};
use serde_json::{Value, json};

use super::alerts::Prometheus;
use super::iccid;

fn dashboard() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/esim-status.json");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn every_panel_says_what_to_do_and_has_its_own_place() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id is used twice: {panel}");
        let [x, y, width, height] =
            ["x", "y", "w", "h"].map(|it| panel["gridPos"][it].as_u64().unwrap());
        assert!(x + width <= 24, "{panel}");
        for place in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(place), "two panels overlap: {panel}");
        }
        if panel["type"] == "row" {
            continue;
        }
        let description = panel["description"].as_str().unwrap();
        assert!(description.len() > 80 && description.ends_with('.'), "{panel}");
        assert!(!list(&panel["targets"]).is_empty(), "{panel}");
        for source in list(&panel["targets"]).iter().chain([panel]) {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{panel}");
        }
    }
}

/// Asks Prometheus for every expression, while webhooks, refusals and reads go on, until each has shown a number. Divisions by
/// zero show none.
pub(crate) async fn every_panel_shows_something(service: &Service, prometheus: &Prometheus) {
    let dashboard = dashboard();
    let panels = list(&dashboard["panels"]).iter();
    let targets = panels.flat_map(|panel| list(&panel["targets"]).iter());
    let mut empty: Vec<_> = targets
        .map(|target| target["expr"].as_str().unwrap())
        .map(|it| it.replace("$__rate_interval", "5m").replace("$__range", "5m"))
        .collect();
    let count = empty.len();
    assert!(count > 20 && empty.iter().all(|it| !it.contains('$')), "{empty:#?}");
    let anybody = Client::new(format!("http://{}", service.address()));
    let backend = service.backend();
    let number = Cell::new(1_000);
    while !empty.is_empty() {
        wait_until(&empty.join("\n"), async || {
            number.update(|it| it + 1);
            let number = number.get();
            let report = json!({ "iccid": iccid(number), "profileState": "RELEASED" }).to_string();
            assert_eq!(anybody.post(&TestApp::hook_path(), report).await.status, 200);
            assert_eq!(backend.get(&format!("/v1/profiles/{}", iccid(number))).await.status, 200);
            let first = prometheus.query(&empty[0]).await;
            first.iter().any(|it| it.is_finite())
        })
        .await;
        empty.remove(0);
    }
    measured("dashboard", format!("{count} expressions, each shows something"));
}
