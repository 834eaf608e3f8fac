//! Whether deliveries have recently been applied, by any writer or the drainer. If so, and the database fails at one, the
//! cause is that delivery or its profile. Otherwise it may be anything.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Receipt;
use crate::domain::Outcome;

/// How long ago a success is recent.
const RECENT: Duration = Duration::from_secs(10);

/// How many deliveries may fail one after the other before the cause is no longer sought in each of them.
pub(super) const MAX_SUSPECTS: usize = 8;

/// When a delivery was last applied, and how many have failed since.
#[derive(Debug, Default)]
pub(super) struct RecentSuccess(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When a delivery was last applied.
    at: Option<Instant>,
    /// How many have failed since then, or were kept unapplied.
    failures: usize,
}

impl RecentSuccess {
    /// Notes what was written.
    pub(super) fn note(&self, receipts: &[Receipt]) {
        // Each of these has read and written a profile.
        let touched_profile = |it: &Receipt| {
            matches!(
                it.outcome,
                Outcome::Moved | Outcome::Repeated | Outcome::Late | Outcome::Connected
            )
        };
        if receipts.iter().any(touched_profile) {
            self.with_state(|state| *state = State { at: Some(Instant::now()), failures: 0 });
        } else if receipts.iter().any(Receipt::is_unapplied) {
            self.note_failure();
        }
    }

    /// Notes that the database failed at a delivery, or at a batch that was not divided further. Returns how many failures these are
    /// in a row.
    pub(super) fn note_failure(&self) -> usize {
        self.with_state(|state| {
            state.failures += 1;
            state.failures
        })
    }

    /// Whether others were applied recently, and few have failed since.
    pub(super) fn is_recent(&self) -> bool {
        self.with_state(|state| {
            state.failures < MAX_SUSPECTS && state.at.is_some_and(|at| at.elapsed() < RECENT)
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
    fn a_success_counts_until_too_many_have_failed_or_it_is_too_long_ago() {
        let success = RecentSuccess::default();
        assert!(!success.is_recent(), "nothing was applied yet");
        success.note(&[receipt(Outcome::Malformed, None), receipt(Outcome::Moved, None)]);
        for _ in 1..MAX_SUSPECTS {
            success.note(&[receipt(Outcome::Unrecognised, Some(UNAPPLIED))]);
            // Neither reads nor writes a profile.
            success.note(&[receipt(Outcome::Malformed, None)]);
            assert!(success.is_recent());
        }
        success.note_failure();
        assert!(!success.is_recent(), "too many in a row");
        success.note(&[receipt(Outcome::Repeated, None)]);
        assert!(success.is_recent());
        success.with_state(|state| state.at = Instant::now().checked_sub(RECENT));
        assert!(!success.is_recent(), "too long ago");
    }
}
