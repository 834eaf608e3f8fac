//! Writes profiles.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::Registration;
use crate::domain::{Iccid, Profile, Timestamp};
use crate::store::codec::{StoreError, datetime_option};
use crate::store::columns::ProfileColumns;

/// Inserts profiles that do not exist yet, and returns the ICCIDs of those that it inserted.
///
/// # Errors
/// [`StoreError`].
pub async fn insert(
    connection: &mut PgConnection,
    profiles: &[&Profile],
) -> Result<Vec<String>, StoreError> {
    let columns = ProfileColumns::of(profiles);
    let inserted = sqlx::query_scalar!(
        r#"INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                                 deliveries, last_delivery_at, last_occurred_at, updated_at)
           SELECT u.iccid, u.provider, u.state, u.enabled, u.raw_state, u.imsi, u.eid, u.since, u.seq,
                  u.installs_seen, u.deliveries, u.last_delivery_at, u.last_occurred_at, now()
           FROM UNNEST($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::text[],
                       $8::timestamptz[], $9::bigint[], $10::integer[], $11::bigint[], $12::timestamptz[],
                       $13::timestamptz[])
                AS u (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                      deliveries, last_delivery_at, last_occurred_at)
           -- The same order in every replica, so that two inserting the same profiles cannot deadlock.
           ORDER BY u.iccid
           ON CONFLICT (iccid) DO NOTHING
           RETURNING iccid"#,
        &columns.iccid as &[&str],
        &columns.provider as &[&str],
        &columns.state as &[&str],
        &columns.enabled as &[Option<bool>],
        &columns.raw_state as &[&str],
        &columns.imsi as &[Option<&str>],
        &columns.eid as &[Option<&str>],
        &columns.since as &[OffsetDateTime],
        &columns.seq,
        &columns.installs_seen,
        &columns.deliveries,
        &columns.last_delivery_at as &[Option<OffsetDateTime>],
        &columns.last_occurred_at as &[Option<OffsetDateTime>],
    )
    .fetch_all(connection)
    .await?;
    Ok(inserted)
}

/// Saves profiles whose locks are held.
///
/// # Errors
/// [`StoreError`].
pub async fn save(connection: &mut PgConnection, profiles: &[&Profile]) -> Result<(), StoreError> {
    let columns = ProfileColumns::of(profiles);
    sqlx::query!(
        r#"UPDATE profiles AS p
           SET provider = u.provider, state = u.state, enabled = u.enabled, raw_state = u.raw_state, imsi = u.imsi,
               eid = u.eid, since = u.since, seq = u.seq, installs_seen = u.installs_seen,
               deliveries = u.deliveries, last_delivery_at = u.last_delivery_at,
               last_occurred_at = u.last_occurred_at, updated_at = now()
           FROM UNNEST($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::text[],
                       $8::timestamptz[], $9::bigint[], $10::integer[], $11::bigint[], $12::timestamptz[],
                       $13::timestamptz[])
                AS u (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                      deliveries, last_delivery_at, last_occurred_at)
           WHERE p.iccid = u.iccid"#,
        &columns.iccid as &[&str],
        &columns.provider as &[&str],
        &columns.state as &[&str],
        &columns.enabled as &[Option<bool>],
        &columns.raw_state as &[&str],
        &columns.imsi as &[Option<&str>],
        &columns.eid as &[Option<&str>],
        &columns.since as &[OffsetDateTime],
        &columns.seq,
        &columns.installs_seen,
        &columns.deliveries,
        &columns.last_delivery_at as &[Option<OffsetDateTime>],
        &columns.last_occurred_at as &[Option<OffsetDateTime>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Saves the registration of a profile whose lock is held. Members that it leaves out keep the value of an earlier
/// registration.
///
/// # Errors
/// [`StoreError`].
pub async fn save_registration(
    connection: &mut PgConnection,
    iccid: &Iccid,
    at: Timestamp,
    registration: &Registration,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"UPDATE profiles
           SET registered_at = $2, uid = coalesce($3, uid), activated_at = coalesce($4, activated_at),
               last_seen = coalesce($5, last_seen), updated_at = now()
           WHERE iccid = $1"#,
        iccid.as_str(),
        at.as_datetime(),
        registration.uid.as_deref(),
        datetime_option(registration.activated_at),
        datetime_option(registration.last_seen)
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a profile, whose lock is held, was erased before, and from when on its access tokens are valid.
///
/// # Errors
/// [`StoreError`].
pub async fn begin_anew(
    connection: &mut PgConnection,
    iccid: &Iccid,
    erased_at: Timestamp,
    tokens_from: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE profiles SET erased_at = $2, tokens_from = $3 WHERE iccid = $1",
        iccid.as_str(),
        erased_at.as_datetime(),
        tokens_from.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Revokes the access tokens that were issued before this time. Returns whether the profile exists.
///
/// # Errors
/// [`StoreError`].
pub async fn end_tokens(
    connection: &mut PgConnection,
    iccid: &Iccid,
    from: Timestamp,
) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        "UPDATE profiles SET tokens_from = greatest(tokens_from, $2) WHERE iccid = $1",
        iccid.as_str(),
        from.as_datetime()
    )
    .execute(connection)
    .await?;
    Ok(ended.rows_affected() > 0)
}
