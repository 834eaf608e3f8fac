//! Graceful shutdown, as on SIGTERM: the service first reports that it is not ready, then stops accepting connections,
//! and answers every request that it has accepted.
//!
//! The tests stop a real service while requests wait for a row lock, or while clients use kept-alive connections.

use std::io::ErrorKind;
use std::time::Duration;

use esim_status::config::ApiSettings;
use esim_status_testing::wire::Wire;
use esim_status_testing::{Answer, TestApp, wait_until};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{ICCID, iccid};

#[tokio::test]
async fn requests_in_flight_are_answered_and_no_accepted_webhook_is_lost() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "RELEASED").await, "moved");
    let (anybody, admin, database) = (app.anybody.clone(), app.admin.clone(), app.database.clone());
    let mut connection = database.connect().await;
    let mut lock = connection.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM profiles FOR UPDATE").execute(&mut *lock).await.unwrap();

    let body = |iccid: &str| json!({ "iccid": iccid, "profileState": "INSTALLED" }).to_string();
    let hook = TestApp::hook_path();
    // These wait for the lock, so they are in flight when the shutdown begins.
    let held = join_all((0..20).map(|_| anybody.post(&hook, body(ICCID))));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let ending = async {
        wait_until("a delivery waits for the lock", async || {
            database.scalar::<i64>(waits).await > 0
        })
        .await;
        let stopping = async { (app.stop().await, Instant::now()) };
        let watching = async {
            wait_until("the service says that it is not ready", async || {
                let answer = admin.get("/readyz").await;
                answer.status == 503 && answer.problem() == "unavailable"
            })
            .await;
            // A load balancer may not have noticed yet, so for a moment new requests are still accepted.
            let late =
                join_all((0..5).map(|number| anybody.post(&hook, body(&iccid(number))))).await;
            assert!(late.iter().all(|answer| answer.outcome() == "moved"));
            assert_eq!(admin.get("/livez").await.status, 200);
            lock.commit().await.unwrap();
        };
        tokio::join!(stopping, watching).0
    };
    let begun = Instant::now();
    let (held, (ended, at)) = tokio::join!(held, ending);
    let outcomes: Vec<_> = held.iter().map(Answer::outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "moved").count(), 1, "{outcomes:?}");
    assert!(ended.all_answered && ended.cut == 0, "{ended:?}");
    assert!(at - begun < Duration::from_secs(10));
    let count = |query: &'static str| database.scalar::<i64>(query);
    assert_eq!(count("SELECT count(*) FROM deliveries").await, 26);
    assert_eq!(count("SELECT count(*) FROM profiles WHERE state = 'INSTALLED'").await, 6);
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_shutdown_and_new_ones_are_refused_after_it() {
    let app = TestApp::start().await;
    let address = app.service.public;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut kept_alive = TcpStream::connect(address).await.unwrap();
    kept_alive.write_all(b"GET /problems HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_ne!(kept_alive.read(&mut [0; 100]).await.unwrap(), 0);

    let begun = Instant::now();
    let ended = app.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(ended.all_answered && ended.cut == 0, "{ended:?}");
    for stream in [&mut idle, &mut kept_alive] {
        // The connection must be closed or reset; this read must not wait.
        drop(stream.read_to_end(&mut Vec::new()).await);
    }
    assert!(TcpStream::connect(address).await.is_err());
}

/// Load balancers keep sending over pooled connections until they notice that the service is not ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_webhook_over_a_kept_alive_connection_is_lost_during_shutdown() {
    let app = TestApp::start_with(|settings| settings.notice = Duration::from_secs(2)).await;
    let (to, database) = (watch::Sender::new(app.service.public), app.database.clone());
    let sending = join_all((0..24).map(async |number: usize| {
        let (mut wire, mut taken) = (Wire::new(to.subscribe()), 0);
        loop {
            let body = json!({ "iccid": iccid(number), "profileState": "INSTALLED" });
            match wire.deliver(&body.to_string()).await {
                Ok(reply) => assert_eq!(reply.status, 200, "{reply:?}"),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return taken,
                Err(error) => panic!("lost after {taken}: {error}"),
            }
            taken += 1;
            tokio::time::sleep(Duration::from_millis(5 * (number as u64 + 1))).await;
        }
    }));
    let ending = async {
        wait_until("webhooks arrive", async || {
            database.scalar::<i64>("SELECT count(*) FROM deliveries").await > 100
        })
        .await;
        app.stop().await
    };
    let (taken, ended) = tokio::join!(sending, ending);
    assert!(ended.all_answered && ended.cut == 0, "{ended:?}");
    let kept = database.scalar::<i64>("SELECT count(*) FROM deliveries").await;
    assert_eq!(usize::try_from(kept), Ok(taken.iter().sum::<usize>()));
}

#[tokio::test]
async fn a_task_that_dies_ends_the_service_whichever_it_is() {
    let url = "http://127.0.0.1:9".parse().unwrap();
    let (user, password) = ("reseller".to_owned(), "secret-of-the-api".into());
    let api = ApiSettings { url, user, password, calls_a_minute: 1 };
    let mut app = TestApp::start_with(|it| it.api = Some(api)).await;
    let pause = Duration::from_millis(100);
    let died = timeout(pause, app.service.task_died()).await;
    assert!(died.is_err(), "{died:?}");
    for name in [
        "upkeep",
        "listening for changes",
        "reading profiles",
        "inquiries",
        "outgoing webhooks",
        "writer",
        "admin listener",
        "public listener",
    ] {
        app.service.abort_task(name);
        let died = timeout(Duration::from_secs(20), app.service.task_died()).await;
        assert_eq!(died, Ok(name));
        if name == "writer" {
            // The others were aborted with it.
            let pause = Duration::from_secs(2);
            while timeout(pause, app.service.task_died()).await.is_ok() {}
        }
    }
    // What is left ends in its order.
    let stopped = timeout(Duration::from_secs(20), app.stop()).await;
    assert_eq!(stopped.map(|ended| ended.cut), Ok(0));
}
