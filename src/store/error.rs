//! Why a statement failed.

use super::decode::Undecodable;
use super::fault::{Fault, fault_of};
use super::fault::{is_lock_time_out, is_time_out};

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// A row holds a value that this binary cannot have written.
    #[error("column {column} of a stored row holds a value that this binary does not know")]
    Corrupt {
        /// The column, or the kind of value where several columns hold it.
        column: &'static str,
    },
    /// A change is about such a row. No follower of changes passes it: the change would be lost to all of them.
    #[error(
        "the change at position {position} of the table changes is about a profile or transition whose {column} this binary does not know: correct the row, or run the release that wrote it"
    )]
    CorruptChange {
        /// The position of the change.
        position: i64,
        /// As in [`StoreError::Corrupt`].
        column: &'static str,
    },
    /// Credentials were sealed with a data key that is not configured.
    #[error("the data key {0} is not among ESIM_STATUS_DATA_KEYS: add it back after the first key")]
    UnknownDataKey(String),
    /// What this needs was not to be had in time: another transaction has locked it, or the server did not answer.
    #[error("another transaction holds what this needs, or the database did not answer in time")]
    Busy,
    /// The key of erased profiles was not read yet, because the database was not reached.
    #[error("the database was not reached yet")]
    KeyUnknown,
    /// The max number of operations of this kind is under way.
    #[error("all connections for this are in use")]
    Crowded,
    /// Credentials could not be encrypted.
    #[error("credentials could not be encrypted")]
    Sealing,
}

impl StoreError {
    /// Whether the server answers, and only what another transaction holds was not to be had in time.
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Database(error) => is_time_out(error) || is_lock_time_out(error),
            _ => false,
        }
    }

    /// Whether the whole database is away, which others report. A server that has ended a statement for its time is not: one row may
    /// be locked, or one statement too slow.
    pub fn is_only_away(&self) -> bool {
        self.is_away() && !self.is_busy() && !self.may_be_one_row()
    }

    /// Whether the cause may be a single row: it holds a value that we do not know, or the server fails at it.
    pub fn may_be_one_row(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Database(error) => fault_of(error) == Fault::Suspect,
            _ => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::ColumnDecode { source, .. } => match source.downcast_ref() {
                Some(Undecodable(column)) => Self::Corrupt { column },
                None => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}
