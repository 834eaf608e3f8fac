//! The disk under the spool is full to the last byte: what comes then is refused, what was accepted is written as soon as the
//! database is back, over a restart too.

use esim_status::config::SpoolSettings;
use esim_status_testing::{SmallDisk, TestApp, wait_until};
use serde_json::json;

use super::iccid;
use super::postgres::Postgres;

async fn start(postgres: &Postgres, disk: &SmallDisk) -> TestApp {
    let folder = disk.path().join("spool");
    TestApp::start_on(postgres.database.clone(), move |settings| {
        settings.spool = Some(SpoolSettings { folder, most_bytes: 1 << 30 });
    })
    .await
}

/// Delivers until the disk is full; gives back how many were accepted.
async fn fill(app: &TestApp, from: usize) -> usize {
    let mut number = from;
    loop {
        let body = json!({ "iccid": iccid(number), "profileState": "RELEASED", "filling": "x".repeat(60_000) });
        let answer = app.deliver(body.to_string()).await;
        if answer.status == 503 {
            return number - from;
        }
        assert_eq!(answer.status, 202, "{answer:?}");
        number += 1;
    }
}

async fn a_full_disk_is_drained(others_fill_it: bool, is_restarted: bool) {
    let disk = match SmallDisk::mount("32m") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("NOT TRIED: cannot mount a tmpfs: {why}"),
    };
    let mut postgres = Postgres::start().await;
    let mut app = start(&postgres, &disk).await;
    postgres.stop();
    let mut accepted = 0;
    if others_fill_it {
        let body = |n: usize| json!({ "iccid": iccid(n), "profileState": "RELEASED", "n": "x".repeat(60_000) });
        for number in 0..60 {
            assert_eq!(app.deliver(body(number).to_string()).await.status, 202);
        }
        accepted += 60;
        // The log of some other service, perhaps.
        disk.fill();
    }
    accepted += fill(&app, accepted).await;
    assert!(accepted >= 60, "{accepted}");
    if is_restarted {
        app.stop().await;
        app = start(&postgres, &disk).await;
        accepted += fill(&app, accepted).await;
    }
    postgres.start_again();
    let spool = app.service.app().spool.clone().unwrap();
    wait_until("the spool is drained", async || spool.figures().deliveries == 0).await;
    let kept = app.database.scalar::<i64>("SELECT count(*) FROM profiles").await;
    assert_eq!(usize::try_from(kept), Ok(accepted), "each once, none lost");
    assert_eq!(spool.figures().refused, 0);
    wait_until("deliveries go to the database", async || {
        app.report(&iccid(0), "INSTALLED").await == "moved"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_has_filled_its_disk_drains_by_itself() {
    a_full_disk_is_drained(false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_has_filled_its_disk_drains_after_a_restart() {
    a_full_disk_is_drained(false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_whose_disk_was_filled_by_others_drains_by_itself() {
    a_full_disk_is_drained(true, false).await;
    a_full_disk_is_drained(true, true).await;
}
