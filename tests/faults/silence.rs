//! Connections that are lost silently, as routers and firewalls lose them, and a database that stalls: the service
//! notices in time, and no caller waits for another caller's timeout.
//!
//! A proxy between a real service and a real Postgres drops packets of chosen connections, or Postgres is stopped with
//! SIGSTOP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::routing::post;
use axum::{Json, Router};
use esim_status::clock;
use esim_status::config::ApiSettings;
use esim_status::domain::Iccid;
use esim_status::inquiry;
use esim_status::store::{ErasureKey, inquiries};
use esim_status_testing::{Answer, Database, TestApp, wait_until};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::PgConnection;
use sqlx::migrate::Migrate;
use tokio::net::TcpListener;

use super::iccid;
use super::postgres::Postgres;
use super::proxy::Proxy;
use super::turn::{alone, beside_others, measured};

/// A service that reaches its database through a proxy.
async fn behind_a_proxy() -> (Proxy, TestApp) {
    let direct = Database::migrated().await;
    let proxy = Proxy::start(&direct.options).await;
    let app = TestApp::start_on(direct.clone(), |settings| {
        settings.database = proxy.options(&direct.options).into();
    });
    let app = app.await;
    (proxy, app)
}

async fn timed(answer: impl Future<Output = Answer>) -> (Answer, Duration) {
    let begun = Instant::now();
    (answer.await, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_over_silently_lost_connections_are_answered() {
    let turn = beside_others().await;
    let (proxy, app) = behind_a_proxy().await;
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    let own = format!("/v1/profiles/{}", iccid(0));
    let paths = [&own, "/v1/profiles", "/v1/deliveries", "/v1/summary"];
    // Several concurrent lists open several connections.
    let lists = join_all((0..8).map(|_| app.backend.get("/v1/profiles"))).await;
    assert!(lists.iter().all(|answer| answer.status == 200), "{lists:?}");
    proxy.forget("esim-status");
    proxy.remember();
    let mut worst = Duration::ZERO;
    for path in paths {
        let (answer, took) = timed(app.backend.get(path)).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        worst = worst.max(took);
    }
    assert_eq!(app.admin.get("/readyz").await.status, 200);
    assert!(worst < Duration::from_secs(1) + turn.slack(), "{worst:?}");
    measured(
        "silently lost connections of reads",
        format!("all answered, the slowest in {worst:.2?}"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silently_lost_listener_receives_changes_soon_after_the_network_is_back() {
    const LISTENER: &str = "esim-status listener";
    let turn = beside_others().await;
    let (proxy, app) = behind_a_proxy().await;
    assert_eq!(app.report(&iccid(0), "RELEASED").await, "moved");
    wait_until("the service listens", async || proxy.count(LISTENER) >= 2).await;
    let listening = proxy.count(LISTENER);
    let lost = Instant::now();
    proxy.forget(LISTENER);
    // The service notices the loss by itself, and its attempts to reconnect are dropped too.
    wait_until("the service has tried to reconnect", async || {
        proxy.count(LISTENER) >= listening + 2
    })
    .await;
    let found = lost.elapsed();
    let path = format!("/v1/profiles/{}?wait=30", iccid(0));
    let tag =
        app.backend.get(&format!("/v1/profiles/{}", iccid(0))).await.header("etag").to_owned();
    let request = app.backend.request(Method::GET, &path).header("if-none-match", tag);
    let waiting = tokio::spawn(Answer::of(request));
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    proxy.remember();
    let healed = Instant::now();
    let answer = waiting.await.unwrap();
    let took = healed.elapsed();
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &"INSTALLED".into()));
    assert!(took < Duration::from_secs(1) + turn.slack(), "{took:?}");
    measured(
        "a silently lost LISTEN",
        format!(
            "noticed after {found:.1?}; a change arrived {took:.2?} after the network was back"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_reads_that_wait_for_a_stalled_database_are_answered_together() {
    const QUESTIONS: usize = 2_000;
    let turn = alone().await;
    let mut postgres = Postgres::start();
    let app = TestApp::start_on(postgres.database(), |_| ()).await;
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    let reader = app.service.app().reader.clone();
    let stalled = postgres.stall();
    let begun = Instant::now();
    let asked = (0..QUESTIONS).map(|number| {
        let (reader, iccid) = (reader.clone(), Iccid::parse(&iccid(number * 10)).unwrap());
        async move { reader.find(&iccid).await }
    });
    let answers = join_all(asked).await;
    let took = begun.elapsed();
    assert!(
        answers.iter().all(Result::is_err),
        "a read succeeded although the database is stalled"
    );
    assert!(took < Duration::from_millis(4_500) + turn.slack(), "{took:?}");
    let list = timed(app.backend.get("/v1/profiles")).await;
    let ready = timed(app.admin.get("/readyz")).await;
    for (answer, took) in [list, ready] {
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
        assert!(took < turn.budget(), "{took:?}");
    }
    drop(stalled);
    let own = format!("/v1/profiles/{}", iccid(0));
    wait_until("reads are answered", async || app.backend.get(&own).await.status == 200).await;
    measured("a stalled database", format!("{QUESTIONS} reads all answered within {took:.2?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_and_lists_do_not_wait_for_slow_summaries() {
    let turn = beside_others().await;
    let app = TestApp::start().await;
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    let mut rival = app.database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE profiles").execute(&mut rival).await.unwrap();
    let client = app.backend.clone();
    let dashboards =
        tokio::spawn(
            async move { join_all((0..12).map(|_| timed(client.get("/v1/summary")))).await },
        );
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until("the summaries wait", async || app.database.scalar::<i64>(waits).await > 0).await;
    let (ready, took) = timed(app.admin.get("/readyz")).await;
    assert_eq!(ready.status, 200, "{ready:?}");
    assert!(took < Duration::from_millis(500) + turn.slack(), "{took:?}");
    let (list, took) = timed(app.backend.get("/v1/deliveries")).await;
    assert_eq!(list.status, 200, "{list:?}");
    assert!(took < Duration::from_millis(500) + turn.slack(), "{took:?}");
    let mut refused: Vec<_> = dashboards.await.unwrap();
    refused.sort_by_key(|(_, took)| *took);
    // The two that run leave out what they cannot read.
    for (answer, _) in refused.drain(10..) {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["missing"], json!(["stuck"]));
    }
    for (answer, _) in &refused {
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "unavailable"));
        assert_eq!(answer.header("retry-after"), "1");
    }
    // All others are answered as soon as their wait for a permit times out.
    let (_, tenth) = refused[9];
    assert!(tenth < Duration::from_millis(1_500) + turn.slack(), "{tenth:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut rival).await.unwrap();
    assert_eq!(app.backend.get("/v1/summary").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_work_leaves_no_connection_that_blocks() {
    let turn = beside_others().await;
    let app = TestApp::start().await;
    let reads = app.service.app().reads.clone();
    let sleep = async |connection: &mut PgConnection| {
        sqlx::query("SELECT pg_sleep(4)").execute(connection).await?;
        Ok(())
    };
    let begun = Instant::now();
    for _ in 0..8 {
        let given_up = tokio::time::timeout(Duration::from_millis(100), reads.run(sleep)).await;
        assert!(given_up.is_err(), "{given_up:?}");
    }
    assert_eq!(app.backend.get("/v1/profiles").await.status, 200);
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(1_600) + turn.slack(), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_whose_connection_was_silently_lost_starts_again() {
    const MIGRATION: &str = "esim-status migrate";
    let turn = beside_others().await;
    let direct = Database::empty().await;
    let proxy = Proxy::start(&direct.options).await;
    let mut elsewhere = direct.connect().await;
    elsewhere.lock().await.unwrap();
    let options = proxy.options(&direct.options);
    let starting = TestApp::start_on(direct.clone(), |settings| settings.database = options.into());
    let losing = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
        wait_until("the migration waits", async || direct.scalar::<i64>(waits).await > 0).await;
        proxy.forget(MIGRATION);
        proxy.remember();
        elsewhere.unlock().await.unwrap();
        Instant::now()
    };
    let (app, lost) = tokio::join!(starting, losing);
    let took = lost.elapsed();
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    assert!(took < Duration::from_secs(10) + turn.slack(), "{took:?}");
    measured("a migration's connection is silently lost", format!("started {took:.2?} after it"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_asked_on_after_the_connection_of_that_was_silently_lost() {
    const INQUIRER: &str = "esim-status upkeep";
    let turn = beside_others().await;
    let app = TestApp::start().await;
    for number in 0..2 {
        assert_eq!(app.report(&iccid(number), "DOWNLOADED").await, "moved");
    }
    let proxy = Arc::new(Proxy::start(&app.database.options).await);
    // The connection is lost while the provider thinks about the first question.
    let (calls, losing) = (Arc::<AtomicUsize>::default(), proxy.clone());
    let search = move || async move {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            losing.forget(INQUIRER);
            losing.remember();
        }
        Json(json!({ "customers": [] }))
    };
    let token = async || Json(json!({ "accessToken": "token", "expiresIn": 86_400 }));
    let routes = Router::new()
        .route("/reseller/authenticate", post(token))
        .route("/gigastore/activations/search-customers", post(search));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(axum::serve(listener, routes).into_future());
    let api =
        ApiSettings { url, user: "user".into(), password: "secret".into(), calls_a_minute: 6_000 };
    let mut connection = app.database.connect().await;
    let since = clock::now().plus_seconds(-60);
    let wanted = inquiries::want_under_way(&mut connection, "gigastore", since).await.unwrap();
    assert_eq!(wanted, (2, Vec::new()));
    let connector = proxy.options(&app.database.options).into();
    let inquiring = tokio::spawn(inquiry::run(connector, ErasureKey::default(), api));
    let begun = Instant::now();
    wait_until("both are asked about", async || {
        let attempts = "SELECT count(*) FROM inquiries WHERE attempts = 1";
        app.database.scalar::<i64>(attempts).await == 2
    })
    .await;
    inquiring.abort();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(25) + turn.slack(), "{took:?}");
    measured("an inquirer's connection is silently lost", format!("asked on {took:.2?} after it"));
}
