//! What waits in the spool, for whoever asks without waiting for it.

use std::sync::{Mutex, PoisonError};

use crate::domain::Timestamp;

/// What waits in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many deliveries wait to be written to the database.
    pub deliveries: u64,
    /// How much room they take, in bytes.
    pub bytes: u64,
    /// When the oldest of them came.
    pub oldest: Option<Timestamp>,
    /// How many were refused by the database for what they are, and wait for somebody to look at them.
    pub refused: u64,
}

/// The figures as they are now.
#[derive(Debug, Default)]
pub(super) struct Live(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    figures: Figures,
    failing: bool,
}

impl Live {
    pub(super) fn figures(&self) -> Figures {
        self.with(|state| state.figures)
    }

    pub(super) fn set(&self, figures: Figures) {
        self.with(|state| state.figures = figures);
    }

    pub(super) fn add(&self, deliveries: u64, bytes: u64, oldest: Timestamp) {
        self.with(|state| {
            state.figures.deliveries += deliveries;
            state.figures.bytes += bytes;
            state.figures.oldest.get_or_insert(oldest);
        });
    }

    /// Rows of these sizes are gone, and this is the oldest that is left.
    pub(super) fn subtract(&self, sizes: &[i64], oldest: Option<Timestamp>) {
        let bytes = sizes.iter().filter_map(|&size| u64::try_from(size).ok()).sum();
        self.with(|state| {
            let figures = &mut state.figures;
            figures.deliveries = figures.deliveries.saturating_sub(sizes.len() as u64);
            figures.bytes = figures.bytes.saturating_sub(bytes);
            figures.oldest = oldest;
            // Room that was made is room to try.
            state.failing = false;
        });
    }

    pub(super) fn add_refused(&self, deliveries: u64) {
        self.with(|state| state.figures.refused += deliveries);
    }

    pub(super) fn note_attempt(&self, done: bool) {
        self.with(|state| state.failing = !done);
    }

    pub(super) fn accepts(&self, most_bytes: u64) -> bool {
        self.with(|state| !state.failing && state.figures.bytes < most_bytes)
    }

    /// Nothing in here can panic half-way.
    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
