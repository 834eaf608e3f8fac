//! What a failure of the database means for a retry.

use sqlx::postgres::PgDatabaseError;

use super::connector::Connected;

/// What a database error means for the work at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Serialization failure or deadlock: the same work may succeed at once.
    Transient,
    /// The connection, or the server behind it, is gone, read-only, out of room or too slow.
    Unavailable,
    /// A delivery's month has no partition: see [`super::partitions::make_for`].
    NoPartition,
    /// This work as it is cannot succeed.
    Data,
}

/// A connection that a hot path holds on to between its turns; `None` until it is first needed, and after it failed.
/// It is given up by dropping it, which says no word to a server that may not be listening any more.
pub type Held = Option<Connected>;

/// Whether a living server ended a statement because it ran, or waited for a lock, for too long.
pub fn is_time_out(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // query_canceled
    code.is_some_and(|code| code == "57014")
}

/// Whether a statement waited for a lock for as long as its session allows.
pub fn is_lock_time_out(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // lock_not_available
    code.is_some_and(|code| code == "55P03")
}

/// Whether what a statement waited for as long as its session allows was a row of another transaction, one that it has just
/// created perhaps. Any other lock is a table's. Postgres gives a context to a wait for a row only.
pub fn is_held_by_another(error: &sqlx::Error) -> bool {
    let said = error.as_database_error().and_then(|it| it.try_downcast_ref::<PgDatabaseError>());
    is_lock_time_out(error) && said.is_some_and(|it| it.r#where().is_some())
}

/// Sorts a database error by what may be done about it.
pub fn fault_of(error: &sqlx::Error) -> Fault {
    let Some(code) = error.as_database_error().and_then(sqlx::error::DatabaseError::code) else {
        return match error {
            sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Encode(_)
            | sqlx::Error::TypeNotFound { .. } => Fault::Data,
            _ => Fault::Unavailable,
        };
    };
    match code.as_ref() {
        "23514" if misses_partition(error) => Fault::NoPartition,
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Fault::Transient,
        // data exceptions and broken constraints
        code if code.starts_with("22") || code.starts_with("23") => Fault::Data,
        // Everything else is about the server's condition: connection (08), transaction state (25, read-only after a
        // failover), resources (53, disk full), operator intervention (57, shutdown, cancelled by a time-out),
        // lock not available (55P03), system error (58).
        _ => Fault::Unavailable,
    }
}

/// A missing partition has the code of a check constraint, and names no constraint. The text depends on the server's language.
fn misses_partition(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.table() == Some("deliveries") && error.constraint().is_none())
}
