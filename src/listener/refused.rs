//! What the listener refuses by itself. Such a request never reaches the router, so it is in none of the router's
//! metrics and log lines: without these, a sender that is refused for ever would be noticed by nobody.

use std::fmt::Display;

use crate::telemetry::{self, Seldom};

/// Why a request, or a connection, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The end of the request is ambiguous. Answered 400.
    Framing,
    /// The head is not HTTP. Answered 400.
    Malformed,
    /// The head is beyond the limits. Answered 431.
    HeadTooLarge,
    /// The head did not arrive in time. Closed.
    HeadTooSlow,
    /// There is no place for another connection. Answered 503.
    NoRoom,
    /// There is not even a place to answer 503. Closed.
    Dropped,
}

impl Refused {
    /// All of them, in the order of their declaration.
    pub(super) const ALL: [Self; 6] = [
        Self::Framing,
        Self::Malformed,
        Self::HeadTooLarge,
        Self::HeadTooSlow,
        Self::NoRoom,
        Self::Dropped,
    ];

    /// The word in the metric and in the log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Framing => "framing",
            Self::Malformed => "malformed",
            Self::HeadTooLarge => "head-too-large",
            Self::HeadTooSlow => "head-too-slow",
            Self::NoRoom => "no-room",
            Self::Dropped => "dropped",
        }
    }

    /// Counts it. Logs it at most once a minute for each reason, because anyone can cause it at any rate.
    pub(super) fn note(self, why: &dyn Display) {
        static SELDOM: [Seldom; Refused::ALL.len()] = [const { Seldom::new() }; Refused::ALL.len()];
        telemetry::count_connections_refused(self.as_str(), 1);
        if let Some(left_out) = SELDOM[self as usize].due() {
            let reason = self.as_str();
            tracing::warn!(reason, %why, left_out, "refused before a request was complete");
        }
    }
}

/// Creates the series with 0.
pub(super) fn begin() {
    for reason in Refused::ALL {
        telemetry::count_connections_refused(reason.as_str(), 0);
    }
}
