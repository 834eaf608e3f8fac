//! An upgrade: what each earlier release has left in its database and in its spool (`scripts/keep-release`), under the present binary.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use esim_status_testing::history::assert_placed;
use esim_status_testing::part::{run, unprivileged};
use esim_status_testing::service::Service;
use esim_status_testing::turn::beside_others;
use esim_status_testing::{Client, TestApp, server, wait_until};
use serde_json::{Value, json};

use super::iccid;
use super::server::{SUPERUSER, Server};

/// The folders of the releases, one for each.
fn releases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/releases");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn load(server: &Server, dump: &Path) {
    let mut psql = unprivileged(&server_program("psql"));
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER, "-d", "postgres", "-h"]);
    psql.arg(server.folder.path()).args(["-p", &server.port.to_string()]);
    run(psql.stdin(fs::File::open(dump).unwrap()));
}

fn server_program(name: &str) -> PathBuf {
    server().bin_dir().join(name)
}

/// The states that a profile came to, without what was found to be overdue since.
async fn states(backend: &Client, number: usize) -> Vec<String> {
    let page = backend.get(&format!("/v1/profiles/{}/transitions", iccid(number))).await.json();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let mut states: BTreeMap<i64, String> = BTreeMap::new();
    for item in items.iter().filter(|it| it["kind"] != "overdue") {
        let state = item["toState"].as_str().unwrap().to_owned();
        states.insert(item["seq"].as_i64().unwrap(), state);
    }
    states.into_values().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_release_has_left_goes_on_under_this_one() {
    let _turn = beside_others().await;
    let releases = releases();
    assert!(!releases.is_empty());
    for release in releases {
        let server = Server::start(&[]).await;
        load(&server, &release.join("database.sql"));
        let spool = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(release.join("spool")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), spool.path().join(entry.file_name())).unwrap();
        }
        let url = format!("postgres://{SUPERUSER}@127.0.0.1:{}/postgres", server.port);
        let folder = spool.path().to_str().unwrap();
        let service = Service::start_with(&url, &[("ESIM_STATUS_SPOOL_DIR", folder)]).await;
        let backend = service.backend();
        let installed = ["RELEASED", "DOWNLOADED", "INSTALLED"];
        for number in 0..3 {
            assert_eq!(states(&backend, number).await, installed, "{release:?}");
        }
        wait_until("the spool is drained", async || {
            service.metric("esim_status_spool_deliveries").await == Some(0.0)
        })
        .await;
        assert_eq!(states(&backend, 3).await, ["RELEASED", "INSTALLED"], "{release:?}");
        assert_eq!(states(&backend, 5).await, ["RELEASED"], "{release:?}");
        let profile = backend.get(&format!("/v1/profiles/{}", iccid(1))).await.json();
        assert_eq!(profile["reference"], "order-1");
        let credentials = backend.get(&format!("/v1/profiles/{}/journey", iccid(3))).await.json();
        assert_eq!(credentials["step"], "done", "{credentials:#}");
        let anybody = Client::new(format!("http://{}", service.address()));
        let report = async |number, state: &str| {
            let body = json!({ "iccid": iccid(number), "profileState": state });
            anybody.post(&TestApp::hook_path(), body.to_string()).await.outcome()
        };
        assert_eq!(report(4, "INSTALLED").await, "ignored", "it was erased");
        assert_eq!(report(0, "DISABLED").await, "moved");
        assert_eq!(report(6, "RELEASED").await, "moved");
        // What a release without `changes` has left is among them once the first upkeep has looked for it.
        wait_until("everything of before is among the changes", async || {
            let changes = backend.get("/v1/changes?limit=200").await.json();
            let items: Vec<Value> = changes["items"].as_array().unwrap().clone();
            items.iter().filter(|it| it["kind"] == "transition").count() == 3 * 3 + 2 + 1 + 1 + 1
        })
        .await;
        let database = server.database("postgres");
        assert_placed(&database).await;
    }
}
