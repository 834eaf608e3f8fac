//! How many deliveries a writer takes at once, and how many may wait for it: as many as the database has lately shown that it
//! writes in time.
//!
//! Without it a slow database, offered more than it can write, writes nothing at all: batches as large as allowed run into the
//! time-out, and whoever waits in a queue as long as allowed is told to try again before, or just when, the turn comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::writer::MAX_BATCH;
use crate::budget;

/// Below this it is not the size of the batch that takes the time.
const LEAST: usize = 64;

/// The pace of one writer.
#[derive(Debug)]
pub(super) struct Pace {
    most: AtomicUsize,
    room: AtomicUsize,
    queue: usize,
}

impl Pace {
    /// That of a database of which nothing is known, and of a queue of this length.
    pub(super) fn new(queue: usize) -> Self {
        Self { most: AtomicUsize::new(MAX_BATCH), room: AtomicUsize::new(queue), queue }
    }

    /// How many to take at once.
    pub(super) fn max_batch(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// How many may wait.
    pub(super) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// So many were written in this time.
    pub(super) fn committed(&self, count: usize, took: Duration) {
        let most = self.max_batch();
        // What a small batch takes says little of a large one.
        if count < most / 2 {
            return;
        }
        let next = if took > budget::SLOW_BATCH {
            within(count, took, budget::STEADY_BATCH)
        } else if took < budget::STEADY_BATCH / 2 {
            most * 2
        } else {
            most
        };
        let next = next.clamp(LEAST, MAX_BATCH);
        self.most.store(next, Ordering::Relaxed);
        self.room
            .store(within(count, took, budget::QUEUE).clamp(next, self.queue), Ordering::Relaxed);
    }

    /// So many were not written within the time that they had.
    pub(super) fn gave_up(&self, count: usize) {
        if count > LEAST {
            self.most.store((count / 4).clamp(LEAST, MAX_BATCH), Ordering::Relaxed);
        }
    }

    /// Some have waited for their turn in vain: no more are let in than one batch takes, until a batch shows better.
    pub(super) fn fell_behind(&self) {
        self.room.fetch_min(self.max_batch(), Ordering::Relaxed);
    }

    /// Nobody waits any more, so there is room again.
    pub(super) fn caught_up(&self) {
        self.room.store(self.queue, Ordering::Relaxed);
    }
}

/// How many fit into `time`, if so many took that long.
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
            pace.committed(count, Duration::from_millis(20));
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
                pace.gave_up(count);
            } else {
                pace.committed(count, takes(count));
            }
        }
        assert!(takes(pace.max_batch()) <= budget::SLOW_BATCH, "{pace:?}");
        let wait = takes(pace.room()) + 2 * takes(pace.max_batch());
        assert!(wait < budget::DELIVERY, "{wait:?}: {pace:?}");
        for _ in 0..5 {
            pace.committed(pace.max_batch(), Duration::from_millis(10));
        }
        assert_eq!((pace.max_batch(), pace.room()), (MAX_BATCH, QUEUE));
    }

    #[test]
    fn few_that_are_slow_or_fail_are_no_reason_to_take_fewer() {
        let pace = Pace::new(QUEUE);
        pace.committed(3, Duration::from_secs(1));
        pace.gave_up(3);
        assert_eq!((pace.max_batch(), pace.room()), (MAX_BATCH, QUEUE));
    }

    #[test]
    fn who_falls_behind_lets_few_in_until_the_queue_is_empty_or_a_batch_was_quick() {
        let pace = Pace::new(QUEUE);
        pace.fell_behind();
        assert_eq!(pace.room(), MAX_BATCH);
        pace.committed(MAX_BATCH, Duration::from_millis(20));
        assert_eq!(pace.room(), QUEUE);
        pace.fell_behind();
        pace.caught_up();
        assert_eq!(pace.room(), QUEUE);
    }
}
