//! Writes a whole batch in one statement, if its profiles have not changed since they were read. Outside a transaction
//! the statement commits by itself, so a batch takes two round trips, one to read and one to write. A transaction takes
//! several more. Round trips are most of the cost of a delivery that comes alone.

use std::collections::HashSet;

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::decode::datetime_option;
use super::deliveries::{DeliveryColumns, NewDelivery};
use super::erasures::ErasureKey;
use super::error::StoreError;
use super::notify::{self, CHANNEL};
use super::profiles::Version;
use super::transitions::{NewTransition, TransitionColumns};
use crate::domain::{Eid, Iccid, Imsi, Profile};

/// What to write, and what must be unchanged for that.
#[derive(Debug)]
pub struct BatchWrite<'a> {
    /// The profiles to change: their new state, and the version that was read.
    pub changed: Vec<(&'a Profile, &'a Version)>,
    /// The profiles that were judged but do not change.
    pub unchanged: Vec<&'a Version>,
    /// The profiles to create, sorted by ICCID, so that two transactions that create the same ones cannot deadlock.
    pub new: Vec<&'a Profile>,
    /// The profiles that the batch names and that were not read, whether created or not, without those that are known to
    /// be erased: none of them may have been erased.
    pub not_erased: Vec<&'a Iccid>,
    /// The transitions of these profiles.
    pub transitions: Vec<NewTransition<'a>>,
    /// All deliveries of the batch.
    pub deliveries: Vec<NewDelivery<'a>>,
}

impl BatchWrite<'_> {
    /// The profiles of `not_erased`: they were not read, and not known to be erased.
    pub fn absent(&self) -> HashSet<Iccid> {
        self.not_erased.iter().map(|iccid| (*iccid).clone()).collect()
    }
}

/// Writes all or nothing, and returns whether it wrote. It writes nothing if a profile changed since it was read, is
/// locked by another transaction, was erased, or is to be created but exists.
///
/// Never waits for an existing row. It does wait for a concurrent insert of the same ICCID. If that commits, this returns
/// `false`, and a transaction around it can only be rolled back.
///
/// Outside a transaction, the statement commits by itself. An error that the server did not report then leaves open
/// whether it committed.
///
/// # Errors
/// [`StoreError`].
#[expect(clippy::too_many_lines, reason = "one statement, with a line for each of its parameters")]
pub async fn write_if_unchanged(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    write: &BatchWrite<'_>,
) -> Result<bool, StoreError> {
    let (mut profiles, versions): (Vec<_>, Vec<_>) = write.changed.iter().copied().unzip();
    profiles.extend(&write.new);
    let read = || versions.iter().chain(&write.unchanged);
    let iccids: Vec<_> = read().map(|version| version.iccid.as_str()).collect();
    // sqlx has no type for `xid`. Postgres compares it with an `integer` of the same bits.
    let xmins: Vec<_> = read().map(|version| version.xmin.cast_signed()).collect();
    let places: Vec<_> = read().map(|version| version.ctid.as_str()).collect();
    let is_new = write.new.iter().map(|_| None);
    let changed_places: Vec<_> =
        versions.iter().map(|version| Some(version.ctid.as_str())).chain(is_new).collect();
    let new: Vec<_> = write.new.iter().map(|profile| profile.iccid.as_str()).collect();
    let hashes = write.not_erased.iter().map(|iccid| erasure_key.hash(iccid));
    let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
    let profile = ProfileColumns::of(&profiles);
    let transition = TransitionColumns::of(&write.transitions);
    let delivery = DeliveryColumns::of(&write.deliveries);
    let moved = notify::payload(write.transitions.iter().map(|it| it.iccid));
    let written = sqlx::query!(
        r#"WITH free AS (
               SELECT FROM UNNEST($36::text[], $37::integer[], $38::text[]) AS r (iccid, xmin, ctid)
               JOIN profiles AS p
                 ON p.ctid = r.ctid::tid AND p.iccid = r.iccid AND p.xmin = r.xmin
               FOR UPDATE OF p SKIP LOCKED
           ),
           unchanged AS MATERIALIZED (
               SELECT (SELECT count(*) FROM free) = cardinality($36::text[])
                      -- An erasure that is not committed yet still shows its profile.
                      AND NOT EXISTS (SELECT FROM profiles WHERE iccid = ANY($39::text[]))
                      AND NOT EXISTS (SELECT FROM erasures WHERE iccid_hmac = ANY($40::bytea[])) AS all
           ),
           given AS (
               SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[],
                                    $7::text[], $8::timestamptz[], $9::bigint[], $10::integer[], $11::bigint[],
                                    $12::timestamptz[], $13::timestamptz[], $14::text[])
                    AS u (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                          deliveries, last_delivery_at, last_occurred_at, ctid)
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           made AS (
               INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq,
                                     installs_seen, deliveries, last_delivery_at, last_occurred_at, updated_at)
               SELECT u.iccid, u.provider, u.state, u.enabled, u.raw_state, u.imsi, u.eid, u.since, u.seq,
                      u.installs_seen, u.deliveries, u.last_delivery_at, u.last_occurred_at, now()
               FROM given AS u WHERE u.ctid IS NULL
               RETURNING 1
           ),
           saved AS (
               UPDATE profiles AS p
               SET provider = u.provider, state = u.state, enabled = u.enabled, raw_state = u.raw_state,
                   imsi = u.imsi, eid = u.eid, since = u.since, seq = u.seq, installs_seen = u.installs_seen,
                   deliveries = u.deliveries, last_delivery_at = u.last_delivery_at,
                   last_occurred_at = u.last_occurred_at, updated_at = now()
               FROM given AS u WHERE p.ctid = u.ctid::tid AND p.iccid = u.iccid
               RETURNING 1
           ),
           appended AS (
               INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, occurred_at,
                                        received_at, provider, delivery_id)
               SELECT t.* FROM UNNEST($15::text[], $16::bigint[], $17::text[], $18::text[], $19::boolean[],
                                      $20::text[], $21::text[], $22::timestamptz[], $23::timestamptz[], $24::text[],
                                      $25::uuid[]) AS t
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           kept AS (
               INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, reason, event_id, headers,
                                       body)
               SELECT d.id, d.received_at, d.hook, d.provider, d.iccid, d.outcome, d.reason, d.event_id,
                      d.headers::jsonb, d.body
               FROM UNNEST($26::uuid[], $27::timestamptz[], $28::text[], $29::text[], $30::text[], $31::text[],
                           $32::text[], $33::text[], $34::text[], $35::bytea[])
                    AS d (id, received_at, hook, provider, iccid, outcome, reason, event_id, headers, body)
               WHERE (SELECT unchanged.all FROM unchanged)
           )
           SELECT -- From here on only the commit waits, for its turn to notify: no lock timeout may end that. The profiles
                  -- are written before, because their counts are in FROM: what nothing refers to is executed last.
                  set_config('lock_timeout', '0', true) AS "lock_timeout!",
                  unchanged.all AS "written!",
                  CASE WHEN unchanged.all AND $42::text IS NOT NULL THEN pg_notify($41, $42) END IS NULL AS "notified!"
           FROM unchanged, (SELECT count(*) FROM made) AS m, (SELECT count(*) FROM saved) AS s"#,
        // The profiles to change or create: $1 to $14.
        &profile.iccid as &[&str],
        &profile.provider as &[&str],
        &profile.state as &[&str],
        &profile.enabled as &[Option<bool>],
        &profile.raw_state as &[&str],
        &profile.imsi as &[Option<&str>],
        &profile.eid as &[Option<&str>],
        &profile.since as &[OffsetDateTime],
        &profile.seq,
        &profile.installs_seen,
        &profile.deliveries,
        &profile.last_delivery_at as &[Option<OffsetDateTime>],
        &profile.last_occurred_at as &[Option<OffsetDateTime>],
        &changed_places as &[Option<&str>],
        // Their transitions: $15 to $25.
        &transition.iccid as &[&str],
        &transition.seq,
        &transition.from_state as &[Option<&str>],
        &transition.to_state as &[&str],
        &transition.enabled as &[Option<bool>],
        &transition.raw_state as &[&str],
        &transition.kind as &[&str],
        &transition.occurred_at as &[Option<OffsetDateTime>],
        &transition.received_at as &[OffsetDateTime],
        &transition.provider as &[&str],
        &transition.delivery as &[Option<Uuid>],
        // The deliveries: $26 to $35.
        &delivery.id,
        &delivery.received_at as &[OffsetDateTime],
        &delivery.hook as &[&str],
        &delivery.provider as &[&str],
        &delivery.iccid as &[Option<&str>],
        &delivery.outcome as &[&str],
        &delivery.reason as &[Option<&str>],
        &delivery.event_id as &[Option<&str>],
        &delivery.headers as &[&str],
        &delivery.body as &[&[u8]],
        // The versions that must still be there: $36 to $38.
        &iccids as &[&str],
        &xmins,
        &places as &[&str],
        // The profiles that must not exist, nor be erased: $39, $40.
        &new as &[&str],
        &hashes,
        // The notification: $41, $42.
        CHANNEL,
        moved,
    )
    .fetch_one(connection)
    .await;
    match written {
        Ok(row) => Ok(row.written),
        Err(error) if is_of_another_creation(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether another transaction has created one of the new profiles while this statement ran.
fn is_of_another_creation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.constraint() == Some("profiles_pkey"))
}

/// The columns of `profiles` that are written here, one array for each, as `UNNEST` expects them.
struct ProfileColumns<'a> {
    iccid: Vec<&'a str>,
    provider: Vec<&'a str>,
    state: Vec<&'a str>,
    enabled: Vec<Option<bool>>,
    raw_state: Vec<&'a str>,
    imsi: Vec<Option<&'a str>>,
    eid: Vec<Option<&'a str>>,
    since: Vec<OffsetDateTime>,
    seq: Vec<i64>,
    installs_seen: Vec<i32>,
    deliveries: Vec<i64>,
    last_delivery_at: Vec<Option<OffsetDateTime>>,
    last_occurred_at: Vec<Option<OffsetDateTime>>,
}

impl<'a> ProfileColumns<'a> {
    fn of(profiles: &[&'a Profile]) -> Self {
        let each = || profiles.iter();
        Self {
            iccid: each().map(|p| p.iccid.as_str()).collect(),
            provider: each().map(|p| p.provider.as_str()).collect(),
            state: each().map(|p| p.state.as_str()).collect(),
            enabled: each().map(|p| p.enabled).collect(),
            raw_state: each().map(|p| p.raw_state.as_str()).collect(),
            imsi: each().map(|p| p.imsi.as_ref().map(Imsi::as_str)).collect(),
            eid: each().map(|p| p.eid.as_ref().map(Eid::as_str)).collect(),
            since: each().map(|p| p.since.as_datetime()).collect(),
            seq: each().map(|p| p.seq).collect(),
            installs_seen: each().map(|p| p.installs_seen).collect(),
            deliveries: each().map(|p| p.deliveries).collect(),
            last_delivery_at: each().map(|p| datetime_option(p.last_delivery_at)).collect(),
            last_occurred_at: each().map(|p| datetime_option(p.last_occurred_at)).collect(),
        }
    }
}
