//! Limits a log line that would otherwise be written for each request during an outage. The first line is written, then
//! one per minute with the number of lines left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a recurring line is written.
pub const INTERVAL: Duration = Duration::from_mins(1);

/// When one kind of line was last written. It is stored next to the line, mostly in a `static`.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    written: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// The state before the first line.
    pub const fn new() -> Self {
        Self(Mutex::new(State { written: None, left_out: 0 }))
    }

    /// Whether to write the line now: `Some` with the number of lines left out since the last one.
    pub fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    fn due_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.written.is_some_and(|written| now - written < INTERVAL) {
            state.left_out += 1;
            return None;
        }
        state.written = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_written_and_then_one_a_minute_with_the_number_of_those_between() {
        let (seldom, begun) = (Seldom::new(), Instant::now());
        let due: Vec<_> = [0, 1, 59, 60, 61, 180]
            .map(|seconds| seldom.due_at(begun + Duration::from_secs(seconds)))
            .into();
        assert_eq!(due, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
