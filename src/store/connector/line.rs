//! One session that is kept for as long as its owner lives: opened ahead, pinged while idle, replaced when lost.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::backends::Backend;
use super::{Busy, ConnectError, Connected, Connector, Session};
use crate::budget;

/// How long a session is idle before it is asked off the hot path. That also keeps NATs and firewalls from forgetting the flow, as they
/// do after some minutes; AWS and Azure after 350 s and 240 s.
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
    quiet: Duration,
    open: Option<Open>,
    /// Outlives the caller that started it: if opening takes longer than that one may wait, a later one uses the session.
    opening: Option<JoinHandle<Result<Connected, ConnectError>>>,
}

#[derive(Debug)]
struct Open {
    connection: Connected,
    used: Instant,
}

impl Line {
    /// Not open yet. Once open, it is pinged before it is used if it was not used for as long as `quiet`.
    pub fn new(connector: Connector, session: Session, quiet: Duration) -> Self {
        Self { connector, session, quiet, open: None, opening: None }
    }

    /// Returns the session. Pings it briefly if it was quiet, and opens a new one if it was lost or never open.
    ///
    /// Cancel-safe: opening continues in the background, for the next caller.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn reach(&mut self) -> Result<&mut PgConnection, ConnectError> {
        if let Some(open) = &mut self.open
            && open.used.elapsed() > self.quiet
            && !matches!(timeout(budget::QUESTION, open.connection.ping()).await, Ok(Ok(())))
        {
            self.note_lost();
        }
        if self.open.is_none() {
            self.open().await?;
        }
        match &mut self.open {
            Some(open) => {
                open.used = Instant::now();
                Ok(&mut open.connection)
            }
            // Unreachable: the session was just opened.
            None => Err(ConnectError::new(Vec::new())),
        }
    }

    /// Whether it has a session, which may have died unnoticed.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Counts the session as in use for as long as the guard lives.
    pub fn busy(&self) -> Busy {
        self.connector.busy(self.session)
    }

    /// Gives the session up, whatever state it is in, and returns the server process behind it, which may still be executing
    /// something.
    pub fn discard(&mut self) -> Option<Backend> {
        self.open.take()?.connection.backend()
    }

    fn note_lost(&mut self) {
        tracing::info!(session = ?self.session, "a connection to the database was lost while it was idle");
        self.open = None;
    }

    /// Opens the session, and keeps it alive while it is not used, until the future is dropped.
    pub async fn keep_alive(&mut self) -> Infallible {
        loop {
            let Some(open) = &mut self.open else {
                if self.open().await.is_err() {
                    sleep(PAUSE).await;
                }
                continue;
            };
            sleep_until(open.used + ASK).await;
            if matches!(timeout(ASK_LIMIT, open.connection.ping()).await, Ok(Ok(()))) {
                open.used = Instant::now();
            } else {
                self.note_lost();
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
        self.open = Some(Open { connection, used: Instant::now() });
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
