//! The table `ended_sessions`: sessions of the console whose people have signed out.

use sqlx::PgConnection;

use super::error::StoreError;
use crate::domain::Timestamp;

/// Ends a session, whose cookie would be valid until `until`, and forgets those that ended by themselves.
///
/// # Errors
/// [`StoreError`].
pub async fn end(
    connection: &mut PgConnection,
    id: &[u8; 16],
    until: Timestamp,
) -> Result<(), StoreError> {
    // A day later, because the clocks of this server and of the replicas may differ.
    sqlx::query!(
        "WITH forgotten AS (DELETE FROM ended_sessions WHERE until < now() - interval '1 day')
         INSERT INTO ended_sessions (id, until) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
        id.as_slice(),
        until.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a session was ended.
///
/// # Errors
/// [`StoreError`].
pub async fn is_ended(connection: &mut PgConnection, id: &[u8; 16]) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM ended_sessions WHERE id = $1) AS "it!""#,
        id.as_slice()
    );
    Ok(found.fetch_one(connection).await?)
}
