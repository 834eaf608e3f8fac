//! Whose turn it is, and what was measured in it.

use std::fmt::Display;
use std::io::{Write, stderr};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::const_new(());

/// What a provider waits at most, 2.5 s, and what a busy machine may add.
pub(crate) const BUDGET: Duration = Duration::from_secs(4);

/// How long the service may need to find its database again, and as much again for a busy machine.
pub(crate) const HEALING: Duration = Duration::from_secs(5 + 5);

/// Waits until no other fault is being made, and keeps others from being made.
pub(crate) async fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().await
}

/// Says what was measured. Past the capture of the test harness, so that it is seen of a run that passes too.
pub(crate) fn measured(fault: &str, what: impl Display) {
    drop(writeln!(stderr(), "measured: {fault}: {what}"));
}

/// A number from the environment, for the long form of a test.
pub(crate) fn from_environment(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => otherwise,
    }
}

/// The median and the worst; zero of nothing.
pub(crate) fn median_and_worst(times: &[Duration]) -> (Duration, Duration) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    (median, sorted.last().copied().unwrap_or_default())
}
