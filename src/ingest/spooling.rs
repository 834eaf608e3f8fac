//! Where deliveries go: to the database, or to the spool while the database is down. One switch for all writers.
//!
//! A writer takes a [`Turn`] before it writes, and holds it until the delivery is in the database or in the spool. Any
//! turn may switch to the spool. Only the drainer switches back, when the spool is empty and no turn is held. So for
//! each profile, what is in the spool is older than what goes to the database directly.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Arrival, Spooled, Submission, SubmitError};
use crate::hook::Hooks;
use crate::providers::Providers;
use crate::spool::{Entry, Spool, SpoolError};
use crate::telemetry;

/// The switch, and the spool.
#[derive(Debug)]
pub(super) struct Spooling {
    pub spool: Spool,
    turns: RwLock<()>,
    on: AtomicBool,
    begun: Notify,
}

/// The right to write to the database or the spool. While one is held, nothing switches back to the database.
pub(super) struct Turn<'a> {
    spooling: &'a Spooling,
    _turn: RwLockReadGuard<'a, ()>,
}

impl Spooling {
    /// Starts with the spool if deliveries are left in it, or if the database has not been reached yet.
    pub(super) fn new(spool: Spool, database_is_known: bool) -> Self {
        let left = spool.figures().deliveries;
        if left > 0 {
            tracing::info!(deliveries = left, "the spool is not empty: it is drained first");
        }
        let on = AtomicBool::new(left > 0 || !database_is_known);
        Self { spool, turns: RwLock::new(()), on, begun: Notify::new() }
    }

    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn { spooling: self, _turn: self.turns.read().await }
    }

    /// Whether deliveries go to the spool.
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Waits until deliveries go to the spool.
    pub(super) async fn wait_until_on(&self) {
        while !self.is_on() {
            self.begun.notified().await;
        }
    }

    /// Waits until no turn is held. None is given out until the guard is dropped.
    pub(super) async fn pause_writers(&self) -> RwLockWriteGuard<'_, ()> {
        self.turns.write().await
    }

    /// Sends deliveries to the database from now on. The guard shows that no turn is held.
    pub(super) fn switch_off(&self, _paused: &RwLockWriteGuard<'_, ()>) {
        self.on.store(false, Ordering::Release);
    }
}

impl Turn<'_> {
    /// Whether deliveries must go to the spool.
    pub(super) fn is_for_spool(&self) -> bool {
        self.spooling.is_on()
    }

    /// Puts deliveries that the database did not accept into the spool: because it is away, or because it fails at them. All later
    /// deliveries go there too.
    pub(super) async fn spool(
        &self,
        submissions: &[&Submission],
        is_away: bool,
    ) -> Result<Vec<Spooled>, SubmitError> {
        if !self.spooling.on.swap(true, Ordering::AcqRel) {
            if is_away {
                tracing::warn!("the database is away: deliveries wait in the spool");
            } else {
                tracing::warn!(
                    "the database fails at a delivery: deliveries wait in the spool until it is known whether it fails at others too"
                );
            }
            self.spooling.begun.notify_one();
        }
        let deliveries: Vec<_> = submissions.iter().map(|it| (&it.delivery, it.provider)).collect();
        match self.spooling.spool.append(&deliveries).await {
            Ok(()) => {
                telemetry::count_spooled(deliveries.len());
                Ok(submissions.iter().map(|it| Spooled::of(it)).collect())
            }
            // Metrics and `/readyz` show that the spool is full. A log line for each batch would add nothing.
            Err(SpoolError::Full) => Err(SubmitError::SpoolFull),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    deliveries = deliveries.len(),
                    "deliveries could be written neither to the database nor to the spool"
                );
                Err(SubmitError::Unavailable)
            }
        }
    }
}

/// Reads a spooled delivery again as its hook did on arrival, so the result is the same. Returns the reason if that is
/// impossible.
pub(super) fn read(
    entry: Entry,
    hooks: &Hooks,
    providers: &Providers,
) -> Result<(i64, Submission), (i64, String)> {
    let (seq, delivery, provider) = match entry {
        Entry::Intact { place: seq, delivery, provider } => (seq, delivery, provider),
        Entry::Damaged { place: seq } => {
            return Err((seq, "its checksum does not hold".to_owned()));
        }
    };
    let Some(provider) = providers.find(&provider) else {
        return Err((seq, format!("this version knows no provider {provider}")));
    };
    let parsed = match hooks.get(delivery.hook_path()) {
        Some(hook) if hook.provider.slug() == provider.slug() => hook.read(&delivery),
        // The hook was removed, or given to another provider, while the delivery waited.
        _ => provider.parse(&delivery),
    };
    let arrival = Arrival::Delayed;
    Ok((seq, Submission { delivery, provider: provider.slug(), parsed, arrival }))
}
