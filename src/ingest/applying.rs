//! Whether the database applies deliveries, as the writers and the drainer see it together. If it does, and fails at one, the cause is
//! that delivery or its profile; otherwise it may be anything.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Receipt;
use crate::domain::Outcome;

/// For how long after a delivery was applied the database counts as well.
const WELL_FOR: Duration = Duration::from_secs(10);

/// How many deliveries may fail one after the other, each alone, before the whole database counts as failing.
pub(super) const MAX_SUSPECTS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Applying(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When a delivery was last applied.
    at: Option<Instant>,
    /// How many have failed alone since then, or were kept unapplied.
    suspects: usize,
}

impl Applying {
    /// Notes what was written.
    pub(super) fn note(&self, receipts: &[Receipt]) {
        let was_applied = |it: &Receipt| {
            matches!(
                it.outcome,
                Outcome::Moved | Outcome::Repeated | Outcome::Late | Outcome::Connected
            )
        };
        if receipts.iter().any(was_applied) {
            self.with_state(|state| *state = State { at: Some(Instant::now()), suspects: 0 });
        } else if receipts.iter().any(Receipt::is_unapplied) {
            self.note_suspect();
        }
    }

    /// Notes that the database fails at a single delivery. Returns how many these are in a row.
    pub(super) fn note_suspect(&self) -> usize {
        self.with_state(|state| {
            state.suspects += 1;
            state.suspects
        })
    }

    /// Whether the database applies others.
    pub(super) fn is_well(&self) -> bool {
        self.with_state(|state| {
            state.suspects < MAX_SUSPECTS && state.at.is_some_and(|at| at.elapsed() < WELL_FOR)
        })
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::deliveries::UNAPPLIED;

    fn receipt(outcome: Outcome, reason: Option<&str>) -> Receipt {
        Receipt { delivery_id: Uuid::nil(), outcome, reason: reason.map(str::to_owned) }
    }

    #[test]
    fn it_is_well_while_some_are_applied_and_few_in_a_row_are_not() {
        let applying = Applying::default();
        assert!(!applying.is_well(), "nothing was applied yet");
        applying.note(&[receipt(Outcome::Malformed, None), receipt(Outcome::Moved, None)]);
        for _ in 1..MAX_SUSPECTS {
            applying.note(&[receipt(Outcome::Unrecognised, Some(UNAPPLIED))]);
            // Neither reads nor writes a profile.
            applying.note(&[receipt(Outcome::Malformed, None)]);
            assert!(applying.is_well());
        }
        applying.note_suspect();
        assert!(!applying.is_well(), "too many in a row");
        applying.note(&[receipt(Outcome::Repeated, None)]);
        assert!(applying.is_well());
        applying.with_state(|state| state.at = Instant::now().checked_sub(WELL_FOR));
        assert!(!applying.is_well(), "too long ago");
    }
}
