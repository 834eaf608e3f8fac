//! Adapts the batch size and the queue length of a writer to what the database has recently shown it can write in time.
//!
//! Without this, a database that is offered more than it can write makes no progress at all: full batches hit the
//! statement timeout, and deliveries in a full queue expire before their turn, or just when it comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::budget;

/// The max number of deliveries in a batch.
pub(super) const MAX_BATCH: usize = 512;

/// The min batch size: below it, the size no longer determines how long a batch takes.
const MIN_BATCH: usize = 64;

/// The pace of one writer.
#[derive(Debug)]
pub(super) struct Pace {
    max_batch: AtomicUsize,
    room: AtomicUsize,
    queue: usize,
}

impl Pace {
    /// The pace for a database whose speed is not known yet, and a queue of this length.
    pub(super) fn new(queue: usize) -> Self {
        Self { max_batch: AtomicUsize::new(MAX_BATCH), room: AtomicUsize::new(queue), queue }
    }

    /// The max size of a batch.
    pub(super) fn max_batch(&self) -> usize {
        self.max_batch.load(Ordering::Relaxed)
    }

    /// The max number of deliveries that may wait.
    pub(super) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// Notes that a batch of this size was committed in this time.
    pub(super) fn note_commit(&self, count: usize, took: Duration) {
        let max = self.max_batch();
        // The time of a small batch says little about a large one.
        if count < max / 2 {
            return;
        }
        let next = if took > budget::SLOW_BATCH {
            within(count, took, budget::STEADY_BATCH)
        } else if took < budget::STEADY_BATCH / 2 {
            max * 2
        } else {
            max
        };
        let next = next.clamp(MIN_BATCH, MAX_BATCH);
        self.max_batch.store(next, Ordering::Relaxed);
        self.room.store(
            within(count, took, budget::QUEUE_WAIT).clamp(next, self.queue),
            Ordering::Relaxed,
        );
    }

    /// Notes that a batch of this size was not written in time.
    pub(super) fn note_timeout(&self, count: usize) {
        if count > MIN_BATCH {
            self.max_batch.store((count / 4).clamp(MIN_BATCH, MAX_BATCH), Ordering::Relaxed);
        }
    }

    /// Notes that deliveries expired in the queue: admits no more than one batch, until a batch is fast again.
    pub(super) fn note_expired(&self) {
        self.room.fetch_min(self.max_batch(), Ordering::Relaxed);
    }

    /// Notes that the queue is empty, so its whole length is available again.
    pub(super) fn note_empty_queue(&self) {
        self.room.store(self.queue, Ordering::Relaxed);
    }
}

/// How many deliveries fit into `time`, if `count` of them took `took`.
fn within(count: usize, took: Duration, time: Duration) -> usize {
    let fit = count as u128 * time.as_micros() / took.as_micros().max(1);
    usize::try_from(fit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: usize = 4_096;

    #[test]
    fn a_quick_database_is_given_all_there_is() {
        let pace = Pace::new(QUEUE);
        for count in [1, 300, 512, 512] {
            pace.note_commit(count, Duration::from_millis(20));
            assert_eq!((pace.max_batch(), pace.room()), (MAX_BATCH, QUEUE));
        }
    }

    #[test]
    fn batches_shrink_until_they_are_written_in_time_and_grow_again() {
        // Four milliseconds each: two seconds for a whole batch.
        let takes = |count: usize| Duration::from_millis(4) * u32::try_from(count).unwrap();
        let pace = Pace::new(QUEUE);
        for _ in 0..10 {
            let count = pace.max_batch();
            if takes(count) > Duration::from_millis(1_500) {
                pace.note_timeout(count);
            } else {
                pace.note_commit(count, takes(count));
            }
        }
        assert!(takes(pace.max_batch()) <= budget::SLOW_BATCH, "{pace:?}");
        let wait = takes(pace.room()) + 2 * takes(pace.max_batch());
        assert!(wait < budget::DELIVERY, "{wait:?}: {pace:?}");
        for _ in 0..5 {
            pace.note_commit(pace.max_batch(), Duration::from_millis(10));
        }
        assert_eq!((pace.max_batch(), pace.room()), (MAX_BATCH, QUEUE));
    }

    #[test]
    fn few_that_are_slow_or_fail_are_no_reason_to_take_fewer() {
        let pace = Pace::new(QUEUE);
        pace.note_commit(3, Duration::from_secs(1));
        pace.note_timeout(3);
        assert_eq!((pace.max_batch(), pace.room()), (MAX_BATCH, QUEUE));
    }

    #[test]
    fn who_falls_behind_lets_few_in_until_the_queue_is_empty_or_a_batch_was_quick() {
        let pace = Pace::new(QUEUE);
        pace.note_expired();
        assert_eq!(pace.room(), MAX_BATCH);
        pace.note_commit(MAX_BATCH, Duration::from_millis(20));
        assert_eq!(pace.room(), QUEUE);
        pace.note_expired();
        pace.note_empty_queue();
        assert_eq!(pace.room(), QUEUE);
    }
}
