//! A pool of sessions, each lent for one piece of work.
//!
//! A session returns to the pool only if its work has ended and it has answered a ping afterwards. If the work was
//! given up, because it took too long or its caller has gone, the session may be busy for long, and is closed. An idle
//! session is pinged before it is lent again, because it may have died unnoticed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::super::error::StoreError;
use super::{ConnectError, Connected, Connector, Session};
use crate::budget;

/// How long an unused session is kept: less than the time after which NATs and firewalls drop an idle flow.
const MAX_IDLE: Duration = Duration::from_mins(3);

/// The pause before checking again whether the server has room.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    connector: Connector,
    session: Session,
    /// How long a piece of work may take, enforced here because a stalled server never reports its own timeout.
    limit: Duration,
    permits: Arc<Semaphore>,
    /// The most recently used one is last.
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connected,
    since: Instant,
}

/// A session with its permit. The permits bound the number of sessions.
type Lent = (Connected, OwnedSemaphorePermit);

impl Pool {
    /// At most `size` sessions, opened on demand. A piece of work may take as long as `limit`.
    pub fn new(connector: &Connector, session: Session, size: usize, limit: Duration) -> Self {
        let (permits, idle) = (Arc::new(Semaphore::new(size.max(1))), Mutex::default());
        let inner = Inner { connector: connector.clone(), session, limit, permits, idle };
        let this = Self(Arc::new(inner));
        if session.gives_way() {
            connector.0.room.add(Arc::downgrade(&this.0));
        }
        this
    }

    /// Runs this piece of work with a session. If the work is given up or takes too long, the session is closed.
    ///
    /// # Errors
    /// The error of the work; [`StoreError::Crowded`] if all sessions are in use for too long; [`StoreError::Database`]
    /// if no session can be opened, or the work takes too long.
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run_within(self.0.limit, work).await
    }

    /// The same with another time limit.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub async fn run_within<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + budget::CONNECTION;
        let permit = tokio::time::timeout_at(deadline, self.0.permits.clone().acquire_owned());
        // The semaphore is never closed.
        let Ok(Ok(permit)) = permit.await else { return Err(StoreError::Crowded) };
        let lent = tokio::time::timeout_at(deadline, self.0.clone().lend(permit)).await;
        let (mut connection, permit) = lent.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let busy = self.0.connector.busy(self.0.session);
        let done = timeout(limit, work(&mut connection)).await;
        let result = done.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let inner = self.0.clone();
        // In the background: the ping shows that the session is alive, and that a rollback, if any, is done.
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(budget::QUESTION, connection.ping()).await {
                drop(busy);
                inner.put_back(connection).await;
            }
            drop(permit);
        });
        result
    }

    /// Closes the sessions that have not been used for long.
    pub fn tidy(&self) {
        self.0.lock().retain(|idle| idle.since.elapsed() < MAX_IDLE);
    }
}

impl Inner {
    /// Returns an idle session that is alive, or a new one. If the caller gives up, opening continues and holds the
    /// permit until then.
    async fn lend(self: Arc<Self>, permit: OwnedSemaphorePermit) -> Result<Lent, StoreError> {
        if let Some(connection) = self.take().await {
            return Ok((connection, permit));
        }
        let (giver, lent) = oneshot::channel::<Result<Lent, ConnectError>>();
        tokio::spawn(async move {
            let opened = self.open(&giver).await.map(|connection| (connection, permit));
            if let Err(Ok((connection, _permit))) = giver.send(opened) {
                self.put_back(connection).await;
            }
        });
        // The task does not panic.
        Ok(lent.await.map_err(|_| sqlx::Error::WorkerCrashed)??)
    }

    async fn take(&self) -> Option<Connected> {
        let Idle { mut connection, since } = self.lock().pop()?;
        if since.elapsed() < budget::FRESH {
            return Some(connection);
        }
        if let Ok(Ok(())) = timeout(budget::QUESTION, connection.ping()).await {
            return Some(connection);
        }
        // The others have been idle even longer.
        self.lock().clear();
        None
    }

    /// While the server has no room, and the caller still waits, takes the next session that is returned.
    async fn open(
        &self,
        wanted: &oneshot::Sender<Result<Lent, ConnectError>>,
    ) -> Result<Connected, ConnectError> {
        loop {
            let full = if self.must_wait() {
                ConnectError::gave_way()
            } else {
                match self.connector.connect(self.session).await {
                    Err(error) if error.is_full() => error,
                    result => return result,
                }
            };
            if wanted.is_closed() {
                return Err(full);
            }
            sleep(FULL_PAUSE).await;
            if let Some(connection) = self.take().await {
                return Ok(connection);
            }
        }
    }

    /// Keeps the session for the next caller, or closes it if other sessions need the room.
    async fn put_back(&self, connection: Connected) {
        if self.must_wait() {
            drop(timeout(budget::QUESTION, connection.close()).await);
        } else {
            self.lock().push(Idle { connection, since: Instant::now() });
        }
    }

    fn must_wait(&self) -> bool {
        self.session.gives_way() && self.connector.0.room.is_scarce()
    }

    /// Closes every session that is not in use.
    pub(super) async fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.lock());
        for Idle { connection, .. } in idle {
            // A server that does not listen any more has nothing to be told.
            drop(timeout(budget::QUESTION, connection.close()).await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
