//! The disk under the spool is full to the last byte: new deliveries are refused, and accepted ones are drained as soon
//! as the database is back, also after a restart.
//!
//! The spool is on a small tmpfs, which is filled while Postgres is stopped. Only root can mount it; without root, the
//! test prints that it was not tried.

use std::collections::HashMap;
use std::ops::Range;

use esim_status::config::SpoolSettings;
use esim_status_testing::{SmallDisk, TestApp, wait_until};
use futures_util::future::join_all;
use serde_json::json;

use super::iccid;
use super::postgres::Postgres;

async fn start(postgres: &Postgres, disk: &SmallDisk) -> TestApp {
    let folder = disk.path().join("spool");
    TestApp::start_on(postgres.database.clone(), move |settings| {
        settings.spool = Some(SpoolSettings { folder, max_bytes: 1 << 30 });
    })
    .await
}

/// Delivers one webhook for each of these profiles concurrently; returns those that were accepted.
async fn accepted(app: &TestApp, profiles: Range<usize>) -> Vec<usize> {
    let deliveries = profiles.map(async |number| {
        let body = json!({ "iccid": iccid(number), "profileState": "RELEASED", "filling": "x".repeat(60_000) });
        let answer = app.deliver(body.to_string()).await;
        assert!([202, 503].contains(&answer.status.as_u16()), "{answer:?}");
        (answer.status == 202).then_some(number)
    });
    join_all(deliveries).await.into_iter().flatten().collect()
}

/// Delivers `at_once` webhooks at a time, from the profile `next` on, until none is accepted any more. Returns the profiles of those
/// that were accepted.
async fn fill(app: &TestApp, next: &mut usize, at_once: usize) -> Vec<usize> {
    let mut all = Vec::new();
    loop {
        let taken = accepted(app, *next..*next + at_once).await;
        *next += at_once;
        if taken.is_empty() {
            return all;
        }
        all.extend(taken);
    }
}

async fn a_full_disk_is_drained(at_once: usize, others_fill_it: bool, is_restarted: bool) {
    let disk = match SmallDisk::mount("32m") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("NOT TRIED: cannot mount a tmpfs: {why}"),
    };
    let mut postgres = Postgres::start().await;
    let mut app = start(&postgres, &disk).await;
    postgres.stop();
    let (mut next, mut taken) = (0, Vec::new());
    if others_fill_it {
        // On a busy machine, some of so many at once are refused because they waited for too long.
        while taken.len() < 60 {
            taken.extend(accepted(&app, next..next + 60).await);
            next += 60;
        }
        // As another service on the machine might, with its logs.
        disk.fill();
    }
    taken.extend(fill(&app, &mut next, at_once).await);
    assert!(taken.len() >= 60, "{}", taken.len());
    if is_restarted {
        app.stop().await;
        app = start(&postgres, &disk).await;
        taken.extend(fill(&app, &mut next, at_once).await);
    }
    postgres.start_again();
    let spool = app.service.app().spool.clone().unwrap();
    wait_until("the spool is drained", async || spool.figures().deliveries == 0).await;
    // What was refused because it waited for too long may be stored as well.
    let stored = sqlx::query_as("SELECT iccid, count(*) FROM deliveries GROUP BY iccid")
        .fetch_all(&mut app.database.connect().await)
        .await
        .unwrap();
    let stored: HashMap<String, i64> = stored.into_iter().collect();
    for number in taken {
        assert_eq!(stored.get(&iccid(number)), Some(&1), "an accepted delivery is stored once");
    }
    assert_eq!(spool.figures().refused, 0);
    wait_until("deliveries go to the database", async || {
        let body = json!({ "iccid": iccid(0), "profileState": "INSTALLED" });
        // While the last of the spool is written, a delivery may be refused.
        let answer = app.deliver(body.to_string()).await;
        answer.status == 200 && answer.outcome() == "moved"
    })
    .await;
}

/// A service that is not ready gets no webhooks from its router, so an append cannot show that there is room again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_disk_was_full_becomes_ready_again_while_the_database_is_away() {
    let disk = match SmallDisk::mount("64m") {
        Ok(disk) => disk,
        Err(why) => return eprintln!("NOT TRIED: cannot mount a tmpfs: {why}"),
    };
    let mut postgres = Postgres::start().await;
    let app = start(&postgres, &disk).await;
    postgres.stop();
    let body = json!({ "iccid": iccid(1), "profileState": "RELEASED" }).to_string();
    wait_until("deliveries wait in the spool", async || {
        app.deliver(body.clone()).await.status == 202
    })
    .await;
    disk.fill();
    wait_until("the spool accepts no more", async || {
        app.deliver(body.clone()).await.status == 503
            && app.admin.get("/readyz").await.status == 503
    })
    .await;
    disk.relieve();
    wait_until("the service is ready", async || app.admin.get("/readyz").await.status == 200).await;
    assert_eq!(app.deliver(body.clone()).await.status, 202);
    postgres.start_again();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_has_filled_its_disk_drains_by_itself() {
    a_full_disk_is_drained(1, false, false).await;
    a_full_disk_is_drained(40, false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_has_filled_its_disk_drains_after_a_restart() {
    a_full_disk_is_drained(1, false, true).await;
    a_full_disk_is_drained(40, false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_whose_disk_another_program_has_filled_drains_by_itself() {
    for at_once in [1, 40] {
        a_full_disk_is_drained(at_once, true, false).await;
        a_full_disk_is_drained(at_once, true, true).await;
    }
}
