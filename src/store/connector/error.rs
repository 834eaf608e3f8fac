//! Why no session could be opened.

use std::fmt;
use std::io;
use std::time::Duration;

use super::super::error::StoreError;
use super::diagnosis::{Diagnosis, diagnose};

/// What one host did instead of opening a session.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be reached, or it refuses.
    Failed(sqlx::Error),
    /// It did not answer within this time.
    Silent(Duration),
    /// It answers, but accepts no writes.
    ReadOnly,
    /// It was not asked: it has no room, and other sessions come first.
    GaveWay,
}

impl Failure {
    /// Whether this passes by itself. Otherwise an operator must correct something.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Failed(error) => diagnose(error).is_away,
            Self::Silent(_) | Self::ReadOnly | Self::GaveWay => true,
        }
    }

    /// Whether the server, or the role's limit, has no room for another session.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Failed(sqlx::Error::Database(error)) => error.code().as_deref() == Some("53300"),
            Self::GaveWay => true,
            _ => false,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

/// The cause and the remedy.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => {
                let Diagnosis { cause, remedy, .. } = diagnose(error);
                f.write_str(&cause)?;
                remedy.map_or(Ok(()), |remedy| write!(f, ": {remedy}"))
            }
            Self::Silent(limit) => write!(
                f,
                "no answer within {} s: does a firewall drop the packets? connect_timeout in DATABASE_URL sets the limit",
                limit.as_secs()
            ),
            Self::ReadOnly => {
                f.write_str("it accepts no writes: it is a standby, or set to read-only")
            }
            Self::GaveWay => f.write_str(
                "it has no more connections for this service, and those that webhooks need come first",
            ),
        }
    }
}

/// No host opened a session.
#[derive(Debug)]
pub struct ConnectError {
    hosts: Vec<(String, Failure)>,
}

impl ConnectError {
    pub(super) fn new(hosts: Vec<(String, Failure)>) -> Self {
        Self { hosts }
    }

    /// The caller gives way: lists and registrations do without a session for now.
    pub(super) fn gave_way() -> Self {
        Self::new(vec![("the database".to_owned(), Failure::GaveWay)])
    }

    /// Whether this may pass by itself: a host is down, or accepts no writes for now.
    pub fn is_away(&self) -> bool {
        self.hosts.iter().any(|(_, failure)| failure.is_away())
    }

    pub(super) fn is_full(&self) -> bool {
        self.hosts.iter().any(|(_, failure)| failure.is_full())
    }
}

/// Each host, what it did, and the remedy.
impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (host, failure)) in self.hosts.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
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

/// Whether the database is down, rather than refusing what it was asked: waiting may help.
pub fn is_away(error: &sqlx::Error) -> bool {
    let connecting = match error {
        sqlx::Error::Io(error) => error.get_ref().and_then(|it| it.downcast_ref::<ConnectError>()),
        _ => None,
    };
    connecting.map_or_else(|| diagnose(error).is_away, ConnectError::is_away)
}

impl StoreError {
    /// Whether the database is down, as [`is_away`] says. Others report that.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Database(error) if is_away(error))
    }
}
