//! One way to the database: a connection that is held from one batch to the next, what was written over it, and how it is made
//! anew without losing the delivery at hand.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::recent::Recent;
use crate::budget;
use crate::store::backends::{self, Backend};
use crate::store::connector::Busy;
use crate::store::{Connected, Connector, Session, StoreError};
use crate::telemetry;

/// How often an idle connection is asked. NATs forget a flow after some minutes; AWS and Azure after 350 s and 240 s.
const QUESTION_INTERVAL: Duration = Duration::from_secs(20);

/// How often to look whether the server is done with what went over the former connection.
const FORMER_PAUSE: Duration = Duration::from_millis(10);

type Connecting = JoinHandle<Result<(Connected, Backend), StoreError>>;

/// One writer's way to the database.
#[derive(Debug)]
pub(super) struct WriterConnection {
    connector: Connector,
    session: Session,
    held: Option<(Connected, Backend)>,
    /// Outlives the delivery that needed it first: where connecting takes longer than one delivery may wait, a later one gets it.
    connecting: Option<Connecting>,
    /// What the last connection that was given up reached. The server may still be executing what went over it.
    former: Option<Backend>,
    last_heard: Instant,
    recent: Recent,
}

impl WriterConnection {
    /// Not connected yet.
    pub(super) fn new(connector: Connector, session: Session, recent: Recent) -> Self {
        Self {
            connector,
            session,
            held: None,
            connecting: None,
            former: None,
            last_heard: Instant::now(),
            recent,
        }
    }

    /// Starts connecting, if need be, without waiting for it.
    pub(super) fn connect_ahead(&mut self) {
        if self.held.is_none() && self.connecting.is_none() {
            self.connecting = Some(tokio::spawn(connect(self.connector.clone(), self.session)));
        }
    }

    /// Gives a connection that can be expected to work: connects if need be, and asks one that has been quiet. When this returns,
    /// the server has finished what went over the connection before, so what it committed can be looked up.
    ///
    /// May be dropped while it waits; the next call continues.
    pub(super) async fn reach(&mut self) -> Result<(&mut PgConnection, &mut Recent), StoreError> {
        if self.last_heard.elapsed() > budget::QUIET {
            self.ask().await;
        }
        if self.held.is_none() {
            self.connect().await?;
        }
        while self.is_former_busy().await? {
            sleep(FORMER_PAUSE).await;
        }
        let Some((connection, _)) = &mut self.held else { return Err(StoreError::Busy) };
        Ok((connection, &mut self.recent))
    }

    /// Counts the connection as in use for as long as the guard lives.
    pub(super) fn busy(&self) -> Busy {
        self.connector.busy(self.session)
    }

    /// The server has just answered over this connection.
    pub(super) fn heard(&mut self) {
        self.last_heard = Instant::now();
    }

    /// Gives the connection up, whatever state it is in, without a word to a server that may not be listening any more.
    pub(super) fn discard(&mut self) {
        self.recent.forget();
        let Some((connection, backend)) = self.held.take() else { return };
        drop(connection);
        telemetry::count_connection_given_up();
        // One that only waited for the former one has nothing under way itself.
        self.former.get_or_insert(backend);
    }

    /// When an idle connection is to be asked next.
    pub(super) fn next_question(&self) -> Instant {
        self.last_heard + QUESTION_INTERVAL
    }

    /// Asks an idle connection whether it lives, which also keeps the flow known to whatever is in between; makes a new one
    /// otherwise, without waiting for it.
    pub(super) async fn keep_alive(&mut self) {
        self.ask().await;
        self.connect_ahead();
        self.heard();
    }

    async fn ask(&mut self) {
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
        // Through another connection there may be another server, which has not seen what was written to the last one.
        self.recent.forget();
        // It does not panic, and nobody aborts it.
        self.held = Some(connected.map_err(|_| StoreError::Busy)??);
        self.heard();
        Ok(())
    }

    /// Whether the server still executes something that went over the former connection.
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
