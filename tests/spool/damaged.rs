//! The file of the spool is damaged while the service runs: what can be read is drained, and the service ends, because the next start
//! copies the rest to a new file.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use esim_status::spool::Spool;
use esim_status_testing::{TestApp, wait_until};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use super::away::with_spool;
use super::iccid;
use super::in_doubt::{delivery, drained};
use super::postgres::Postgres;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_is_damaged_meanwhile_is_drained_up_to_there_and_salvaged_by_the_next_start() {
    // 12 MB, so that SQLite does not keep the page in memory.
    const DELIVERIES: u32 = 200;
    const SIZE: usize = 60_000;
    const DAMAGED: u64 = (DELIVERIES as usize / 2 * SIZE) as u64;

    let (mut postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    postgres.stop();
    let spool = Spool::open(folder.path(), 64 << 20).await.unwrap();
    for number in 0..DELIVERIES {
        let body = json!({ "iccid": iccid(number as usize), "profileState": "RELEASED", "note": "x".repeat(SIZE) });
        let delivery = delivery(u128::from(number) + 1, 9, &body.to_string());
        spool.append(&[(&delivery, "gigastore")]).await.unwrap();
    }
    drop(spool);
    let mut app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    let file = OpenOptions::new().write(true).open(folder.path().join("spool.db")).unwrap();
    file.write_all_at(&[0xa5; 8_192], DAMAGED / 4_096 * 4_096).unwrap();
    postgres.start_again();

    let died = timeout(Duration::from_mins(1), app.service.task_died()).await;
    assert_eq!(died, Ok("drainer"));
    let drained_before: i64 = app.database.scalar("SELECT count(*) FROM deliveries").await;
    assert!(drained_before > 20, "{drained_before}");
    app.stop().await;

    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    wait_until("deliveries go to the database", async || {
        app.report(&iccid(0), "INSTALLED").await == "moved"
    })
    .await;
    let stored: i64 = app.database.scalar("SELECT count(*) FROM deliveries").await;
    assert!(stored >= i64::from(DELIVERIES) - 5, "{stored}");
}
