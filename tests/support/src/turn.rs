//! Turns: which tests of faults may run at the same time, and what they measure.

use std::fmt::Display;
use std::io::{Write, stderr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::const_new(());

/// A turn; other tests wait until it ends.
pub struct Turn {
    _alone: Option<RwLockWriteGuard<'static, ()>>,
    _beside: Option<RwLockReadGuard<'static, ()>>,
    starved_before: Duration,
}

/// Waits until no other test has a turn, and runs alone.
pub async fn alone() -> Turn {
    let guard = TURN.write().await;
    Turn { _alone: Some(guard), _beside: None, starved_before: starved() }
}

/// Waits until no test runs alone, and runs beside others. For tests that mostly wait.
pub async fn beside_others() -> Turn {
    let guard = TURN.read().await;
    Turn { _alone: None, _beside: Some(guard), starved_before: starved() }
}

impl Turn {
    /// How long an answer may take: the 2.5 s that a provider waits, plus [`Self::slack`].
    pub fn budget(&self) -> Duration {
        Duration::from_millis(2_500) + self.slack()
    }

    /// How long the service may take to reconnect to its database: 5 s, plus [`Self::slack`].
    pub fn healing(&self) -> Duration {
        Duration::from_secs(5) + self.slack()
    }

    /// A second, plus twice the time for which this process has waited for a processor in this turn: other work may run
    /// on the same machine.
    pub fn slack(&self) -> Duration {
        Duration::from_secs(1) + 2 * starved().saturating_sub(self.starved_before)
    }
}

/// How long a thread that should run twenty times a second has been delayed so far, in total.
fn starved() -> Duration {
    static MICROS: AtomicU64 = AtomicU64::new(0);
    static WATCH: LazyLock<()> = LazyLock::new(|| {
        thread::spawn(|| {
            loop {
                let begun = Instant::now();
                thread::sleep(Duration::from_millis(50));
                let late = begun.elapsed().saturating_sub(Duration::from_millis(52)).as_micros();
                MICROS.fetch_add(u64::try_from(late).unwrap_or_default(), Ordering::Relaxed);
            }
        });
    });
    LazyLock::force(&WATCH);
    Duration::from_micros(MICROS.load(Ordering::Relaxed))
}

/// Prints what was measured. Bypasses the capture of the test harness, so that a passing run shows it too.
pub fn measured(fault: &str, what: impl Display) {
    drop(writeln!(stderr(), "measured: {fault}: {what}"));
}

/// A number from an environment variable, for the long form of a test.
pub fn from_environment(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => otherwise,
    }
}

/// The median and the maximum; zero if there are no times.
pub fn median_and_worst(times: &[Duration]) -> (Duration, Duration) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    (median, sorted.last().copied().unwrap_or_default())
}
