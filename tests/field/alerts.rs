//! The alert rules: each fires at the first event after a start, each uses metrics that exist, and each has a test.
//!
//! A real Prometheus with `deploy/prometheus/alerts.yml` scrapes the real binary every second, while the test causes
//! the events. `promtool` runs the rules' own tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use esim_status_testing::part::{Part, folder, free_port, give, installed};
use esim_status_testing::receiver::{Receiver, Reply};
use esim_status_testing::service::Service;
use esim_status_testing::turn::{beside_others, measured};
use esim_status_testing::{Client, Database, TestApp, server, wait_until};
use serde_json::json;
use sqlx::Executor;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::form_urlencoded::byte_serialize;

use super::dashboards::every_panel_shows_something;
use super::iccid;

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml")
}

/// A Prometheus that scrapes one service every second, with our rules. It ends with the test.
pub(crate) struct Prometheus {
    _part: Part,
    _folder: TempDir,
    api: Client,
}

impl Prometheus {
    async fn start(target: &str) -> Self {
        let (folder, port) = (folder(), free_port());
        let rules_here = folder.path().join("alerts.yml");
        fs::copy(rules(), &rules_here).unwrap();
        give(&rules_here);
        let config = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules_here],
            "scrape_configs": [{ "job_name": "esim-status", "static_configs": [{ "targets": [target] }] }],
        });
        // Prometheus reads YAML, and JSON is valid YAML.
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        give(&file);
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let log = folder.path().join("log");
        let program = installed("prometheus");
        let mut process = Part::start(&program, &arguments.each_ref().map(String::as_str), &log);
        let api = Client::new(format!("http://127.0.0.1:{port}"));
        wait_until("prometheus is ready", || {
            assert!(process.runs(), "{}", fs::read_to_string(&log).unwrap_or_default());
            let asked = api.request(reqwest::Method::GET, "/-/ready").send();
            async move { asked.await.is_ok_and(|answer| answer.status().is_success()) }
        })
        .await;
        Self { _part: process, _folder: folder, api }
    }

    /// The names of the alerts that fire.
    async fn firing(&self) -> BTreeSet<String> {
        let answer = self.api.get("/api/v1/alerts").await.json();
        let alerts = answer["data"]["alerts"].as_array().unwrap().clone();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until Prometheus has scraped the service at least twice.
    async fn has_scraped(&self) {
        wait_until("the service is scraped", async || {
            self.query("count_over_time(up[1m])").await.first().is_some_and(|count| *count >= 2.0)
        })
        .await;
    }

    /// The values that an expression has now.
    pub(crate) async fn query(&self, expression: &str) -> Vec<f64> {
        let encoded: String = byte_serialize(expression.as_bytes()).collect();
        let answer = self.api.get(&format!("/api/v1/query?query={encoded}")).await.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap();
        series.iter().map(|it| it["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }

    async fn fires(&self, alert: &str) {
        wait_until(alert, async || self.firing().await.contains(alert)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_event_after_a_start_fires_its_alert_and_silence_does_too() {
    let _turn = beside_others().await;
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let spool = tempfile::tempdir().unwrap();
    let settings = [("ESIM_STATUS_SPOOL_DIR", spool.path().to_str().unwrap())];
    let mut service = Service::start_with(&url, &settings).await;
    let anybody = Client::new(format!("http://{}", service.address()));
    let report = json!({ "iccid": iccid(1), "profileState": "RELEASED" });
    // On a busy machine the first webhooks may go to the spool.
    let is_written = async |anybody: &Client, body: String| {
        anybody.post(&TestApp::hook_path(), body).await.status == 200
    };
    wait_until("it is written", async || is_written(&anybody, report.to_string()).await).await;
    // Nobody is there: its name has no address. So it fails, and is behind.
    let endpoint = json!({ "url": "https://shop.invalid/esim" }).to_string();
    let endpoint = service.backend().post("/v1/endpoints", endpoint).await.json();
    service.terminate();
    service.ended().await;
    let mut connection = database.connect().await;
    // The last delivery arrived two hours ago; and a manual correction has left a row that cannot be decoded.
    connection
        .execute("UPDATE deliveries SET received_at = received_at - interval '2 h'")
        .await
        .unwrap();
    connection.execute("UPDATE profiles SET eid = 'zz'").await.unwrap();

    service.start_again().await;
    let prometheus = Prometheus::start(&service.admin_address().to_string()).await;
    prometheus.has_scraped().await;
    let begun = Instant::now();
    prometheus.fires("EsimStatusSilence").await;
    let silence = begun.elapsed();
    let fired = prometheus.firing().await;
    assert_eq!(fired, BTreeSet::from(["EsimStatusSilence".to_owned()]));

    let anybody = Client::new(format!("http://{}", service.address()));
    let begun = Instant::now();
    let refused = anybody.post("/webhooks/gigastore/esim-status/wrong", "{}").await;
    assert_eq!(refused.status, 401);
    let unknown = json!({ "iccid": iccid(2), "profileState": "TELEPORTED" });
    wait_until("it is kept", async || is_written(&anybody, unknown.to_string()).await).await;
    assert_eq!(anybody.post(&TestApp::hook_path(), "{").await.status, 400);
    // Over a connection of another client: the service closes it, while the rest of the body is still sent.
    let another = Client::new(format!("http://{}", service.address()));
    let large = another.post(&TestApp::hook_path(), " ".repeat(70_000)).await;
    assert_eq!(large.problem(), "too-large");
    // A proxy closes in the middle of a body.
    let head = "HTTP/1.1\r\nhost: esim.example\r\ncontent-length: 100\r\n\r\n";
    let mut socket = TcpStream::connect(service.address()).await.unwrap();
    let cut = format!("POST {} {head}{{", TestApp::hook_path());
    socket.write_all(cut.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("incomplete-body"), "{answer}");
    let elsewhere = anybody.post("/webhooks/gigastore/esim/secret", "{}").await;
    assert_eq!(elsewhere.problem(), "unknown-hook");
    let own = service.backend().get(&format!("/v1/profiles/{}", iccid(1))).await;
    assert_eq!(own.problem(), "internal");
    // As a start leaves it that finds the spool damaged.
    let damaged = spool.path().join("spool.db.damaged-1");
    fs::write(&damaged, "").unwrap();
    for alert in [
        "SpoolDamaged",
        "ProofRefused",
        "BodiesRefused",
        "BodiesCut",
        "HookUnknown",
        "UnknownWords",
        "Malformed",
        "Internal",
    ] {
        prometheus.fires(&format!("EsimStatus{alert}")).await;
    }
    measured(
        "alerts after a start",
        format!(
            "silence fires within {silence:.1?}, the first events within {:.1?}",
            begun.elapsed()
        ),
    );
    fs::remove_file(&damaged).unwrap();
    wait_until("the silence is over, and the damaged file gone", async || {
        let firing = prometheus.firing().await;
        !firing.contains("EsimStatusSilence") && !firing.contains("EsimStatusSpoolDamaged")
    })
    .await;
    // Twenty installs from one server fail, and twenty from another do not.
    for number in 10..50 {
        let (host, state) =
            if number < 30 { ("ill.example", "ERROR") } else { ("well.example", "INSTALLED") };
        let object = json!({ "iccid": iccid(number), "state": "RELEASED", "activationCode": format!("LPA:1${host}$X{number}") });
        let path = format!("/v1/profiles/{}", iccid(number));
        let put = service.backend().request(reqwest::Method::PUT, &path).body(object.to_string());
        assert_eq!(put.send().await.unwrap().status(), 201);
        let report = json!({ "iccid": iccid(number), "profileState": state }).to_string();
        assert_eq!(anybody.post(&TestApp::hook_path(), report).await.outcome(), "moved");
    }
    let told = service.backend().get("/v1/hooks").await.json();
    let smdp = json!([{ "host": "ill.example", "tried": 20, "arrived": 0, "ill": true },
                      { "host": "well.example", "tried": 20, "arrived": 20, "ill": false }]);
    assert_eq!(told["smdp"], smdp);
    prometheus.fires("EsimStatusInstallsFail").await;
    let failing = format!("esim_status_endpoint_failing_seconds{{endpoint={}}}", endpoint["id"]);
    wait_until("the endpoint has gauges", async || service.metric(&failing).await.is_some()).await;
    every_metric_of_a_rule_exists(&service).await;
    every_panel_shows_something(&service, &prometheus).await;
}

/// Asserts that every metric in a rule is exposed. A rule on a metric that does not exist would never fire.
async fn every_metric_of_a_rule_exists(service: &Service) {
    let exposed = service.admin().get("/metrics").await.text;
    let rules = fs::read_to_string(rules()).unwrap();
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: BTreeSet<_> = rules
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|c| !is_of_a_name(c)))
        .filter(|word| word.starts_with("esim_status_"))
        .collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(exposed.contains(&format!("\n{name}")), "{name} is not exposed");
    }
}

/// One hook was busy at this hour of the last weeks and has fallen silent; the other has a secret that the provider does not
/// use any more. Both are told right after a start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_is_silent_and_one_that_refuses_fire_after_a_restart() {
    let _turn = beside_others().await;
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let mut service = Service::start(&url).await;
    let anybody = Client::new(format!("http://{}", service.address()));
    for _ in 0..8 {
        let refused = anybody.post("/webhooks/gigastore/country-change/old-secret", "{}").await;
        assert_eq!(refused.status, 401);
    }
    let hooks = service.backend().get("/v1/hooks").await.json();
    let health = |hooks: &serde_json::Value, hook: &str| {
        let items = hooks["items"].as_array().unwrap();
        items.iter().find(|it| it["hook"] == hook).unwrap()["health"].clone()
    };
    assert_eq!(health(&hooks, "gigastore/country-change"), "refusing");
    assert_eq!(health(&hooks, "gigastore/esim-status"), "unused");
    service.terminate();
    service.ended().await;
    let mut connection = database.connect().await;
    let weeks = "INSERT INTO hook_health (hook, accepted_at) VALUES ('gigastore/esim-status', now() - interval '3 h');
                 INSERT INTO hook_hours SELECT 'gigastore/esim-status', date_trunc('hour', now(), 'UTC') + day * interval '1 d' + hour * interval '1 h', 40, 0
                 FROM (VALUES (-7), (-14), (-21)) AS d (day), generate_series(-1, 2) AS hour";
    connection.execute(sqlx::raw_sql(weeks)).await.unwrap();
    service.start_again().await;
    let hooks = service.backend().get("/v1/hooks").await.json();
    assert_eq!(health(&hooks, "gigastore/esim-status"), "silent");
    let prometheus = Prometheus::start(&service.admin_address().to_string()).await;
    for alert in ["HookSilent", "HookRefuses"] {
        prometheus.fires(&format!("EsimStatus{alert}")).await;
    }
    // Both are well again after some webhooks.
    let anybody = Client::new(format!("http://{}", service.address()));
    for number in 0..10 {
        let report = json!({ "iccid": iccid(number), "profileState": "RELEASED" }).to_string();
        assert_eq!(anybody.post(&TestApp::hook_path(), report).await.outcome(), "moved");
        let country = json!({ "iccid": iccid(number), "newCountry": "PL" }).to_string();
        let path = TestApp::hook_path().replace("esim-status", "country-change");
        assert_eq!(anybody.post(&path, country).await.outcome(), "connected");
    }
    let hooks = service.backend().get("/v1/hooks").await.json();
    assert_eq!(health(&hooks, "gigastore/esim-status"), "well");
    assert_eq!(health(&hooks, "gigastore/country-change"), "well");
    assert_eq!(health(&hooks, "gigastore/balance-alert"), "unused");
}

/// A platform answers 410 once, and its endpoint gets nothing from then on. The replica that has noticed ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_was_disabled_fires_after_a_restart() {
    let _turn = beside_others().await;
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let settings = [("ESIM_STATUS_ENDPOINT_NETWORKS", "127.0.0.0/8")];
    let mut service = Service::start_with(&url, &settings).await;
    let receiver = Receiver::start().await;
    receiver.answers(|_| Reply::status(410));
    let endpoint = json!({ "url": receiver.url() }).to_string();
    let endpoint = service.backend().post("/v1/endpoints", endpoint).await.json();
    let id = endpoint["id"].as_str().unwrap();
    let anybody = Client::new(format!("http://{}", service.address()));
    let report = json!({ "iccid": iccid(1), "profileState": "RELEASED" }).to_string();
    assert_eq!(anybody.post(&TestApp::hook_path(), report).await.outcome(), "moved");
    let shown = async || service.backend().get(&format!("/v1/endpoints/{id}")).await.json();
    wait_until("it is disabled", async || shown().await["disabledBecause"] == "gone").await;
    service.terminate();
    service.ended().await;
    service.start_again().await;
    let prometheus = Prometheus::start(&service.admin_address().to_string()).await;
    prometheus.fires("EsimStatusEndpointDisabled").await;
    let gone = format!("esim_status_endpoint_disabled{{endpoint=\"{id}\",because=\"gone\"}}");
    assert_eq!(prometheus.query(&gone).await, [1.0]);
}

#[test]
fn every_rule_is_tested_and_the_tests_pass() {
    let folder = rules().parent().unwrap().to_owned();
    let promtool = |arguments: &[&str]| {
        let run = Command::new("promtool").args(arguments).current_dir(&folder).output().unwrap();
        let said = [run.stdout, run.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
        assert!(run.status.success(), "{}", said.concat());
    };
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
    let tests = fs::read_to_string(folder.join("alerts_test.yml")).unwrap();
    let rules = fs::read_to_string(rules()).unwrap();
    let names: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!names.is_empty());
    for name in names {
        let fires = format!("alertname: {name}\n        exp_alerts:");
        assert!(tests.contains(&fires), "no test makes {name} fire");
        assert!(
            tests.contains(&format!("alertname: {name} }}")),
            "no test checks that {name} can stay quiet"
        );
    }
}
