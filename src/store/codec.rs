//! Between the words of the database and the types of the domain.

use sqlx::types::time::OffsetDateTime;

use crate::domain::Timestamp;

/// Why a statement gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A row holds what this binary cannot have written.
    #[error("column {column} of a stored row holds a value that this binary does not know")]
    Corrupt {
        /// The column.
        column: &'static str,
    },
    /// Credentials were sealed with a data key that is not among the live ones.
    #[error("the data key {0} is not among ESIM_STATUS_DATA_KEYS: add it again behind the first")]
    UnknownDataKey(String),
    /// Somebody else holds the profile for too long.
    #[error("the profile is held by another transaction")]
    Busy,
    /// As many pieces of work of this kind are under way as there may be.
    #[error("all connections for this are in use")]
    Crowded,
    /// Credentials could not be encrypted.
    #[error("credentials could not be encrypted")]
    Sealing,
}

/// Parses a column's text; a value that does not parse is a corrupt row.
pub(super) fn parsed<T, E>(
    column: &'static str,
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, StoreError> {
    parse(value).map_err(|_| StoreError::Corrupt { column })
}

/// The same for a column that may be null.
pub(super) fn parsed_option<T, E>(
    column: &'static str,
    value: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, StoreError> {
    value.map(|value| parsed(column, value, parse)).transpose()
}

pub(super) fn instant(value: OffsetDateTime) -> Timestamp {
    Timestamp::from_datetime(value)
}

pub(super) fn instant_option(value: Option<OffsetDateTime>) -> Option<Timestamp> {
    value.map(instant)
}

pub(super) fn datetime_option(value: Option<Timestamp>) -> Option<OffsetDateTime> {
    value.map(Timestamp::as_datetime)
}
