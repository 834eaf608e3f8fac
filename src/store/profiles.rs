//! The table `profiles`: what we believe now.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::codec::{StoreError, datetime_option, instant, instant_option, parsed, parsed_option};
use super::columns::ProfileColumns;
use crate::domain::{Eid, Iccid, Imsi, Profile, ProfileState, Timestamp};

/// A profile with what its registration brought.
#[derive(Debug, Clone)]
pub struct StoredProfile {
    /// What we believe of it.
    pub profile: Profile,
    /// What its backend told us; `None` if it never registered the profile.
    pub registration: Option<Registration>,
}

/// What a backend told us about a profile, credentials aside.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The customer's identifier at the provider.
    pub uid: Option<String>,
    /// When the data package was activated; says nothing of the install.
    pub activated_at: Option<Timestamp>,
    /// When the provider last saw the profile.
    pub last_seen: Option<Timestamp>,
}

/// What to look profiles up by; every part that is given must hold.
#[derive(Debug, Default)]
pub struct Filter {
    /// The canonical state.
    pub state: Option<ProfileState>,
    /// The provider's slug.
    pub provider: Option<String>,
    /// The customer at the provider.
    pub uid: Option<String>,
    /// The subscription.
    pub imsi: Option<Imsi>,
    /// The device.
    pub eid: Option<Eid>,
    /// Changed or heard of at or after this time.
    pub updated_since: Option<Timestamp>,
}

struct Row {
    iccid: String,
    provider: String,
    state: String,
    enabled: Option<bool>,
    raw_state: String,
    imsi: Option<String>,
    eid: Option<String>,
    since: OffsetDateTime,
    seq: i64,
    installs_seen: i32,
    deliveries: i64,
    last_delivery_at: Option<OffsetDateTime>,
    last_occurred_at: Option<OffsetDateTime>,
    registered_at: Option<OffsetDateTime>,
    uid: Option<String>,
    activated_at: Option<OffsetDateTime>,
    last_seen: Option<OffsetDateTime>,
}

impl TryFrom<Row> for StoredProfile {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let profile = Profile {
            iccid: parsed("iccid", &row.iccid, Iccid::parse)?,
            provider: row.provider,
            state: parsed("state", &row.state, str::parse)?,
            enabled: row.enabled,
            raw_state: row.raw_state,
            imsi: parsed_option("imsi", row.imsi.as_deref(), Imsi::parse)?,
            eid: parsed_option("eid", row.eid.as_deref(), Eid::parse)?,
            since: instant(row.since),
            seq: row.seq,
            installs_seen: row.installs_seen,
            deliveries: row.deliveries,
            last_delivery_at: instant_option(row.last_delivery_at),
            last_occurred_at: instant_option(row.last_occurred_at),
        };
        let registration = row.registered_at.map(|_| Registration {
            uid: row.uid,
            activated_at: instant_option(row.activated_at),
            last_seen: instant_option(row.last_seen),
        });
        Ok(Self { profile, registration })
    }
}

fn stored(rows: Vec<Row>) -> Result<Vec<StoredProfile>, StoreError> {
    rows.into_iter().map(StoredProfile::try_from).collect()
}

/// Where a profile's row was and who wrote it, when it was read; any change of the row, by whomever, makes another version.
#[derive(Debug)]
pub struct Version {
    /// Which profile.
    pub iccid: String,
    /// The transaction that wrote it (`xmin`).
    pub xmin: i64,
    /// Where it is (`ctid`): found without a search, and checked by the others.
    pub ctid: String,
}

/// What webhooks look at and change of a row, with its version.
struct VersionedRow {
    iccid: String,
    provider: String,
    state: String,
    enabled: Option<bool>,
    raw_state: String,
    imsi: Option<String>,
    eid: Option<String>,
    since: OffsetDateTime,
    seq: i64,
    installs_seen: i32,
    deliveries: i64,
    last_delivery_at: Option<OffsetDateTime>,
    last_occurred_at: Option<OffsetDateTime>,
    xmin: i64,
    ctid: String,
}

fn versioned(rows: Vec<VersionedRow>) -> Result<Vec<(Profile, Version)>, StoreError> {
    let one = |row: VersionedRow| {
        let version = Version { iccid: row.iccid.clone(), xmin: row.xmin, ctid: row.ctid };
        let row = Row {
            iccid: row.iccid,
            provider: row.provider,
            state: row.state,
            enabled: row.enabled,
            raw_state: row.raw_state,
            imsi: row.imsi,
            eid: row.eid,
            since: row.since,
            seq: row.seq,
            installs_seen: row.installs_seen,
            deliveries: row.deliveries,
            last_delivery_at: row.last_delivery_at,
            last_occurred_at: row.last_occurred_at,
            registered_at: None,
            uid: None,
            activated_at: None,
            last_seen: None,
        };
        Ok((StoredProfile::try_from(row)?.profile, version))
    };
    rows.into_iter().map(one).collect()
}

/// Reads those of the profiles that exist, without a lock.
///
/// # Errors
/// [`StoreError`].
pub async fn read(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<(Profile, Version)>, StoreError> {
    let rows = sqlx::query_as!(
        VersionedRow,
        r#"SELECT iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries,
                  last_delivery_at, last_occurred_at, xmin::text::bigint AS "xmin!", ctid::text AS "ctid!"
           FROM profiles WHERE iccid = ANY($1)"#,
        iccids
    )
    .fetch_all(connection)
    .await?;
    versioned(rows)
}

/// Locks those of the profiles that exist and that nobody else has locked; never waits.
///
/// # Errors
/// [`StoreError`].
pub async fn lock_free(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<(Profile, Version)>, StoreError> {
    let rows = sqlx::query_as!(
        VersionedRow,
        r#"SELECT iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen, deliveries,
                  last_delivery_at, last_occurred_at, xmin::text::bigint AS "xmin!", ctid::text AS "ctid!"
           FROM profiles WHERE iccid = ANY($1) ORDER BY iccid FOR UPDATE SKIP LOCKED"#,
        iccids
    )
    .fetch_all(connection)
    .await?;
    versioned(rows)
}

/// Waits until it holds the locks of all the profiles that exist, in the order of their ICCIDs.
///
/// # Errors
/// [`StoreError`], also when the wait takes longer than a statement may.
pub async fn wait_for_locks(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"SELECT 1 AS "locked!" FROM profiles WHERE iccid = ANY($1) ORDER BY iccid FOR UPDATE"#,
        iccids
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Inserts new profiles and gives back the ICCIDs of those that were indeed new.
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

/// Finds those of the profiles that exist.
///
/// # Errors
/// [`StoreError`].
pub async fn find(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<Vec<StoredProfile>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                  deliveries, last_delivery_at, last_occurred_at, registered_at, uid, activated_at, last_seen
           FROM profiles WHERE iccid = ANY($1)"#,
        iccids
    )
    .fetch_all(connection)
    .await?;
    stored(rows)
}

/// Lists profiles in the order of their ICCIDs, from behind `after`.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    after: Option<&Iccid>,
    limit: i64,
) -> Result<Vec<StoredProfile>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                  deliveries, last_delivery_at, last_occurred_at, registered_at, uid, activated_at, last_seen
           FROM profiles
           WHERE ($1::text IS NULL OR state = $1)
             AND ($2::text IS NULL OR provider = $2)
             AND ($3::text IS NULL OR uid = $3)
             AND ($4::text IS NULL OR imsi = $4)
             AND ($5::text IS NULL OR upper(eid) = upper($5))
             AND ($6::timestamptz IS NULL OR updated_at >= $6)
             AND ($7::text IS NULL OR iccid > $7)
           ORDER BY iccid
           LIMIT $8"#,
        filter.state.map(ProfileState::as_str),
        filter.provider.as_deref(),
        filter.uid.as_deref(),
        filter.imsi.as_ref().map(Imsi::as_str),
        filter.eid.as_ref().map(Eid::as_str),
        datetime_option(filter.updated_since),
        after.map(Iccid::as_str),
        limit
    )
    .fetch_all(connection)
    .await?;
    stored(rows)
}

/// Saves what a registration brought to a profile whose lock is held.
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
           SET registered_at = $2, uid = $3, activated_at = $4, last_seen = $5, updated_at = now()
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
