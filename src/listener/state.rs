//! The state of one connection, as noted by its socket and its service: whether a request is arriving, whether an answer
//! is in progress, and since when. The time-outs depend on this state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for the first byte of a request.
    Waiting,
    /// Waiting for the rest of a head.
    ReadingHead,
    /// Answering a request, whose body may still be arriving.
    Answering,
}

/// The state of one connection. The connection writes it; other tasks may read it at any time.
#[derive(Debug)]
pub(in crate::listener) struct ConnectionState {
    began: Instant,
    /// Milliseconds from `began` until the connection entered its current state.
    since: AtomicU64,
    is_in_request: AtomicBool,
    is_answering: AtomicBool,
    has_answered: AtomicBool,
    has_input_ended: AtomicBool,
    is_refused: AtomicBool,
    has_place: AtomicBool,
    is_asked_to_close: AtomicBool,
    asked_to_close: Notify,
}

impl ConnectionState {
    /// The state of a new connection.
    pub(in crate::listener) fn new() -> Self {
        Self {
            began: Instant::now(),
            since: AtomicU64::new(0),
            is_in_request: AtomicBool::new(false),
            is_answering: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            has_input_ended: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            has_place: AtomicBool::new(false),
            is_asked_to_close: AtomicBool::new(false),
            asked_to_close: Notify::new(),
        }
    }

    /// Notes whether a part of a request has arrived, but not the whole.
    pub(in crate::listener) fn set_in_request(&self, is_in_request: bool) {
        let was_in_request = self.is_in_request.swap(is_in_request, Ordering::Relaxed);
        let begins = is_in_request && !was_in_request;
        // The time limit of the first head starts with the connection.
        if begins && self.has_answered() && !self.is_answering() {
            self.restart_clock();
        }
    }

    /// Notes that the client has sent its last byte: only the response in progress remains to be done.
    pub(in crate::listener) fn end_input(&self) {
        self.has_input_ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_input_ended(&self) -> bool {
        self.has_input_ended.load(Ordering::Relaxed)
    }

    /// Notes that the framing of a request was refused.
    pub(in crate::listener) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// Whether the framing of a request was refused. What hyper then says of it is only the consequence.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    pub(super) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    pub(super) fn phase(&self) -> Phase {
        if self.is_answering() {
            Phase::Answering
        } else if self.is_in_request.load(Ordering::Relaxed) {
            Phase::ReadingHead
        } else {
            Phase::Waiting
        }
    }

    /// When the connection entered its current state.
    pub(super) fn since(&self) -> Instant {
        self.began + Duration::from_millis(self.since.load(Ordering::Relaxed))
    }

    /// Notes that the connection has one of the limited places.
    pub(super) fn take_place(&self) {
        self.has_place.store(true, Ordering::Relaxed);
    }

    /// How long the connection has waited for a request. `None` if it does not wait, has no place, or was asked to
    /// close already.
    pub(super) fn waiting_for(&self, now: Instant) -> Option<Duration> {
        let counts = self.has_place.load(Ordering::Relaxed)
            && !self.is_asked_to_close()
            && self.phase() == Phase::Waiting;
        counts.then(|| now.saturating_duration_since(self.since()))
    }

    /// Asks the connection to close once it waits for a request, because another connection needs its place.
    pub(super) fn ask_to_close(&self) {
        self.is_asked_to_close.store(true, Ordering::Relaxed);
        self.asked_to_close.notify_one();
    }

    /// Completes when the connection is asked to close.
    pub(super) fn asked_to_close(&self) -> Notified<'_> {
        self.asked_to_close.notified()
    }

    /// Whether the connection was asked to close, which it does as soon as it waits for a request.
    pub(super) fn is_asked_to_close(&self) -> bool {
        self.is_asked_to_close.load(Ordering::Relaxed)
    }

    fn restart_clock(&self) {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(passed, Ordering::Relaxed);
    }
}

/// An answer in progress, from the call of the service until its body was sent or given up.
#[derive(Debug)]
pub(super) struct Answering(Arc<ConnectionState>);

impl Answering {
    pub(super) fn begin(state: &Arc<ConnectionState>) -> Self {
        state.restart_clock();
        state.is_answering.store(true, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.restart_clock();
        self.0.has_answered.store(true, Ordering::Relaxed);
        self.0.is_answering.store(false, Ordering::Relaxed);
    }
}
