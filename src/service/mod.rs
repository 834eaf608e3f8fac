//! A running service: listeners, writers and upkeep, started together and ended in order.

mod preparation;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::budget;
use crate::clock;
use crate::config::Settings;
use crate::feed::Feed;
use crate::ingest::Ingest;
use crate::listener::{self, Limits, serve};
use crate::spool::{Spool, SpoolError};
use crate::store::{self, Connector, ErasureKey, Pool, SchemaError, Session, StoreError, upkeep};
use crate::telemetry;
use crate::web::metrics::{self, NewestDeliveries};
use crate::web::{self, AppState, Draining, Followers, Parts};
use preparation::Preparation;

/// How long probes in flight may take to end.
const PROBES: Duration = Duration::from_millis(500);

/// How often the tables are looked after; how soon after the start; and how soon again where that failed.
const UPKEEP: Duration = Duration::from_hours(1);
const UPKEEP_FIRST: Duration = Duration::from_secs(10);
const UPKEEP_RETRY: Duration = Duration::from_mins(1);

/// How often the metrics' histograms are folded.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// How soon the database is asked again for its newest deliveries, where it is away.
const NEWEST_PAUSE: Duration = Duration::from_secs(5);

/// Connections of registrations and erasures: their own, so that a burst of them takes none from the webhooks.
const REGISTRATION_CONNECTIONS: usize = 4;

/// Connections of profiles whose lock somebody else has.
const LANE_CONNECTIONS: usize = 4;

/// The listener's, readiness' and upkeep's.
const SINGLE_CONNECTIONS: usize = 3;

/// How many reads run at once that no index serves.
const SCANS: usize = 2;

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The schema could not be brought up to date.
    #[error("the database is not usable")]
    Schema(#[from] SchemaError),
    /// What is stored is sealed with keys that are not there.
    #[error(
        "credentials in the database are sealed with data keys that ESIM_STATUS_DATA_KEYS does not have ({}), and none with one that it has: add the keys again behind the first; if they are lost for good, delete what nobody can open (DELETE FROM install_credentials WHERE key_id IN (…)) and register those profiles again",
        .0.join(", ")
    )]
    DataKeys(Vec<String>),
    /// The partitions of the deliveries could not be made.
    #[error("the partitions of the deliveries could not be made: may this user create tables?")]
    Partitions(#[source] StoreError),
    /// The spool could not be opened.
    #[error("the spool cannot be used")]
    Spool(#[from] SpoolError),
    /// An address could not be listened on.
    #[error("cannot listen on {address}: choose another with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            // Whoever gets past the first look at a pooler meets it here.
            StoreError::Database(error) if store::is_of_a_pooler(&error) => {
                SchemaError::Pooled.into()
            }
            error => Self::Partitions(error),
        }
    }
}

impl StartError {
    /// Whether the database could not be reached, rather than not be used.
    fn is_about_reaching_it(&self) -> bool {
        match self {
            Self::Schema(
                SchemaError::Unreachable(_) | SchemaError::Interrupted(_) | SchemaError::Silent,
            ) => true,
            Self::Partitions(StoreError::Database(error)) => store::is_away(error),
            _ => false,
        }
    }
}

/// How a service ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Connections that had to be cut.
    pub cut: usize,
    /// Whether every delivery that was accepted has been answered.
    pub all_answered: bool,
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    /// Where webhooks, API and page are served.
    pub public: SocketAddr,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
    app: AppState,
    closing: CancellationToken,
    closed: CancellationToken,
    serving: JoinHandle<listener::Drained>,
    admin_serving: JoinHandle<listener::Drained>,
    writers: JoinSet<()>,
    background: Vec<JoinHandle<()>>,
}

impl Service {
    /// Brings the schema up to date, makes partitions, and serves.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs on then.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        raise_open_files(settings.max_connections);
        let spool = match &settings.spool {
            Some(spool) => Some(Spool::open(&spool.folder, spool.most_bytes).await?),
            None => None,
        };
        let needed = connections_needed(&settings);
        let connector = settings.database;
        let vault = Arc::new(settings.vault);
        // One of them is the lookups'.
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
        let listening = tokio::spawn(feed.clone().listen(connector.clone()));
        let (ingest, writers) =
            Ingest::start(&connector, &erasure_key, settings.writers, spool.clone());
        let metrics = metrics::begin(&settings.hooks);
        let newest = NewestDeliveries::of(&settings.hooks);
        let app = AppState::new(Parts {
            hooks: settings.hooks,
            access: settings.access,
            public_url: settings.public_url.unwrap_or_else(|| format!("http://{public}")),
            allowed_origins: settings.allowed_origins,
            feed: feed.clone(),
            followers: Followers::new(settings.max_streams, settings.max_connections),
            vault,
            erasure_key,
            brand: settings.brand,
            reader: store::ProfileReader::start(connector.clone()),
            ingest,
            spool,
            metrics,
            draining: Draining::default(),
            newest,
            reads: Pool::new(&connector, Session::Reads, readers, budget::READ),
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
        let Settings { max_connections, idle, notice, .. } = settings;
        let limits = Limits { idle, notice, max_connections, ..Limits::default() };
        let routes = web::routes(app.clone());
        let serving = tokio::spawn(serve(listener, routes, limits, closing.clone(), budget::DRAIN));
        let routes = web::admin_routes(app.clone());
        let limits = Limits::default();
        let admin_serving =
            tokio::spawn(serve(admin_listener, routes, limits, closed.clone(), PROBES));
        let upkeep = tokio::spawn(look_after(app.clone(), settings.retention_days));
        tracing::info!(%public, %admin, "serving");
        let background = [upkeep, listening].into_iter().chain(preparing).collect();
        Ok(Self {
            public,
            admin,
            app,
            closing,
            closed,
            serving,
            admin_serving,
            writers,
            background,
        })
    }

    /// The parts, for whoever runs beside the listeners.
    pub fn app(&self) -> &AppState {
        &self.app
    }

    /// Waits until a writer or the drainer dies, which they never should: what it had to do would be done by nobody.
    pub async fn writer_died(&mut self) {
        self.writers.join_next().await;
        tracing::error!("a writer has died: the service ends, so that it can be started again");
    }

    /// Ends in order: not ready; after the notice no new connections; what is in flight answered; the writers' queues written.
    /// Takes the notice and 10 s at most.
    pub async fn stop(self) -> Ended {
        self.app.draining.begin();
        tracing::info!("draining: not ready any more");
        self.closing.cancel();
        let cut = self.serving.await.map_or(0, |drained| drained.cut);
        self.closed.cancel();
        // Probes that hang cost nothing.
        drop(self.admin_serving.await);
        self.background.iter().for_each(JoinHandle::abort);
        // The last handle to the writers' queues; they end once those are empty.
        drop(self.app);
        let mut writers = self.writers;
        let writing = async { while writers.join_next().await.is_some() {} };
        let all_answered = timeout(budget::DRAIN / 2, writing).await.is_ok();
        tracing::info!(cut, all_answered, "ended");
        Ended { cut, all_answered }
    }
}

/// Raises this process's limit on open files as far as it may, since every connection is one; says so where that is not enough.
fn raise_open_files(connections: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok();
    // Room for the database, the logs and the admin listener.
    let needed = connections as u64 + 256;
    if !raised || most < needed {
        tracing::warn!(
            most,
            needed,
            "the limit on open files is below max_connections: raise `ulimit -n`"
        );
    }
}

/// How many connections a service with these settings needs when everything is in use.
pub fn connections_needed(settings: &Settings) -> usize {
    let readers = usize::try_from(settings.readers).unwrap_or(usize::MAX);
    let drainer = usize::from(settings.spool.is_some());
    settings.writers
        + LANE_CONNECTIONS
        + drainer
        + readers
        + REGISTRATION_CONNECTIONS
        + SINGLE_CONNECTIONS
}

fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    listener::listen(address).map_err(|source| StartError::Listen { address, flag, source })
}

fn address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Looks after the tables every hour, the metrics and idle connections every few seconds, until it is aborted.
async fn look_after(app: AppState, retention_days: u32) {
    let metrics = telemetry::metrics();
    let mut often = tokio::time::interval(METRICS_UPKEEP);
    let mut seldom = tokio::time::interval_at(Instant::now() + UPKEEP_FIRST, UPKEEP);
    seldom.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let look_after_tables = async {
        loop {
            seldom.tick().await;
            // A connection that is lost in silence would keep it waiting for ever.
            let upkeep = timeout(UPKEEP, look_after_tables(&app.connector, retention_days));
            if let Ok(Err(error)) = upkeep.await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "the tables could not be looked after; there are partitions for some months"
                );
                seldom.reset_after(UPKEEP_RETRY);
            }
        }
    };
    let look_after_metrics = async {
        loop {
            often.tick().await;
            metrics.run_upkeep();
            for pool in [&app.reads, &app.registrations, &app.probe] {
                pool.tidy();
            }
        }
    };
    tokio::join!(look_after_tables, look_after_metrics, learn_newest(&app));
}

/// How old the newest deliveries are is known to the database when a service starts.
async fn learn_newest(app: &AppState) {
    loop {
        let found = app.reads.run(async |connection| store::deliveries::newest(connection).await);
        match found.await {
            Ok(newest) => return app.newest.learn(&newest),
            Err(_) => tokio::time::sleep(NEWEST_PAUSE).await,
        }
    }
}

/// Over its own connection: an index may take long to build, and readers would miss theirs.
async fn look_after_tables(connector: &Connector, retention_days: u32) -> Result<(), StoreError> {
    let mut connection = connector.connect(Session::Upkeep).await?;
    upkeep::look_after(&mut connection, clock::now(), retention_days).await?;
    Ok(connection.close().await?)
}
