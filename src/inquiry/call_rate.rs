//! The budget of calls to a provider's API.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets calls through one after the other, evenly spread over each minute, and none while the API has asked to wait.
#[derive(Debug)]
pub(super) struct CallRate {
    every: Duration,
    next: Instant,
}

impl CallRate {
    /// Lets this many calls a minute through.
    pub fn new(calls_a_minute: u32) -> Self {
        // A little slower, so that no minute has one more.
        let every = Duration::from_secs_f64(61.0 / f64::from(calls_a_minute.max(1)));
        Self { every, next: Instant::now() }
    }

    /// Waits until the next call may be made.
    pub async fn turn(&mut self) {
        sleep_until(self.reserve(Instant::now())).await;
    }

    /// Lets no call through for this long.
    pub fn pause(&mut self, time: Duration) {
        self.next = self.next.max(Instant::now() + time);
    }

    /// When the next call may be made.
    fn reserve(&mut self, now: Instant) -> Instant {
        let at = self.next.max(now);
        self.next = at + self.every;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_calls_than_allowed() {
        let mut rate = CallRate::new(30);
        let begun = Instant::now();
        let mut calls: Vec<Duration> = Vec::new();
        for number in 0..100 {
            // Some calls come in a hurry, some after a while, and once the API wants a pause.
            let last = calls.last().copied().unwrap_or_default();
            let now = begun + last + Duration::from_secs(if number % 30 < 20 { 0 } else { 7 });
            if number == 50 {
                rate.next = rate.next.max(now + Duration::from_secs(90));
            }
            calls.push(rate.reserve(now) - begun);
        }
        for first in &calls {
            let minute = *first..=*first + Duration::from_mins(1);
            assert!(calls.iter().filter(|call| minute.contains(*call)).count() <= 30);
        }
        assert!(calls[50] >= calls[49] + Duration::from_secs(90));
    }
}
