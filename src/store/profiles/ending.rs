//! Finds profiles by the last digits of their ICCIDs, which is what a person reads from a card.

use sqlx::PgConnection;

use crate::domain::Iccid;
use crate::store::error::StoreError;
use crate::store::indexes::{self, Index};

/// The index on the digits from the last to the first. It is built in the background, and no update of a profile touches it.
pub(in crate::store) const BY_END: Index = Index {
    name: "profiles_end",
    create: "CREATE INDEX CONCURRENTLY profiles_end ON profiles (reverse(iccid))",
    drop: "DROP INDEX CONCURRENTLY profiles_end",
    drop_former: None,
};

/// Lists up to `limit` profiles whose ICCIDs end with these digits. Returns `None` while the index for that is not built:
/// without it, every profile would be read.
///
/// # Errors
/// [`StoreError`].
pub async fn list_ending(
    connection: &mut PgConnection,
    digits: &str,
    limit: i64,
) -> Result<Option<Vec<Iccid>>, StoreError> {
    if indexes::is_valid(connection, BY_END).await? != Some(true) {
        return Ok(None);
    }
    let from: String = digits.chars().rev().collect();
    let found = sqlx::query_scalar!(
        // A range and not LIKE, which finds no index if its pattern is a parameter. `:` follows the digits.
        r#"SELECT iccid AS "iccid: Iccid" FROM profiles
           WHERE reverse(iccid) >= $1 AND reverse(iccid) < $1 || ':' ORDER BY reverse(iccid) LIMIT $2"#,
        from,
        limit
    );
    Ok(Some(found.fetch_all(connection).await?))
}
