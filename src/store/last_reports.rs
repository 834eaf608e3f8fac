//! When the states of profiles were last reported, for reports that come late.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::error::StoreError;
use crate::domain::{Iccid, Timestamp};

/// Finds when the state of each of these profiles was last reported, by a webhook that was applied or repeated what was known, or by the
/// answer of a provider that changed something. Only what is later than `after`. A connection or a word that is not known says nothing
/// of the state, and neither does a registration, which is older than any report.
///
/// # Errors
/// [`StoreError`].
pub async fn since(
    connection: &mut PgConnection,
    iccids: &[&str],
    after: Timestamp,
) -> Result<HashMap<Iccid, Timestamp>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT iccid AS "iccid!: Iccid", max(received_at) AS "at!: Timestamp"
           FROM (SELECT iccid, received_at FROM deliveries
                 WHERE iccid = ANY($1) AND received_at > $2 AND outcome IN ('moved', 'repeated')
                 UNION ALL
                 SELECT iccid, received_at FROM transitions
                 WHERE iccid = ANY($1) AND received_at > $2 AND source = 'provider-api' AND kind <> 'late') AS said
           GROUP BY iccid"#,
        iccids as &[&str],
        after.as_datetime()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.iccid, row.at)).collect())
}
