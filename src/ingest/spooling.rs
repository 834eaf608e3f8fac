//! Where a delivery goes: to the database, or to the spool while the database is away. One switch for all writers.
//!
//! Whoever writes takes a [`Turn`] first and holds it until the delivery is in one of the two. Any turn may switch to the spool;
//! only the drainer switches back, when the spool is empty and nobody has a turn. So for each profile, what is in the spool is
//! older than what goes to the database directly.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Spooled, Submission, SubmitError};
use crate::spool::{Spool, SpoolError};
use crate::telemetry;

/// The switch, and the spool.
#[derive(Debug)]
pub(super) struct Spooling {
    pub spool: Spool,
    turns: RwLock<()>,
    on: AtomicBool,
    begun: Notify,
}

/// The right to write something somewhere. Nobody switches back to the database meanwhile.
pub(super) struct Turn<'a> {
    spooling: &'a Spooling,
    _turn: RwLockReadGuard<'a, ()>,
}

impl Spooling {
    /// Deliveries go to the spool from the start if something is left in it, or if the database was not reached yet.
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

    /// Waits until deliveries go to the spool.
    pub(super) async fn begun(&self) {
        while !self.on.load(Ordering::Acquire) {
            self.begun.notified().await;
        }
    }

    /// Waits until nobody has a turn; nobody gets one until the guard is dropped.
    pub(super) async fn hold_all(&self) -> RwLockWriteGuard<'_, ()> {
        self.turns.write().await
    }

    /// From now on, deliveries go to the database again. The guard proves that nobody is writing.
    pub(super) fn end(&self, _nobody: &RwLockWriteGuard<'_, ()>) {
        self.on.store(false, Ordering::Release);
    }
}

impl Turn<'_> {
    /// Whether it has to be the spool.
    pub(super) fn is_for_spool(&self) -> bool {
        self.spooling.on.load(Ordering::Acquire)
    }

    /// Puts deliveries that the database did not take into the spool, where all that come after them go too.
    pub(super) async fn keep(
        &self,
        submissions: &[Submission],
    ) -> Result<Vec<Spooled>, SubmitError> {
        if !self.spooling.on.swap(true, Ordering::AcqRel) {
            tracing::warn!("the database is away: deliveries wait in the spool");
            self.spooling.begun.notify_one();
        }
        let deliveries: Vec<_> = submissions.iter().map(|it| (&it.delivery, it.provider)).collect();
        match self.spooling.spool.append(&deliveries).await {
            Ok(()) => {
                telemetry::count_spooled(deliveries.len());
                Ok(submissions.iter().map(Spooled::of).collect())
            }
            // Whoever looks at the metrics or at /readyz sees that; a line for each batch would say no more.
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
