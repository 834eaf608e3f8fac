//! One session that is held for as long as the service runs: opened ahead, pinged while idle, replaced when lost.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{ConnectError, Connected, Connector, Session};
use crate::budget;

/// A session that was used more recently is not pinged first: no server restarts in less time.
pub(super) const FRESH: Duration = Duration::from_millis(100);

/// How long a session is idle before it is asked off the hot path, which also keeps routers on the way from forgetting it.
const ASK: Duration = Duration::from_secs(20);

/// How long that ping may take: no caller waits for it.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// The pause before a lost session is opened again in the background.
const PAUSE: Duration = Duration::from_millis(500);

/// The session, or the attempt to open it.
#[derive(Debug)]
pub struct Line {
    connector: Connector,
    session: Session,
    held: Option<Held>,
    opening: Option<JoinHandle<Result<Connected, ConnectError>>>,
}

#[derive(Debug)]
struct Held {
    connection: Connected,
    used: Instant,
}

impl Line {
    /// Not open yet.
    pub fn new(connector: Connector, session: Session) -> Self {
        Self { connector, session, held: None, opening: None }
    }

    /// Returns the session. Pings it briefly if it was idle, and opens a new one if it was lost or never open. If the
    /// caller gives up, opening continues in the background, for the next caller.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn reach(&mut self) -> Result<&mut PgConnection, ConnectError> {
        if let Some(held) = &mut self.held
            && held.used.elapsed() > FRESH
            && !matches!(timeout(budget::QUESTION, held.connection.ping()).await, Ok(Ok(())))
        {
            self.held = None;
        }
        if self.held.is_none() {
            self.open().await?;
        }
        let used = Instant::now();
        match &mut self.held {
            Some(held) => {
                held.used = used;
                Ok(&mut held.connection)
            }
            // Unreachable: the session was just opened.
            None => Err(ConnectError::new(Vec::new())),
        }
    }

    /// Whether it has a session, which may have died unnoticed.
    pub fn is_open(&self) -> bool {
        self.held.is_some()
    }

    /// Gives the session up, whatever state it is in.
    pub fn discard(&mut self) {
        self.held = None;
    }

    /// Keeps the session alive while it is not used, until the future is dropped.
    pub async fn keep(&mut self) -> Infallible {
        loop {
            let Some(held) = &mut self.held else {
                if self.open().await.is_err() {
                    sleep(PAUSE).await;
                }
                continue;
            };
            sleep_until(held.used + ASK).await;
            if matches!(timeout(ASK_LIMIT, held.connection.ping()).await, Ok(Ok(()))) {
                held.used = Instant::now();
            } else {
                tracing::info!(session = ?self.session, "a connection to the database was lost while it was idle");
                self.held = None;
            }
        }
    }

    async fn open(&mut self) -> Result<(), ConnectError> {
        let (connector, session) = (&self.connector, self.session);
        let opening = self.opening.get_or_insert_with(|| {
            let connector = connector.clone();
            tokio::spawn(async move { connector.connect(session).await })
        });
        let opened = opening.await;
        self.opening = None;
        // The task does not panic, and is aborted only when this is dropped.
        let connection = opened.unwrap_or_else(|_| Err(ConnectError::new(Vec::new())))?;
        self.held = Some(Held { connection, used: Instant::now() });
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(opening) = &self.opening {
            opening.abort();
        }
    }
}
