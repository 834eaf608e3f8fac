//! What `doctor` asks the database.

use sqlx::PgConnection;

use crate::domain::Timestamp;

/// The state of a database server, as far as this service depends on it.
#[derive(Debug)]
pub struct Condition {
    /// For example 150018 for 15.18.
    pub version: i32,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether a commit survives a crash.
    pub durable: bool,
    /// The server's clock.
    pub now: Timestamp,
    /// The newest migration applied; `None` for an empty database.
    pub schema: Option<i64>,
}

/// Reads it.
///
/// # Errors
/// If a query fails.
pub async fn condition(connection: &mut PgConnection) -> Result<Condition, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT current_setting('server_version_num')::integer AS "version!",
                  (pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean) AS "read_only!",
                  (current_setting('fsync')::boolean AND current_setting('synchronous_commit') <> 'off') AS "durable!",
                  clock_timestamp() AS "now!: Timestamp",
                  to_regclass('_sqlx_migrations') IS NOT NULL AS "migrated!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    let schema = if row.migrated {
        // Not a checked query: sqlx owns the table and creates it with the first migration.
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(connection)
            .await?
    } else {
        None
    };
    Ok(Condition {
        version: row.version,
        read_only: row.read_only,
        durable: row.durable,
        now: row.now,
        schema,
    })
}
