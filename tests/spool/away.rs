//! The database goes away and comes back: in the meantime deliveries get a 202 in time, and afterwards every history is
//! consistent.
//!
//! A service with a spool runs in the test's process; its real Postgres is stopped, killed and frozen, partly under
//! load.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use esim_status::config::{Settings, SpoolSettings};
use esim_status_testing::{TestApp, wait_until};
use sqlx::Connection;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use super::iccid;
use super::load::{self, Load, Sent};
use super::postgres::Postgres;

/// How long a provider waits for an answer (2.5 s), plus a second for a busy machine.
const BUDGET: Duration = Duration::from_millis(3_500);

const PROFILES: usize = 24;
const PAUSE: Duration = Duration::from_millis(10);

pub fn with_spool(folder: &Path) -> impl FnOnce(&mut Settings) {
    let spool = SpoolSettings { folder: folder.to_owned(), max_bytes: 64 << 20 };
    |settings| settings.spool = Some(spool)
}

fn spooled(app: &TestApp) -> u64 {
    app.service.app().spool.as_ref().unwrap().figures().deliveries
}

fn body(profile: usize, state: &str, number: usize) -> String {
    let iccid = iccid(profile);
    format!(r#"{{"iccid":"{iccid}","profileState":"{state}","number":{number}}}"#)
}

fn load_on(app: &TestApp) -> Load {
    let address = format!("http://{}", app.service.public);
    Load::start(PROFILES, PAUSE, move || address.clone())
}

/// Whether deliveries are written directly to the database.
async fn is_direct(app: &TestApp) -> bool {
    app.deliver(body(999, "RELEASED", 0)).await.status == 200
}

/// Waits until the spool is empty, and asserts that every acknowledged delivery is in the database.
async fn drained(app: &TestApp, sent: &[Sent]) {
    wait_until("the spool is drained", async || spooled(app) == 0).await;
    assert_eq!(load::missing(&app.database, sent).await, 0);
}

/// On a busy machine, up to 1 % of the deliveries may be refused with a 503.
fn assert_taken(statuses: &BTreeMap<u16, usize>) {
    let refused = statuses.get(&503).copied().unwrap_or_default();
    let all: usize = statuses.values().sum();
    assert!(refused * 100 <= all, "{statuses:?}");
    assert!(statuses.keys().all(|status| [200, 202, 400, 503].contains(status)), "{statuses:?}");
}

fn assert_in_time(sent: &[Sent]) {
    let slow: Vec<_> = sent.iter().filter(|sent| sent.took > BUDGET).collect();
    assert!(slow.is_empty(), "{slow:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spooled_delivery_is_applied_with_its_time_of_arrival() {
    let (mut postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    assert_eq!(app.admin.get("/readyz").await.text, "ready\n");
    assert_eq!(app.deliver(body(1, "RELEASED", 0)).await.outcome(), "moved");
    let gauge = "esim_status_spool_deliveries 0";
    assert!(app.admin.get("/metrics").await.text.contains(gauge));

    postgres.stop();
    let begun = Instant::now();
    let answers = [
        app.deliver(body(1, "INSTALLED", 1)).await,
        app.deliver(body(1, "DISABLED", 2)).await,
        app.deliver(body(2, "RELEASED", 3)).await,
    ];
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.json()["outcome"]), (202, &"spooled".into()));
    }
    assert!(begun.elapsed() < BUDGET, "{:?}", begun.elapsed());
    let malformed = app.deliver(r#"{"iccid":1}"#).await;
    assert_eq!((malformed.status.as_u16(), &*malformed.problem()), (400, "malformed"));
    assert_eq!(app.anybody.post("/webhooks/gigastore/esim-status/wrong", "").await.status, 401);

    let ready = app.admin.get("/readyz").await;
    let text = "ready for webhooks only: the database is away; 4 deliveries wait in the spool";
    assert!(ready.status == 200 && ready.text.starts_with(text), "{ready:?}");
    let metrics = app.admin.get("/metrics").await.text;
    assert!(metrics.contains("esim_status_spool_deliveries 4"), "{metrics}");
    assert!(metrics.contains("esim_status_spool_oldest_age_seconds "), "{metrics}");
    let own = format!("/v1/profiles/{}", iccid(1));
    assert_eq!(app.backend.get(&own).await.problem(), "unavailable");

    postgres.start_again();
    let back = Instant::now();
    wait_until("the spool is drained", async || spooled(&app) == 0).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    wait_until("deliveries are committed again", async || {
        app.deliver(body(2, "INSTALLED", 4)).await.status == 200
    })
    .await;
    for (profile, states) in
        [(1, &["RELEASED", "INSTALLED", "DISABLED"][..]), (2, &["RELEASED", "INSTALLED"])]
    {
        let transitions = app.transitions(&iccid(profile)).await;
        let found: Vec<_> = transitions.iter().map(|it| it["toState"].as_str().unwrap()).collect();
        assert_eq!(found, states);
        app.assert_straight(&iccid(profile)).await;
    }
    // `received_at` is the time of arrival, which is before this server process started.
    let query = "SELECT count(*) FROM deliveries WHERE received_at < pg_postmaster_start_time()";
    assert_eq!(postgres.database.scalar::<i64>(query).await, 5);
    let query = "SELECT count(*) FROM deliveries WHERE outcome = 'malformed'";
    assert_eq!(postgres.database.scalar::<i64>(query).await, 1);
    assert_eq!(app.admin.get("/readyz").await.text, "ready\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_consistent_after_an_outage_under_load() {
    let (mut postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), |settings| {
        with_spool(folder.path())(settings);
        settings.writers = 3;
    })
    .await;
    let load = load_on(&app);
    for kill in [false, true, true] {
        if kill {
            postgres.kill();
        } else {
            postgres.stop();
        }
        let full = spooled(&app) + 200;
        wait_until("deliveries wait in the spool", async || spooled(&app) > full).await;
        postgres.start_again();
        wait_until("the spool is drained under load", async || is_direct(&app).await).await;
    }
    let sent = load.stop().await;
    let statuses = load::statuses(&sent);
    assert!(statuses[&200] > 0 && statuses[&202] > 600, "{statuses:?}");
    assert_taken(&statuses);
    assert_in_time(&sent);
    drained(&app, &sent).await;
    load::assert_straight(&app.database, PROFILES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_database_commits_when_it_thaws_is_not_applied_twice() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    let load = load_on(&app);
    for _ in 0..4 {
        wait_until("deliveries are committed", async || is_direct(&app).await).await;
        postgres.freeze();
        wait_until("deliveries wait in the spool", async || spooled(&app) > 200).await;
        postgres.thaw();
        wait_until("the spool is drained under load", async || is_direct(&app).await).await;
    }
    let sent = load.stop().await;
    let statuses = load::statuses(&sent);
    assert_taken(&statuses);
    assert_in_time(&sent);
    drained(&app, &sent).await;
    load::assert_straight(&app.database, PROFILES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_profile_sends_no_other_delivery_to_the_spool() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    assert_eq!(app.deliver(body(1, "RELEASED", 0)).await.outcome(), "moved");
    let mut connection = postgres.database.connect().await;
    let mut lock = connection.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM profiles FOR UPDATE").execute(&mut *lock).await.unwrap();
    let held = app.deliver(body(1, "INSTALLED", 1));
    let others = async {
        for number in 2..20 {
            assert_eq!(app.deliver(body(number, "RELEASED", number)).await.outcome(), "moved");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (held, ()) = tokio::join!(held, others);
    assert_eq!(held.problem(), "unavailable");
    assert_eq!(app.deliver(body(30, "RELEASED", 30)).await.outcome(), "moved");
    lock.rollback().await.unwrap();
    assert_eq!(app.deliver(body(1, "INSTALLED", 31)).await.outcome(), "moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_at_its_max_size_refuses_deliveries_with_a_503() {
    let (mut postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), |settings| {
        with_spool(folder.path())(settings);
        settings.spool.as_mut().unwrap().max_bytes = 3_000;
    })
    .await;
    postgres.stop();
    let mut taken = 0;
    while app.deliver(body(taken, "RELEASED", taken)).await.status == 202 {
        taken += 1;
    }
    assert!((5..20).contains(&taken), "{taken}");
    let answer = app.deliver(body(taken, "RELEASED", taken)).await;
    assert_eq!((&*answer.problem(), answer.header("retry-after")), ("unavailable", "1"));
    assert_eq!(app.admin.get("/readyz").await.problem(), "unavailable");
    postgres.start_again();
    wait_until("the spool is drained", async || is_direct(&app).await).await;
    // The delivery of `is_direct` has created one more profile.
    let profiles = postgres.database.scalar::<i64>("SELECT count(*) FROM profiles").await;
    assert_eq!(usize::try_from(profiles).unwrap(), taken + 1);
    assert_eq!(app.admin.get("/readyz").await.text, "ready\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_stops_answers_all_and_drains_its_spool_after_the_next_start() {
    let (mut postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    postgres.stop();
    for number in 0..20 {
        assert_eq!(app.deliver(body(number % 2, "RELEASED", number)).await.status, 202);
    }
    let (anybody, hook) = (app.anybody.clone(), TestApp::hook_path());
    let late = anybody.post(&hook, body(3, "RELEASED", 20));
    let (ended, late) = tokio::join!(app.stop(), late);
    assert!(ended.all_answered && ended.cut == 0, "{ended:?}");
    assert_eq!(late.status, 202);

    // The service starts without its database.
    let again = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    assert_eq!(spooled(&again), 21);
    assert_eq!(again.deliver(body(3, "INSTALLED", 21)).await.status, 202);
    postgres.start_again();
    drained(&again, &[]).await;
    let query = "SELECT count(*) FROM deliveries";
    assert_eq!(postgres.database.scalar::<i64>(query).await, 22);
    again.assert_straight(&iccid(3)).await;
    assert_eq!(again.profile(&iccid(3)).await["seq"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_without_the_database_creates_the_schema_later() {
    let (mut postgres, folder) = (Postgres::start_empty(), TempDir::new().unwrap());
    postgres.stop();
    let mut app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    assert_eq!(app.deliver(body(1, "RELEASED", 0)).await.status, 202);
    let text = app.admin.get("/readyz").await.text;
    assert!(text.starts_with("ready for webhooks only"), "{text}");
    postgres.start_again();
    drained(&app, &[]).await;
    wait_until("deliveries are committed", async || {
        app.deliver(body(1, "INSTALLED", 1)).await.status == 200
    })
    .await;
    app.assert_straight(&iccid(1)).await;
    assert_eq!(app.profile(&iccid(1)).await["seq"], 2);
    // The preparation of the database is done, which is not the death of a task.
    let died = timeout(Duration::from_millis(50), app.service.task_died()).await;
    assert!(died.is_err(), "{died:?}");
}

/// A load balancer must not go on sending webhooks to a replica that answers 503 to each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_spool_is_full_is_not_ready_although_the_database_answers() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let spool = SpoolSettings { folder: folder.path().to_owned(), max_bytes: 4_000 };
    let app =
        TestApp::start_on(postgres.database.clone(), |settings| settings.spool = Some(spool)).await;
    assert_eq!(app.report(&iccid(0), "RELEASED").await, "moved");
    let rename = async |statement: &'static str| {
        let mut operator = app.database.connect().await;
        sqlx::raw_sql(statement).execute(&mut operator).await.unwrap();
    };
    rename("ALTER TABLE deliveries RENAME TO elsewhere").await;
    let mut is_full = false;
    for number in 0..1_000 {
        let answer = app.deliver(body(number, "RELEASED", number)).await;
        assert!([202, 503].contains(&answer.status.as_u16()), "{answer:?}");
        is_full = answer.status == 503;
        if is_full {
            break;
        }
    }
    assert!(is_full);
    let ready = app.admin.get("/readyz").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    rename("ALTER TABLE elsewhere RENAME TO deliveries").await;
    wait_until("it is ready", async || app.admin.get("/readyz").await.status == 200).await;
    wait_until("deliveries go to the database", async || is_direct(&app).await).await;
}
