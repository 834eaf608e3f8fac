//! Indexes that a migration leaves to the upkeep, because the table may be large.

use sqlx::PgConnection;

use super::error::StoreError;
use super::exclusive::{self, Work};

/// An index to be built without blocking the writers of its table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Index {
    /// Its name.
    pub name: &'static str,
    /// The statement that builds it.
    pub create: &'static str,
    /// The statement that drops an unfinished one.
    pub drop: &'static str,
    /// The statement that drops the index that it replaces.
    pub drop_former: Option<&'static str>,
}

/// Builds an index, unless it exists. Readers and writers of the table do not wait for this. It may take minutes, and
/// longer while other transactions stay open. Returns whether the index can be used: not while another replica is
/// building one.
///
/// # Errors
/// [`StoreError`]; the next call starts over.
pub(super) async fn ensure(
    connection: &mut PgConnection,
    index: Index,
) -> Result<bool, StoreError> {
    if is_valid(connection, index).await? == Some(true) {
        return Ok(true);
    }
    if !exclusive::begin(connection, Work::Index).await? {
        return Ok(false);
    }
    let built = build(connection, index).await;
    exclusive::end(connection, Work::Index).await?;
    built.map(|()| true)
}

async fn build(connection: &mut PgConnection, index: Index) -> Result<(), StoreError> {
    // Another replica may have built it before we got the lock.
    let valid = is_valid(connection, index).await?;
    if valid == Some(true) {
        return Ok(());
    }
    let time_out = exclusive::lift_time_out(connection).await?;
    let built = async {
        if valid.is_some() {
            // Left over from an interrupted build.
            sqlx::query(index.drop).execute(&mut *connection).await?;
        }
        tracing::info!(
            index = index.name,
            "building an index: this may take minutes, and nothing waits for it"
        );
        sqlx::query(index.create).execute(&mut *connection).await?;
        if let Some(former) = index.drop_former {
            sqlx::query(former).execute(&mut *connection).await?;
        }
        Ok(())
    };
    let built = built.await;
    exclusive::set_time_out(connection, &time_out).await?;
    built
}

/// Whether an index can be used. Returns `None` if it does not exist.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn is_valid(
    connection: &mut PgConnection,
    index: Index,
) -> Result<Option<bool>, StoreError> {
    let valid = sqlx::query_scalar!(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)",
        index.name
    );
    Ok(valid.fetch_optional(connection).await?)
}
