//! The database goes away and comes back: callers get a 503 in time, and the service recovers without a restart.
//!
//! Each test has its own Postgres server, which it stops, kills and starts again under a running service.

use std::time::Duration;

use embedded_postgres::Embedded;
use esim_status_testing::service::Service;
use esim_status_testing::{Answer, Database, TestApp, wait_until};
use serde_json::json;
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::{ICCID, iccid};

/// How long a provider waits for an answer (2.5 s), plus a second for a busy machine.
const BUDGET: Duration = Duration::from_millis(3_500);

/// How long the service may take to reconnect to its database (5 s), and as much again for a busy machine.
const HEALING: Duration = Duration::from_secs(10);

/// A service on a separate Postgres server, which can be stopped without affecting other tests.
async fn start() -> (Embedded, TestApp) {
    let server = block_in_place(|| Embedded::start_ephemeral().expect("PostgreSQL is installed"));
    let database = Database { options: server.connect_options("postgres") };
    let app = TestApp::start_on(database, |_| ()).await;
    (server, app)
}

async fn timed(answer: impl Future<Output = Answer>) -> (Answer, Duration) {
    let begun = Instant::now();
    (answer.await, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_outage_costs_senders_only_retries() {
    let (mut server, app) = start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let good = |state: &str| json!({ "iccid": ICCID, "profileState": state }).to_string();
    let own = format!("/v1/profiles/{ICCID}");

    block_in_place(|| server.stop_server().unwrap());
    for _ in 0..3 {
        let (delivered, again, malformed, profile, list, history, ready) = tokio::join!(
            timed(app.deliver(good("DISABLED"))),
            timed(app.deliver(good("DISABLED"))),
            timed(app.deliver("{")),
            timed(app.backend.get(&own)),
            timed(app.backend.get("/v1/profiles")),
            timed(app.backend.get("/v1/profiles/89972123300991848961/transitions")),
            timed(app.admin.get("/readyz")),
        );
        for (answer, took) in [delivered, again, malformed, profile, list, history, ready] {
            assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "unavailable"));
            assert_eq!(answer.header("retry-after"), "1");
            assert!(took < BUDGET, "{took:?}: {answer:?}");
        }
    }
    assert_eq!(app.admin.get("/livez").await.status, 200);
    assert_eq!(app.admin.get("/metrics").await.status, 200);
    // Requests that need no database are answered as usual.
    assert_eq!(app.anybody.get(&TestApp::hook_path()).await.status, 200);
    assert_eq!(app.anybody.post("/webhooks/gigastore/esim-status/wrong", "").await.status, 401);

    block_in_place(|| server.start_server().unwrap());
    let back = Instant::now();
    wait_until("a delivery is accepted again", async || {
        app.deliver(good("DISABLED")).await.status == 200
    })
    .await;
    wait_until("reads are answered again", async || app.backend.get(&own).await.status == 200)
        .await;
    wait_until("the service is ready again", async || app.admin.get("/readyz").await.status == 200)
        .await;
    assert!(back.elapsed() < HEALING, "{:?}", back.elapsed());
    assert_eq!(app.report(&iccid(1), "RELEASED").await, "moved");
    assert_eq!(app.profile(ICCID).await["seq"], 2);
    app.assert_straight(ICCID).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_unnoticed_cost_no_request() {
    let (mut server, app) = start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    assert_eq!(app.profile(ICCID).await["state"], "INSTALLED");
    for kill in [false, true] {
        block_in_place(|| {
            let ended = if kill { server.kill_server() } else { server.stop_server() };
            ended.unwrap();
            server.start_server().unwrap();
        });
        let state = if kill { "INSTALLED" } else { "DISABLED" };
        assert_eq!(app.report(ICCID, state).await, "moved");
        assert_eq!(app.profile(ICCID).await["state"], state);
        assert_eq!(app.backend.get("/v1/profiles").await.status, 200);
    }
    app.assert_straight(ICCID).await;
}

/// A router that asks `/readyz` sends such a replica no webhook, so nothing else counts what is lost. A shutdown loses none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_probe_that_finds_the_database_away_is_counted_and_those_of_a_shutdown_are_not() {
    let mut server =
        block_in_place(|| Embedded::start_ephemeral().expect("PostgreSQL is installed"));
    let settings = [("ESIM_STATUS_SHUTDOWN_NOTICE_SECONDS", "2")];
    let mut service = Service::start_with(&server.url("postgres"), &settings).await;
    service.ready().await;
    let counted = async |reason: &str| {
        service.metric(&format!("esim_status_not_ready_total{{reason=\"{reason}\"}}")).await
    };
    assert_eq!((counted("database").await, counted("spool").await), (Some(0.0), Some(0.0)));
    block_in_place(|| server.stop_server().unwrap());
    for number in [1.0, 2.0] {
        assert_eq!(service.admin().get("/readyz").await.status, 503);
        assert_eq!(counted("database").await, Some(number));
    }
    block_in_place(|| server.start_server().unwrap());
    service.ready().await;
    let before = counted("database").await;
    service.terminate();
    let admin = service.admin();
    wait_until("it shuts down", async || admin.get("/readyz").await.status == 503).await;
    assert_eq!((counted("database").await, counted("spool").await), (before, Some(0.0)));
    service.ended().await;
}
