//! The deliveries that were not applied, grouped by their cause: what support works through.

use sqlx::PgConnection;
use uuid::Uuid;

use super::error::StoreError;
use crate::domain::{Outcome, Timestamp};

/// Deliveries that were not applied, for the same cause.
#[derive(Debug)]
pub struct Cause {
    /// Their outcome.
    pub outcome: Outcome,
    /// The path of the hook.
    pub hook: String,
    /// The reason for the outcome.
    pub reason: Option<String>,
    /// How many they are.
    pub deliveries: i64,
    /// When the last of them was received.
    pub last_at: Timestamp,
    /// The id of the last of them.
    pub last_id: Uuid,
}

/// How many deliveries of each outcome [`list`] groups.
pub const GROUPED: i64 = 1_000;

/// The outcomes of deliveries that were not applied.
const NOT_APPLIED: [Outcome; 6] = [
    Outcome::Duplicate,
    Outcome::Late,
    Outcome::Unrecognised,
    Outcome::Ignored,
    Outcome::Foreign,
    Outcome::Malformed,
];

/// The max number of causes that [`list`] returns.
const MAX_CAUSES: i64 = 200;

/// Groups the newest deliveries that were not applied, at most [`GROUPED`] of each outcome, by their cause: the most frequent first.
/// A rare outcome is therefore found beside a frequent one.
///
/// # Errors
/// [`StoreError`].
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Cause>, StoreError> {
    let causes = sqlx::query_as!(
        Cause,
        r#"SELECT newest.outcome AS "outcome!: Outcome", hook AS "hook!", reason, count(*) AS "deliveries!",
                  max(received_at) AS "last_at!: Timestamp", (array_agg(id ORDER BY id DESC))[1] AS "last_id!"
           FROM unnest($3::text[]) AS wanted (outcome)
           CROSS JOIN LATERAL (
               SELECT id, received_at, hook, outcome, reason FROM deliveries AS d
               -- The second condition is that of the index, which has their order.
               WHERE d.outcome = wanted.outcome AND d.outcome NOT IN ('moved', 'repeated')
               ORDER BY id DESC LIMIT $1) AS newest
           GROUP BY newest.outcome, hook, reason ORDER BY count(*) DESC, max(received_at) DESC LIMIT $2"#,
        GROUPED,
        MAX_CAUSES,
        &NOT_APPLIED.map(Outcome::as_str) as &[&str]
    );
    Ok(causes.fetch_all(connection).await?)
}
