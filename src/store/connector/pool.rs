//! A few sessions that many share, each for the time of one piece of work.
//!
//! A session goes back only after work that ended, and once it has answered: one whose work was given up, because it took too long
//! or its caller has gone, may be busy for long, and is closed. One that was idle is asked first, since it may have died unnoticed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::super::codec::StoreError;
use super::{Connected, Connector, Session};

/// How long to wait for a session. Together with a statement's time-out it stays inside the 2.5 s that a provider has.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// How long a session that was idle may take to say that it lives.
const QUESTION: Duration = Duration::from_millis(300);

/// After how long a session may have died unnoticed. A server does not come back in less.
const FRESH: Duration = Duration::from_millis(100);

/// For how long a session is kept that nobody needs: less than what routers and firewalls on the way forget one after.
const MAX_IDLE: Duration = Duration::from_mins(3);

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connector: Connector,
    session: Session,
    permits: Arc<Semaphore>,
    /// The last one was used last.
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connected,
    since: Instant,
}

impl Pool {
    /// At most `size` sessions, opened when they are needed.
    pub fn new(connector: Connector, session: Session, size: usize) -> Self {
        let (permits, idle) = (Arc::new(Semaphore::new(size.max(1))), Mutex::default());
        Self(Arc::new(Inner { connector, session, permits, idle }))
    }

    /// Does this piece of work with a session. Given up, it closes the session.
    ///
    /// # Errors
    /// What the work says; [`StoreError::Database`] where there is no session for it in time.
    pub async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let acquired = timeout(PATIENCE, async {
            // The semaphore is never closed.
            let permit = self.0.permits.clone().acquire_owned().await.ok();
            Ok::<_, StoreError>((permit, self.0.session().await?))
        });
        let (permit, mut connection) = acquired.await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let busy = self.0.connector.busy(self.0.session);
        let result = work(&mut connection).await;
        let inner = self.0.clone();
        // Nobody waits for this: the answer tells that the session lives, and that a rollback, if there is one, is done.
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(QUESTION, connection.ping()).await {
                drop(busy);
                inner.lock().push(Idle { connection, since: Instant::now() });
            }
            drop(permit);
        });
        result
    }

    /// Closes what nobody has needed for long.
    pub fn tidy(&self) {
        self.0.lock().retain(|idle| idle.since.elapsed() < MAX_IDLE);
    }

    /// Closes every session that is not in use.
    pub async fn close_idle(&self) {
        let idle = std::mem::take(&mut *self.0.lock());
        for Idle { connection, .. } in idle {
            // A server that does not listen any more has nothing to be told.
            drop(timeout(QUESTION, connection.close()).await);
        }
    }
}

impl Inner {
    async fn session(&self) -> Result<Connected, StoreError> {
        let idle = self.lock().pop();
        if let Some(mut idle) = idle {
            if idle.since.elapsed() < FRESH {
                return Ok(idle.connection);
            }
            if let Ok(Ok(())) = timeout(QUESTION, idle.connection.ping()).await {
                return Ok(idle.connection);
            }
            // The others have been idle for longer.
            self.lock().clear();
        }
        Ok(self.connector.connect(self.session).await?)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
