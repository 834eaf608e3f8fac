//! Connections whose waits fit the budget of a webhook, and what a failure means for a retry.

use std::str::FromStr;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres};

/// How long to wait for a connection. Together with [`STATEMENT_TIMEOUT`] it stays inside the 2.5 s that a provider has.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(1_200);

/// How long one statement of the hot path may run, a wait for a lock included.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long one statement of the read API may run; lists and counts may look at many rows.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What a database error means for the work at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Serialization failure or deadlock: the same work may succeed at once.
    Transient,
    /// The connection, or the server behind it, is gone, read-only, out of room or too slow.
    Unavailable,
    /// This work as it is cannot succeed.
    Data,
}

/// A connection that a hot path holds on to between its turns; `None` until it is first needed, and after it failed.
pub type Held = Option<PoolConnection<Postgres>>;

/// Closes the connection without a word to a server that may not be listening any more.
pub fn discard(held: &mut Held) {
    if let Some(connection) = held.take() {
        drop(connection.detach());
    }
}

/// Whether a living server ended a statement because it ran, or waited for a lock, for too long.
pub fn is_time_out(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // query_canceled
    code.is_some_and(|code| code == "57014")
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

/// Reads a `DATABASE_URL`.
///
/// # Errors
/// Where the text is no Postgres URL.
pub fn connect_options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    PgConnectOptions::from_str(url)
}

/// The connections of the writers. Opened when first needed, so that the service starts while the database is away.
pub fn write_pool(options: PgConnectOptions, size: u32) -> PgPool {
    // Rows that come together are joined to rows of a table: by their keys, not by reading an index through, which would
    // seem right as long as the table is small. By a bitmap an index can only be searched.
    let options = by_key(options).options([("enable_indexscan", "off")]);
    pool(options, size, STATEMENT_TIMEOUT, "esim-status writer")
}

/// The connection that single profiles are read through, many at once.
pub fn lookup_pool(options: PgConnectOptions) -> PgPool {
    pool(by_key(options), 1, READ_TIMEOUT, "esim-status reader")
}

/// The connections of all other reads.
pub fn read_pool(options: PgConnectOptions, size: u32) -> PgPool {
    pool(options, size, READ_TIMEOUT, "esim-status reader")
}

/// For statements that find every row by its key: planned once, and never by reading a table through, which would seem
/// right for as long as the table is small and stay so in a plan that is kept.
fn by_key(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ])
}

fn pool(options: PgConnectOptions, size: u32, statement: Duration, name: &str) -> PgPool {
    let options = options.application_name(name).options([
        ("statement_timeout", format!("{}ms", statement.as_millis())),
        ("idle_in_transaction_session_timeout", "10s".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("timezone", "UTC".to_owned()),
    ]);
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // The hot paths hold on to a connection, so the ping before each use costs little and hides dead ones.
        .test_before_acquire(true)
        .connect_lazy_with(options)
}
