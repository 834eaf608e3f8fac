//! What their owners do with endpoints.

use sqlx::PgConnection;

use super::super::backlogs;
use super::super::changes::Place;
use super::super::decode::datetime_option;
use super::super::error::StoreError;
use super::super::vault::Sealed;
use super::Definition;
use crate::domain::Timestamp;

/// Creates an endpoint, unless there are `max` already. Returns whether it did.
///
/// # Errors
/// [`StoreError`].
pub async fn create(
    connection: &mut PgConnection,
    id: &str,
    definition: &Definition,
    sealed: &Sealed,
    place: Place,
    (now, max): (Timestamp, i64),
) -> Result<bool, StoreError> {
    let created = sqlx::query!(
        "INSERT INTO endpoints (id, is_configured, url, kinds, providers, description, key_id, sealed, created_at, position, mark)
         SELECT $1, false, $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE (SELECT count(*) FROM endpoints) < $11",
        id,
        definition.url,
        &kinds_of(definition),
        &definition.filter.providers,
        definition.description,
        sealed.key_id,
        sealed.bytes,
        now.as_datetime(),
        place.position,
        place.mark.map(i64::from),
        max
    );
    Ok(created.execute(connection).await?.rows_affected() > 0)
}

/// Changes an endpoint to what the configuration file says. Its place and whether it is disabled stay as they are. Returns whether
/// it exists.
///
/// # Errors
/// [`StoreError`].
pub async fn configure(
    connection: &mut PgConnection,
    id: &str,
    definition: &Definition,
) -> Result<bool, StoreError> {
    let exists = sqlx::query_scalar!(
        r#"WITH changed AS (
               UPDATE endpoints
               SET is_configured = true, url = $2, kinds = $3, providers = $4, description = $5, key_id = NULL, sealed = NULL,
                   previous_until = NULL, version = version + 1
               WHERE id = $1 AND ((is_configured, url, kinds, providers) IS DISTINCT FROM (true, $2, $3, $4)
                                  OR description IS DISTINCT FROM $5)
           )
           SELECT EXISTS (SELECT FROM endpoints WHERE id = $1) AS "it!""#,
        id,
        definition.url,
        &kinds_of(definition),
        &definition.filter.providers,
        definition.description
    );
    Ok(exists.fetch_one(connection).await?)
}

/// Creates an endpoint of the configuration file at this place, unless another replica has just done so.
///
/// # Errors
/// [`StoreError`].
pub async fn add_configured(
    connection: &mut PgConnection,
    id: &str,
    definition: &Definition,
    place: Place,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO endpoints (id, is_configured, url, kinds, providers, description, created_at, position, mark)
         VALUES ($1, true, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO NOTHING",
        id,
        definition.url,
        &kinds_of(definition),
        &definition.filter.providers,
        definition.description,
        now.as_datetime(),
        place.position,
        place.mark.map(i64::from)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Locks an endpoint, in a transaction of the caller that changes it.
///
/// # Errors
/// [`StoreError`].
pub async fn lock(connection: &mut PgConnection, id: &str) -> Result<(), StoreError> {
    let locked = sqlx::query!(r#"SELECT 1 AS "it!" FROM endpoints WHERE id = $1 FOR UPDATE"#, id);
    locked.fetch_optional(connection).await?;
    Ok(())
}

/// Changes what an endpoint is. What has failed begins anew: the change may be what it needed.
///
/// # Errors
/// [`StoreError`].
pub async fn redefine(
    connection: &mut PgConnection,
    id: &str,
    definition: &Definition,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE endpoints
         SET url = $2, kinds = $3, providers = $4, description = $5, version = version + 1, failures = 0, failing_since = NULL,
             retry_at = NULL
         WHERE id = $1",
        id,
        definition.url,
        &kinds_of(definition),
        &definition.filter.providers,
        definition.description
    )
    .execute(&mut *connection)
    .await?;
    backlogs::begin_anew(connection, id, now).await
}

fn kinds_of(definition: &Definition) -> Vec<String> {
    definition.filter.kinds.iter().map(ToString::to_string).collect()
}

/// Saves new secrets of an endpoint.
///
/// # Errors
/// [`StoreError`].
pub async fn save_secrets(
    connection: &mut PgConnection,
    id: &str,
    sealed: &Sealed,
    previous_until: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE endpoints SET key_id = $2, sealed = $3, previous_until = $4, version = version + 1
         WHERE id = $1 AND NOT is_configured",
        id,
        sealed.key_id,
        sealed.bytes,
        datetime_option(previous_until)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces sealed secrets by the same, sealed with another key, unless they have changed meanwhile.
///
/// # Errors
/// [`StoreError`].
pub async fn seal_anew(
    connection: &mut PgConnection,
    id: &str,
    from: &Sealed,
    to: &Sealed,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE endpoints SET key_id = $3, sealed = $4 WHERE id = $1 AND sealed = $2",
        id,
        from.bytes,
        to.key_id,
        to.bytes
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Begins the deliveries to an endpoint again, at its place.
///
/// # Errors
/// [`StoreError`].
pub async fn enable(
    connection: &mut PgConnection,
    id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE endpoints
         SET disabled_because = NULL, disabled_at = NULL, failures = 0, failing_since = NULL, retry_at = NULL,
             version = version + 1
         WHERE id = $1",
        id
    )
    .execute(&mut *connection)
    .await?;
    backlogs::begin_anew(connection, id, now).await
}

/// Deletes an endpoint. Returns whether it existed.
///
/// # Errors
/// [`StoreError`].
pub async fn delete(connection: &mut PgConnection, id: &str) -> Result<bool, StoreError> {
    let deleted = sqlx::query!("DELETE FROM endpoints WHERE id = $1", id);
    Ok(deleted.execute(connection).await?.rows_affected() > 0)
}

/// Where an endpoint continues after a replay.
#[derive(Debug, Clone, Copy)]
pub enum Replay {
    /// Behind this place. If that is further back, the backlogs after it end, because their changes are delivered again in their
    /// turn, and earlier ones stay. If it is further on, all end: what was waiting is left out.
    Behind(Place),
    /// At the end of all changes, which was at least this place: all that was waiting is left out.
    AtTheEnd(Place),
}

/// Sets the place of an endpoint, in a transaction of the caller that has locked it.
///
/// # Errors
/// [`StoreError`].
pub async fn replay(
    connection: &mut PgConnection,
    id: &str,
    replay: Replay,
) -> Result<(), StoreError> {
    let (place, is_end) = match replay {
        Replay::Behind(place) => (place, false),
        Replay::AtTheEnd(place) => (place, true),
    };
    // The endpoint may have come further since its place was read as the end.
    sqlx::query!(
        "WITH moved AS (
             UPDATE endpoints
             SET position = CASE WHEN $4 AND position > $2 THEN position ELSE $2 END,
                 mark = CASE WHEN $4 AND position > $2 THEN mark ELSE $3 END,
                 replays = replays + 1, version = version + 1, failures = 0, failing_since = NULL, retry_at = NULL
             WHERE id = $1
         )
         DELETE FROM endpoint_backlogs
         WHERE endpoint = $1 AND ($4 OR position > $2 OR $2 > (SELECT position FROM endpoints WHERE id = $1))",
        id,
        place.position,
        place.mark.map(i64::from),
        is_end
    )
    .execute(connection)
    .await?;
    Ok(())
}
