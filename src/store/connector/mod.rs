//! The one place that knows where the database is and how a session is set up.
//!
//! Connections are opened here and nowhere else. So every connection is bounded in time, leads to a server that accepts
//! writes, and has its settings, whatever proxy or pooler is in between.

mod count;

mod diagnosis;

mod error;

mod line;

mod pool;

mod room;

mod session;

mod url;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::time::{sleep, timeout};

use count::Counts;
pub use count::{Busy, Connected};
pub use error::{ConnectError, Failure, is_away};
pub use line::Line;
pub use pool::Pool;
use room::Room;
pub use session::{Server, Session};
pub use url::UrlError;

/// How long one host may take to open a session, unless `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a host may be silent before the next one is tried in parallel. A slow host may still win.
const STAGGER: Duration = Duration::from_millis(300);

/// The pauses before retrying, once other sessions have been asked to give way.
const ROOM_PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];

/// Which server a session may lead to: `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Any server that answers.
    Any,
    /// A server whose sessions can write.
    ReadWrite,
    /// A server that is not in recovery.
    Primary,
}

/// Where the database is; cheap to clone.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    hosts: Vec<PgConnectOptions>,
    target: Target,
    /// How long one host may take.
    timeout: Duration,
    /// The host that last opened a session.
    last_good: AtomicUsize,
    warnings: Vec<String>,
    counts: Counts,
    room: Room,
}

impl Connector {
    /// Reads a `DATABASE_URL`, which may name several hosts as in libpq.
    ///
    /// # Errors
    /// What is wrong with it, and the remedy.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        url::parse(text).map(Self::new)
    }

    fn new(parsed: url::Parsed) -> Self {
        let url::Parsed { hosts, target, timeout, warnings } = parsed;
        // Every server has printed floats exactly since Postgres 12, and pgbouncer refuses this parameter.
        let hosts = hosts.into_iter().map(|host| host.extra_float_digits(None)).collect();
        let timeout = timeout.unwrap_or(CONNECT_TIMEOUT);
        let (last_good, counts, room) = (AtomicUsize::new(0), Counts::default(), Room::default());
        Self(Arc::new(Inner { hosts, target, timeout, last_good, warnings, counts, room }))
    }

    /// The parts of the URL that are ignored, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Opens a session. Tries the host that last worked first, and the next one as soon as a host fails or is silent
    /// for a moment. If the server has no room, lists, registrations and endpoints give way to other sessions.
    ///
    /// # Errors
    /// [`ConnectError`] with what every host did. To wait for a shorter time, drop the future.
    pub async fn connect(&self, session: Session) -> Result<Connected, ConnectError> {
        let mut pauses = ROOM_PAUSES.into_iter();
        loop {
            let error = match self.try_hosts(session).await {
                Err(error) if error.is_full() && !session.gives_way() => error,
                result => return result,
            };
            let Some(pause) = pauses.next() else { return Err(error) };
            self.0.room.make().await;
            // The server needs a moment to notice that a session is over.
            sleep(pause).await;
        }
    }

    async fn try_hosts(&self, session: Session) -> Result<Connected, ConnectError> {
        let inner = &*self.0;
        let (count, first) = (inner.hosts.len(), inner.last_good.load(Ordering::Relaxed));
        let mut untried = (0..count).map(|step| (first + step) % count);
        let attempt = |index: usize| async move { (index, self.try_host(index, session).await) };
        let (mut attempts, mut failures) = (FuturesUnordered::new(), Vec::new());
        attempts.extend(untried.next().map(attempt));
        while !attempts.is_empty() {
            tokio::select! {
                Some((index, result)) = attempts.next() => match result {
                    Ok(connection) => {
                        inner.last_good.store(index, Ordering::Relaxed);
                        return Ok(connection);
                    }
                    Err(failure) => {
                        failures.push((name_of(&inner.hosts[index]), failure));
                        attempts.extend(untried.next().map(attempt));
                    }
                },
                () = sleep(STAGGER), if untried.len() > 0 => {
                    attempts.extend(untried.next().map(attempt));
                }
            }
        }
        Err(ConnectError::new(failures))
    }

    async fn try_host(&self, index: usize, session: Session) -> Result<Connected, Failure> {
        let (connection, server) = self.open(index, session).await?;
        match self.0.target {
            Target::ReadWrite if server.read_only => Err(Failure::ReadOnly),
            Target::Primary if server.in_recovery => Err(Failure::ReadOnly),
            _ => Ok(self.0.counts.opened(session, connection, server.backend)),
        }
    }

    async fn open(
        &self,
        index: usize,
        session: Session,
    ) -> Result<(PgConnection, Server), Failure> {
        let (limit, options) = (self.0.timeout, &self.0.hosts[index]);
        let opening = async {
            let mut connection = options.clone().application_name(session.name()).connect().await?;
            let server = session.set_up(&mut connection).await?;
            Ok::<_, Failure>((connection, server))
        };
        timeout(limit, opening).await.unwrap_or(Err(Failure::Silent(limit)))
    }

    /// Examines every host separately: what it is, or why it opens no session.
    pub async fn examine(&self) -> Vec<(String, Result<Server, Failure>)> {
        let looks = self.0.hosts.iter().enumerate().map(|(index, host)| async move {
            let opened = self.open(index, Session::Upkeep).await;
            (name_of(host), opened.map(|(_, server)| server))
        });
        join_all(looks).await
    }

    /// A pool of one connection, which [`sqlx::postgres::PgListener`] needs. It leads to the host that accepts writes
    /// now, so make a new pool for each attempt.
    ///
    /// # Errors
    /// [`ConnectError`], if no host is suitable.
    pub async fn listening(&self) -> Result<PgPool, ConnectError> {
        // An ordinary session finds the host and is then closed. It may already be over.
        drop(self.connect(Session::Listen).await?.close().await);
        let options = &self.0.hosts[self.0.last_good.load(Ordering::Relaxed)];
        let options = options.clone().application_name(Session::Listen.name());
        Ok(PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.0.timeout)
            .connect_lazy_with(options))
    }

    /// How many sessions of these kinds are open, and how many of them are in use.
    pub fn connections(&self, sessions: &[Session]) -> (usize, usize) {
        self.0.counts.of(sessions)
    }

    /// Counts a session of this kind as in use, until the guard is dropped.
    pub fn busy(&self, session: Session) -> Busy {
        self.0.counts.busy(session)
    }
}

/// One host, any server.
impl From<PgConnectOptions> for Connector {
    fn from(options: PgConnectOptions) -> Self {
        Self::new(url::Parsed::of(vec![options], Target::Any))
    }
}

/// Shows where the database is, and nothing about the user.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.0.hosts.iter().map(name_of).collect();
        write!(f, "Connector({}, {:?})", hosts.join(", "), self.0.target)
    }
}

/// The host as an operator would name it.
fn name_of(host: &PgConnectOptions) -> String {
    match host.get_socket() {
        Some(folder) => format!("{}:{}", folder.display(), host.get_port()),
        None => format!("{}:{}", host.get_host(), host.get_port()),
    }
}
