//! How many connections the server lets this service have.

use sqlx::PgConnection;

use super::codec::StoreError;

/// A bound on connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// How many there may be, over all that connect under it.
    pub connections: usize,
    /// What sets it, as an operator would name it.
    pub set_by: &'static str,
}

/// The tightest bound on the connections of this user in this database; `None` where there is none that we may see.
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
    let server = (row.server, "max_connections, less what is reserved");
    // A superuser is bound by the server only.
    let limits = if row.superuser { vec![server] } else { vec![role, database, server] };
    let set = limits.into_iter().filter_map(|(limit, set_by)| {
        // -1 is none.
        Some(Limit { connections: usize::try_from(limit).ok()?, set_by })
    });
    Ok(set.min_by_key(|limit| limit.connections))
}
