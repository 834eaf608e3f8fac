//! Brings the schema up to the version of this binary, once, whatever the number of replicas.

use std::pin::pin;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::{sleep, timeout};

use super::backends::{self, Backend};
use super::connector::{ConnectError, Connected, Connector, Session, is_away};
use super::error::StoreError;
use super::fault::is_lock_time_out;

/// How long a migration may take before we log that it is under way, and how often we log it.
const QUIET: Duration = Duration::from_secs(2);

/// How long asking the server whether it is still migrating may take.
const ASKING: Duration = Duration::from_secs(10);

/// The pause before a migration that could not get a lock in time is tried again. Webhooks go on meanwhile.
const LOCK_PAUSE: Duration = Duration::from_secs(2);

/// How often we test for a pooler before we conclude that there is none.
const SHARING_TRIES: usize = 5;

/// Every migration, embedded in the binary.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database is down.
    #[error(
        "the database did not answer: check DATABASE_URL and that Postgres accepts connections"
    )]
    Unreachable(#[source] ConnectError),
    /// The database, a pooler in front of it, or TLS has refused. A retry would be refused too.
    #[error("the database refuses to let the service in")]
    Refused(#[source] ConnectError),
    /// The database went down during the migration. Unfinished work was rolled back.
    #[error("the database went down during the migration")]
    Interrupted(#[source] Box<MigrateError>),
    /// The server has answered, or lost the session, and nothing of it reached us.
    #[error(
        "the connection was lost during the migration, without an error: run it again; unfinished work is rolled back"
    )]
    Silent,
    /// Sessions are shared between clients.
    #[error(
        "a pooler in between shares sessions by transaction (pgbouncer's pool_mode = transaction, a host with `-pooler` in its name, port 6543): LISTEN, time-outs and prepared statements do not work that way; use pool_mode = session, or connect to Postgres directly"
    )]
    Pooled,
    /// A newer release has migrated the schema.
    #[error(
        "the schema has migration {0}, which this binary does not know: run a release at least as new as the one that applied it"
    )]
    Newer(i64),
    /// An applied migration differs from the one in this binary.
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
        "a migration failed and was rolled back: fix the cause and run `esim-status migrate` again"
    )]
    Failed(#[source] Box<MigrateError>),
}

/// Applies the missing migrations. Several processes may call this at the same time: the first takes an advisory lock,
/// the others wait for it and then find nothing left to do.
///
/// # Errors
/// [`SchemaError`], which says what to do.
pub async fn migrate(connector: &Connector) -> Result<(), SchemaError> {
    let mut connection = connect(connector).await?;
    refuse_shared_sessions(connector, &mut connection).await?;
    // If the server does not tell us which process serves us, it is not watched.
    let backend = connection.backend();
    let mut result;
    loop {
        let migrating = MIGRATOR.run_direct(None, &mut *connection, false);
        result = watched(connector, backend, migrating).await?;
        match &result {
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))
                if is_lock_time_out(error) =>
            {
                say_that_we_wait();
                sleep(LOCK_PAUSE).await;
            }
            _ => break,
        }
    }
    // The result no longer depends on how the connection closes.
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

/// Refuses a pooler that gives one client's server session to another client between transactions. A client would then
/// see another's settings, or lose its own while the other is busy.
///
/// # Errors
/// [`SchemaError::Pooled`], or the error of connecting.
pub async fn refuse_shared_sessions(
    connector: &Connector,
    one: &mut PgConnection,
) -> Result<(), SchemaError> {
    let mut other = connect(connector).await?;
    let looking = async {
        // While other clients are busy, each of ours may happen to get its own session back.
        for _ in 0..SHARING_TRIES {
            if shares_sessions(one, &mut other).await? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let shares = looking.await;
    drop(other.close().await);
    // The migrator will meet any other error, and report it.
    let shares = shares.unwrap_or_else(|error| is_of_a_pooler(&error));
    if shares { Err(SchemaError::Pooled) } else { Ok(()) }
}

/// Whether the second connection, in a transaction, sees what the first has set, or the first no longer sees it.
async fn shares_sessions(
    one: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let token = format!("{:x}", rand::random::<u64>());
    let set = format!("SELECT set_config('esim_status.session', '{token}', false)");
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *one).await?;
    sqlx::raw_sql("BEGIN").execute(&mut *other).await?;
    let others = token_of(other).await?;
    // If all clients share one server session, the first waits for the transaction of the other.
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

/// Whether an error shows a pooler in transaction mode: another client's prepared statement is in the way, or ours is
/// gone.
pub fn is_of_a_pooler(error: &sqlx::Error) -> bool {
    let said = error.as_database_error();
    said.is_some_and(|said| {
        matches!(said.code().as_deref(), Some("42P05" | "26000"))
            && said.message().contains("sqlx_s_")
    })
}

/// Waits for a migration. Logs while it waits, so that an operator knows what the start is waiting for, and gives up if
/// the answer was lost on its way. Only the server knows whether it is still at work: a migration may take hours, and a
/// dead connection looks the same from here.
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
        say_that_we_wait();
        let is_lost = async {
            let mut other = connector.connect(Session::Probe).await?;
            let is_lost = match &backend {
                Some(backend) => backends::end_if_lost(&mut other, backend, QUIET / 2).await?,
                None => false,
            };
            Ok::<_, StoreError>(is_lost)
        };
        // If the database does not answer, keep waiting.
        if let Ok(Ok(true)) = timeout(ASKING, is_lost).await {
            return Err(SchemaError::Silent);
        }
    }
}

fn say_that_we_wait() {
    tracing::warn!(
        "waiting for the schema: this or another process is migrating it; pg_stat_activity shows what blocks it"
    );
}

/// The version of the newest migration in this binary.
pub fn latest_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}
