//! The service is killed with SIGKILL while its database is away, and while it drains the spool: no acknowledged
//! delivery is lost or applied twice.
//!
//! The real binary runs as a process with a spool; its real Postgres is killed and started again under load.

use std::time::{Duration, Instant};

use esim_status_testing::wait_until;
use tempfile::TempDir;

use super::load::{self, Load, Sent};
use super::postgres::Postgres;
use super::serving::Serving;

const PROFILES: usize = 32;

fn load_on(service: &Serving, profiles: usize, pause: Duration) -> Load {
    let address = format!("http://{}", service.address);
    Load::start(profiles, pause, move || address.clone())
}

/// Waits until every acknowledged delivery is in the database, for as long as the number of missing ones decreases.
async fn arrived(postgres: &Postgres, sent: &[Sent]) {
    let mut missing = usize::MAX;
    while missing > 0 {
        let before = missing;
        wait_until("more of what was acknowledged arrives", async || {
            load::missing(&postgres.database, sent).await < before
        })
        .await;
        missing = load::missing(&postgres.database, sent).await;
    }
}

async fn waits(service: &Serving) -> f64 {
    service.metric("esim_status_spool_deliveries").await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_delivery_is_lost_if_the_service_is_killed_while_its_database_is_away() {
    let (mut postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let mut service = Serving::new(&postgres.url(), folder.path());
    service.start();
    service.ready().await;
    let load = load_on(&service, PROFILES, Duration::from_millis(5));
    for _ in 0..3 {
        postgres.kill();
        // The service is killed while it appends to the spool, and started again without its database.
        for _ in 0..2 {
            let before = waits(&service).await;
            wait_until("more waits in the spool", async || waits(&service).await > before + 150.0)
                .await;
            service.kill();
            service.start();
            service.ready().await;
        }
        postgres.start_again();
        // The service is killed while it drains the spool.
        let before = waits(&service).await;
        wait_until("the spool drains", async || {
            let text = service.metric("esim_status_spool_drained_total").await;
            text.unwrap_or_default() > 0.0 || waits(&service).await < before
        })
        .await;
        service.kill();
        service.start();
        service.ready().await;
        wait_until("all is drained", async || {
            service.metric("esim_status_spool_deliveries").await == Some(0.0)
        })
        .await;
    }
    let sent = load.stop().await;
    arrived(&postgres, &sent).await;
    let statuses = load::statuses(&sent);
    assert!(statuses[&200] > 0 && statuses[&202] > 900, "{statuses:?}");
    load::assert_straight(&postgres.database, PROFILES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_the_database_under_load_and_a_kill_lose_no_delivery() {
    let seconds = std::env::var("SPOOL_AWAY_SECONDS").ok().and_then(|it| it.parse().ok());
    let away = Duration::from_secs(seconds.unwrap_or(4));
    let profiles = if seconds.is_some() { 64 } else { PROFILES };
    let (mut postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let mut service = Serving::new(&postgres.url(), folder.path());
    service.start();
    service.ready().await;
    let load = load_on(&service, profiles, Duration::ZERO);
    let count = "SELECT count(*) FROM deliveries";
    wait_until("deliveries are committed", async || {
        postgres.database.scalar::<i64>(count).await > 500
    })
    .await;
    postgres.kill();
    let gone = Instant::now();
    let half = tokio::time::Instant::now() + away / 2;
    tokio::time::sleep_until(half).await;
    service.kill();
    let killed = Instant::now();
    service.start();
    service.ready().await;
    let ready = killed.elapsed();
    tokio::time::sleep_until(half + away / 2).await;
    let (depth, bytes) = (waits(&service).await, service.metric("esim_status_spool_bytes").await);
    postgres.start_again();
    let back = Instant::now();
    // If the database cannot keep up with the load, the spool empties only after the load ends.
    let under_load = tokio::time::timeout(Duration::from_secs(20), async {
        while waits(&service).await > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let under_load = under_load.await.is_ok();
    let (drain, left) = (back.elapsed(), waits(&service).await);
    let sent = load.stop().await;
    arrived(&postgres, &sent).await;
    let drained = back.elapsed();
    let missing = load::missing(&postgres.database, &sent).await;
    load::assert_straight(&postgres.database, profiles).await;

    let mut took: Vec<_> =
        sent.iter().filter(|it| it.status == Some(202) && it.at > gone).map(|it| it.took).collect();
    took.sort_unstable();
    let quantile = |q: usize| took.get(took.len() * q / 1_000).copied().unwrap_or_default();
    println!(
        "away {away:?}; sent {} ({:?}, 0: no answer); lost {missing}; ready {ready:?} after kill -9\n\
         at the return of the database {depth} in the spool, {bytes:?} bytes; \
         empty under load: {under_load}, after {drain:?} ({left} left), all there after {drained:?}\n\
         202: p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
        sent.len(),
        load::statuses(&sent),
        quantile(500),
        quantile(990),
        quantile(999),
        took.last(),
    );
    assert_eq!(missing, 0);
    assert!(
        took.len() > 100 && quantile(990) < Duration::from_millis(2_500),
        "{:?}",
        quantile(990)
    );
}
