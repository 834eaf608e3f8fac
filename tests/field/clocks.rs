//! A replica whose clock is wrong, beside one whose clock is right. `libfaketime` is loaded into the real binary, which works
//! because the one that cargo builds is linked dynamically.

use std::fs;
use std::path::PathBuf;

use esim_status_testing::service::Service;
use esim_status_testing::{Answer, Client, Database, TestApp, server, wait_until};
use serde_json::json;
use sqlx::Executor;

use super::iccid;

/// The library, where the packages of Linux distributions put it.
#[expect(clippy::panic, reason = "what is missing is said")]
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

/// A replica whose clock differs by this, such as `+365d`.
async fn replica(url: &str, difference: &str) -> Service {
    let library = libfaketime();
    let library = library.to_str().unwrap();
    // Time-outs and intervals go by a clock that nobody sets.
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

/// The partitions that end before 2100, each with how many deliveries it holds.
const PARTITIONS: &str = "SELECT string_agg(p.name || ' ' || p.held, ', ' ORDER BY p.name)
    FROM (SELECT c.relname::text AS name, (SELECT count(*) FROM deliveries d WHERE d.tableoid = c.oid) AS held
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'deliveries'::regclass) AS p
    WHERE p.name < 'deliveries_' || to_char(now() + interval '6 months', 'YYYY_MM')";

const EVENT_IDS: &str = "SELECT string_agg(event_id, ', ' ORDER BY event_id) FROM event_ids";

/// Waits for an upkeep: it forgets what is past its retention last.
async fn upkeep(database: &Database) {
    let mut connection = database.connect().await;
    let old = "INSERT INTO event_ids VALUES ('h', 'old', '', NULL, now() - interval '100 days')";
    connection.execute(old).await.unwrap();
    wait_until("the tables were looked after", async || {
        database.scalar::<String>(EVENT_IDS).await == "seen"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_on_one_of_two_replicas_destroys_nothing() {
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

    // One that is behind needs months that no upkeep makes.
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
