//! Why no session could be opened.

use std::fmt;
use std::io;
use std::time::Duration;

use super::super::codec::StoreError;

/// What one host did instead of giving a session.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot be reached, or refuses.
    #[error("{0}")]
    Failed(#[from] sqlx::Error),
    /// It did not answer for so long.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// It answers, and takes no writes.
    #[error("it takes no writes: it is a standby, or set to read-only")]
    ReadOnly,
}

/// No host gave a session.
#[derive(Debug)]
pub struct ConnectError {
    hosts: Vec<(String, Failure)>,
}

impl ConnectError {
    pub(super) fn new(hosts: Vec<(String, Failure)>) -> Self {
        Self { hosts }
    }

    /// Each host with what it did.
    pub fn hosts(&self) -> &[(String, Failure)] {
        &self.hosts
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection to the database")?;
        for (number, (host, failure)) in self.hosts.iter().enumerate() {
            let separator = if number == 0 { ": " } else { "; " };
            write!(f, "{separator}{host}: {failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectError {}

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        Self::Database(sqlx::Error::Io(io::Error::other(error)))
    }
}
