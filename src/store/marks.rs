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

/// How many profiles one statement looks at, and may lock.
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
/// [`StoreError`]; the next call starts over, and finds most profiles marked. It also does if another transaction has locked one.
pub(super) async fn mark_all(connection: &mut PgConnection) -> Result<(), StoreError> {
    if read(connection).await?.rare_states {
        return Ok(());
    }
    for index in INDEXES {
        if !indexes::ensure(connection, index).await? {
            return Ok(());
        }
    }
    let (mut after, mut are_all) = (Some(String::new()), true);
    while let Some(last) = after {
        let (last, is_complete) = mark_page(connection, &last).await?;
        after = last;
        are_all &= is_complete;
    }
    if !are_all {
        return Ok(());
    }
    sqlx::query!("UPDATE upkeep SET rare_states_marked = true").execute(connection).await?;
    Ok(())
}

/// Marks the profiles of the page after `after`. Returns the last of them, and whether all of them are marked: a wait for one that
/// another transaction has locked would keep the webhooks of those waiting that are locked here by then.
async fn mark_page(
    connection: &mut PgConnection,
    after: &str,
) -> Result<(Option<String>, bool), StoreError> {
    let page = sqlx::query!(
        r#"WITH page AS MATERIALIZED (SELECT iccid FROM profiles WHERE iccid > $1 ORDER BY iccid LIMIT $2),
                rare AS MATERIALIZED (
                    SELECT p.iccid FROM page JOIN profiles AS p ON p.iccid = page.iccid
                    WHERE p.rare_state IS NULL AND p.state NOT IN ('INSTALLED', 'RELEASED', 'DISABLED')
                ),
                locked AS MATERIALIZED (
                    SELECT p.iccid FROM rare JOIN profiles AS p ON p.iccid = rare.iccid FOR NO KEY UPDATE OF p SKIP LOCKED
                ),
                marked AS (
                    UPDATE profiles AS p SET rare_state = p.state, rare_since = p.since FROM locked WHERE p.iccid = locked.iccid
                )
           SELECT (SELECT max(iccid) FROM page) AS last,
                  (SELECT count(*) FROM rare) = (SELECT count(*) FROM locked) AS "is_complete!""#,
        after,
        PAGE
    );
    let page = page.fetch_one(connection).await?;
    Ok((page.last, page.is_complete))
}
