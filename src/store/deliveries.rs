//! The table `deliveries`: every authentic webhook request and its outcome.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::error::StoreError;
use crate::domain::{Iccid, Outcome, Timestamp};

/// The reason of a delivery that was kept as `unrecognised` because it could not be applied, which is not the sender's fault.
pub const UNAPPLIED: &str = "it could not be applied; the log of the service says why. Once that is fixed, `esim-status reread` applies it";

/// The reason of a `duplicate` whose body is another one than that which came first with its event id.
pub const REUSED_EVENT_ID: &str = "the event id was seen before with other content";

/// The end of the reason of a connection that was `ignored` because its profile was not known.
pub const UNPLACED: &str = "the profile that is connected is not known";

/// Whether this is the reason of a delivery that was kept because it could not be applied.
pub fn is_unapplied(reason: Option<&str>) -> bool {
    reason == Some(UNAPPLIED)
}

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

/// New rows, one array for each column, as `UNNEST` expects them.
pub(super) struct DeliveryColumns<'a> {
    pub id: Vec<Uuid>,
    pub received_at: Vec<OffsetDateTime>,
    pub hook: Vec<&'a str>,
    pub provider: Vec<&'a str>,
    pub iccid: Vec<Option<&'a str>>,
    pub outcome: Vec<&'a str>,
    pub reason: Vec<Option<&'a str>>,
    pub event_id: Vec<Option<&'a str>>,
    pub headers: Vec<&'a str>,
    pub body: Vec<&'a [u8]>,
}

impl<'a> DeliveryColumns<'a> {
    pub fn of(deliveries: &'a [NewDelivery<'a>]) -> Self {
        let each = || deliveries.iter();
        Self {
            id: each().map(|d| d.id).collect(),
            received_at: each().map(|d| d.received_at.as_datetime()).collect(),
            hook: each().map(|d| d.hook).collect(),
            provider: each().map(|d| d.provider).collect(),
            iccid: each().map(|d| d.iccid.map(Iccid::as_str)).collect(),
            outcome: each().map(|d| d.outcome.as_str()).collect(),
            reason: each().map(|d| d.reason).collect(),
            event_id: each().map(|d| d.event_id).collect(),
            headers: each().map(|d| d.headers).collect(),
            body: each().map(|d| d.body).collect(),
        }
    }
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

impl DeliveryRecord {
    /// Whether it was kept because it could not be applied.
    pub fn is_unapplied(&self) -> bool {
        is_unapplied(self.reason.as_deref())
    }
}

/// Selects deliveries, with the rest of the statement behind.
macro_rules! select_deliveries {
    ($rest:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            DeliveryRecord,
            r#"SELECT id, received_at AS "received_at: Timestamp", hook, provider, iccid AS "iccid: Iccid",
                      outcome AS "outcome: Outcome", reason, event_id, headers::text AS "headers!", body
               FROM deliveries "# + $rest,
            $($argument),+
        )
    };
}
pub(super) use select_deliveries;

/// Deletes deliveries, which the rest of the statement chooses as `d`, and counts them no more. Returns how many they were.
macro_rules! delete_deliveries {
    ($chosen:literal, $($argument:expr),+ $(,)?) => {
        sqlx::query_scalar!(
            "WITH gone AS (DELETE FROM deliveries AS d " + $chosen + r#" RETURNING d.provider, d.received_at, d.outcome),
                  counted AS (
                      INSERT INTO count_changes (provider, day, outcome, n)
                      SELECT provider, (received_at AT TIME ZONE 'UTC')::date, outcome, -count(*) FROM gone GROUP BY 1, 2, 3
                  )
             SELECT count(*) AS "gone!" FROM gone"#,
            $($argument),+
        )
    };
}
pub(super) use delete_deliveries;

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
        r#"SELECT hook AS "hook!", min(received_at) AS "oldest!: Timestamp", max(received_at) AS "newest!: Timestamp"
           FROM (SELECT hook, received_at FROM deliveries ORDER BY id DESC LIMIT $1) AS last
           GROUP BY hook"#,
        LOOKED_AT
    )
    .fetch_all(connection)
    .await?;
    let back_to = rows.iter().map(|row| row.oldest).min();
    let by_hook = rows.into_iter().map(|row| (row.hook, row.newest)).collect();
    Ok(Newest { by_hook, back_to })
}

/// Whether this provider has told of a connection within the days that are counted.
///
/// # Errors
/// [`StoreError`].
pub async fn tells_of_connections(
    connection: &mut PgConnection,
    provider: &str,
) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar!(
        // From the counts: the deliveries themselves would be searched through in vain for a provider that never tells, if another
        // one does.
        r#"SELECT EXISTS (SELECT FROM delivery_counts WHERE provider = $1 AND outcome = 'connected' AND deliveries > 0)
               OR EXISTS (SELECT FROM count_changes WHERE provider = $1 AND outcome = 'connected' AND n > 0) AS "it!""#,
        provider
    );
    Ok(found.fetch_one(connection).await?)
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
    let found = select_deliveries!(
        "WHERE iccid = $1 AND ($2::uuid IS NULL OR id < $2)
         ORDER BY id DESC LIMIT $3",
        iccid.as_str(),
        before,
        limit
    );
    Ok(found.fetch_all(connection).await?)
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
    let found = select_deliveries!(
        "WHERE outcome NOT IN ('moved', 'repeated', 'connected')
           AND ($1::text IS NULL OR provider = $1) AND ($2::uuid IS NULL OR id < $2)
         ORDER BY id DESC LIMIT $3",
        provider,
        before,
        limit
    );
    Ok(found.fetch_all(connection).await?)
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
    let found = select_deliveries!(
        "WHERE outcome = $1 AND ($2::text IS NULL OR provider = $2) AND ($3::uuid IS NULL OR id < $3)
         ORDER BY id DESC LIMIT $4",
        outcome.as_str(),
        provider,
        before,
        limit
    );
    Ok(found.fetch_all(connection).await?)
}

/// What identifies a delivery without its content.
#[derive(Debug)]
pub struct Digest {
    /// The path of the hook.
    pub hook: String,
    /// The sender's event id.
    pub event_id: Option<String>,
    /// The SHA-256 of the raw body.
    pub body_sha256: Vec<u8>,
}

/// A delivery that caused no transition.
#[derive(Debug)]
pub struct Uneventful {
    /// Its id.
    pub id: Uuid,
    /// When we received it.
    pub received_at: Timestamp,
    /// The hook's provider.
    pub provider: String,
    /// Its outcome.
    pub outcome: Outcome,
    /// The reason for that outcome.
    pub reason: Option<String>,
    /// What identifies it.
    pub digest: Digest,
}

/// Lists the last `limit` deliveries about a profile that caused no transition, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_uneventful(
    connection: &mut PgConnection,
    iccid: &Iccid,
    limit: i64,
) -> Result<Vec<Uneventful>, StoreError> {
    let rows = sqlx::query!(
        // The inner query has the limit, so only the bodies that it finds are hashed.
        r#"SELECT id, received_at AS "received_at: Timestamp", hook, provider, outcome AS "outcome: Outcome", reason,
                  event_id, sha256(body) AS "body_sha256!"
           FROM (SELECT * FROM deliveries AS d
                 WHERE iccid = $1
                   AND NOT EXISTS (SELECT FROM transitions AS t WHERE t.iccid = $1 AND t.delivery_id = d.id)
                 ORDER BY id DESC LIMIT $2) AS last
           ORDER BY id"#,
        iccid.as_str(),
        limit
    )
    .fetch_all(connection)
    .await?;
    let each = rows.into_iter().map(|row| Uneventful {
        id: row.id,
        received_at: row.received_at,
        provider: row.provider,
        outcome: row.outcome,
        reason: row.reason,
        digest: Digest { hook: row.hook, event_id: row.event_id, body_sha256: row.body_sha256 },
    });
    Ok(each.collect())
}

/// The id below those of all deliveries that were received at this time or later.
pub(super) fn first_id(received_at: Timestamp) -> Uuid {
    let millis = received_at.as_datetime().unix_timestamp_nanos() / 1_000_000;
    Uuid::from_u128(u128::try_from(millis).unwrap_or_default() << 80)
}
