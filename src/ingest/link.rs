//! What a writer holds on to from one batch to the next: its connection, and what it has written over it.

use sqlx::PgConnection;

use super::recent::Recent;
use crate::store::{Connector, Held, Session, StoreError};

/// One writer's way to the database.
#[derive(Debug)]
pub(super) struct Link {
    held: Held,
    recent: Recent,
}

impl Link {
    /// Not connected yet.
    pub(super) fn new(recent: Recent) -> Self {
        Self { held: None, recent }
    }

    /// Whether it has a connection, which may have died unnoticed.
    pub(super) fn is_connected(&self) -> bool {
        self.held.is_some()
    }

    /// Connects if need be.
    pub(super) async fn reach(
        &mut self,
        connector: &Connector,
    ) -> Result<(&mut PgConnection, &mut Recent), StoreError> {
        let connection = match &mut self.held {
            Some(connection) => connection,
            held @ None => {
                self.recent.forget();
                held.insert(connector.connect(Session::Writer).await?)
            }
        };
        Ok((connection, &mut self.recent))
    }

    /// Gives the connection up, whatever state it is in.
    pub(super) fn discard(&mut self) {
        self.held = None;
        self.recent.forget();
    }
}
