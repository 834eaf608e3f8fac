//! The state that every handler shares.

use std::ops::Deref;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgConnection;
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::followers::Followers;
use super::hooks::HookTallies;
use crate::access::Access;
use crate::budget;
use crate::config::{Brand, ConfiguredEndpoint};
use crate::domain::Reach;
use crate::feed::Feed;
use crate::hook::Hooks;
use crate::ingest::Ingest;
use crate::providers::Providers;
use crate::signing::SigningKeys;
use crate::spool::Spool;
use crate::store::changes::{self, Changes};
use crate::store::{Connector, ErasureKey, Pool, ProfileReader, StoreError, Vault};

/// The parts of a running service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Parts>);

/// The contents of an [`AppState`].
#[derive(Debug)]
pub struct Parts {
    /// The providers whose API can be asked, by their slugs.
    pub askable: Vec<&'static str>,
    /// The providers that are understood.
    pub providers: Providers,
    /// The hooks that providers deliver to.
    pub hooks: Hooks,
    /// The API keys and token secrets.
    pub access: Access,
    /// The public URL of the service, without a slash at the end.
    pub public_url: String,
    /// The origins whose pages may call the API.
    pub allowed_origins: Vec<http::HeaderValue>,
    /// The write path of deliveries.
    pub ingest: Ingest,
    /// Stores deliveries while the database is unavailable.
    pub spool: Option<Spool>,
    /// Wake-ups for the followers of profiles.
    pub feed: Feed,
    /// The limits on live streams and long polls.
    pub followers: Followers,
    /// Encrypts install credentials at rest.
    pub vault: Arc<Vault>,
    /// Where changes may be sent.
    pub reach: Reach,
    /// The endpoints of the configuration file.
    pub endpoints: Vec<ConfiguredEndpoint>,
    /// Sign evidence sheets.
    pub evidence_keys: SigningKeys,
    /// The key with which erased ICCIDs are hashed.
    pub erasure_key: ErasureKey,
    /// The operator's branding of the install page.
    pub brand: Brand,
    /// Reads single profiles, several in one query.
    pub reader: ProfileReader,
    /// How to connect to the database.
    pub connector: Connector,
    /// The connections for all other reads.
    pub reads: Pool,
    /// Limits the concurrent reads without an index, so that they do not delay the others.
    pub scans: Semaphore,
    /// The connection of the readiness check.
    pub probe: Pool,
    /// The connections for registrations and erasures.
    pub registrations: Pool,
    /// Held by the call that gives positions to changes. The others of this replica wait for it without a connection.
    pub numbering: Mutex<Option<Numbered>>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Whether the service is shutting down.
    pub draining: Draining,
    /// What has come by each hook.
    pub tallies: HookTallies,
}

/// The last time that this replica gave positions to changes.
#[derive(Debug, Clone, Copy)]
pub struct Numbered {
    begun_at: Instant,
    are_more: bool,
}

impl AppState {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Runs a read without an index. Few run concurrently; a caller that gets no turn in time is asked to retry.
    ///
    /// # Errors
    /// [`StoreError::Crowded`] if this read does not get its turn in time, and those of [`Pool::run`].
    pub async fn scan<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let turn = timeout(budget::SCAN_TURN, self.scans.acquire()).await;
        // The semaphore is never closed.
        let Ok(Ok(_turn)) = turn else { return Err(StoreError::Crowded) };
        self.reads.run(work).await
    }
}

impl AppState {
    /// Reads the changes after a place over a connection of this pool. If they are fewer than `limit`, gives positions to what is
    /// committed by now first: only a reader that has come to the end needs that. Also returns whether there are more of those.
    /// Returns `None` if this database has not given out that place.
    ///
    /// # Errors
    /// Those of [`Pool::run`].
    pub async fn changes_after(
        &self,
        pool: &Pool,
        after: changes::Place,
        limit: i64,
    ) -> Result<Option<(Changes, bool)>, StoreError> {
        let read = async || {
            pool.run(async |connection| changes::list(connection, after, limit).await).await
        };
        let Some(found) = read().await? else { return Ok(None) };
        if i64::try_from(found.items.len()).is_ok_and(|items| items >= limit) {
            return Ok(Some((found, false)));
        }
        let are_more = self.number_changes().await?;
        Ok(read().await?.map(|found| (found, are_more)))
    }

    /// Gives positions to changes that are committed now. Returns whether there are more.
    ///
    /// # Errors
    /// Those of [`Pool::run`].
    async fn number_changes(&self) -> Result<bool, StoreError> {
        let asked_at = Instant::now();
        let mut turn = self.turn_to_number().await?;
        // One that began after this call saw all that this one would see.
        if let Some(numbered) = turn.as_ref().filter(|numbered| numbered.begun_at > asked_at) {
            return Ok(numbered.are_more);
        }
        let begun_at = Instant::now();
        let are_more = self.reads.run(async |connection| changes::number(connection).await).await?;
        *turn = Some(Numbered { begun_at, are_more });
        Ok(are_more)
    }

    async fn turn_to_number(&self) -> Result<MutexGuard<'_, Option<Numbered>>, StoreError> {
        timeout(budget::CONNECTION, self.numbering.lock()).await.map_err(|_| StoreError::Crowded)
    }

    /// The place behind all changes that are committed now.
    ///
    /// # Errors
    /// Those of [`Pool::run`].
    pub async fn end_of_changes(&self) -> Result<changes::Place, StoreError> {
        // Others take their turns in between.
        let numbered = async {
            while self.number_changes().await? {}
            Ok::<_, StoreError>(())
        };
        timeout(budget::READ, numbered).await.unwrap_or(Err(StoreError::Crowded))?;
        self.reads.run(async |connection| changes::end(connection).await).await
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Set once the service should not get new work.
#[derive(Debug, Default)]
pub struct Draining(CancellationToken);

impl Draining {
    /// Makes the service not ready and ends all streams.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether draining has begun.
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until draining begins.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }
}
