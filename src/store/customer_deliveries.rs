//! The table `customer_deliveries`: deliveries that name no profile, only a customer of the provider by its `uid`.
//!
//! `profiles.uid` has the customer of a profile that was registered. A customer may have several profiles.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::deliveries::{DeliveryRecord, delete_deliveries, select_deliveries};
use super::error::StoreError;
use crate::domain::{Iccid, Outcome, Timestamp};

/// A delivery that names a customer.
#[derive(Debug)]
pub struct NamesCustomer<'a> {
    /// The customer.
    pub uid: &'a str,
    /// The hook's provider.
    pub provider: &'a str,
    /// The delivery's id.
    pub delivery_id: Uuid,
    /// When it was received.
    pub received_at: Timestamp,
}

/// Notes the customers of deliveries that this transaction writes.
///
/// # Errors
/// [`StoreError`].
pub async fn insert(
    connection: &mut PgConnection,
    deliveries: &[NamesCustomer<'_>],
) -> Result<(), StoreError> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let each = || deliveries.iter();
    let uid: Vec<_> = each().map(|it| it.uid).collect();
    let provider: Vec<_> = each().map(|it| it.provider).collect();
    let delivery_id: Vec<_> = each().map(|it| it.delivery_id).collect();
    let received_at: Vec<_> = each().map(|it| it.received_at.as_datetime()).collect();
    sqlx::query!(
        "INSERT INTO customer_deliveries (uid, provider, delivery_id, received_at)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::uuid[], $4::timestamptz[])",
        &uid as &[&str],
        &provider as &[&str],
        &delivery_id,
        &received_at as &[OffsetDateTime],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lists the deliveries that name this customer of a provider and no profile, and are older than `before`, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    uid: &str,
    provider: Option<&str>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let found = select_deliveries!(
        "WHERE (id, received_at) IN (
             SELECT delivery_id, received_at FROM customer_deliveries
             WHERE uid = $1 AND ($2::text IS NULL OR provider = $2) AND ($3::uuid IS NULL OR delivery_id < $3)
             ORDER BY delivery_id DESC LIMIT $4)
         ORDER BY id DESC",
        uid,
        provider,
        before,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// Lists the deliveries that name the customer of this profile and no profile, and are older than `before`, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_of_profile(
    connection: &mut PgConnection,
    iccid: &Iccid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    match find_customer(connection, iccid).await? {
        Some((uid, provider)) => list(connection, &uid, Some(&provider), before, limit).await,
        None => Ok(Vec::new()),
    }
}

/// The customer of a profile, with the provider whose customer that is.
async fn find_customer(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Option<(String, String)>, StoreError> {
    let customer = sqlx::query!(
        r#"SELECT uid AS "uid!", provider FROM profiles WHERE iccid = $1 AND uid IS NOT NULL"#,
        iccid.as_str()
    );
    Ok(customer.fetch_optional(connection).await?.map(|row| (row.uid, row.provider)))
}

/// Deletes the deliveries that name the customer of this profile, unless that customer has another one. Call it before the
/// profile itself is deleted.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn erase(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    let Some((uid, provider)) = find_customer(connection, iccid).await? else { return Ok(()) };
    // One erasure of a customer's profiles at a time: of two that overlap, each would find the profile of the other.
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))",
        provider,
        uid
    )
    .execute(&mut *connection)
    .await?;
    let named = sqlx::query!(
        "DELETE FROM customer_deliveries
         WHERE uid = $1 AND provider = $2
           AND NOT EXISTS (SELECT FROM profiles AS p WHERE p.uid = $1 AND p.provider = $2 AND p.iccid <> $3)
         RETURNING delivery_id, received_at",
        uid,
        provider,
        iccid.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    if named.is_empty() {
        return Ok(());
    }
    let (ids, times): (Vec<_>, Vec<_>) =
        named.into_iter().map(|it| (it.delivery_id, it.received_at)).unzip();
    let deleted = delete_deliveries!(
        "USING UNNEST($1::uuid[], $2::timestamptz[]) AS n (id, received_at)
         WHERE d.id = n.id AND d.received_at = n.received_at",
        &ids,
        &times,
    );
    deleted.fetch_one(connection).await?;
    Ok(())
}

/// Deletes up to `limit` rows whose deliveries were received before `before` and so are no longer kept, the oldest first. Returns how
/// many.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn forget(
    connection: &mut PgConnection,
    before: Timestamp,
    limit: u64,
) -> Result<u64, StoreError> {
    let done = sqlx::query!(
        "DELETE FROM customer_deliveries WHERE (uid, provider, delivery_id) IN (
             SELECT uid, provider, delivery_id FROM customer_deliveries WHERE received_at < $1 ORDER BY received_at LIMIT $2
         )",
        before.as_datetime(),
        i64::try_from(limit).unwrap_or(i64::MAX)
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
