//! A running service: listeners, writers and upkeep tasks, which start together and shut down in order.

mod upkeep;

mod preparation;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::JoinMap;

use crate::budget;
use crate::config::{Settings, SpoolSettings};
use crate::feed::Feed;
use crate::ingest::{self, Ingest};
use crate::inquiry;
use crate::listener::{self, Limits, serve};
use crate::outgoing;
use crate::providers::{Gigastore, Provider};
use crate::spool::{Spool, SpoolError};
use crate::store::{self, ErasureKey, Pool, SchemaError, Session, StoreError};
use crate::web::{self, AppState, Draining, Followers, HookTallies, Parts, metrics};
use preparation::Preparation;

/// Connections of registrations and erasures. They are separate, so that a burst of them takes none from the webhooks.
const REGISTRATION_CONNECTIONS: usize = 4;

/// One connection each for the listener of changes, the readiness check, the small and the whole upkeep.
const SINGLE_CONNECTIONS: usize = 4;

/// Max concurrent reads without an index.
const SCANS: usize = 2;

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The schema could not be brought up to date.
    #[error("the database is not usable")]
    Schema(#[from] SchemaError),
    /// The stored credentials are encrypted with data keys that are not configured.
    #[error(
        "all encrypted credentials in the database use data keys that are not in ESIM_STATUS_DATA_KEYS ({}): add the keys back after the first key; if they are lost for good, delete the credentials that nobody can decrypt (DELETE FROM install_credentials WHERE key_id IN (…)) and register those profiles again",
        .0.join(", ")
    )]
    DataKeys(Vec<String>),
    /// The partitions of the deliveries could not be created.
    #[error("the partitions of the deliveries could not be created: may this user create tables?")]
    Partitions(#[source] StoreError),
    /// The spool could not be opened.
    #[error("the spool in ESIM_STATUS_SPOOL_DIR cannot be used")]
    Spool(#[from] SpoolError),
    /// The service could not listen on an address.
    #[error("cannot listen on {address}: choose another with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            // A pooler that the first check has not noticed can still fail here.
            StoreError::Database(error) if store::is_of_a_pooler(&error) => {
                SchemaError::Pooled.into()
            }
            error => Self::Partitions(error),
        }
    }
}

impl StartError {
    /// Whether the database could not be reached. Otherwise it was reached and cannot be used.
    fn is_about_reaching_it(&self) -> bool {
        match self {
            Self::Schema(
                SchemaError::Unreachable(_) | SchemaError::Interrupted(_) | SchemaError::Silent,
            ) => true,
            Self::Partitions(error) => error.is_away(),
            _ => false,
        }
    }
}

/// How a service ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The number of connections that were closed before their answer was complete.
    pub cut: usize,
    /// Whether every delivery that was accepted has been answered.
    pub all_answered: bool,
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    /// The address of webhooks, API and install page.
    pub public: SocketAddr,
    /// The address of health checks and metrics.
    pub admin: SocketAddr,
    app: AppState,
    closing: CancellationToken,
    closed: CancellationToken,
    /// The two listeners: one task each.
    serving: JoinSet<listener::ShutDown>,
    admin_serving: JoinSet<listener::ShutDown>,
    ingesting: ingest::Tasks,
    /// By their names. None of them ends by itself.
    background: JoinMap<&'static str, ()>,
    /// One task, which delivers changes to endpoints, and ends when the service drains.
    delivering: JoinSet<()>,
}

impl Service {
    /// Migrates the schema, creates partitions, and serves.
    ///
    /// # Errors
    /// [`StartError`]. Then nothing keeps running.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        raise_open_files(settings.max_connections);
        let spool = match &settings.spool {
            Some(spool) => Some(open_spool(spool).await?),
            None => None,
        };
        let needed = connections_needed(&settings);
        let connector = settings.database;
        let vault = Arc::new(settings.vault);
        // One of the readers is the connection of the lookups of single profiles.
        let readers = usize::try_from(settings.readers).unwrap_or(usize::MAX).saturating_sub(1);
        let erasure_key = ErasureKey::default();
        let preparation = Preparation {
            connector: connector.clone(),
            retention_days: settings.retention_days,
            erasure_key: erasure_key.clone(),
            vault: vault.clone(),
            needed,
        };
        let preparing = match &spool {
            Some(_) => preparation.begin().await?,
            None => preparation.finish(budget::START).await.map(|()| None)?,
        };

        let listener = listen(settings.listen, "--listen")?;
        let admin_listener = listen(settings.admin_listen, "--admin-listen")?;
        let public = address(&listener, settings.listen);
        let admin = address(&admin_listener, settings.admin_listen);

        let feed = Feed::default();
        let mut background = JoinMap::new();
        background.spawn("listening for changes", feed.clone().listen(connector.clone()));
        let (spooling, hooks, providers) = (spool.clone(), &settings.hooks, &settings.providers);
        let (ingest, ingesting) =
            Ingest::start(&connector, &erasure_key, settings.writers, spooling, hooks, providers);
        let (reader, reading) = store::ProfileReader::new(connector.clone());
        background.spawn("reading profiles", reading);
        let metrics = metrics::begin(&settings.hooks, &settings.providers);
        let tallies = HookTallies::of(&settings.hooks);
        let app = AppState::new(Parts {
            askable: settings.api.iter().map(|_| Gigastore.slug()).collect(),
            providers: settings.providers,
            hooks: settings.hooks,
            access: settings.access,
            public_url: settings.public_url.unwrap_or_else(|| format!("http://{public}")),
            allowed_origins: settings.allowed_origins,
            feed: feed.clone(),
            followers: Followers::new(settings.max_streams, settings.max_connections),
            vault,
            reach: settings.reach,
            endpoints: settings.endpoints,
            evidence_keys: settings.evidence_keys,
            erasure_key: erasure_key.clone(),
            brand: settings.brand,
            reader,
            ingest,
            spool,
            metrics,
            draining: Draining::default(),
            tallies,
            reads: Pool::new(&connector, Session::Reads, readers, budget::READ),
            numbering: tokio::sync::Mutex::default(),
            scans: Semaphore::new(SCANS.min(readers.saturating_sub(1)).max(1)),
            probe: Pool::new(&connector, Session::Probe, 1, budget::READINESS),
            registrations: Pool::new(
                &connector,
                Session::Registrations,
                REGISTRATION_CONNECTIONS,
                budget::REGISTRATION_IN_ALL,
            ),
            connector: connector.clone(),
        });
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let Settings { max_connections, idle, notice, retention_days, patience, .. } = settings;
        let limits = Limits { idle, notice, max_connections, ..Limits::default() };
        let routes = web::routes(app.clone());
        let serving = serve(listener, routes, limits, closing.clone(), budget::DRAIN);
        let (routes, limits) = (web::admin_routes(app.clone()), Limits::default());
        let time = budget::LAST_PROBES;
        let admin_serving = serve(admin_listener, routes, limits, closed.clone(), time);
        let upkeep = (settings.first_upkeep, retention_days, patience);
        background.spawn("upkeep", upkeep::run(app.clone(), upkeep));
        if let Some(preparing) = preparing {
            background.spawn("preparation of the database", preparing.then(|()| pending()));
        }
        if let Some(api) = settings.api {
            background.spawn("inquiries", inquiry::run(connector.clone(), erasure_key, api));
        }
        tracing::info!(%public, %admin, "serving");
        let delivering = outgoing::run(app.clone(), connector);
        Ok(Self {
            public,
            admin,
            app,
            closing,
            closed,
            serving: JoinSet::from_iter([serving]),
            admin_serving: JoinSet::from_iter([admin_serving]),
            ingesting,
            background,
            delivering: JoinSet::from_iter([delivering]),
        })
    }

    /// The shared state, for tasks that run beside the listeners.
    pub fn app(&self) -> &AppState {
        &self.app
    }

    /// Waits until a task dies that runs as long as the service, and returns its name. This should never happen, and no other
    /// task would do its work.
    pub async fn task_died(&mut self) -> &'static str {
        let task = tokio::select! {
            Some(_) = self.serving.join_next() => "public listener",
            Some(_) = self.admin_serving.join_next() => "admin listener",
            Some(((name, _), _)) = self.ingesting.join_next() => name,
            Some(_) = self.delivering.join_next() => "outgoing webhooks",
            Some((name, _)) = self.background.join_next() => name,
        };
        tracing::error!(task, "a task has died: the service ends, so that it can be restarted");
        task
    }

    /// Aborts the tasks with this name, for tests of what follows.
    #[doc(hidden)]
    pub fn abort_task(&mut self, name: &str) {
        match name {
            "public listener" => self.serving.abort_all(),
            "admin listener" => self.admin_serving.abort_all(),
            "writer" | "drainer" => self.ingesting.abort_matching(|(it, _)| *it == name),
            "outgoing webhooks" => self.delivering.abort_all(),
            name => _ = self.background.abort(name),
        }
    }

    /// Shuts down in order: becomes not ready, accepts no more connections after the notice, answers the requests in
    /// flight, and writes the writers' queues. Takes at most the notice and [`budget::SHUTDOWN`].
    pub async fn stop(mut self) -> Ended {
        self.app.draining.begin();
        tracing::info!("draining: no longer ready");
        self.closing.cancel();
        let shut_down = self.serving.join_next().await;
        let cut = shut_down.and_then(Result::ok).map_or(0, |it| it.cut);
        self.closed.cancel();
        // Each endpoint is given two seconds for the requests under way, since the draining began.
        drop(timeout(budget::LAST_CHANGES, self.delivering.join_next()).await);
        self.delivering.abort_all();
        // Requests on the admin listener that had to be closed do not matter.
        drop(self.admin_serving.join_next().await);
        drop(self.background);
        // What came by the hooks in the last minute. If the database is away, only figures are lost.
        drop(timeout(budget::LAST_TALLIES, web::keep_tallies(self.app.clone())).await);
        // This is the last handle to the writers' queues. The writers end once their queues are empty.
        drop(self.app);
        let mut ingesting = self.ingesting;
        let writing = async { while ingesting.join_next().await.is_some() {} };
        let all_answered = timeout(budget::LAST_DELIVERIES, writing).await.is_ok();
        tracing::info!(cut, all_answered, "ended");
        Ended { cut, all_answered }
    }
}

/// Raises this process's limit on open files as far as allowed, because every connection needs one. Warns if that is
/// not enough.
fn raise_open_files(connections: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok();
    // Some more for the database, the logs and the admin listener.
    let needed = connections as u64 + 256;
    if !raised || most < needed {
        tracing::warn!(
            most,
            needed,
            "the limit on open files is below max_connections: raise `ulimit -n`"
        );
    }
}

/// Opens the spool, and has what was refused from it tried again: this start may know a provider that the one before did not, and the
/// database may have been repaired.
async fn open_spool(settings: &SpoolSettings) -> Result<Spool, SpoolError> {
    let spool = Spool::open(&settings.folder, settings.max_bytes).await?;
    match spool.retry_refused().await {
        Ok(0) => {}
        Ok(deliveries) => {
            tracing::info!(deliveries, "what was refused from the spool is tried again");
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what was refused from the spool could not be tried again");
        }
    }
    Ok(spool)
}

/// The max number of database connections that a service with these settings uses.
pub fn connections_needed(settings: &Settings) -> usize {
    let readers = usize::try_from(settings.readers).unwrap_or(usize::MAX);
    let drainer = usize::from(settings.spool.is_some());
    let inquirer = usize::from(settings.api.is_some());
    settings.writers
        + ingest::LANE_CONNECTIONS
        + drainer
        + inquirer
        + readers
        + REGISTRATION_CONNECTIONS
        + outgoing::CONNECTIONS
        + SINGLE_CONNECTIONS
}

fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    listener::listen(address).map_err(|source| StartError::Listen { address, flag, source })
}

fn address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
