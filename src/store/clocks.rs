//! This machine's clock compared with the database's.

use sqlx::PgConnection;

use super::error::StoreError;
use crate::domain::Timestamp;

/// The difference in seconds from which on we warn. Signed webhooks tolerate 300.
const WARNING_SECONDS: f64 = 5.0;

/// Two clocks, read at about the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// This machine's.
    pub ours: Timestamp,
    /// The database's.
    pub theirs: Timestamp,
}

impl Clocks {
    /// Reads the database's clock; the caller has just read its own.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(connection: &mut PgConnection, ours: Timestamp) -> Result<Self, StoreError> {
        let theirs = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!: Timestamp""#);
        Ok(Self { ours, theirs: theirs.fetch_one(connection).await? })
    }

    /// By how many seconds this machine's clock is ahead, or behind if negative; `None` if the clocks agree well
    /// enough.
    pub fn difference(self) -> Option<f64> {
        let seconds = self.ours.seconds_since(self.theirs);
        (seconds.abs() > WARNING_SECONDS).then_some(seconds)
    }

    /// The earlier of the two: what has expired by this time has expired by both clocks.
    pub fn earlier(self) -> Timestamp {
        self.ours.min(self.theirs)
    }
}
