//! What one connection is doing, as its socket and its service see it: where in a request the client is, whether an answer is in
//! progress, and since when. The time-outs follow from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// How much of a request has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::listener) enum Arrived {
    /// Nothing: the client is between two requests.
    Nothing,
    /// A part of the head.
    Head,
    /// The head and a part of the body.
    Body,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It waits for the first byte of a request.
    Waiting,
    /// It waits for the rest of a head.
    ReadingHead,
    /// Its request is being answered, and the body may still be arriving.
    Answering,
}

/// One connection's standing. The connection writes it; others may read it at any time.
#[derive(Debug)]
pub(in crate::listener) struct Standing {
    began: Instant,
    /// Milliseconds from `began` until the connection began to do what it is doing.
    since: AtomicU64,
    arrived: AtomicU8,
    is_answering: AtomicBool,
    has_answered: AtomicBool,
    is_finished: AtomicBool,
    has_place: AtomicBool,
    is_to_go: AtomicBool,
    told_to_go: Notify,
}

impl Standing {
    /// That of a new connection.
    pub(in crate::listener) fn new() -> Self {
        Self {
            began: Instant::now(),
            since: AtomicU64::new(0),
            arrived: AtomicU8::new(Arrived::Nothing as u8),
            is_answering: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
            has_place: AtomicBool::new(false),
            is_to_go: AtomicBool::new(false),
            told_to_go: Notify::new(),
        }
    }

    /// Notes how much of a request has arrived.
    pub(in crate::listener) fn note(&self, arrived: Arrived) {
        let before = self.arrived.swap(arrived as u8, Ordering::Relaxed);
        // The time for the first head runs from the beginning of the connection.
        let begins = before == Arrived::Nothing as u8 && arrived == Arrived::Head;
        if begins && self.has_answered() && !self.is_answering() {
            self.now();
        }
    }

    /// Notes that the client has sent its last byte: the answer in progress is all that is left to do.
    pub(in crate::listener) fn finish(&self) {
        self.is_finished.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.is_finished.load(Ordering::Relaxed)
    }

    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    pub(super) fn doing(&self) -> Doing {
        if self.is_answering() {
            Doing::Answering
        } else if self.arrived.load(Ordering::Relaxed) == Arrived::Nothing as u8 {
            Doing::Waiting
        } else {
            Doing::ReadingHead
        }
    }

    /// When it began to do that.
    pub(super) fn since(&self) -> Instant {
        self.began + Duration::from_millis(self.since.load(Ordering::Relaxed))
    }

    /// Notes that the connection has one of the places that are limited.
    pub(super) fn take_place(&self) {
        self.has_place.store(true, Ordering::Relaxed);
    }

    /// For how long it has waited for a request, if it does, has a place, and was not asked to leave it yet.
    pub(super) fn waiting_for(&self, now: Instant) -> Option<Duration> {
        let counts = self.has_place.load(Ordering::Relaxed)
            && !self.is_to_go()
            && self.doing() == Doing::Waiting;
        counts.then(|| now.saturating_duration_since(self.since()))
    }

    /// Asks the connection to end if it still waits for a request: another one needs the room.
    pub(super) fn tell_to_go(&self) {
        self.is_to_go.store(true, Ordering::Relaxed);
        self.told_to_go.notify_one();
    }

    /// Wakes when it is asked to.
    pub(super) fn told_to_go(&self) -> Notified<'_> {
        self.told_to_go.notified()
    }

    /// Whether it has been asked to end, which it does as soon as it waits for a request.
    pub(super) fn is_to_go(&self) -> bool {
        self.is_to_go.load(Ordering::Relaxed)
    }

    fn now(&self) {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(passed, Ordering::Relaxed);
    }
}

/// An answer in progress, from the call of the service until its body was handed over or given up.
#[derive(Debug)]
pub(super) struct Answering(Arc<Standing>);

impl Answering {
    pub(super) fn begin(standing: &Arc<Standing>) -> Self {
        standing.now();
        standing.is_answering.store(true, Ordering::Relaxed);
        Self(Arc::clone(standing))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.now();
        self.0.has_answered.store(true, Ordering::Relaxed);
        self.0.is_answering.store(false, Ordering::Relaxed);
    }
}
