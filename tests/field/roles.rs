//! A database role that may open only few connections, and readers that connect first: webhooks still get connections.
//!
//! The real binary uses a role with `CONNECTION LIMIT 8`; twelve clients read lists without a pause, then webhooks
//! arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use esim_status_testing::service::Service;
use esim_status_testing::turn::{alone, measured, median_and_worst};
use esim_status_testing::wire::Wire;
use esim_status_testing::{Database, server, wait_until};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::Executor;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::iccid;

/// The limit of a small managed database.
const ROLE: &str = "CREATE ROLE few LOGIN CONNECTION LIMIT 8";

/// Clients that read lists without a pause.
const READERS: usize = 12;

const PATHS: [&str; 3] = ["/v1/profiles?limit=200", "/v1/deliveries?limit=200", "/v1/summary"];

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// Enough rows to make lists slow.
const ROWS: &str = "
    INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
    SELECT '8997212330088' || lpad(n::text, 7, '0'), 'gigastore', 'RELEASED', 'RELEASED', now(), 1, 0, 0, now()
    FROM generate_series(1, 5000) AS n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_few_connections_keeps_them_for_webhooks() {
    let turn = alone().await;
    let database = Database::empty().await;
    let name = database.options.get_database().unwrap();
    let owner = format!("ALTER DATABASE {name} OWNER TO few");
    let mut operator = database.connect().await;
    operator.execute(ROLE).await.unwrap();
    operator.execute(sqlx::AssertSqlSafe(owner)).await.unwrap();
    let url = server().url(name).replace("esim_status@", "few@");
    let service = Service::start(&url).await;
    operator.execute(ROWS).await.unwrap();

    // The readers connect first.
    let (stopping, mut readers) = (CancellationToken::new(), JoinSet::new());
    let answered = Arc::<AtomicUsize>::default();
    for number in 0..READERS {
        let (mut wire, stopping) = (Wire::new(service.public()), stopping.clone());
        let answered = answered.clone();
        readers.spawn(async move {
            let mut statuses = Vec::new();
            while !stopping.is_cancelled() {
                let reply = wire.get(PATHS[number % PATHS.len()]).await.expect("an answer");
                statuses.push(reply.status);
                if reply.status == 200 {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
            statuses
        });
    }
    let is_busy = async || answered.load(Ordering::Relaxed) >= READERS;
    wait_until("the readers get their lists", is_busy).await;
    let mut answers = Vec::new();
    for number in 0..20 {
        answers.extend(round(&service, number).await);
    }
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'few'";
    let sessions: i64 = database.scalar(sessions).await;
    stopping.cancel();
    let read: Vec<u16> = readers.join_all().await.into_iter().flatten().collect();
    // Also after the readers have stopped, while the connections that they caused are still open.
    for number in 0..5 {
        answers.extend(round(&service, number).await);
    }

    let refused = answers.iter().filter(|(status, _)| *status != 200).count();
    let times: Vec<_> = answers.iter().map(|(_, took)| *took).collect();
    let (median, worst) = median_and_worst(&times);
    let gave_way = read.iter().filter(|status| **status == 503).count();
    measured(
        "a role that may open 8 connections, 12 readers first",
        format!(
            "{} webhooks after {median:.2?} (median), {worst:.2?} (worst), {refused} refused; {} lists, {gave_way} of them 503; \
             {sessions} connections",
            answers.len(),
            read.len(),
        ),
    );
    assert_eq!(refused, 0, "webhooks are refused");
    assert!(read.iter().all(|status| [200, 503].contains(status)), "{read:?}");
    assert!(read.contains(&200), "no list was answered");
    assert!(worst < turn.budget(), "{worst:?}");
    assert!(service.log().contains("CONNECTION LIMIT"), "the log does not mention the limit");
}

/// Reports a state of eight profiles at the same moment.
async fn round(service: &Service, number: usize) -> Vec<(u16, Duration)> {
    let report = |profile: usize| async move {
        let body =
            json!({ "iccid": iccid(profile), "profileState": STATES[number % STATES.len()] });
        let (mut wire, begun) = (Wire::new(service.public()), Instant::now());
        let reply = wire.deliver(&body.to_string()).await.expect("an answer");
        (reply.status, begun.elapsed())
    };
    join_all((0..8).map(report)).await
}
