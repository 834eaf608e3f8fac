//! How many connections the server grants this service.

use sqlx::PgConnection;

use super::error::StoreError;

/// A limit on connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The max number of connections that share this limit.
    pub connections: usize,
    /// What sets the limit, as an operator would name it.
    pub set_by: &'static str,
}

/// Finds the tightest limit on the connections of this user to this database; `None` if there is no limit, as far as we
/// may see.
///
/// # Errors
/// [`StoreError`].
pub async fn limit(connection: &mut PgConnection) -> Result<Option<Limit>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT rolsuper AS "superuser!", rolconnlimit AS "role!",
                  (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS "database!",
                  current_setting('max_connections')::int
                  - current_setting('superuser_reserved_connections')::int
                  - coalesce(current_setting('reserved_connections', true)::int, 0) AS "server!"
           FROM pg_roles WHERE rolname = session_user"#
    )
    .fetch_one(connection)
    .await?;
    let role = (row.role, "the role's CONNECTION LIMIT");
    let database = (row.database, "the database's CONNECTION LIMIT");
    let server = (row.server, "max_connections, minus the reserved ones");
    // Only the server's limit applies to a superuser.
    let limits = if row.superuser { vec![server] } else { vec![role, database, server] };
    let set = limits.into_iter().filter_map(|(limit, set_by)| {
        // -1 means no limit.
        Some(Limit { connections: usize::try_from(limit).ok()?, set_by })
    });
    Ok(set.min_by_key(|limit| limit.connections))
}
