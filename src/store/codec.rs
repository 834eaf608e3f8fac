//! Conversions between database values and domain types.

use sqlx::types::time::OffsetDateTime;

use crate::domain::Timestamp;

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A row holds a value that this binary cannot have written.
    #[error("column {column} of a stored row holds a value that this binary does not know")]
    Corrupt {
        /// The column.
        column: &'static str,
    },
    /// Credentials were sealed with a data key that is not configured.
    #[error("the data key {0} is not among ESIM_STATUS_DATA_KEYS: add it back after the first key")]
    UnknownDataKey(String),
    /// Another transaction has held the profile for too long.
    #[error("the profile is held by another transaction")]
    Busy,
    /// The max number of operations of this kind is under way.
    #[error("all connections for this are in use")]
    Crowded,
    /// Credentials could not be encrypted.
    #[error("credentials could not be encrypted")]
    Sealing,
}

/// Parses a column's text. A value that does not parse means that the row is corrupt.
pub(super) fn parsed<T, E>(
    column: &'static str,
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, StoreError> {
    parse(value).map_err(|_| StoreError::Corrupt { column })
}

/// The same for a nullable column.
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
