//! The statements for a single delivery, or for a registration: plain values, and every part filtered by the one ICCID.

use sqlx::PgConnection;

use super::BatchWrite;
use super::tally::{self, CountChange};
use crate::domain::{Country, Device, Eid, Iccid, Imsi, Profile, ProfileState, Source};
use crate::store::decode::datetime_option;
use crate::store::deliveries::NewDelivery;
use crate::store::erasures::ErasureKey;
use crate::store::error::StoreError;
use crate::store::notify::CHANNEL;
use crate::store::profiles::Revision;
use crate::store::transitions::NewTransition;

/// What one delivery or one registration writes.
#[derive(Debug)]
pub(super) struct One<'a> {
    profile: ProfileWrite<'a>,
    transition: Option<&'a NewTransition<'a>>,
    delivery: Option<&'a NewDelivery<'a>>,
    notification: Option<String>,
    count: Option<CountChange<'a>>,
    /// The profile, if it has a new connection.
    connected: Option<&'a Profile>,
}

/// What becomes of the profile.
#[derive(Debug)]
enum ProfileWrite<'a> {
    Saved(&'a Profile, Revision),
    /// The hash must not be in `erasures`. `None` if the profile is known to be erased.
    Created(&'a Profile, Option<Vec<u8>>),
    /// It must be as it was read.
    Unchanged(&'a Iccid, Revision),
    /// It must not exist, and the hash must not be in `erasures`.
    Absent(&'a Iccid, Vec<u8>),
    /// The delivery names no profile, or an erased one.
    None,
}

/// The write as that of one delivery; `None` if it is more than that.
///
/// # Errors
/// [`StoreError`], if it is not known yet how ICCIDs are hashed.
pub(super) fn of<'a>(
    write: &'a BatchWrite<'a>,
    erasure_key: &ErasureKey,
) -> Result<Option<One<'a>>, StoreError> {
    let BatchWrite { changed, unchanged, new, absent, transitions, deliveries, .. } = write;
    let connected = write.connected_profiles().next();
    let profile = match (&changed[..], &unchanged[..], &new[..], &absent[..]) {
        ([it], [], [], []) => ProfileWrite::Saved(it.profile, it.revision),
        ([], [(iccid, revision)], [], []) => ProfileWrite::Unchanged(iccid, *revision),
        ([], [], [profile], []) => ProfileWrite::Created(profile, None),
        ([], [], [profile], [iccid]) => {
            ProfileWrite::Created(profile, Some(erasure_key.hash(iccid)?))
        }
        ([], [], [], [iccid]) => ProfileWrite::Absent(iccid, erasure_key.hash(iccid)?),
        ([], [], [], []) => ProfileWrite::None,
        _ => return Ok(None),
    };
    let (transition, delivery) = match (&transitions[..], &deliveries[..]) {
        (transition @ ([] | [_]), delivery @ ([] | [_])) => (transition.first(), delivery.first()),
        _ => return Ok(None),
    };
    let notification = write.notification();
    let count = match tally::of(write)[..] {
        [] => None,
        [one @ CountChange { n: 1, .. }] => Some(one),
        _ => return Ok(None),
    };
    Ok(Some(One { profile, transition, delivery, notification, count, connected }))
}

/// See [`super::write_if_unchanged`].
pub(super) async fn write(
    connection: &mut PgConnection,
    one: &One<'_>,
) -> Result<bool, StoreError> {
    match &one.profile {
        ProfileWrite::Saved(profile, revision) => save(connection, profile, *revision, one).await,
        ProfileWrite::Created(profile, hash) => {
            create(connection, profile, hash.as_deref(), one).await
        }
        ProfileWrite::Unchanged(iccid, revision) => {
            store_beside(connection, iccid, *revision, one).await
        }
        ProfileWrite::Absent(iccid, hash) => {
            store_alone(connection, iccid.as_str(), Some(hash), one).await
        }
        ProfileWrite::None => store_alone(connection, "", None, one).await,
    }
}

/// A statement that first writes or checks the profile, in a part named `written`, and then its transition and its delivery. The
/// parameters $1 to $33 are the same in each; those of the part itself follow. Returns a row only if it has written.
macro_rules! write_one {
    ($written:literal, $iccid:expr, $one:expr $(, $argument:expr)* $(,)?) => {{
        let (transition, delivery, count) = ($one.transition, $one.delivery, $one.count);
        let connected = $one.connected;
        let moved = transition.map(|it| it.transition);
        sqlx::query!(
            "WITH " + $written + r#",
             appended AS (
                 INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, occurred_at,
                                          received_at, provider, delivery_id, source)
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM written WHERE $2::bigint IS NOT NULL
             ),
             stored AS (
                 INSERT INTO deliveries (iccid, id, received_at, hook, provider, outcome, reason, event_id, headers, body)
                 SELECT $13, $14, $15, $16, $17, $18, $19, $20, $21::text::jsonb, $22
                 FROM written WHERE $14::uuid IS NOT NULL
             ),
             counted AS (
                 INSERT INTO count_changes (provider, day, outcome, from_state, to_state, ready_on, milestones, took, n)
                 SELECT $23, $24, $18, $25, $26, $27, $28, $29, 1 FROM written WHERE $23::text IS NOT NULL
             ),
             noted AS (
                 INSERT INTO new_changes (iccid, seq, kind, at)
                 SELECT $1, c.seq, c.kind, c.at
                 FROM written, (VALUES ($2, 'transition', $9), ($30::bigint, 'evidence', $31::timestamptz)) AS c (seq, kind, at)
                 WHERE c.seq IS NOT NULL
             )
             SELECT -- NOTIFY takes a lock at the commit that all transactions that notify share. That wait must not end by
                    -- lock_timeout, so that is off from here on. `written`, which may wait for a row, runs before, because it is
                    -- in FROM; the other parts run last, because nothing reads from them. They only append.
                    set_config('lock_timeout', '0', true) AS "lock_timeout!",
                    CASE WHEN $33::text IS NOT NULL THEN pg_notify($32, $33) END IS NULL AS "notified!"
             FROM written"#,
            $iccid,
            // Its transition: $2 to $12.
            moved.map(|it| it.seq),
            moved.and_then(|it| it.from_state).map(ProfileState::as_str),
            moved.map(|it| it.to_state.as_str()),
            moved.and_then(|it| it.enabled),
            moved.map(|it| it.raw_state.as_str()),
            moved.map(|it| it.kind.as_str()),
            moved.and_then(|it| datetime_option(it.occurred_at)),
            moved.map(|it| it.received_at.as_datetime()),
            moved.map(|it| it.provider.as_str()),
            transition.and_then(|it| it.delivery_id),
            moved.and_then(|it| it.source).map(Source::as_str),
            // The delivery: $13 to $22. Its ICCID is None if it is about a life of the profile that was erased.
            delivery.and_then(|it| it.iccid).map(Iccid::as_str),
            delivery.map(|it| it.id),
            delivery.map(|it| it.received_at.as_datetime()),
            delivery.map(|it| it.hook),
            delivery.map(|it| it.provider),
            delivery.map(|it| it.outcome.as_str()),
            delivery.and_then(|it| it.reason),
            delivery.and_then(|it| it.event_id),
            delivery.map(|it| it.headers),
            delivery.map(|it| it.body),
            // The count: $23 to $29.
            count.map(|it| it.provider),
            count.and_then(|it| it.delivered).map(|(day, _)| day),
            count.and_then(|it| it.from).map(ProfileState::as_str),
            count.and_then(|it| it.to).map(ProfileState::as_str),
            count.and_then(|it| it.reached).map(|it| it.ready_on),
            count.and_then(|it| it.reached).map(|it| it.milestones),
            count.and_then(|it| it.reached).and_then(|it| it.took),
            // The note of a connection: $30, $31.
            connected.map(|it| it.seq),
            connected.and_then(|it| datetime_option(it.connections.last_connected_at)),
            // The notification: $32, $33.
            CHANNEL,
            $one.notification,
            // What the part `written` needs: from $34.
            $($argument),*
        )
    }};
}

/// The same, with what a profile has in its row as $35 to $52.
macro_rules! write_profile {
    ($written:literal, $profile:expr, $one:expr, $argument:expr) => {
        write_one!(
            $written,
            $profile.iccid.as_str(),
            $one,
            $argument,
            $profile.provider.as_str(),
            $profile.state.as_str(),
            $profile.enabled,
            $profile.raw_state.as_str(),
            $profile.imsi.as_ref().map(Imsi::as_str),
            $profile.eid.as_ref().map(Eid::as_str),
            $profile.since.as_datetime(),
            $profile.seq,
            $profile.installs_seen,
            $profile.deliveries,
            datetime_option($profile.last_delivery_at),
            datetime_option($profile.last_occurred_at),
            datetime_option($profile.connections.first_connected_at),
            datetime_option($profile.connections.last_connected_at),
            $profile.connections.country.as_ref().map(Country::as_str),
            datetime_option($profile.headway.map(|headway| headway.ready_at)),
            $profile.headway.map(|headway| headway.reached.as_str()),
            $profile.device.as_ref().map(Device::to_json),
        )
    };
}

async fn save(
    connection: &mut PgConnection,
    profile: &Profile,
    revision: Revision,
    one: &One<'_>,
) -> Result<bool, StoreError> {
    let written = write_profile!(
        "free AS (
             SELECT FROM profiles WHERE iccid = $1 AND revision = $34 FOR UPDATE SKIP LOCKED
         ),
         written AS (
             UPDATE profiles
             SET provider = $35, state = $36, enabled = $37, raw_state = $38, imsi = $39, eid = $40, since = $41,
                 seq = $42, installs_seen = $43, deliveries = $44, last_delivery_at = $45, last_occurred_at = $46,
                 first_connected_at = $47, last_connected_at = $48, country = $49, ready_at = $50, reached = $51, device = $52::text::jsonb,
                 updated_at = now(),
                 revision = revision + 1
             WHERE iccid = $1 AND EXISTS (SELECT FROM free)
             RETURNING 1
         )",
        profile,
        one,
        revision.0
    );
    Ok(written.fetch_optional(connection).await?.is_some())
}

async fn create(
    connection: &mut PgConnection,
    profile: &Profile,
    hash: Option<&[u8]>,
    one: &One<'_>,
) -> Result<bool, StoreError> {
    let written = write_profile!(
        "written AS (
             INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                                   deliveries, last_delivery_at, last_occurred_at, first_connected_at, last_connected_at,
                                   country, ready_at, reached, device, updated_at)
             SELECT $1, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52::text::jsonb, now()
             -- An erasure that is not committed yet still shows its profile.
             WHERE NOT EXISTS (SELECT FROM profiles WHERE iccid = $1)
               AND NOT EXISTS (SELECT FROM erasures WHERE iccid_hmac = $34)
             RETURNING 1
         )",
        profile,
        one,
        hash
    );
    Ok(written.fetch_optional(connection).await?.is_some())
}

/// Stores a delivery that leaves its profile as it is.
async fn store_beside(
    connection: &mut PgConnection,
    iccid: &Iccid,
    revision: Revision,
    one: &One<'_>,
) -> Result<bool, StoreError> {
    let written = write_one!(
        "written AS (
             SELECT FROM profiles WHERE iccid = $1 AND revision = $34 FOR UPDATE SKIP LOCKED
         )",
        iccid.as_str(),
        one,
        revision.0,
    );
    Ok(written.fetch_optional(connection).await?.is_some())
}

/// Stores a delivery that names a profile that does not exist, an erased one, or none.
async fn store_alone(
    connection: &mut PgConnection,
    iccid: &str,
    hash: Option<&[u8]>,
    one: &One<'_>,
) -> Result<bool, StoreError> {
    let written = write_one!(
        "written AS (
             SELECT WHERE NOT EXISTS (SELECT FROM profiles WHERE iccid = $1)
                      AND NOT EXISTS (SELECT FROM erasures WHERE iccid_hmac = $34)
         )",
        iccid,
        one,
        hash,
    );
    Ok(written.fetch_optional(connection).await?.is_some())
}
