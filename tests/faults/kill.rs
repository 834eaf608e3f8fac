//! SIGKILL under load, again and again: no acknowledged delivery is lost, and no change is stored partially or twice.
//!
//! The real binary, its Postgres, or one backend of Postgres is killed at random moments while 32 senders retry every
//! delivery until it is accepted.

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
    /// The service, which is restarted immediately, as a supervisor does.
    Service,
    /// The main process of Postgres, which is then started again.
    Postgres,
    /// One backend of Postgres, which then terminates all other backends and recovers by itself.
    Backend,
}

const VICTIMS: [&str; 3] = ["the service", "Postgres", "a backend of Postgres"];

/// `ESIM_STATUS_KILL_ROUNDS` sets the number of rounds; `ESIM_STATUS_SEED` repeats the random moments of an earlier
/// run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_delivery_is_lost_whatever_is_killed_under_load() {
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
        // The time that Postgres takes to recover does not count.
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
    // What was stored in an earlier round must still be there after all later ones.
    gone += lost(&database, &everything).await;
    assert!(count > 0);
    for (victim, (whole, after)) in VICTIMS.iter().zip(&ready) {
        let ((median, worst), (median_after, worst_after)) =
            (median_and_worst(whole), median_and_worst(after));
        measured(
            &format!("kill -9 of {victim} under load"),
            format!(
                "{} rounds; no delivery accepted for {median:.2?} (median), {worst:.2?} (worst); accepted again {median_after:.2?}, \
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
