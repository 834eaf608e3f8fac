//! Where deliveries go: to the database, or to the spool while the database is down. One switch for all writers.
//!
//! A writer holds a [`Route`] from before it writes until its deliveries are in the database or in the spool. All writers may
//! hold one at the same time, and any of them may switch to the spool. Only the drainer switches back, when the spool is
//! empty and no route is held. So for each profile, what is in the spool is older than what goes to the database directly.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Spooled, Submission, SubmitError};
use crate::spool::{Spool, SpoolError};
use crate::telemetry;

/// The switch, and the spool.
#[derive(Debug)]
pub(super) struct Spooling {
    pub spool: Spool,
    /// Locked for reading by each route, and for writing by the drainer when it switches back.
    routes: RwLock<()>,
    on: AtomicBool,
    begun: Notify,
}

/// The right to write to the database or the spool. Many are held at once. While any is, nothing switches back to the database;
/// any holder may switch to the spool, so where a route leads can change while it is held.
pub(super) struct Route<'a> {
    spooling: &'a Spooling,
    _held: RwLockReadGuard<'a, ()>,
}

/// Why deliveries go to the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The database is down, slow, or silent.
    DatabaseAway,
    /// The database rejects a delivery, or fails at it.
    Delivery,
}

impl Spooling {
    /// Starts with the spool if deliveries are left in it, or if the database has not been reached yet.
    pub(super) fn new(spool: Spool, was_database_reached: bool) -> Self {
        let left = spool.figures().deliveries;
        if left > 0 {
            tracing::info!(deliveries = left, "the spool is not empty: it is drained first");
        }
        let on = AtomicBool::new(left > 0 || !was_database_reached);
        Self { spool, routes: RwLock::new(()), on, begun: Notify::new() }
    }

    /// Gives a route. Waits only while the drainer is switching back to the database.
    pub(super) async fn route(&self) -> Route<'_> {
        Route { spooling: self, _held: self.routes.read().await }
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

    /// Waits until no route is held. None is given out until the guard is dropped.
    pub(super) async fn pause_writers(&self) -> RwLockWriteGuard<'_, ()> {
        self.routes.write().await
    }

    /// Sends deliveries to the database from now on. The guard shows that no route is held.
    pub(super) fn switch_off(&self, _paused: &RwLockWriteGuard<'_, ()>) {
        self.on.store(false, Ordering::Release);
    }
}

impl Route<'_> {
    /// Whether deliveries must go to the spool.
    pub(super) fn leads_to_spool(&self) -> bool {
        self.spooling.is_on()
    }

    /// Sends all deliveries to the spool from now on.
    pub(super) fn switch_to_spool(&self, cause: Cause) {
        if self.spooling.on.swap(true, Ordering::AcqRel) {
            return;
        }
        match cause {
            Cause::DatabaseAway => {
                tracing::warn!("the database is away: deliveries wait in the spool");
            }
            Cause::Delivery => tracing::warn!(
                "the database fails at a delivery: deliveries wait in the spool until it is known whether it fails at others too"
            ),
        }
        self.spooling.begun.notify_one();
    }

    /// Puts deliveries into the spool, to which this route leads.
    pub(super) async fn append(
        &self,
        submissions: &[&Submission],
    ) -> Result<Vec<Spooled>, SubmitError> {
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
