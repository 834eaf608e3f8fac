//! A connection to the database of a writer, a lane or the drainer, used for one batch after the other. If it fails, another is
//! made without losing the current batch.

use std::convert::Infallible;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::sleep;

use crate::budget;
use crate::store::backends::{self, Backend};
use crate::store::connector::Busy;
use crate::store::{Connector, Line, Session, StoreError};
use crate::telemetry;

/// How often to check whether the server has finished what it received over the previous connection.
const FORMER_PAUSE: Duration = Duration::from_millis(10);

/// A connection of a writer, a lane or the drainer.
#[derive(Debug)]
pub(super) struct IngestConnection {
    line: Line,
    /// The server process behind the connection that was last given up. It may still be executing our statement.
    former: Option<Backend>,
}

impl IngestConnection {
    /// Not connected yet.
    pub(super) fn new(connector: Connector, session: Session) -> Self {
        Self { line: Line::new(connector, session, budget::QUIET), former: None }
    }

    /// Returns a connection that can be expected to work, see [`Line::reach`]. On return, the server has finished what it
    /// received over the previous connection, so what that committed can be looked up.
    ///
    /// Cancel-safe: the next call continues.
    pub(super) async fn reach(&mut self) -> Result<&mut PgConnection, StoreError> {
        let connection = self.line.reach().await?;
        while let Some(former) = &self.former {
            if backends::end_unless_executing(connection, former).await? {
                sleep(FORMER_PAUSE).await;
            } else {
                self.former = None;
            }
        }
        Ok(connection)
    }

    /// Counts the connection as in use for as long as the guard lives.
    pub(super) fn busy(&self) -> Busy {
        self.line.busy()
    }

    /// Gives the connection up in whatever state it is, without a goodbye to a server that may no longer be listening.
    pub(super) fn discard(&mut self) {
        if !self.line.is_open() {
            return;
        }
        telemetry::count_connection_given_up();
        if let Some(backend) = self.line.discard() {
            // Keep the first one: while we still waited for it, nothing was sent over its successor.
            self.former.get_or_insert(backend);
        }
    }

    /// Opens the connection, and keeps it alive while it is not used, until the future is dropped.
    pub(super) async fn keep_alive(&mut self) -> Infallible {
        self.line.keep_alive().await
    }
}
