//! If the server grants fewer sessions than are wanted, lists and registrations give way to the writers, the listener,
//! the lookups and readiness.

use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::pool;

/// For how long those that give way open and keep no sessions after the server was full.
const SCARCE: Duration = Duration::from_secs(5);

/// The pools that give way, and until when.
#[derive(Debug, Default)]
pub(super) struct Room {
    pools: Mutex<Vec<Weak<pool::Inner>>>,
    scarce_until: Mutex<Option<Instant>>,
}

impl Room {
    /// Adds a pool that gives way.
    pub(super) fn add(&self, pool: Weak<pool::Inner>) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
    }

    /// Whether those that give way must do without for now.
    pub(super) fn is_scarce(&self) -> bool {
        let until = *self.scarce_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Makes room: closes the idle sessions of the pools that give way, and stops them from opening new ones for a
    /// while.
    pub(super) async fn make(&self) {
        let until = Instant::now() + SCARCE;
        *self.scarce_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        let pools: Vec<_> = {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        for pool in pools {
            pool.close_idle().await;
        }
    }
}
