//! What is logged while the database is down: one line when that begins, one a minute with counts, and one when it is
//! back.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::telemetry::INTERVAL;

/// Whether the database is down, as all writers together see it.
#[derive(Debug, Default)]
pub(super) struct Outage {
    is_on: AtomicBool,
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    begun: Instant,
    mentioned: Instant,
    batches: u64,
    deliveries: u64,
}

impl Outage {
    /// Notes that a batch with this many deliveries was not written.
    pub(super) fn note(
        &self,
        deliveries: usize,
        what: &str,
        cause: Option<&(dyn Error + 'static)>,
    ) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_on.store(true, Ordering::Release);
        let is_new = state.is_none();
        let new = State { begun: now, mentioned: now, batches: 0, deliveries: 0 };
        let state = state.get_or_insert(new);
        state.batches += 1;
        state.deliveries += deliveries as u64;
        if is_new {
            tracing::error!(
                error = cause,
                deliveries,
                "{what}; is it up, and has it room? Further failures are counted"
            );
        } else if now - state.mentioned >= INTERVAL {
            state.mentioned = now;
            tracing::error!(
                error = cause,
                seconds = (now - state.begun).as_secs(),
                batches = state.batches,
                deliveries = state.deliveries,
                "{what}; it has been like this for a while"
            );
        }
    }

    /// Notes that a batch was written.
    pub(super) fn end(&self) {
        if !self.is_on.load(Ordering::Acquire) {
            return;
        }
        let ended = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.is_on.store(false, Ordering::Release);
        if let Some(State { begun, batches, deliveries, .. }) = ended {
            let seconds = begun.elapsed().as_secs_f64();
            tracing::info!(seconds, batches, deliveries, "the database takes deliveries again");
        }
    }
}
