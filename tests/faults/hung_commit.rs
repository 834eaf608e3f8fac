//! Commits that never return, as with synchronous replication and no standby: the service does not use up the server's
//! connections, and accepts deliveries again as soon as commits return.
//!
//! A real Postgres gets a `synchronous_standby_names` that nobody answers to, under load, and loses it again.

use std::time::{Duration, Instant};

use esim_status_testing::{TestApp, wait_until};
use serde_json::json;
use sqlx::Executor;
use tokio::task::JoinSet;

use super::history::assert_straight;
use super::iccid;
use super::postgres::Postgres;
use super::turn::{alone, from_environment, measured};

/// How many profiles are reported on: enough to keep every writer busy.
const PROFILES: usize = 16;

/// The max number of write connections of one replica (see `docs/operations.md`), doubled for those whose commit hangs.
const MAX_CONNECTIONS: i64 = 2 * (2 + 4);

async fn set_standby(app: &TestApp, name: &str) {
    let mut operator = app.database.connect().await;
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    operator.execute(sqlx::AssertSqlSafe(set)).await.unwrap();
    operator.execute("SELECT pg_reload_conf()").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_hang_use_up_no_connections() {
    let turn = alone().await;
    let postgres = Postgres::start();
    let app = TestApp::start_on(postgres.database(), |_| ()).await;
    for number in 0..PROFILES {
        assert_eq!(app.report(&iccid(number), "RELEASED").await, "moved");
    }
    set_standby(&app, "nobody").await;
    let begun = Instant::now();
    let seconds = from_environment("ESIM_STATUS_HUNG_SECONDS", 10);
    let mut refused = 0;
    let mut senders = JoinSet::new();
    for number in 0..PROFILES {
        let anybody = app.anybody.clone();
        senders.spawn(async move {
            let body = json!({ "iccid": iccid(number), "profileState": "INSTALLED" }).to_string();
            let mut refused = 0;
            while begun.elapsed() < Duration::from_secs(seconds) {
                let answer = anybody.post(&TestApp::hook_path(), body.clone()).await;
                // Accepted until the server has loaded the new setting, then always refused.
                refused += usize::from(answer.status == 503);
            }
            refused
        });
    }
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('esim-status writer', 'esim-status lane')";
    let mut connections = 0;
    while let Some(done) = senders.join_next().await {
        connections = connections.max(app.database.scalar::<i64>(ours).await);
        refused += done.unwrap();
    }
    assert!(refused > 0, "no commit hung: no delivery was refused");
    assert!(connections <= MAX_CONNECTIONS, "{connections} connections");

    set_standby(&app, "").await;
    let back = Instant::now();
    wait_until("deliveries are accepted again", async || {
        let body = json!({ "iccid": iccid(0), "profileState": "DISABLED" }).to_string();
        app.deliver(body).await.status == 200
    })
    .await;
    let heal = back.elapsed();
    assert!(heal < turn.healing(), "{heal:?}");
    assert_straight(&app.database).await;
    measured(
        "commits that hang",
        format!(
            "{seconds} s: {refused} answers 503, at most {connections} connections to write; accepted again after {heal:.2?}"
        ),
    );
}
