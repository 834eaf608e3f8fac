//! The marks of profiles by which lists find them: the columns `rare_state`, `rare_since` and `unreported_at`.
//!
//! A trigger keeps them in every row that is written. The rows that a table had before it had the columns are marked by
//! the upkeep, unless the migration has done that.

use sqlx::PgConnection;

use super::error::StoreError;
use super::indexes::{self, Index};
use crate::domain::{ProfileState, Timestamp};

/// The indexes on the marks.
const INDEXES: [Index; 3] = [
    Index {
        name: "profiles_rare_state",
        create: "CREATE INDEX CONCURRENTLY profiles_rare_state ON profiles (rare_state, iccid) WHERE rare_state IS NOT NULL",
        drop: "DROP INDEX CONCURRENTLY profiles_rare_state",
        drop_former: None,
    },
    Index {
        name: "profiles_rare_since",
        create: "CREATE INDEX CONCURRENTLY profiles_rare_since ON profiles (rare_state, rare_since) WHERE rare_state IS NOT NULL",
        drop: "DROP INDEX CONCURRENTLY profiles_rare_since",
        drop_former: None,
    },
    Index {
        name: "profiles_unreported",
        create: "CREATE INDEX CONCURRENTLY profiles_unreported ON profiles (unreported_at) WHERE unreported_at IS NOT NULL",
        drop: "DROP INDEX CONCURRENTLY profiles_unreported",
        drop_former: None,
    },
];

/// How many profiles one statement looks at, and may hold the locks of.
const PAGE: i64 = 2_000;

/// Which marks can be relied on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    /// Whether every profile in a rare state is marked.
    pub rare_states: bool,
    /// From when on each change is marked or has a delivery, which is kept for a day at least; `None` if that cannot be
    /// relied on.
    pub changes_from: Option<Timestamp>,
}

/// Whether profiles in this state have it in `rare_state`: all but those between which profiles go back and forth. The
/// trigger has the same list.
pub(super) fn is_rare(state: ProfileState) -> bool {
    match state {
        ProfileState::Installed | ProfileState::Released | ProfileState::Disabled => false,
        ProfileState::Preparing
        | ProfileState::Downloaded
        | ProfileState::Deleted
        | ProfileState::Error
        | ProfileState::Unavailable => true,
    }
}

/// Reads which marks can be relied on.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn read(connection: &mut PgConnection) -> Result<Marks, StoreError> {
    let marks = sqlx::query_as!(
        Marks,
        r#"SELECT rare_states_marked AS rare_states,
                  CASE WHEN rare_states_marked THEN greatest(unreported_from, now() - interval '1 day') END
                      AS "changes_from: Timestamp"
           FROM upkeep"#
    );
    Ok(marks.fetch_one(connection).await?)
}

/// Builds the indexes on the marks and marks every profile, unless that is done. Writers wait for a few rows at most, and
/// any number of replicas may do it beside each other.
///
/// # Errors
/// [`StoreError`]; the next call starts over, and finds most profiles marked.
pub(super) async fn mark_all(connection: &mut PgConnection) -> Result<(), StoreError> {
    if read(connection).await?.rare_states {
        return Ok(());
    }
    for index in INDEXES {
        if !indexes::ensure(connection, index).await? {
            return Ok(());
        }
    }
    let mut after = Some(String::new());
    while let Some(last) = after {
        after = mark_page(connection, &last).await?;
    }
    sqlx::query!("UPDATE upkeep SET rare_states_marked = true").execute(connection).await?;
    Ok(())
}

/// Marks the profiles of the page after `after`, and returns the last of them.
async fn mark_page(
    connection: &mut PgConnection,
    after: &str,
) -> Result<Option<String>, StoreError> {
    let last = sqlx::query_scalar!(
        "WITH page AS MATERIALIZED (SELECT iccid FROM profiles WHERE iccid > $1 ORDER BY iccid LIMIT $2),
              marked AS (
                  UPDATE profiles AS p SET rare_state = p.state, rare_since = p.since
                  FROM page
                  WHERE p.iccid = page.iccid AND p.iccid > $1 AND p.iccid <= (SELECT max(iccid) FROM page)
                    AND p.rare_state IS NULL AND p.state NOT IN ('INSTALLED', 'RELEASED', 'DISABLED')
              )
         SELECT max(iccid) FROM page",
        after,
        PAGE
    );
    Ok(last.fetch_one(connection).await?)
}
