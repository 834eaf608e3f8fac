//! What the replicas that serve endpoints do with them.

use sqlx::PgConnection;

use super::super::backlogs;
use super::super::changes::Place;
use super::super::decode::datetime_option;
use super::super::error::StoreError;
use super::super::exclusive;
use super::Endpoint;
use crate::domain::{DisabledBecause, Timestamp};

/// An endpoint that is to be served.
#[derive(Debug)]
pub struct ToServe {
    /// Its name.
    pub id: String,
    /// Whether it comes from a configuration file.
    pub is_configured: bool,
    /// The number of its lock.
    pub number: i32,
    /// Raised by every change that its owner makes.
    pub version: i32,
}

/// Lists the endpoints that are to be served.
///
/// # Errors
/// [`StoreError`].
pub async fn list_to_serve(connection: &mut PgConnection) -> Result<Vec<ToServe>, StoreError> {
    let found = sqlx::query_as!(
        ToServe,
        "SELECT id, is_configured, number, version FROM endpoints WHERE disabled_because IS NULL ORDER BY number"
    );
    Ok(found.fetch_all(connection).await?)
}

/// Takes the lock of an endpoint, for as long as the session lasts. Returns whether this session has it.
///
/// # Errors
/// [`StoreError`].
pub async fn try_lock(connection: &mut PgConnection, number: i32) -> Result<bool, StoreError> {
    let taken = sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_lock($1, $2) AS "taken!""#,
        exclusive::ENDPOINT,
        number
    );
    Ok(taken.fetch_one(connection).await?)
}

/// Releases the lock of an endpoint.
///
/// # Errors
/// [`StoreError`].
pub async fn unlock(connection: &mut PgConnection, number: i32) -> Result<(), StoreError> {
    sqlx::query!("SELECT pg_advisory_unlock($1, $2)", exclusive::ENDPOINT, number)
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// How far an endpoint has come with an attempt at which it accepted something, or at which there was nothing for it.
#[derive(Debug)]
pub struct Progress<'a> {
    /// What it is done with now, but for backlogs.
    pub place: Place,
    /// How many changes it accepted.
    pub delivered: i64,
    /// How many were given up.
    pub given_up: i64,
    /// When it asked to be called again.
    pub retry_at: Option<Timestamp>,
    /// How a request failed, if one did.
    pub error: Option<&'a str>,
    /// Whether it counts as well again, because nothing that it refused is left.
    pub is_freed: bool,
}

impl Progress<'_> {
    /// To this place, without anything that was accepted.
    pub fn to(place: Place) -> Self {
        Self { place, delivered: 0, given_up: 0, retry_at: None, error: None, is_freed: false }
    }
}

/// What became of the progress of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// It was saved.
    Saved,
    /// It was saved, and the endpoint's owner has changed it meanwhile.
    SavedAfterChange,
    /// It was not: the endpoint is no longer where it was read, because its place was set or another replica serves it.
    Elsewhere,
}

/// Saves how far an endpoint has come. If the endpoint was failing before and accepted something, its backlogs are due.
///
/// # Errors
/// [`StoreError`].
pub async fn advance(
    connection: &mut PgConnection,
    from: &Endpoint,
    progress: &Progress<'_>,
    now: Timestamp,
) -> Result<Advanced, StoreError> {
    let has_accepted = progress.delivered > 0;
    let version = sqlx::query_scalar!(
        "UPDATE endpoints
         SET position = $4, mark = $5, delivered = delivered + $6, given_up = given_up + $7,
             retry_at = CASE WHEN version = $11 THEN $8 ELSE retry_at END,
             last_error = coalesce($9, last_error), delivered_at = CASE WHEN $6 > 0 THEN $10 ELSE delivered_at END,
             failures = CASE WHEN $12 THEN 0 ELSE failures END,
             failing_since = CASE WHEN $12 THEN NULL ELSE failing_since END
         WHERE id = $1 AND position = $2 AND replays = $3
         RETURNING version",
        from.id,
        from.place.position,
        from.replays,
        progress.place.position,
        progress.place.mark.map(i64::from),
        progress.delivered,
        progress.given_up,
        datetime_option(progress.retry_at),
        progress.error,
        now.as_datetime(),
        from.version,
        has_accepted || progress.is_freed
    );
    let Some(version) = version.fetch_optional(&mut *connection).await? else {
        return Ok(Advanced::Elsewhere);
    };
    if let Some(failing_since) = from.failing_since.filter(|_| has_accepted) {
        backlogs::resume(connection, &from.id, failing_since, now).await?;
    }
    Ok(if version == from.version { Advanced::Saved } else { Advanced::SavedAfterChange })
}

/// Notes an attempt at which an endpoint accepted nothing, unless its owner has changed it meanwhile.
///
/// # Errors
/// [`StoreError`].
pub async fn note_failure(
    connection: &mut PgConnection,
    from: &Endpoint,
    retry_at: Timestamp,
    error: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE endpoints
         SET failures = failures + 1, failing_since = coalesce(failing_since, $4), retry_at = $2, last_error = $3
         WHERE id = $1 AND position = $5 AND version = $6",
        from.id,
        retry_at.as_datetime(),
        error,
        now.as_datetime(),
        from.place.position,
        from.version
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the deliveries to an endpoint, unless its owner has changed it since it was read. Its place stays.
///
/// # Errors
/// [`StoreError`].
pub async fn disable(
    connection: &mut PgConnection,
    from: &Endpoint,
    because: DisabledBecause,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE endpoints SET disabled_because = $2, disabled_at = coalesce(disabled_at, $3), version = version + 1
         WHERE id = $1 AND version = $4 AND (disabled_because IS NULL OR $2 = 'request')",
        from.id,
        because.as_str(),
        now.as_datetime(),
        from.version
    )
    .execute(connection)
    .await?;
    Ok(())
}
