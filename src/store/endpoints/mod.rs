//! The table `endpoints`: where backends have changes delivered to, and how far each has come.

mod figures;

mod owner;

mod serving;

use sqlx::PgConnection;

use super::changes::Place;
use super::error::StoreError;
use super::vault::Sealed;
use crate::domain::{DisabledBecause, Filter, Timestamp};
pub use figures::{Figures, figures};
pub use owner::{
    Replay, add_configured, configure, create, delete, enable, lock, redefine, replay,
    save_secrets, seal_anew,
};
pub use serving::{
    Advanced, Progress, ToServe, advance, disable, list_to_serve, note_failure, try_lock, unlock,
};

/// An endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its name.
    pub id: String,
    /// What it is, by its owner.
    pub definition: Definition,
    /// Whether it comes from a configuration file.
    pub is_configured: bool,
    /// Its secrets, unless a configuration file has them.
    pub sealed: Option<Sealed>,
    /// Until when the secret before the present one also signs.
    pub previous_until: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Raised by every change that its owner makes.
    pub version: i32,
    /// Why and since when nothing is delivered to it.
    pub disabled: Option<(DisabledBecause, Timestamp)>,
    /// What it is done with, but for backlogs.
    pub place: Place,
    /// How often its place was set.
    pub replays: i32,
    /// How often in a row it has accepted nothing.
    pub failures: u32,
    /// Since when.
    pub failing_since: Option<Timestamp>,
    /// When the next attempt is due.
    pub retry_at: Option<Timestamp>,
    /// How the last request failed that it did not accept.
    pub last_error: Option<String>,
    /// How many changes it has accepted.
    pub delivered: i64,
    /// When it last accepted one.
    pub delivered_at: Option<Timestamp>,
    /// How many changes were given up.
    pub given_up: i64,
    /// How many profiles have a backlog.
    pub backlogs: i64,
    /// How many changes come after its place, whether it wants them or not.
    pub behind: i64,
    /// When the first of them happened.
    pub behind_since: Option<Timestamp>,
}

/// What an endpoint is, by its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Where changes are sent. It is parsed when it is used, because what the operator allows can change.
    pub url: String,
    /// Which changes it wants.
    pub filter: Filter,
    /// What it is for.
    pub description: Option<String>,
}

struct Row {
    id: String,
    is_configured: bool,
    url: String,
    kinds: Vec<String>,
    providers: Vec<String>,
    description: Option<String>,
    key_id: Option<String>,
    sealed: Option<Vec<u8>>,
    previous_until: Option<Timestamp>,
    created_at: Timestamp,
    version: i32,
    disabled_because: Option<DisabledBecause>,
    disabled_at: Option<Timestamp>,
    position: i64,
    mark: Option<i64>,
    replays: i32,
    failures: i32,
    failing_since: Option<Timestamp>,
    retry_at: Option<Timestamp>,
    last_error: Option<String>,
    delivered: i64,
    delivered_at: Option<Timestamp>,
    given_up: i64,
    backlogs: i64,
    behind: i64,
    behind_since: Option<Timestamp>,
}

impl TryFrom<Row> for Endpoint {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = |column| StoreError::Corrupt { column };
        let kinds = row.kinds.iter().map(|kind| kind.parse()).collect::<Result<_, _>>();
        let filter =
            Filter { kinds: kinds.map_err(|_| corrupt("kinds"))?, providers: row.providers };
        let mark = row.mark.map(u32::try_from).transpose().map_err(|_| corrupt("mark"))?;
        let key_id = row.key_id;
        Ok(Self {
            id: row.id,
            definition: Definition { url: row.url, filter, description: row.description },
            is_configured: row.is_configured,
            sealed: row.sealed.map(|bytes| Sealed { key_id, bytes }),
            previous_until: row.previous_until,
            created_at: row.created_at,
            version: row.version,
            disabled: row.disabled_because.zip(row.disabled_at),
            place: Place { position: row.position, mark },
            replays: row.replays,
            failures: u32::try_from(row.failures).map_err(|_| corrupt("failures"))?,
            failing_since: row.failing_since,
            retry_at: row.retry_at,
            last_error: row.last_error,
            delivered: row.delivered,
            delivered_at: row.delivered_at,
            given_up: row.given_up,
            backlogs: row.backlogs,
            behind: row.behind,
            behind_since: row.behind_since,
        })
    }
}

/// Lists all endpoints, or finds the one with this id.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    id: Option<&str>,
) -> Result<Vec<Endpoint>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, is_configured, url, kinds, providers, description, key_id, sealed,
                  previous_until AS "previous_until: Timestamp", created_at AS "created_at: Timestamp", version,
                  disabled_because AS "disabled_because: DisabledBecause", disabled_at AS "disabled_at: Timestamp", position, mark, replays, failures,
                  failing_since AS "failing_since: Timestamp", retry_at AS "retry_at: Timestamp", last_error, delivered,
                  delivered_at AS "delivered_at: Timestamp", given_up,
                  (SELECT count(*) FROM endpoint_backlogs AS b WHERE b.endpoint = e.id) AS "backlogs!",
                  greatest((SELECT last_position FROM change_feed) - position, 0) AS "behind!",
                  (SELECT at FROM changes AS c WHERE c.position > e.position ORDER BY c.position LIMIT 1) AS "behind_since: Timestamp"
           FROM endpoints AS e WHERE $1::text IS NULL OR id = $1 ORDER BY created_at, id"#,
        id
    );
    rows.fetch_all(connection).await?.into_iter().map(Endpoint::try_from).collect()
}

/// Finds an endpoint.
///
/// # Errors
/// [`StoreError`].
pub async fn find(connection: &mut PgConnection, id: &str) -> Result<Option<Endpoint>, StoreError> {
    Ok(list(connection, Some(id)).await?.pop())
}
