//! How endpoints do, for the metrics.

use sqlx::PgConnection;

use super::super::error::StoreError;
use crate::domain::{DisabledBecause, Timestamp};

/// How an endpoint does.
#[derive(Debug)]
pub struct Figures {
    /// Its name.
    pub id: String,
    /// Why nothing is delivered to it.
    pub disabled: Option<DisabledBecause>,
    /// Since when it has accepted nothing.
    pub failing_since: Option<Timestamp>,
    /// When the first change after its place happened, also if nobody has given that a position yet.
    pub behind_since: Option<Timestamp>,
    /// How many profiles have a backlog.
    pub backlogs: i64,
    /// How many changes were given up.
    pub given_up: i64,
}

/// Reads how each endpoint does, whether it is served or not.
///
/// # Errors
/// [`StoreError`].
pub async fn figures(connection: &mut PgConnection) -> Result<Vec<Figures>, StoreError> {
    let figures = sqlx::query_as!(
        Figures,
        r#"SELECT id, disabled_because AS "disabled: DisabledBecause", failing_since AS "failing_since: Timestamp",
                  coalesce((SELECT at FROM changes AS c WHERE c.position > e.position ORDER BY c.position LIMIT 1),
                           (SELECT min(at) FROM new_changes)) AS "behind_since: Timestamp",
                  (SELECT count(*) FROM endpoint_backlogs AS b WHERE b.endpoint = e.id) AS "backlogs!", given_up
           FROM endpoints AS e ORDER BY id"#
    );
    Ok(figures.fetch_all(connection).await?)
}
