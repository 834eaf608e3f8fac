//! Bringing the schema up to this binary's version, once, whatever the number of replicas.

use std::pin::pin;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::timeout;

use super::connector::{ConnectError, Connected, Connector, Session, is_away};

/// How long migrating may take before that is said, and how often it is said.
const QUIET: Duration = Duration::from_secs(2);

/// Every migration, embedded in the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database is away.
    #[error(
        "the database did not answer: check DATABASE_URL and that Postgres accepts connections"
    )]
    Unreachable(#[source] ConnectError),
    /// The database, a pooler before it, or TLS said no. It would say so again.
    #[error("the database refuses to let the service in")]
    Refused(#[source] ConnectError),
    /// The database went away meanwhile. What was under way is rolled back.
    #[error("the database went away while its schema was looked at")]
    Interrupted(#[source] Box<MigrateError>),
    /// A session is not ours alone.
    #[error(
        "a pooler in between shares sessions by transaction (pgbouncer's pool_mode = transaction, a host with `-pooler` in its name, port 6543): LISTEN, time-outs and prepared statements do not work that way; use pool_mode = session, or connect to Postgres directly"
    )]
    Pooled,
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
    let mut connection = connect(connector).await?;
    refuse_shared_sessions(connector, &mut connection).await?;
    let result = audibly(MIGRATOR.run_direct(None, &mut *connection, false)).await;
    // What the connection says on closing changes nothing.
    drop(connection.close().await);
    result.map_err(|error| match error {
        MigrateError::VersionMissing(version) => SchemaError::Newer(version),
        MigrateError::VersionMismatch(version) => SchemaError::Changed(version),
        MigrateError::Dirty(version) => SchemaError::HalfApplied(version),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
            if is_of_a_pooler(&error) =>
        {
            SchemaError::Pooled
        }
        MigrateError::Execute(ref said) | MigrateError::ExecuteMigration(ref said, _)
            if is_away(said) =>
        {
            SchemaError::Interrupted(Box::new(error))
        }
        other => SchemaError::Failed(Box::new(other)),
    })
}

async fn connect(connector: &Connector) -> Result<Connected, SchemaError> {
    connector.connect(Session::Migrate).await.map_err(|error| {
        if error.is_away() { SchemaError::Unreachable(error) } else { SchemaError::Refused(error) }
    })
}

/// Refuses a pooler that gives the sessions of one client to another between transactions: then what one sets, the other sees, or
/// the first does not see any more while the other is busy.
///
/// # Errors
/// [`SchemaError::Pooled`]; else what connecting fails with.
pub async fn refuse_shared_sessions(
    connector: &Connector,
    one: &mut PgConnection,
) -> Result<(), SchemaError> {
    let mut other = connect(connector).await?;
    let looking = async {
        let token = format!("{:x}", rand::random::<u64>());
        let set = format!("SELECT set_config('esim_status.session', '{token}', false)");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *one).await?;
        sqlx::raw_sql("BEGIN").execute(&mut *other).await?;
        let others = token_of(&mut other).await?;
        let own = timeout(QUIET, token_of(one)).await;
        // With one server session for all, the first waits for the other's transaction.
        let own = own.unwrap_or(Ok(None))?;
        Ok(others.as_deref() == Some(&*token) || own.as_deref() != Some(&*token))
    };
    let shares = looking.await;
    drop(other.close().await);
    // The migrator will meet whatever is wrong, and say so.
    let shares = shares.unwrap_or_else(|error: sqlx::Error| is_of_a_pooler(&error));
    if shares { Err(SchemaError::Pooled) } else { Ok(()) }
}

async fn token_of(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::raw_sql("SELECT current_setting('esim_status.session', true)")
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}

/// Another client's prepared statement is in the way, or ours is gone.
fn is_of_a_pooler(error: &sqlx::Error) -> bool {
    let said = error.as_database_error();
    said.is_some_and(|said| {
        matches!(said.code().as_deref(), Some("42P05" | "26000"))
            && said.message().contains("sqlx_s_")
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
