//! Several replicas on one database, with the same and with different deliveries concurrently: every profile keeps one
//! consistent history.
//!
//! Two or three processes of the real binary share a real Postgres, and eight clients for each report on five profiles.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::history::assert_straight;
use super::iccid;
use super::postgres::Postgres;
use super::service::Service;
use super::turn::{Turn, alone, measured};
use super::wire::Wire;

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

/// How many clients each replica has.
const CLIENTS: usize = 8;

/// How many profiles all clients report on.
const PROFILES: usize = 5;

/// What all clients have seen in total.
#[derive(Debug, Default)]
struct Seen {
    taken: AtomicUsize,
    refused: AtomicUsize,
    slowest_ms: AtomicUsize,
}

impl Seen {
    /// Delivers as a provider does: retries until the delivery is accepted.
    async fn deliver(&self, wire: &mut Wire, profile: usize, state: &str) {
        let body = json!({ "iccid": iccid(profile), "profileState": state }).to_string();
        for _ in 0..100 {
            let sent = Instant::now();
            let reply = wire.deliver(&body).await.expect("an answer");
            let took = sent.elapsed();
            let took = usize::try_from(took.as_millis()).unwrap();
            self.slowest_ms.fetch_max(took, Ordering::Relaxed);
            if reply.status == 200 {
                self.taken.fetch_add(1, Ordering::Relaxed);
                return;
            }
            assert_eq!(reply.status, 503, "{reply:?}");
            self.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("refused a hundred times");
    }
}

async fn rollbacks(postgres: &Postgres) -> i64 {
    let query = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    postgres.database().scalar(query).await
}

async fn straight_with(turn: Turn, replicas: usize) {
    const STEPS: usize = 20;
    let postgres = Postgres::start();
    let url = postgres.url();
    let services =
        futures_util::future::join_all((0..replicas).map(|_| Service::start(&url))).await;
    let database = postgres.database();
    let before = rollbacks(&postgres).await;
    let seen = Arc::new(Seen::default());
    let begun = Instant::now();

    // The same deliveries concurrently: in each step, all clients report the same state of the same profile.
    let barrier = Arc::new(Barrier::new(replicas * CLIENTS));
    let mut clients = JoinSet::new();
    for number in 0..replicas * CLIENTS {
        let mut wire = Wire::new(services[number % replicas].public());
        let (seen, barrier) = (seen.clone(), barrier.clone());
        clients.spawn(async move {
            for step in 0..STEPS {
                barrier.wait().await;
                seen.deliver(&mut wire, step % PROFILES, STATES[step / PROFILES % 4]).await;
            }
        });
    }
    clients.join_all().await;
    assert_straight(&database).await;
    let transitions: i64 = database.scalar("SELECT count(*) FROM transitions").await;
    assert_eq!(usize::try_from(transitions), Ok(STEPS), "each change must be stored once");

    // Different deliveries concurrently.
    let mut clients = JoinSet::new();
    for number in 0..replicas * CLIENTS {
        let mut wire = Wire::new(services[number % replicas].public());
        let seen = seen.clone();
        clients.spawn(async move {
            for _ in 0..30 {
                let (profile, state) = (rand::random_range(0..PROFILES), rand::random_range(0..4));
                seen.deliver(&mut wire, profile, STATES[state]).await;
            }
        });
    }
    clients.join_all().await;
    assert_straight(&database).await;
    let taken = seen.taken.load(Ordering::Relaxed);
    let kept: i64 = database.scalar("SELECT count(*) FROM deliveries").await;
    assert!(usize::try_from(kept).unwrap() >= taken, "{kept} stored of {taken} accepted");
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(database.scalar::<i64>(deadlocks).await, 0);
    let slowest = seen.slowest_ms.load(Ordering::Relaxed);
    let rolled_back = rollbacks(&postgres).await - before;
    let refused = seen.refused.load(Ordering::Relaxed);
    measured(
        &format!("{replicas} replicas"),
        format!(
            "{taken} deliveries for {PROFILES} profiles by {} clients in {:.2?}: {refused} answers 503, the slowest answer {slowest} ms, \
             {rolled_back} transactions rolled back, 0 deadlocks, 0 lost",
            replicas * CLIENTS,
            begun.elapsed(),
        ),
    );
    assert!(Duration::from_millis(slowest as u64) < turn.budget(), "{slowest} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_leave_one_consistent_history_for_each_profile() {
    straight_with(alone().await, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_leave_one_consistent_history_for_each_profile() {
    straight_with(alone().await, 3).await;
}
