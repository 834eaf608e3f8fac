//! The statement for several deliveries: a list for each column.

use sqlx::PgConnection;
use sqlx::types::time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::notes::ChangeColumns;
use super::tally::{self, CountColumns};
use super::{BatchWrite, Changed};
use crate::domain::{Country, Device, Eid, Imsi, Profile};
use crate::store::decode::datetime_option;
use crate::store::deliveries::DeliveryColumns;
use crate::store::erasures::ErasureKey;
use crate::store::error::StoreError;
use crate::store::notify::CHANNEL;
use crate::store::transitions::TransitionColumns;

/// See [`super::write_if_unchanged`].
#[expect(clippy::too_many_lines, reason = "one statement, with a line for each of its parameters")]
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    write: &BatchWrite<'_>,
) -> Result<bool, StoreError> {
    let changed =
        write.changed.iter().map(|&Changed { profile, revision, .. }| (profile, revision));
    let (mut profiles, revisions): (Vec<_>, Vec<_>) = changed.unzip();
    let changed =
        profiles.iter().zip(&revisions).map(|(profile, revision)| (&profile.iccid, revision));
    let unchanged = write.unchanged.iter().map(|(iccid, revision)| (*iccid, revision));
    let (read, read_revisions): (Vec<_>, Vec<_>) =
        changed.chain(unchanged).map(|(iccid, revision)| (iccid.as_str(), revision.0)).unzip();
    profiles.extend(&write.new);
    let is_new: Vec<_> = (0..profiles.len()).map(|index| index >= revisions.len()).collect();
    let new: Vec<_> = write.new.iter().map(|profile| profile.iccid.as_str()).collect();
    let hashes = write.absent.iter().map(|iccid| erasure_key.hash(iccid));
    let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
    let profile = ProfileColumns::of(&profiles);
    let transition = TransitionColumns::of(&write.transitions);
    let delivery = DeliveryColumns::of(&write.deliveries);
    let count = CountColumns::of(&tally::of(write));
    let change = ChangeColumns::of(write);
    let written = sqlx::query!(
        r#"WITH free AS (
               SELECT FROM profiles AS p JOIN UNNEST($1::text[], $2::bigint[]) AS r (iccid, revision)
                 ON p.iccid = r.iccid AND p.revision = r.revision
               WHERE p.iccid = ANY($1)
               FOR UPDATE OF p SKIP LOCKED
           ),
           unchanged AS MATERIALIZED (
               SELECT (SELECT count(*) FROM free) = cardinality($1::text[])
                      -- An erasure that is not committed yet still shows its profile.
                      AND NOT EXISTS (SELECT FROM profiles WHERE iccid = ANY($3::text[]))
                      AND NOT EXISTS (SELECT FROM erasures WHERE iccid_hmac = ANY($4::bytea[])) AS all
           ),
           given AS (
               SELECT * FROM UNNEST($5::text[], $6::text[], $7::text[], $8::boolean[], $9::text[], $10::text[], $11::text[],
                                    $12::timestamptz[], $13::bigint[], $14::integer[], $15::bigint[], $16::timestamptz[],
                                    $17::timestamptz[], $18::timestamptz[], $19::timestamptz[], $20::text[],
                                    $21::timestamptz[], $22::text[], $23::text[], $24::boolean[])
                    AS u (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                          deliveries, last_delivery_at, last_occurred_at, first_connected_at, last_connected_at,
                          country, ready_at, reached, device, is_new)
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           made AS (
               INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq,
                                     installs_seen, deliveries, last_delivery_at, last_occurred_at, first_connected_at,
                                     last_connected_at, country, ready_at, reached, device, updated_at)
               SELECT u.iccid, u.provider, u.state, u.enabled, u.raw_state, u.imsi, u.eid, u.since, u.seq,
                      u.installs_seen, u.deliveries, u.last_delivery_at, u.last_occurred_at, u.first_connected_at,
                      u.last_connected_at, u.country, u.ready_at, u.reached, u.device::jsonb, now()
               FROM given AS u WHERE u.is_new
               RETURNING 1
           ),
           saved AS (
               UPDATE profiles AS p
               SET provider = u.provider, state = u.state, enabled = u.enabled, raw_state = u.raw_state,
                   imsi = u.imsi, eid = u.eid, since = u.since, seq = u.seq, installs_seen = u.installs_seen,
                   deliveries = u.deliveries, last_delivery_at = u.last_delivery_at,
                   last_occurred_at = u.last_occurred_at, first_connected_at = u.first_connected_at,
                   last_connected_at = u.last_connected_at, country = u.country, ready_at = u.ready_at,
                   reached = u.reached, device = u.device::jsonb, updated_at = now(), revision = p.revision + 1
               FROM given AS u WHERE p.iccid = u.iccid AND p.iccid = ANY($5) AND NOT u.is_new
               RETURNING 1
           ),
           appended AS (
               INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, occurred_at,
                                        received_at, provider, delivery_id, source)
               SELECT t.* FROM UNNEST($25::text[], $26::bigint[], $27::text[], $28::text[], $29::boolean[],
                                      $30::text[], $31::text[], $32::timestamptz[], $33::timestamptz[], $34::text[],
                                      $35::uuid[], $36::text[]) AS t
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           stored AS (
               INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, reason, event_id, headers,
                                       body)
               SELECT d.id, d.received_at, d.hook, d.provider, d.iccid, d.outcome, d.reason, d.event_id,
                      d.headers::jsonb, d.body
               FROM UNNEST($37::uuid[], $38::timestamptz[], $39::text[], $40::text[], $41::text[], $42::text[],
                           $43::text[], $44::text[], $45::text[], $46::bytea[])
                    AS d (id, received_at, hook, provider, iccid, outcome, reason, event_id, headers, body)
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           counted AS (
               INSERT INTO count_changes (provider, day, outcome, from_state, to_state, n, ready_on, milestones, took)
               SELECT c.* FROM UNNEST($47::text[], $48::date[], $49::text[], $50::text[], $51::text[], $52::bigint[], $53::date[],
                                      $54::smallint[], $55::smallint[]) AS c
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           noted AS (
               INSERT INTO new_changes (iccid, seq, kind, at)
               SELECT c.* FROM UNNEST($56::text[], $57::bigint[], $58::text[], $59::timestamptz[]) AS c
               WHERE (SELECT unchanged.all FROM unchanged)
           )
           SELECT -- NOTIFY takes a lock at the commit that all transactions that notify share. That wait must not end by
                  -- lock_timeout, so that is off from here on. `made` and `saved`, which may wait for a row, run before, because
                  -- their counts are in FROM; the other parts run last, because nothing reads from them. They only append.
                  set_config('lock_timeout', '0', true) AS "lock_timeout!",
                  unchanged.all AS "written!",
                  CASE WHEN unchanged.all AND $61::text IS NOT NULL THEN pg_notify($60, $61) END IS NULL AS "notified!"
           FROM unchanged, (SELECT count(*) FROM made) AS m, (SELECT count(*) FROM saved) AS s"#,
        // The profiles that must be as they were read: $1, $2.
        &read as &[&str],
        &read_revisions,
        // The profiles that must not exist, nor be erased: $3, $4.
        &new as &[&str],
        &hashes,
        // The profiles to change or create: $5 to $24.
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
        &profile.first_connected_at as &[Option<OffsetDateTime>],
        &profile.last_connected_at as &[Option<OffsetDateTime>],
        &profile.country as &[Option<&str>],
        &profile.ready_at as &[Option<OffsetDateTime>],
        &profile.reached as &[Option<&str>],
        &profile.device as &[Option<String>],
        &is_new,
        // Their transitions: $25 to $36.
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
        &transition.source as &[Option<&str>],
        // The deliveries: $37 to $46.
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
        // The counts: $47 to $55.
        &count.provider as &[&str],
        &count.day as &[Option<Date>],
        &count.outcome as &[Option<&str>],
        &count.from_state as &[Option<&str>],
        &count.to_state as &[Option<&str>],
        &count.n,
        &count.ready_on as &[Option<Date>],
        &count.milestones as &[Option<i16>],
        &count.took as &[Option<i16>],
        // The notes for followers of all changes: $56 to $59.
        &change.iccid as &[&str],
        &change.seq,
        &change.kind as &[&str],
        &change.at as &[OffsetDateTime],
        // The notification: $60, $61.
        CHANNEL,
        write.notification(),
    )
    .fetch_one(connection)
    .await?;
    Ok(written.written)
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
    first_connected_at: Vec<Option<OffsetDateTime>>,
    last_connected_at: Vec<Option<OffsetDateTime>>,
    country: Vec<Option<&'a str>>,
    ready_at: Vec<Option<OffsetDateTime>>,
    reached: Vec<Option<&'a str>>,
    device: Vec<Option<String>>,
}

impl<'a> ProfileColumns<'a> {
    fn of(profiles: &[&'a Profile]) -> Self {
        let each = || profiles.iter();
        let connections = || profiles.iter().map(|p| &p.connections);
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
            first_connected_at: connections()
                .map(|e| datetime_option(e.first_connected_at))
                .collect(),
            last_connected_at: connections()
                .map(|e| datetime_option(e.last_connected_at))
                .collect(),
            country: connections().map(|e| e.country.as_ref().map(Country::as_str)).collect(),
            ready_at: each()
                .map(|p| datetime_option(p.headway.map(|headway| headway.ready_at)))
                .collect(),
            reached: each().map(|p| p.headway.map(|headway| headway.reached.as_str())).collect(),
            device: each().map(|p| p.device.as_ref().map(Device::to_json)).collect(),
        }
    }
}
