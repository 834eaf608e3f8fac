//! A database that is far away, or suspended: connecting to it takes 3 s, longer than a webhook may wait.
//!
//! A relay delays every new connection of the real binary to its database. The connections are cut once during the
//! test.

use std::time::{Duration, Instant};

use esim_status_testing::Database;
use esim_status_testing::history::assert_straight;
use esim_status_testing::service::Service;
use esim_status_testing::turn::{Turn, beside_others, measured};
use esim_status_testing::wire::Wire;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::iccid;
use super::relay::{Habit, Relay};

/// How long it takes to connect.
const CONNECT: Duration = Duration::from_secs(3);

/// How many profiles are reported on: enough to keep every writer busy.
const PROFILES: usize = 8;

/// How many connects the loss of all connections may cost: one for each connection, and half as many that fail.
const CONNECTS: usize = 24;

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// Reports a state of all profiles at the same moment; returns the statuses.
async fn round(service: &Service, number: usize) -> Vec<u16> {
    let report = |profile: usize| async move {
        let body =
            json!({ "iccid": iccid(profile), "profileState": STATES[number % STATES.len()] });
        let mut wire = Wire::new(service.public());
        wire.deliver(&body.to_string()).await.expect("an answer").status
    };
    join_all((0..PROFILES).map(report)).await
}

/// Reports until all reports are answered 200, and asserts that this stays so. Returns how long that took, and how many
/// answers were `otherwise` until then.
async fn healed(turn: &Turn, service: &Service, otherwise: u16) -> (Duration, usize) {
    let (begun, mut others) = (Instant::now(), 0);
    for number in 0.. {
        let begun_round = begun.elapsed();
        let statuses = round(service, number).await;
        assert!(statuses.iter().all(|it| [200, otherwise].contains(it)), "{statuses:?}");
        if statuses.iter().all(|it| *it == 200) {
            let took = begun_round;
            // With a spool, the service starts without its database, and then opens connections one after the other:
            // for the schema, the partitions, and the drainer.
            let connects = if otherwise == 202 { 4 } else { 1 };
            assert!(took < connects * CONNECT + turn.budget(), "{took:?}");
            for number in number..number + 10 {
                assert_eq!(round(service, number).await, [200; PROFILES]);
                sleep(Duration::from_millis(50)).await;
            }
            return (took, others);
        }
        others += statuses.iter().filter(|it| **it != 200).count();
        assert!(begun.elapsed() < 4 * CONNECT + 2 * turn.healing(), "never connected");
        sleep(Duration::from_millis(100)).await;
    }
    unreachable!()
}

async fn connected_once(turn: &Turn, what: &str, more: &[(&str, &str)], otherwise: u16) {
    let database = Database::empty().await;
    let relay = Relay::start(&database, Habit::Slow(CONNECT)).await;
    let begun = Instant::now();
    let service = Service::start_with(&relay.url(), more).await;
    let started = begun.elapsed();
    let (first, others) = healed(turn, &service, otherwise).await;

    let before = relay.accepted();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(database.scalar::<i64>(cut).await > 0);
    let (again, others_again) = healed(turn, &service, otherwise).await;
    let connects = relay.accepted() - before;
    measured(
        &format!("a connect takes {CONNECT:?}, {what}"),
        format!(
            "started after {started:.1?}; all webhooks 200 {first:.1?} later ({others} were {otherwise}); \
             after a loss of all connections {again:.1?} ({others_again} were {otherwise}, {connects} connects)"
        ),
    );
    assert!(connects < CONNECTS, "{connects} connects");
    assert_straight(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_connect_is_completed_and_serves_later_webhooks() {
    let turn = beside_others().await;
    let spool = tempfile::tempdir().unwrap();
    let with_spool = [("ESIM_STATUS_SPOOL_DIR", spool.path().to_str().unwrap())];
    // Both run at the same time because they mostly wait.
    tokio::join!(
        connected_once(&turn, "without a spool", &[], 503),
        connected_once(&turn, "with a spool", &with_spool, 202),
    );
}
