//! Killed with −9 under load, again and again: nothing that was acknowledged is lost, and no change is there by half or twice.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::history::{assert_moved_once_each, assert_straight, lost};
use super::postgres::Postgres;
use super::senders::{Senders, healed, longest_pause};
use super::service::Service;
use super::turn::{alone, from_environment, measured, median_and_worst};

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    /// The service; it is started again at once, as a supervisor does.
    Service,
    /// The first process of Postgres, and started again.
    Postgres,
    /// One backend of Postgres, which then cuts all others and recovers by itself.
    Backend,
}

const VICTIMS: [&str; 3] = ["the service", "Postgres", "a backend of Postgres"];

/// In `ESIM_STATUS_KILL_ROUNDS` rounds; `ESIM_STATUS_SEED` repeats the moments of an earlier run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_under_load_nothing_acknowledged_is_lost() {
    let turn = alone().await;
    let rounds = from_environment("ESIM_STATUS_KILL_ROUNDS", 10);
    let seed = from_environment("ESIM_STATUS_SEED", rand::random());
    measured("kill -9 under load", format!("{rounds} rounds, ESIM_STATUS_SEED={seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let mut service = Service::start(&postgres.url()).await;
    let mut senders = Senders::new(32, 10, &[&service]);
    let (mut count, mut gone) = (0, 0);
    let mut ready = [const { (Vec::new(), Vec::new()) }; 3];
    let mut everything = Vec::new();

    for round in 0..rounds {
        let victim = match (round % 2, round % 4) {
            (0, _) => Victim::Service,
            (_, 1) => Victim::Postgres,
            _ => Victim::Backend,
        };
        senders.start();
        tokio::time::sleep(Duration::from_millis(random.random_range(100..800))).await;
        let killed = Instant::now();
        match victim {
            Victim::Service => {
                service.kill();
                service.start_again().await;
            }
            Victim::Postgres => {
                postgres.kill();
                postgres.start_again();
            }
            Victim::Backend => postgres.kill_a_backend().await,
        }
        // How long Postgres takes to recover is its own affair.
        let back = Instant::now();
        service.ready().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        senders.stop().await;
        service.assert_lives();
        let attempts = senders.take_attempts();
        ready[victim as usize].0.push(longest_pause(&attempts, killed));
        ready[victim as usize].1.push(healed(&attempts, back));

        let acknowledged = senders.take_acknowledged();
        count += acknowledged.len();
        gone += lost(&database, &acknowledged).await;
        assert_straight(&database).await;
        assert_moved_once_each(&database, &senders).await;
        everything.extend(acknowledged);
    }
    // What was there after its own round must have outlasted all later ones as well.
    gone += lost(&database, &everything).await;
    assert!(count > 0);
    for (victim, (whole, after)) in VICTIMS.iter().zip(&ready) {
        let ((median, worst), (median_after, worst_after)) =
            (median_and_worst(whole), median_and_worst(after));
        measured(
            &format!("kill -9 of {victim} under load"),
            format!(
                "{} rounds; no delivery taken for {median:.2?} (median), {worst:.2?} (worst); taken again {median_after:.2?}, \
                 {worst_after:.2?} after the return of what was killed",
                whole.len()
            ),
        );
        assert!(worst_after < turn.healing(), "{worst_after:?}");
    }
    measured(
        "kill -9 under load",
        format!("{rounds} rounds, {count} deliveries acknowledged, {gone} lost"),
    );
}
