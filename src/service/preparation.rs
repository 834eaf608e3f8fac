//! Prepares the database: waits for it if it is unavailable, refuses it if it cannot be used, and lets a service with a
//! spool serve in the meantime.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use tokio::time::{Instant, timeout};

use super::StartError;
use crate::clock;
use crate::store::install_credentials::{self, Missing};
use crate::store::{self, Connector, ErasureKey, Session, StoreError, Vault, upkeep};

/// How long a start with a spool waits for the database before it serves from the spool.
const SPOOL_LIMIT: Duration = Duration::from_secs(2);

/// How long all preparation except the migration may take. In addition, the server limits each statement.
const FILLING: Duration = Duration::from_secs(30);

/// The pauses between attempts: without a spool, with one, and if the database was reached but cannot be used.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
const SPOOL_PAUSE: Duration = Duration::from_millis(250);
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// The pause between log lines about a database that stays unavailable.
const AWAY_PAUSE: Duration = Duration::from_mins(1);

/// The preparation before the database can be used: migrate the schema, create partitions, load the erasure key, check
/// data keys.
#[derive(Clone)]
pub(super) struct Preparation {
    pub connector: Connector,
    pub retention_days: u32,
    pub erasure_key: ErasureKey,
    pub vault: Arc<Vault>,
    /// The max number of connections that the service may use.
    pub needed: usize,
}

impl Preparation {
    async fn once(&self) -> Result<(), StartError> {
        store::migrate(&self.connector).await?;
        // A connection that is lost without an error would block the start forever.
        let filled = timeout(FILLING, self.fill()).await;
        filled.unwrap_or_else(|lost| Err(StoreError::Database(sqlx::Error::Io(lost.into())).into()))
    }

    async fn fill(&self) -> Result<(), StartError> {
        let connected = self.connector.connect(Session::Upkeep).await;
        let mut connection = connected.map_err(StoreError::from)?;
        upkeep::prepare(&mut connection, clock::now(), self.retention_days).await?;
        self.erasure_key.load(&mut connection).await?;
        self.check_data_keys(&mut connection).await?;
        self.compare_connections(&mut connection).await;
        Ok(())
    }

    /// Refuses settings that have lost their data keys. They would store new credentials unencrypted, and fail for the
    /// old ones.
    async fn check_data_keys(&self, connection: &mut PgConnection) -> Result<(), StartError> {
        let missing = match install_credentials::missing_keys(connection, &self.vault).await {
            Ok(missing) => missing,
            Err(error) if error.is_away() => return Err(error.into()),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    error,
                    "cannot check whether all stored credentials can be decrypted"
                );
                return Ok(());
            }
        };
        match missing {
            Missing::None => {}
            Missing::Some(keys) => tracing::error!(
                ?keys,
                "some credentials are encrypted with data keys that are not in ESIM_STATUS_DATA_KEYS: their profiles cannot be installed until the keys are added back after the first key"
            ),
            Missing::All(keys) => return Err(StartError::DataKeys(keys)),
        }
        Ok(())
    }

    async fn compare_connections(&self, connection: &mut PgConnection) {
        // If the limit cannot be read, the service starts all the same.
        let Ok(Some(limit)) = store::limit(connection).await else { return };
        if limit.connections < self.needed {
            tracing::warn!(
                needed = self.needed,
                allowed = limit.connections,
                limit = limit.set_by,
                "each replica of this service may need more connections than are allowed: webhooks have priority, and lists will be answered 503; raise the limit or lower ESIM_STATUS_READERS"
            );
        }
    }

    /// Prepares the database, and retries for this long, because a database that starts together with the service may
    /// take a while.
    pub(super) async fn finish(&self, limit: Duration) -> Result<(), StartError> {
        let begun = Instant::now();
        loop {
            match self.once().await {
                Err(error) if error.is_about_reaching_it() && begun.elapsed() < limit => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "waiting for the database");
                    tokio::time::sleep(DATABASE_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Prepares the database for a service with a spool, which can accept deliveries without it. If the database is not
    /// reached within [`SPOOL_LIMIT`], returns what is left to do, for a background task. A database that answers
    /// but cannot be used fails the start.
    pub(super) async fn begin(self) -> Result<Option<BoxFuture<'static, ()>>, StartError> {
        let first = self.clone();
        let mut first = tokio::spawn(async move { first.once().await });
        match timeout(SPOOL_LIMIT, &mut first).await {
            Ok(Ok(Err(error))) if error.is_about_reaching_it() => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "serving without the database: deliveries go to the spool");
                Ok(Some(self.persist().boxed()))
            }
            Ok(Ok(result)) => result.map(|()| None),
            // The database is silent or slow, for example in a long migration. The attempt continues.
            Ok(Err(_)) | Err(_) => {
                tracing::error!("serving before the database is ready: deliveries go to the spool");
                let rest = async move {
                    if !matches!(first.await, Ok(Ok(()))) {
                        self.persist().await;
                    }
                };
                Ok(Some(rest.boxed()))
            }
        }
    }

    /// Retries until the preparation succeeds.
    async fn persist(self) {
        let mut complained = Instant::now();
        loop {
            tokio::time::sleep(SPOOL_PAUSE).await;
            let Err(error) = self.once().await else { return };
            let is_away = error.is_about_reaching_it();
            if is_away && complained.elapsed() < AWAY_PAUSE {
                continue;
            }
            complain(&error, is_away);
            complained = Instant::now();
            if !is_away {
                tokio::time::sleep(COMPLAINT_PAUSE).await;
            }
        }
    }
}

fn complain(error: &StartError, is_away: bool) {
    let error = error as &dyn std::error::Error;
    if is_away {
        tracing::error!(error, "the database is still away: deliveries go to the spool");
    } else {
        tracing::error!(
            error,
            "the database cannot be used: deliveries stay in the spool until this is fixed"
        );
    }
}
