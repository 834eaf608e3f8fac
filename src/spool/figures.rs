//! How much waits in the spool, readable without waiting for SQLite.

use std::sync::{Mutex, PoisonError};

use crate::domain::Timestamp;

/// How much waits in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// The number of deliveries that wait to be written to the database.
    pub deliveries: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// When the oldest of them was received.
    pub oldest: Option<Timestamp>,
    /// The number of deliveries that the database refused for their content. An operator should look at them.
    pub refused: u64,
}

/// The current figures, whether the last attempt to append failed, and whether one failed because the file is damaged.
#[derive(Debug, Default)]
pub(super) struct Condition(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    figures: Figures,
    is_failing: bool,
    is_damaged: bool,
}

impl Condition {
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

    /// Rows of these sizes were removed, and `oldest` is the time of the oldest that is left.
    pub(super) fn subtract(&self, sizes: &[i64], oldest: Option<Timestamp>) {
        let bytes = sizes.iter().filter_map(|&size| u64::try_from(size).ok()).sum();
        self.with(|state| {
            let figures = &mut state.figures;
            figures.deliveries = figures.deliveries.saturating_sub(sizes.len() as u64);
            figures.bytes = figures.bytes.saturating_sub(bytes);
            figures.oldest = oldest;
            // Something was removed, so another append may succeed.
            state.is_failing = false;
        });
    }

    pub(super) fn add_refused(&self, deliveries: u64) {
        self.with(|state| state.figures.refused += deliveries);
    }

    pub(super) fn note_attempt(&self, done: bool) {
        self.with(|state| state.is_failing = !done);
    }

    pub(super) fn note_damage(&self) {
        self.with(|state| state.is_damaged = true);
    }

    /// The file was written anew, without deliveries.
    pub(super) fn note_renewal(&self) {
        self.with(|state| (state.is_failing, state.is_damaged) = (false, false));
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.with(|state| state.is_damaged)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.with(|state| state.is_failing)
    }

    pub(super) fn accepts(&self, max_bytes: u64) -> bool {
        self.with(|state| !state.is_failing && state.figures.bytes < max_bytes)
    }

    /// Nothing here panics halfway, so a poisoned lock still guards valid figures.
    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
