//! Counts the sessions that are open and in use, for the metrics.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{Connection, PgConnection};

use super::super::backends::Backend;
use super::session::{KINDS, Session};

/// The counts for each kind of session.
#[derive(Debug, Default)]
pub(super) struct Counts {
    open: [Arc<AtomicUsize>; KINDS],
    busy: [Arc<AtomicUsize>; KINDS],
}

/// An open session. Dropping it closes it without a goodbye to a server that may no longer be listening.
#[derive(Debug)]
pub struct Connected {
    connection: PgConnection,
    backend: Option<Backend>,
    _open: Counted,
}

/// A session that is in use.
#[derive(Debug)]
pub struct Busy {
    _busy: Counted,
}

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counts {
    pub(super) fn opened(
        &self,
        session: Session,
        connection: PgConnection,
        backend: Option<Backend>,
    ) -> Connected {
        Connected { connection, backend, _open: Counted::new(&self.open[session as usize]) }
    }

    pub(super) fn busy(&self, session: Session) -> Busy {
        Busy { _busy: Counted::new(&self.busy[session as usize]) }
    }

    pub(super) fn of(&self, sessions: &[Session]) -> (usize, usize) {
        let sum = |counts: &[Arc<AtomicUsize>; KINDS]| {
            sessions.iter().map(|kind| counts[*kind as usize].load(Ordering::Relaxed)).sum()
        };
        (sum(&self.open), sum(&self.busy))
    }
}

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected {
    /// The server process behind it, unless the server does not tell.
    pub fn backend(&self) -> Option<Backend> {
        self.backend
    }

    /// Says goodbye to the server, which then ends the session immediately.
    ///
    /// # Errors
    /// If the server no longer listens. The session is over all the same.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }
}

impl Deref for Connected {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Connected {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
