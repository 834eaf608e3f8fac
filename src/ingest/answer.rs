//! What a sender is answered.

use uuid::Uuid;

use super::Submission;
use crate::domain::Outcome;
use crate::store::deliveries::is_unapplied;

/// How a delivery was made durable.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// It is committed to the database.
    Committed(Receipt),
    /// It is in the spool, and goes to the database as soon as that is back.
    Spooled(Spooled),
}

impl Accepted {
    /// The word for the outcome, if that is known.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Committed(receipt) => receipt.outcome.as_str(),
            Self::Spooled(_) => "spooled",
        }
    }
}

/// A delivery that waits in the spool.
#[derive(Debug, Clone)]
pub struct Spooled {
    /// The delivery's id.
    pub delivery_id: Uuid,
    /// Why its body is malformed, if it is. That can be known without the database.
    pub malformed: Option<String>,
}

impl Spooled {
    pub(super) fn of(submission: &Submission) -> Self {
        let malformed = submission.parsed.as_ref().err().map(|it| it.reason.clone());
        Self { delivery_id: submission.delivery.id(), malformed }
    }
}

/// The result of a committed delivery.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The delivery's id.
    pub delivery_id: Uuid,
    /// Its outcome.
    pub outcome: Outcome,
    /// The reason, if there is something to explain.
    pub reason: Option<String>,
}

impl Receipt {
    /// Whether it was kept because it could not be applied.
    pub(super) fn is_unapplied(&self) -> bool {
        is_unapplied(self.reason.as_deref())
    }
}

/// Why a delivery was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// More deliveries are waiting than can be written in time. Nothing was done.
    #[error("too many deliveries are waiting to be written")]
    Overloaded,
    /// The service is shutting down. Nothing was done.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// The database is down and the spool is full. Nothing was done, or the outcome of a commit is unknown.
    #[error("the database is away and the spool is full")]
    SpoolFull,
    /// Neither the database nor the spool has confirmed it in time. It may have been written to either, or may still be.
    #[error("the delivery was not confirmed as written in time")]
    Unavailable,
    /// It can neither be applied nor kept: the database rejects it, or a stored row cannot be read. The log has the cause.
    #[error("the delivery could not be written")]
    Rejected,
}

impl SubmitError {
    /// The word for it in a span.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::SpoolFull => "spool_full",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
        }
    }
}
