//! A replica whose clock is wrong beside one whose clock is right: no partition, delivery or event id is lost.
//!
//! `libfaketime` is preloaded into the real binary. This works because cargo's binary is linked dynamically.

use std::fs;
use std::path::PathBuf;

use esim_status_testing::service::Service;
use esim_status_testing::{Answer, Client, Database, TestApp, server, wait_until};
use serde_json::json;
use sqlx::Executor;

use super::iccid;

/// Finds the library in the folders that Linux distributions install it to.
#[expect(clippy::panic, reason = "the message says what to install")]
fn libfaketime() -> PathBuf {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].into_iter().flat_map(|folder| {
        let within = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        within.map(|entry| entry.path()).chain([PathBuf::from(folder)])
    });
    let names = ["faketime/libfaketimeMT.so.1", "libfaketimeMT.so.1"];
    let mut files = folders.flat_map(|folder| names.map(|name| folder.join(name)));
    files.find(|file| file.exists()).unwrap_or_else(|| {
        panic!("libfaketime is missing: install the package faketime, or run scripts/test")
    })
}

/// Starts a replica whose clock is off by this much, such as `+365d`.
async fn replica(url: &str, difference: &str) -> Service {
    let library = libfaketime();
    let library = library.to_str().unwrap();
    // The monotonic clock, which timeouts and intervals use, stays real.
    let monotonic = ("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let fake = [("LD_PRELOAD", library), ("FAKETIME", difference), monotonic];
    Service::start_with(url, &fake).await
}

async fn report(service: &Service, number: usize, state: &str) -> Answer {
    let body = json!({ "iccid": iccid(number), "profileState": state }).to_string();
    Client::new(format!("http://{}", *service.public().borrow()))
        .post(&TestApp::hook_path(), body)
        .await
}

/// The partitions up to six months from now, each with the number of its deliveries.
const PARTITIONS: &str = "SELECT string_agg(p.name || ' ' || p.held, ', ' ORDER BY p.name)
    FROM (SELECT c.relname::text AS name, (SELECT count(*) FROM deliveries d WHERE d.tableoid = c.oid) AS held
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'deliveries'::regclass) AS p
    WHERE p.name < 'deliveries_' || to_char(now() + interval '6 months', 'YYYY_MM')";

const EVENT_IDS: &str = "SELECT string_agg(event_id, ', ' ORDER BY event_id) FROM event_ids";

/// Waits for an upkeep run: its last step deletes expired event ids.
async fn upkeep(database: &Database) {
    let mut connection = database.connect().await;
    let old = "INSERT INTO event_ids VALUES ('h', 'old', '', NULL, now() - interval '100 days')";
    connection.execute(old).await.unwrap();
    wait_until("the upkeep has run", async || database.scalar::<String>(EVENT_IDS).await == "seen")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_on_one_of_two_replicas_deletes_nothing() {
    let database = Database::migrated().await;
    let name = database.options.get_database().unwrap().to_owned();
    let url = server().url(&name);
    let mut connection = database.connect().await;
    let seen = "INSERT INTO event_ids VALUES ('h', 'seen', '', NULL, now() - interval '80 days')";
    connection.execute(seen).await.unwrap();

    let right = Service::start_with(&url, &[]).await;
    assert_eq!(report(&right, 1, "RELEASED").await.outcome(), "moved");
    upkeep(&database).await;
    let before: String = database.scalar(PARTITIONS).await;
    assert!(before.contains(" 1"), "{before}");

    let ahead = replica(&url, "+365d").await;
    upkeep(&database).await;
    assert_eq!(database.scalar::<String>(PARTITIONS).await, before);
    assert_eq!(database.scalar::<String>(EVENT_IDS).await, "seen");
    assert!(ahead.log().contains("clock and the database's differ"), "{}", ahead.log());
    assert!(!right.log().contains("clock and the database's differ"), "{}", right.log());

    // A replica whose clock is behind needs partitions of months that no upkeep creates.
    let behind = replica(&url, "-400d").await;
    for (number, state) in [(1, "INSTALLED"), (2, "RELEASED"), (3, "RELEASED")] {
        for (service, which) in [(&right, "right"), (&ahead, "ahead"), (&behind, "behind")] {
            let answer = report(service, number, state).await;
            assert_eq!(answer.status, 200, "{which}: {answer:?}");
        }
    }
    let kept: i64 = database.scalar("SELECT count(*) FROM deliveries").await;
    assert_eq!(kept, 10);
    let year_ago =
        "SELECT count(*) FROM deliveries WHERE received_at < now() - interval '390 days'";
    assert_eq!(database.scalar::<i64>(year_ago).await, 3);
}
