//! Where the server gives fewer sessions than are wanted, lists and registrations give way to the writers, the listener, the
//! lookups and readiness.

use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::pool;

/// For how long those who give way open nothing and keep nothing after there was no room.
const SCARCE: Duration = Duration::from_secs(5);

/// Those who give way, and until when.
#[derive(Debug, Default)]
pub(super) struct Room {
    pools: Mutex<Vec<Weak<pool::Inner>>>,
    scarce_until: Mutex<Option<Instant>>,
}

impl Room {
    /// This pool gives way from now on.
    pub(super) fn add(&self, pool: Weak<pool::Inner>) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool);
    }

    /// Whether those who give way have to do without for now.
    pub(super) fn is_scarce(&self) -> bool {
        let until = *self.scarce_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Makes room: closes what those who give way do not use, and lets them open nothing for a while.
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
