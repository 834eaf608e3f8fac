//! Looks up whether deliveries were stored although their commit was not confirmed.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::decode::datetime_option;
use super::error::StoreError;
use crate::domain::{Outcome, Timestamp};

/// A delivery that is stored already.
#[derive(Debug)]
pub struct Found {
    /// Its outcome, if this release knows that word.
    pub outcome: Option<Outcome>,
    /// The reason for that outcome.
    pub reason: Option<String>,
}

/// Finds which of these deliveries, each an id with its time of receipt, are stored already, by their ids.
///
/// # Errors
/// [`StoreError`].
pub async fn find(
    connection: &mut PgConnection,
    deliveries: &[(Uuid, Timestamp)],
) -> Result<HashMap<Uuid, Found>, StoreError> {
    let ids: Vec<_> = deliveries.iter().map(|(id, _)| *id).collect();
    let times = || deliveries.iter().map(|(_, received_at)| *received_at);
    let found = sqlx::query!(
        // The range chooses the partitions. A list of times would be combined with each of the ids.
        "SELECT id, outcome, reason FROM deliveries WHERE id = ANY($1) AND received_at BETWEEN $2 AND $3",
        &ids,
        datetime_option(times().min()),
        datetime_option(times().max()),
    )
    .fetch_all(connection)
    .await?;
    let found = found
        .into_iter()
        .map(|row| (row.id, Found { outcome: row.outcome.parse().ok(), reason: row.reason }));
    Ok(found.collect())
}
