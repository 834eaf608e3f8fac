//! A connection to the database that is kept from one batch to the next. If it fails, another is made without losing
//! the current batch.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::budget;
use crate::store::backends::{self, Backend};
use crate::store::connector::Busy;
use crate::store::{Connected, Connector, Session, StoreError};
use crate::telemetry;

/// How often an idle connection is asked. NATs forget a flow after some minutes; AWS and Azure after 350 s and 240 s.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How often to check whether the server has finished what it received over the previous connection.
const FORMER_PAUSE: Duration = Duration::from_millis(10);

type Connecting = JoinHandle<Result<(Connected, Backend), StoreError>>;

/// A connection to the database, of a writer, a lane or the drainer.
#[derive(Debug)]
pub(super) struct WriterConnection {
    connector: Connector,
    session: Session,
    held: Option<(Connected, Backend)>,
    /// Outlives the delivery that started it: if connecting takes longer than a delivery may wait, a later delivery
    /// uses it.
    connecting: Option<Connecting>,
    /// The server process behind the connection that was last given up. It may still be executing our statement.
    former: Option<Backend>,
    last_heard: Instant,
}

impl WriterConnection {
    /// Not connected yet.
    pub(super) fn new(connector: Connector, session: Session) -> Self {
        Self {
            connector,
            session,
            held: None,
            connecting: None,
            former: None,
            last_heard: Instant::now(),
        }
    }

    /// Starts connecting if necessary, without waiting for it.
    pub(super) fn connect_ahead(&mut self) {
        if self.held.is_none() && self.connecting.is_none() {
            self.connecting = Some(tokio::spawn(connect(self.connector.clone(), self.session)));
        }
    }

    /// Returns a connection that can be expected to work: connects if necessary, and pings a connection that has been
    /// silent. On return, the server has finished what it received over the previous connection, so what that committed
    /// can be looked up.
    ///
    /// Cancel-safe: the next call continues.
    pub(super) async fn reach(&mut self) -> Result<&mut PgConnection, StoreError> {
        if self.last_heard.elapsed() > budget::QUIET {
            self.ping().await;
        }
        if self.held.is_none() {
            self.connect().await?;
        }
        while self.is_former_busy().await? {
            sleep(FORMER_PAUSE).await;
        }
        let Some((connection, _)) = &mut self.held else { return Err(StoreError::Busy) };
        Ok(connection)
    }

    /// Counts the connection as in use for as long as the guard lives.
    pub(super) fn busy(&self) -> Busy {
        self.connector.busy(self.session)
    }

    /// Notes that the server has just answered over this connection.
    pub(super) fn heard(&mut self) {
        self.last_heard = Instant::now();
    }

    /// Gives the connection up in whatever state it is, without a goodbye to a server that may no longer be listening.
    pub(super) fn discard(&mut self) {
        let Some((connection, backend)) = self.held.take() else { return };
        drop(connection);
        telemetry::count_connection_given_up();
        // Keep the first one: while we still waited for it, nothing was sent over its successor.
        self.former.get_or_insert(backend);
    }

    /// When to ping an idle connection next.
    pub(super) fn next_ping(&self) -> Instant {
        self.last_heard + PING_INTERVAL
    }

    /// Pings an idle connection, which also keeps the flow alive in NATs and firewalls. If it has died, starts
    /// connecting anew without waiting for that.
    pub(super) async fn keep_alive(&mut self) {
        self.ping().await;
        self.connect_ahead();
        self.heard();
    }

    async fn ping(&mut self) {
        let Some((connection, _)) = &mut self.held else { return };
        if let Ok(Ok(())) = timeout(budget::QUESTION, connection.ping()).await {
            self.heard();
        } else {
            tracing::debug!("a quiet connection to the database has died: connecting anew");
            self.discard();
        }
    }

    async fn connect(&mut self) -> Result<(), StoreError> {
        self.connect_ahead();
        let Some(connecting) = &mut self.connecting else { return Ok(()) };
        let connected = connecting.await;
        self.connecting = None;
        self.held = Some(connected.map_err(|_| StoreError::Busy)??);
        self.heard();
        Ok(())
    }

    /// Whether the server is still executing something that it received over the previous connection.
    async fn is_former_busy(&mut self) -> Result<bool, StoreError> {
        let (Some(former), Some((connection, _))) = (&self.former, &mut self.held) else {
            return Ok(false);
        };
        let busy = backends::is_busy(connection, former).await?;
        if !busy {
            self.former = None;
        }
        Ok(busy)
    }
}

async fn connect(
    connector: Connector,
    session: Session,
) -> Result<(Connected, Backend), StoreError> {
    let mut connection = connector.connect(session).await?;
    let backend = backends::current(&mut connection).await?;
    Ok((connection, backend))
}
