//! Postgres stalls, stops, is killed, and comes back, under load: callers get a 503 in time, the service does not end,
//! and it recovers by itself.
//!
//! Senders deliver to the real binary and retry until each delivery is accepted, while its Postgres gets SIGSTOP, an
//! orderly stop, or SIGKILL.

use std::time::{Duration, Instant};

use esim_status_testing::{Answer, Client, wait_until};

use super::history::{assert_moved_once_each, assert_straight, lost};
use super::iccid;
use super::postgres::Postgres;
use super::senders::{Senders, healed, refusals};
use super::service::Service;
use super::turn::{Turn, alone, measured};

/// A service with its Postgres and its senders.
struct Scene {
    turn: Turn,
    postgres: Postgres,
    service: Service,
    senders: Senders,
}

impl Scene {
    async fn start() -> Self {
        let turn = alone().await;
        let postgres = Postgres::start();
        let service = Service::start(&postgres.url()).await;
        let mut senders = Senders::new(8, 5, &[&service]);
        senders.start();
        senders.until_accepted(80).await;
        // The start reads the newest deliveries. A session that was used within the last 100 ms is lent without a ping, and a
        // list then waits for its own limit.
        let rested =
            "SELECT count(*) > 0 AND bool_and(state_change < clock_timestamp() - interval '200 ms')
                      FROM pg_stat_activity WHERE application_name = 'esim-status reader'";
        let database = postgres.database();
        wait_until("the readers have rested", async || {
            database.scalar::<Option<bool>>(rested).await == Some(true)
        })
        .await;
        Self { turn, postgres, service, senders }
    }

    /// Checks and prints what happened after the database went away at `since` and came `back`.
    async fn end(mut self, fault: &str, since: Instant, back: Instant) {
        self.service.ready().await;
        let ready = back.elapsed();
        self.senders.until_accepted(80).await;
        self.senders.stop().await;
        self.service.assert_lives();
        let database = self.postgres.database();
        let lost = lost(&database, &self.senders.take_acknowledged()).await;
        assert_straight(&database).await;
        assert_moved_once_each(&database, &self.senders).await;

        let attempts = self.senders.take_attempts();
        assert!(attempts.iter().all(|attempt| attempt.status.is_some()), "an answer is missing");
        let (count, worst) = refusals(&attempts);
        // None if the database was back before any delivery timed out.
        let first = attempts.iter().filter(|it| it.status == Some(503)).map(|it| it.at).min();
        let heal = healed(&attempts, back);
        measured(
            fault,
            format!(
                "{count} answers 503, the first after {:.2?}, the slowest took {worst:.2?}; \
                 deliveries accepted {heal:.2?} after its return, ready after {ready:.2?}; {lost} lost",
                first.map_or(Duration::ZERO, |first| first - since)
            ),
        );
        assert!(worst < self.turn.budget(), "{worst:?}");
        assert!(heal.max(ready) < self.turn.healing(), "{heal:?}, {ready:?}");
    }
}

async fn timed(client: &Client, path: &str) -> (Answer, Duration) {
    let begun = Instant::now();
    (client.get(path).await, begun.elapsed())
}

/// Asserts what the probes and the read API answer while the database is away.
async fn assert_away(turn: &Turn, service: &Service) {
    let (admin, backend) = (service.admin(), service.backend());
    let own = format!("/v1/profiles/{}", iccid(0));
    let (lives, ready, read, list) = tokio::join!(
        timed(&admin, "/livez"),
        timed(&admin, "/readyz"),
        timed(&backend, &own),
        timed(&backend, "/v1/profiles"),
    );
    assert_eq!(lives.0.status, 200);
    for (answer, took) in [ready, read, list] {
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "unavailable"));
        assert_eq!(answer.header("retry-after"), "1");
        assert!(took < turn.budget(), "{took:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_postgres_costs_only_retries() {
    let mut scene = Scene::start().await;
    let since = Instant::now();
    let stalled = scene.postgres.stall();
    // Longer than a delivery waits for its commit, so that some commits are in doubt.
    for _ in 0..2 {
        assert_away(&scene.turn, &scene.service).await;
    }
    tokio::time::sleep(Duration::from_millis(2_600).saturating_sub(since.elapsed())).await;
    drop(stalled);
    scene.end("Postgres stalled (SIGSTOP)", since, Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_stopped_and_started_costs_only_retries() {
    let mut scene = Scene::start().await;
    let since = Instant::now();
    scene.postgres.stop();
    assert_away(&scene.turn, &scene.service).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.postgres.start_again();
    scene.end("Postgres stopped, then started", since, Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_and_started_costs_only_retries() {
    let mut scene = Scene::start().await;
    let since = Instant::now();
    scene.postgres.kill();
    assert_away(&scene.turn, &scene.service).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.postgres.start_again();
    scene.end("Postgres killed (-9), then started", since, Instant::now()).await;
}
