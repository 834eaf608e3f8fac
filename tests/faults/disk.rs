//! The disk under Postgres is full: first tables cannot grow, then Postgres itself crashes. Senders get a 503 and
//! retry, and no delivery is lost.
//!
//! A real Postgres stores its data on a small tmpfs, which the test fills. Only root can mount it; without root, the
//! test prints that it was not tried.

use std::time::{Duration, Instant};

use esim_status_testing::SmallDisk;
use sqlx::ConnectOptions;
use tokio::time::timeout;

use super::history::{assert_moved_once_each, assert_straight, lost};
use super::postgres::Postgres;
use super::senders::{Senders, healed, refusals};
use super::service::Service;
use super::turn::{alone, measured};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_retries_and_no_delivery() {
    let turn = alone().await;
    let disk = match SmallDisk::mount("160m") {
        Ok(disk) => disk,
        Err(why) => {
            measured("disk full under Postgres", format!("NOT TRIED: cannot mount a tmpfs: {why}"));
            return;
        }
    };
    let mut postgres = Postgres::start_in(&disk.path().join("data"));
    let mut service = Service::start(&postgres.url()).await;
    let database = postgres.database();
    let mut operator = database.connect().await;
    let mut senders = Senders::new(8, 5, &[&service]);
    senders.start();
    senders.until_accepted(80).await;

    disk.fill();
    let since = Instant::now();
    // Postgres first uses up the space that it has already allocated.
    let refused = timeout(Duration::from_secs(30), async {
        while !service.log().contains("No space left on device") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    refused.await.expect("tables cannot grow");
    assert_eq!(service.admin().get("/livez").await.status, 200);
    // Sooner or later the WAL needs a new segment as well, and without one Postgres crashes.
    let switch = "SELECT txid_current(), pg_switch_wal()::text";
    for _ in 0..100 {
        if sqlx::query(switch).execute(&mut operator).await.is_err() {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.assert_lives();
    // It cannot recover without space.
    assert!(database.options.connect().await.is_err(), "Postgres did not crash");
    disk.relieve();
    // A supervisor would start it again.
    postgres.start_again();
    let back = Instant::now();
    service.ready().await;
    let ready = back.elapsed();
    senders.until_accepted(80).await;
    senders.stop().await;
    service.assert_lives();

    let attempts = senders.take_attempts();
    assert!(attempts.iter().all(|attempt| attempt.status.is_some()), "an answer is missing");
    let (count, worst) = refusals(&attempts);
    let first = attempts.iter().filter(|it| it.status == Some(503)).map(|it| it.at).min();
    let heal = healed(&attempts, back);
    let lost = lost(&database, &senders.take_acknowledged()).await;
    assert_straight(&database).await;
    assert_moved_once_each(&database, &senders).await;
    measured(
        "disk full under Postgres",
        format!(
            "{count} answers 503, the first {:.2?} after the last byte was taken, the slowest took {worst:.2?}; Postgres \
             crashed; deliveries accepted {heal:.2?} after space was freed and it was back, ready after {ready:.2?}; {lost} lost",
            first.map(|first| first - since),
        ),
    );
    assert!(worst < turn.budget(), "{worst:?}");
    assert!(heal.max(ready) < turn.healing(), "{heal:?}, {ready:?}");
}
