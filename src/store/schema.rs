//! Bringing the schema up to this binary's version, once, whatever the number of replicas.

use std::pin::pin;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use tokio::time::timeout;

use super::connector::{ConnectError, Connector, Session};

/// How long migrating may take before that is said, and how often it is said.
const QUIET: Duration = Duration::from_secs(2);

/// Every migration, embedded in the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database could not be reached.
    #[error(
        "the database did not answer: check DATABASE_URL and that Postgres accepts connections"
    )]
    Unreachable(#[source] ConnectError),
    /// A newer release has been here.
    #[error(
        "the schema has migration {0}, which this binary does not know: run a release at least as new as the one that applied it"
    )]
    Newer(i64),
    /// An applied migration is not the one in this binary.
    #[error(
        "migration {0} was applied with other content than this binary has: restore the release that applied it, or restore the database from a backup"
    )]
    Changed(i64),
    /// A migration began and did not end.
    #[error(
        "migration {0} is half applied: look at table _sqlx_migrations, undo what the migration did, delete its row and run `esim-status migrate` again"
    )]
    HalfApplied(i64),
    /// A migration failed.
    #[error(
        "a migration failed and was rolled back: mend the cause and run `esim-status migrate` again"
    )]
    Failed(#[source] Box<MigrateError>),
}

/// Applies what is missing. Several processes may call it at once: the first holds an advisory lock, the others wait for
/// it and then find nothing left to do.
///
/// # Errors
/// [`SchemaError`], which says what to do.
pub async fn migrate(connector: &Connector) -> Result<(), SchemaError> {
    let connected = connector.connect(Session::Migrate).await;
    let mut connection = connected.map_err(SchemaError::Unreachable)?;
    let result = audibly(MIGRATOR.run_direct(None, &mut *connection, false)).await;
    // What the connection says on closing changes nothing.
    drop(connection.close().await);
    result.map_err(|error| match error {
        MigrateError::VersionMissing(version) => SchemaError::Newer(version),
        MigrateError::VersionMismatch(version) => SchemaError::Changed(version),
        MigrateError::Dirty(version) => SchemaError::HalfApplied(version),
        other => SchemaError::Failed(Box::new(other)),
    })
}

/// Somebody who waits for a start should know what it waits for.
async fn audibly<T>(migrating: impl Future<Output = T>) -> T {
    let mut migrating = pin!(migrating);
    loop {
        if let Ok(result) = timeout(QUIET, &mut migrating).await {
            return result;
        }
        tracing::warn!(
            "waiting for the schema: this or another process is migrating it; pg_stat_activity shows what blocks it"
        );
    }
}

/// The version of the newest migration in this binary.
pub fn latest_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}
