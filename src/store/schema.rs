//! Bringing the schema up to this binary's version, once, whatever the number of replicas.

use std::pin::pin;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::timeout;

use super::backends::{self, Backend};
use super::codec::StoreError;
use super::connector::{ConnectError, Connected, Connector, Session, is_away};

/// How long migrating may take before that is said, and how often it is said.
const QUIET: Duration = Duration::from_secs(2);

/// How long it may take to ask the server whether it is still migrating.
const ASKING: Duration = Duration::from_secs(10);

/// How often a pooler is tried before it is taken for none.
const SHARING_TRIES: usize = 5;

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
    /// The server has answered, or lost the session, and we heard nothing.
    #[error(
        "the connection was lost in silence while the schema was brought up to date: run it again; what was not finished is rolled back"
    )]
    Silent,
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
    // Who cannot be asked for its process is not watched.
    let backend = backends::current(&mut connection).await.ok();
    let migrating = MIGRATOR.run_direct(None, &mut *connection, false);
    let result = watched(connector, backend, migrating).await?;
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
        // While other clients are busy, each may happen to get back what it had.
        for _ in 0..SHARING_TRIES {
            if shares_sessions(one, &mut other).await? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let shares = looking.await;
    drop(other.close().await);
    // The migrator will meet whatever is wrong, and say so.
    let shares = shares.unwrap_or_else(|error| is_of_a_pooler(&error));
    if shares { Err(SchemaError::Pooled) } else { Ok(()) }
}

/// Whether the second, in a transaction, sees what the first set, or the first sees it no more.
async fn shares_sessions(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let token = format!("{:x}", rand::random::<u64>());
    let set = format!("SELECT set_config('esim_status.session', '{token}', false)");
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *one).await?;
    sqlx::raw_sql("BEGIN").execute(&mut *other).await?;
    let others = token_of(other).await?;
    // With one server session for all, the first waits for the other's transaction.
    let own = timeout(QUIET, token_of(one)).await.unwrap_or(Ok(None))?;
    sqlx::raw_sql("ROLLBACK").execute(&mut *other).await?;
    Ok(others.as_deref() == Some(&*token) || own.as_deref() != Some(&*token))
}

async fn token_of(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::raw_sql("SELECT current_setting('esim_status.session', true)")
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}

/// Whether a pooler by transaction is shown by an error: another client's prepared statement is in the way, or ours is gone.
pub fn is_of_a_pooler(error: &sqlx::Error) -> bool {
    let said = error.as_database_error();
    said.is_some_and(|said| {
        matches!(said.code().as_deref(), Some("42P05" | "26000"))
            && said.message().contains("sqlx_s_")
    })
}

/// Somebody who waits for a start should know what it waits for; and nothing waits for an answer that was lost on its way. Only the
/// server knows whether it is still at work: a migration may take hours, and a silent connection looks the same from here.
async fn watched<T>(
    connector: &Connector,
    backend: Option<Backend>,
    migrating: impl Future<Output = T>,
) -> Result<T, SchemaError> {
    let mut migrating = pin!(migrating);
    loop {
        if let Ok(result) = timeout(QUIET, &mut migrating).await {
            return Ok(result);
        }
        tracing::warn!(
            "waiting for the schema: this or another process is migrating it; pg_stat_activity shows what blocks it"
        );
        let is_lost = async {
            let mut other = connector.connect(Session::Probe).await?;
            let is_lost = match &backend {
                Some(backend) => backends::is_lost(&mut other, backend, QUIET / 2).await?,
                None => false,
            };
            Ok::<_, StoreError>(is_lost)
        };
        // A database that does not answer is waited for.
        if let Ok(Ok(true)) = timeout(ASKING, is_lost).await {
            return Err(SchemaError::Silent);
        }
    }
}

/// The version of the newest migration in this binary.
pub fn latest_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}
