//! Getting the database ready: waiting for one that is away, refusing one that cannot be used, and with a spool serving meanwhile.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::StartError;
use crate::clock;
use crate::store::install_credentials::{self, Missing};
use crate::store::{self, Connector, ErasureKey, Session, StoreError, Vault, upkeep};

/// How long a start waits for it where there is a spool to begin with.
const SPOOL_PATIENCE: Duration = Duration::from_secs(2);

/// How long everything but the schema may take. Each statement has its own time-out in the server.
const FILLING: Duration = Duration::from_secs(30);

/// Pauses between attempts to find the database: without a spool, with one, and where it was found and cannot be used.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
const SPOOL_PAUSE: Duration = Duration::from_millis(250);
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// Pauses between complaints about a database that is away for long.
const AWAY_PAUSE: Duration = Duration::from_mins(1);

/// What the database needs before it can be used: its schema, its partitions; and what we need of it, a key.
#[derive(Clone)]
pub(super) struct Preparation {
    pub connector: Connector,
    pub retention_days: u32,
    pub erasure_key: ErasureKey,
    pub vault: Arc<Vault>,
    /// How many connections the service may need.
    pub needed: usize,
}

impl Preparation {
    async fn once(&self) -> Result<(), StartError> {
        store::migrate(&self.connector).await?;
        // A connection that is lost in silence would keep it waiting for ever.
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

    /// Settings that have lost their data keys would store new credentials in plain, and fail for the old ones.
    async fn check_data_keys(&self, connection: &mut PgConnection) -> Result<(), StartError> {
        let missing = match install_credentials::missing_keys(connection, &self.vault).await {
            Ok(missing) => missing,
            Err(StoreError::Database(error)) if store::is_away(&error) => {
                return Err(StoreError::from(error).into());
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "whether all stored credentials can be opened is not known");
                return Ok(());
            }
        };
        match missing {
            Missing::None => {}
            Missing::Some(keys) => tracing::error!(
                ?keys,
                "some credentials are sealed with data keys that ESIM_STATUS_DATA_KEYS does not have: their profiles cannot be installed until the keys are added again behind the first"
            ),
            Missing::All(keys) => return Err(StartError::DataKeys(keys)),
        }
        Ok(())
    }

    async fn compare_connections(&self, connection: &mut PgConnection) {
        // Nobody can do without the service because this cannot be asked.
        let Ok(Some(limit)) = store::limit(connection).await else { return };
        if limit.connections < self.needed {
            tracing::warn!(
                needed = self.needed,
                allowed = limit.connections,
                limit = limit.set_by,
                "this service may need more connections than it is allowed, each replica of it: webhooks come first, and lists will be answered 503; raise the limit or lower ESIM_STATUS_READERS"
            );
        }
    }

    /// A database that starts together with the service may take a while.
    pub(super) async fn finish(&self, patience: Duration) -> Result<(), StartError> {
        let begun = Instant::now();
        loop {
            match self.once().await {
                Err(error) if error.is_about_reaching_it() && begun.elapsed() < patience => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "waiting for the database");
                    tokio::time::sleep(DATABASE_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Where there is a spool, deliveries are taken without the database. It is prepared when it comes; what runs until then is
    /// given back. What is wrong with one that answers at once is said at once.
    pub(super) async fn begin(self) -> Result<Option<JoinHandle<()>>, StartError> {
        let first = self.clone();
        let mut first = tokio::spawn(async move { first.once().await });
        match timeout(SPOOL_PATIENCE, &mut first).await {
            Ok(Ok(Err(error))) if error.is_about_reaching_it() => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "serving without the database: deliveries go to the spool");
                Ok(Some(tokio::spawn(self.persist())))
            }
            Ok(Ok(result)) => result.map(|()| None),
            // Silent, or only slow, as a long migration is: that one goes on.
            Ok(Err(_)) | Err(_) => {
                tracing::error!("serving before the database is ready: deliveries go to the spool");
                Ok(Some(tokio::spawn(async move {
                    if !matches!(first.await, Ok(Ok(()))) {
                        self.persist().await;
                    }
                })))
            }
        }
    }

    /// Tries again until it is done.
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
        tracing::error!(error, "deliveries stay in the spool until this is corrected");
    }
}
