//! The table `deliveries`: every authentic webhook request and its outcome.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::codec::{StoreError, instant, parsed, parsed_option};
use crate::domain::{Iccid, Outcome, Timestamp};

/// A delivery to store.
#[derive(Debug)]
pub struct NewDelivery<'a> {
    /// Its id, generated from the time of receipt.
    pub id: Uuid,
    /// When we received it.
    pub received_at: Timestamp,
    /// The path of the hook.
    pub hook: &'a str,
    /// The hook's provider.
    pub provider: &'a str,
    /// The profile that it names, if that could be read.
    pub iccid: Option<&'a Iccid>,
    /// Its outcome.
    pub outcome: Outcome,
    /// The reason for that outcome.
    pub reason: Option<&'a str>,
    /// The sender's event id.
    pub event_id: Option<&'a str>,
    /// A JSON object with the stored headers.
    pub headers: &'a str,
    /// The raw body.
    pub body: &'a [u8],
}

/// Finds which of these deliveries, each an id with its time of receipt, are stored already.
///
/// # Errors
/// [`StoreError`].
pub async fn find_written(
    connection: &mut PgConnection,
    deliveries: &[(Uuid, Timestamp)],
) -> Result<HashSet<Uuid>, StoreError> {
    let (id, received_at): (Vec<_>, Vec<_>) =
        deliveries.iter().map(|(id, received_at)| (*id, received_at.as_datetime())).unzip();
    let written = sqlx::query_scalar!(
        r#"SELECT d.id
           FROM deliveries d
           JOIN UNNEST($1::uuid[], $2::timestamptz[]) AS u (id, received_at)
             ON d.id = u.id AND d.received_at = u.received_at"#,
        &id,
        &received_at as &[OffsetDateTime],
    )
    .fetch_all(connection)
    .await?;
    Ok(written.into_iter().collect())
}

/// A stored delivery, as support reads it.
#[derive(Debug)]
pub struct DeliveryRecord {
    /// Its id.
    pub id: Uuid,
    /// When we received it.
    pub received_at: Timestamp,
    /// The path of the hook.
    pub hook: String,
    /// The hook's provider.
    pub provider: String,
    /// The profile that it names, if that could be read.
    pub iccid: Option<Iccid>,
    /// Its outcome.
    pub outcome: Outcome,
    /// The reason for that outcome.
    pub reason: Option<String>,
    /// The sender's event id.
    pub event_id: Option<String>,
    /// A JSON object with the stored headers.
    pub headers: String,
    /// The raw body.
    pub body: Vec<u8>,
}

struct Row {
    id: Uuid,
    received_at: OffsetDateTime,
    hook: String,
    provider: String,
    iccid: Option<String>,
    outcome: String,
    reason: Option<String>,
    event_id: Option<String>,
    headers: String,
    body: Vec<u8>,
}

impl TryFrom<Row> for DeliveryRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            received_at: instant(row.received_at),
            hook: row.hook,
            provider: row.provider,
            iccid: parsed_option("iccid", row.iccid.as_deref(), Iccid::parse)?,
            outcome: parsed("outcome", &row.outcome, str::parse)?,
            reason: row.reason,
            event_id: row.event_id,
            headers: row.headers,
            body: row.body,
        })
    }
}

fn records(rows: Vec<Row>) -> Result<Vec<DeliveryRecord>, StoreError> {
    rows.into_iter().map(DeliveryRecord::try_from).collect()
}

/// How many deliveries [`newest`] reads.
const LOOKED_AT: i64 = 10_000;

/// The times of the newest deliveries.
#[derive(Debug)]
pub struct Newest {
    /// For each hook with a delivery among those read, the time of its newest, by the path of the hook.
    pub by_hook: HashMap<String, Timestamp>,
    /// The time of the oldest delivery read; `None` if there is no delivery at all.
    pub back_to: Option<Timestamp>,
}

/// Finds the newest delivery of each hook among the last 10,000 deliveries.
///
/// # Errors
/// [`StoreError`].
pub async fn newest(connection: &mut PgConnection) -> Result<Newest, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT hook AS "hook!", min(received_at) AS "oldest!", max(received_at) AS "newest!"
           FROM (SELECT hook, received_at FROM deliveries ORDER BY id DESC LIMIT $1) AS last
           GROUP BY hook"#,
        LOOKED_AT
    )
    .fetch_all(connection)
    .await?;
    let back_to = rows.iter().map(|row| row.oldest).min().map(instant);
    let by_hook = rows.into_iter().map(|row| (row.hook, instant(row.newest))).collect();
    Ok(Newest { by_hook, back_to })
}

/// Lists the deliveries about one profile that are older than `before`, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_of_profile(
    connection: &mut PgConnection,
    iccid: &Iccid,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, received_at, hook, provider, iccid, outcome, reason, event_id, headers::text AS "headers!", body
           FROM deliveries
           WHERE iccid = $1 AND ($2::uuid IS NULL OR id < $2)
           ORDER BY id DESC LIMIT $3"#,
        iccid.as_str(),
        before,
        limit
    )
    .fetch_all(connection)
    .await?;
    records(rows)
}

/// Lists the deliveries that were not applied and are older than `before`, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_not_applied(
    connection: &mut PgConnection,
    provider: Option<&str>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, received_at, hook, provider, iccid, outcome, reason, event_id, headers::text AS "headers!", body
           FROM deliveries
           WHERE outcome NOT IN ('moved', 'repeated')
             AND ($1::text IS NULL OR provider = $1) AND ($2::uuid IS NULL OR id < $2)
           ORDER BY id DESC LIMIT $3"#,
        provider,
        before,
        limit
    )
    .fetch_all(connection)
    .await?;
    records(rows)
}

/// Lists the deliveries with one outcome that are older than `before`, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_with_outcome(
    connection: &mut PgConnection,
    outcome: Outcome,
    provider: Option<&str>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<DeliveryRecord>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, received_at, hook, provider, iccid, outcome, reason, event_id, headers::text AS "headers!", body
           FROM deliveries
           WHERE outcome = $1 AND ($2::text IS NULL OR provider = $2) AND ($3::uuid IS NULL OR id < $3)
           ORDER BY id DESC LIMIT $4"#,
        outcome.as_str(),
        provider,
        before,
        limit
    )
    .fetch_all(connection)
    .await?;
    records(rows)
}
