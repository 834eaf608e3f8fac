//! Backup and restore, as docs/operations.md has them: `pg_dump` under load, `pg_restore` into an empty server, and
//! `esim-status erase` for what was erased after the backup.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use esim_status_testing::part::{run, unprivileged};
use esim_status_testing::service::Service;
use esim_status_testing::turn::{beside_others, measured};
use esim_status_testing::{Client, Database, TestApp, binary, program, server, wait_until};
use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};
use tokio::task::spawn_blocking;

use super::iccid;
use super::server::{SUPERUSER, Server};

/// Profiles with a whole history, of which some are erased.
const KNOWN: std::ops::Range<usize> = 0..40;
const ERASED_BEFORE: std::ops::Range<usize> = 0..5;
const ERASED_AFTER: std::ops::Range<usize> = 5..15;

/// The profiles that the load creates, each by one webhook.
const LOAD: usize = 1_000;

fn url(server: &Server) -> String {
    format!("postgres://{SUPERUSER}@127.0.0.1:{}/postgres", server.port)
}

/// Runs a program of PostgreSQL to its end.
fn postgres(name: &str, arguments: &[&str]) {
    run(unprivileged(&server().bin_dir().join(name)).args(arguments));
}

async fn report(anybody: &Client, number: usize, state: &str) -> String {
    let body = json!({ "iccid": iccid(number), "profileState": state });
    anybody.post(&TestApp::hook_path(), body.to_string()).await.outcome()
}

async fn call(backend: &Client, method: Method, number: usize, body: String) -> u16 {
    let path = format!("/v1/profiles/{}", iccid(number));
    let sent = backend.request(method, &path).body(body).send().await.unwrap();
    sent.status().as_u16()
}

/// Everything that is kept about these profiles, as text.
async fn rows(database: &Database, numbers: &BTreeSet<usize>) -> Vec<String> {
    let iccids: Vec<_> = numbers.iter().map(|it| iccid(*it)).collect();
    let mut connection = database.connect().await;
    let mut all = Vec::new();
    for table in ["profiles", "transitions", "deliveries", "install_credentials", "orders"] {
        let query = format!(
            "SELECT '{table} ' || to_jsonb(t)::text FROM {table} AS t WHERE iccid = ANY($1) ORDER BY 1"
        );
        let found = sqlx::query_scalar::<_, String>(AssertSqlSafe(query)).bind(&iccids);
        all.extend(found.fetch_all(&mut connection).await.unwrap());
    }
    connection.close().await.unwrap();
    all
}

/// The ICCIDs that were erased since, as a backend learns them that follows all changes.
async fn erased_since(backend: &Client, mut after: String) -> (BTreeSet<String>, String) {
    let mut erased = BTreeSet::new();
    loop {
        let page = backend.get(&format!("/v1/changes?after={after}")).await.json();
        let items = page["items"].as_array().unwrap();
        if items.is_empty() {
            return (erased, after);
        }
        let of_kind = items.iter().filter(|it| it["kind"] == "erased");
        erased.extend(of_kind.map(|it| it["iccid"].as_str().unwrap().to_owned()));
        page["nextCursor"].as_str().unwrap().clone_into(&mut after);
    }
}

/// Runs `esim-status erase` and returns what it prints.
fn erase_again(list: &Path, server: &Server) -> String {
    let mut erase = program(&binary(), &["erase", "--from"]);
    run(erase.arg(list).env("DATABASE_URL", url(server)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_restored_and_what_was_erased_since_stays_erased() {
    let _turn = beside_others().await;
    let old = Server::start(&[]).await;
    let service = Service::start(&url(&old)).await;
    let (anybody, backend) =
        (Client::new(format!("http://{}", service.address())), service.backend());
    for number in KNOWN {
        let code = format!("LPA:1$smdp.example$CODE-{number}");
        let object = json!({ "iccid": iccid(number), "state": "RELEASED", "activationCode": code });
        assert_eq!(call(&backend, Method::PUT, number, object.to_string()).await, 201);
        assert_eq!(report(&anybody, number, "INSTALLED").await, "moved");
    }
    for number in ERASED_BEFORE {
        assert_eq!(call(&backend, Method::DELETE, number, String::new()).await, 204);
    }

    // The load: one webhook after the other, each for a new profile.
    let (acknowledged, stop) =
        (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
    let loading = tokio::spawn({
        let (anybody, acknowledged, stop) = (anybody.clone(), acknowledged.clone(), stop.clone());
        async move {
            for number in LOAD.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                assert_eq!(report(&anybody, number, "RELEASED").await, "moved");
                acknowledged.lock().unwrap().insert(number);
            }
        }
    });
    let count = || acknowledged.lock().unwrap().len();
    wait_until("there is load", async || count() > 20).await;

    let cursor = backend.get("/v1/changes?after=now").await.json()["nextCursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut before = acknowledged.lock().unwrap().clone();
    let at_begin = before.len();
    before.extend(KNOWN.filter(|it| !ERASED_BEFORE.contains(it) && !ERASED_AFTER.contains(it)));
    let dump = old.folder.path().join("esim-status.dump");
    let (from, file) = (url(&old), dump.display().to_string());
    let begun = Instant::now();
    spawn_blocking(move || postgres("pg_dump", &["--format=custom", "--file", &file, &from]))
        .await
        .unwrap();
    let (dumped, during) = (begun.elapsed(), count() - at_begin);
    assert!(during > 0, "no webhook came during the backup");
    for number in ERASED_AFTER {
        assert_eq!(call(&backend, Method::DELETE, number, String::new()).await, 204);
    }
    stop.store(true, Ordering::Relaxed);
    loading.await.unwrap();
    let kept = rows(&old.database("postgres"), &before).await;
    let (erased, late_cursor) = erased_since(&backend, cursor).await;
    assert_eq!(erased, ERASED_AFTER.map(iccid).collect());
    let list = old.folder.path().join("erased");
    fs::write(&list, Vec::from_iter(erased).join("\n")).unwrap();
    drop(service);

    let new = Server::start(&[]).await;
    let begun = Instant::now();
    let to = url(&new);
    let file = dump.display().to_string();
    spawn_blocking(move || {
        postgres("pg_restore", &["--no-owner", "--exit-on-error", "--dbname", &to, &file]);
    })
    .await
    .unwrap();
    let restored = begun.elapsed();
    let again: BTreeSet<_> = ERASED_AFTER.collect();
    assert!(rows(&new.database("postgres"), &again).await.len() >= 4 * again.len());
    let said = erase_again(&list, &new);
    assert!(said.contains("Profiles in the list: 10. Erased: 10."), "{said}");
    let said = erase_again(&list, &new);
    assert!(said.contains("Profiles in the list: 10. Erased: 0."), "{said}");

    let service = Service::start(&url(&new)).await;
    let (anybody, backend) =
        (Client::new(format!("http://{}", service.address())), service.backend());
    assert_eq!(rows(&new.database("postgres"), &before).await, kept);
    let gone: BTreeSet<_> = ERASED_BEFORE.chain(ERASED_AFTER).collect();
    for number in &gone {
        assert_eq!(report(&anybody, *number, "DISABLED").await, "ignored");
        assert_eq!(call(&backend, Method::GET, *number, String::new()).await, 404);
    }
    assert_eq!(rows(&new.database("postgres"), &gone).await, Vec::<String>::new());
    let refused = backend.get(&format!("/v1/changes?after={late_cursor}")).await;
    assert_eq!(refused.problem(), "invalid-parameter");
    measured(
        "backup",
        format!(
            "dumped in {dumped:.1?} while {during} webhooks came, restored in {restored:.1?}; {} rows of {} profiles as before, {} erased again",
            kept.len(),
            before.len(),
            again.len()
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_with_a_wrong_line_erases_nothing_and_does_not_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("erased");
    let wrong = "8997212330099000000x";
    fs::write(&list, format!("{}\n\n{wrong}\n", iccid(1))).unwrap();
    let mut erase = program(&binary(), &["erase", "--from"]);
    // Nothing listens there: the list is read first.
    let output = erase.arg(&list).env("DATABASE_URL", "postgres://127.0.0.1:1/x").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("line 3 of the list is no ICCID") && !said.contains(wrong), "{said}");
    let mut erase = program(&binary(), &["erase", "--from", "/not/there"]);
    let said = String::from_utf8(
        erase.env("DATABASE_URL", "postgres://127.0.0.1:1/x").output().unwrap().stderr,
    )
    .unwrap();
    assert!(said.contains("cannot read the list of ICCIDs from /not/there"), "{said}");
}
