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
    let hashes = write.not_erased.iter().map(|iccid| erasure_key.hash(iccid));
    let hashes = hashes.collect::<Result<Vec<_>, _>>()?;
    let profile = ProfileColumns::of(&profiles);
    let transition = TransitionColumns::of(&write.transitions);
    let delivery = DeliveryColumns::of(&write.deliveries);
    let count = CountColumns::of(&tally::of(write));
    let change = ChangeColumns::of(write);
    let written = sqlx::query!(
        r#"WITH free AS (
               SELECT FROM profiles AS p JOIN UNNEST($39::text[], $40::bigint[]) AS r (iccid, revision)
                 ON p.iccid = r.iccid AND p.revision = r.revision
               WHERE p.iccid = ANY($39)
               FOR UPDATE OF p SKIP LOCKED
           ),
           unchanged AS MATERIALIZED (
               SELECT (SELECT count(*) FROM free) = cardinality($39::text[])
                      -- An erasure that is not committed yet still shows its profile.
                      AND NOT EXISTS (SELECT FROM profiles WHERE iccid = ANY($41::text[]))
                      AND NOT EXISTS (SELECT FROM erasures WHERE iccid_hmac = ANY($42::bytea[])) AS all
           ),
           given AS (
               SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[],
                                    $7::text[], $8::timestamptz[], $9::bigint[], $10::integer[], $11::bigint[],
                                    $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[], $16::text[],
                                    $17::boolean[], $52::timestamptz[], $53::text[], $61::text[])
                    AS u (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                          deliveries, last_delivery_at, last_occurred_at, first_connected_at, last_connected_at,
                          country, is_new, ready_at, reached, device)
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
               FROM given AS u WHERE p.iccid = u.iccid AND p.iccid = ANY($1) AND NOT u.is_new
               RETURNING 1
           ),
           appended AS (
               INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, occurred_at,
                                        received_at, provider, delivery_id, source)
               SELECT t.* FROM UNNEST($18::text[], $19::bigint[], $20::text[], $21::text[], $22::boolean[],
                                      $23::text[], $24::text[], $25::timestamptz[], $26::timestamptz[], $27::text[],
                                      $28::uuid[], $51::text[]) AS t
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           kept AS (
               INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, reason, event_id, headers,
                                       body)
               SELECT d.id, d.received_at, d.hook, d.provider, d.iccid, d.outcome, d.reason, d.event_id,
                      d.headers::jsonb, d.body
               FROM UNNEST($29::uuid[], $30::timestamptz[], $31::text[], $32::text[], $33::text[], $34::text[],
                           $35::text[], $36::text[], $37::text[], $38::bytea[])
                    AS d (id, received_at, hook, provider, iccid, outcome, reason, event_id, headers, body)
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           counted AS (
               INSERT INTO count_changes (provider, day, outcome, from_state, to_state, n, ready_on, milestones, took)
               SELECT c.* FROM UNNEST($45::text[], $46::date[], $47::text[], $48::text[], $49::text[], $50::bigint[], $54::date[],
                                      $55::smallint[], $56::smallint[]) AS c
               WHERE (SELECT unchanged.all FROM unchanged)
           ),
           followed AS (
               INSERT INTO new_changes (iccid, seq, kind, at)
               SELECT c.* FROM UNNEST($57::text[], $58::bigint[], $59::text[], $60::timestamptz[]) AS c
               WHERE (SELECT unchanged.all FROM unchanged)
           )
           SELECT -- From here on only the commit waits, for its turn to notify: no lock timeout may end that. The profiles
                  -- are written before, because their counts are in FROM: what nothing refers to is executed last.
                  set_config('lock_timeout', '0', true) AS "lock_timeout!",
                  unchanged.all AS "written!",
                  CASE WHEN unchanged.all AND $44::text IS NOT NULL THEN pg_notify($43, $44) END IS NULL AS "notified!"
           FROM unchanged, (SELECT count(*) FROM made) AS m, (SELECT count(*) FROM saved) AS s"#,
        // The profiles to change or create: $1 to $17.
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
        &is_new,
        // Their transitions: $18 to $28.
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
        // The deliveries: $29 to $38.
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
        // The profiles that must be as they were read: $39, $40.
        &read as &[&str],
        &read_revisions,
        // The profiles that must not exist, nor be erased: $41, $42.
        &new as &[&str],
        &hashes,
        // The notification: $43, $44.
        CHANNEL,
        write.notification(),
        // The counts: $45 to $50.
        &count.provider as &[&str],
        &count.day as &[Option<Date>],
        &count.outcome as &[Option<&str>],
        &count.from_state as &[Option<&str>],
        &count.to_state as &[Option<&str>],
        &count.n,
        // Where the transitions come from: $51.
        &transition.source as &[Option<&str>],
        // How far the profiles have come: $52, $53.
        &profile.ready_at as &[Option<OffsetDateTime>],
        &profile.reached as &[Option<&str>],
        // The rest of the counts: $54 to $56.
        &count.ready_on as &[Option<Date>],
        &count.milestones as &[Option<i16>],
        &count.took as &[Option<i16>],
        // The notes for followers of all changes: $57 to $60.
        &change.iccid as &[&str],
        &change.seq,
        &change.kind as &[&str],
        &change.at as &[OffsetDateTime],
        // What kind of device they are on: $61.
        &profile.device as &[Option<String>],
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
            ready_at: each().map(|p| datetime_option(p.way.map(|way| way.ready_at))).collect(),
            reached: each().map(|p| p.way.map(|way| way.reached.as_str())).collect(),
            device: each().map(|p| p.device.as_ref().map(Device::to_json)).collect(),
        }
    }
}
