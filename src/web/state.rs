//! What every handler can reach.

use std::ops::Deref;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgConnection;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::followers::Followers;
use super::metrics::NewestDeliveries;
use crate::access::Access;
use crate::budget;
use crate::config::Brand;
use crate::feed::Feed;
use crate::hook::Hooks;
use crate::ingest::Ingest;
use crate::spool::Spool;
use crate::store::{Connector, ErasureKey, Pool, ProfileReader, StoreError, Vault};

/// The parts of a running service; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Parts>);

/// What an [`AppState`] holds.
#[derive(Debug)]
pub struct Parts {
    /// The hooks that providers deliver to.
    pub hooks: Hooks,
    /// Who may read.
    pub access: Access,
    /// How the world sees the service, without a slash at the end.
    pub public_url: String,
    /// Origins that browsers may call from.
    pub allowed_origins: Vec<http::HeaderValue>,
    /// The writers.
    pub ingest: Ingest,
    /// Where deliveries wait while the database is away.
    pub spool: Option<Spool>,
    /// Wake-ups for those who follow a profile.
    pub feed: Feed,
    /// The places of those who follow a profile.
    pub followers: Followers,
    /// What seals credentials at rest.
    pub vault: Arc<Vault>,
    /// The key under which erased ICCIDs are hashed.
    pub erasure_key: ErasureKey,
    /// How the install page presents itself.
    pub brand: Brand,
    /// The coalesced reads of single profiles.
    pub reader: ProfileReader,
    /// Where the database is.
    pub connector: Connector,
    /// The connections of all other reads.
    pub reads: Pool,
    /// A permit for each read that no index serves, so that those never keep the others waiting.
    pub scans: Semaphore,
    /// The connection that readiness asks over.
    pub probe: Pool,
    /// The connections of registrations and erasures.
    pub registrations: Pool,
    /// What renders the metrics.
    pub metrics: PrometheusHandle,
    /// Whether the service is ending.
    pub draining: Draining,
    /// When each hook last had a delivery.
    pub newest: NewestDeliveries,
}

impl AppState {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Does a read that no index serves: few run at once, and who gets no turn in time is told to try again.
    ///
    /// # Errors
    /// As [`Pool::run`].
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

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Set once the service should get no new work.
#[derive(Debug, Default)]
pub struct Draining(CancellationToken);

impl Draining {
    /// From now on the service is not ready, and streams end.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }
}
