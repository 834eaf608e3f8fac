//! What a database error means for a retry.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// What a database error means for the work that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A serialization failure or deadlock: an immediate retry may succeed.
    Transient,
    /// The connection or its server is gone, read-only, out of room, or too slow.
    Unavailable,
    /// The server has failed at this statement and serves others. The cause may be one of the rows: a damaged page, a trigger or a policy
    /// that raises. It may also be the schema, or the rights of our role.
    Suspect,
    /// There is no partition for the month of a delivery: see [`super::partitions::make_for`].
    NoPartition,
    /// This work can never succeed.
    Data,
}

/// Whether the server, which is alive, cancelled a statement because it ran, or waited for a lock, for too long.
pub fn is_time_out(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // query_canceled
    code.is_some_and(|code| code == "57014")
}

/// Whether this is the server's report on a statement that has failed, over a connection that continues. A report that ends the
/// connection says nothing of a commit that was sent, and may come from a pooler in between: pgbouncer makes one (08P01) if it loses
/// the server.
pub fn ends_statement_only(error: &sqlx::Error) -> bool {
    let said = error.as_database_error().and_then(|it| it.try_downcast_ref::<PgDatabaseError>());
    said.is_some_and(|it| it.severity() == PgSeverity::Error)
}

/// Whether a statement hit the lock timeout of its session.
pub fn is_lock_time_out(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // lock_not_available
    code.is_some_and(|code| code == "55P03")
}

/// Whether the lock timeout was hit on a row of another transaction, perhaps one that it has just created. Otherwise it
/// was hit on a table's lock. Postgres gives a context only to a wait for a row.
pub fn is_row_locked(error: &sqlx::Error) -> bool {
    let said = error.as_database_error().and_then(|it| it.try_downcast_ref::<PgDatabaseError>());
    is_lock_time_out(error) && said.is_some_and(|it| it.r#where().is_some())
}

/// Classifies a database error by what can be done about it.
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
        // internal errors and those of files, of damaged pages too; what a function raised; views with a check; limits; rights and
        // schema
        code if ["XX", "58", "P0", "44", "54", "42", "0A"]
            .iter()
            .any(|it| code.starts_with(it))
            && ends_statement_only(error) =>
        {
            Fault::Suspect
        }
        // Everything else concerns the state of the server: connection (08), transaction state (25, such as read-only
        // after a failover), resources (53, such as disk full), operator intervention (57, such as shutdown or a
        // timeout), lock not available (55P03).
        _ => Fault::Unavailable,
    }
}

/// A missing partition has the code of a check constraint, but names no constraint. We do not match the message,
/// because it depends on the server's language.
fn misses_partition(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.table() == Some("deliveries") && error.constraint().is_none())
}
