//! The statements for a single delivery, or for a registration: plain values, and every part filtered by the one ICCID. On a
//! Postgres that spans machines, each is therefore executed by one of them.

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
    /// Whether the profile must not have been erased.
    not_erased: bool,
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
    Created(&'a Profile),
    /// It must be as it was read.
    Unchanged(&'a Iccid, Revision),
    /// It must not exist.
    Absent(&'a Iccid),
    /// The delivery names no profile, or an erased one.
    None,
}

impl One<'_> {
    /// The hash that must not be in `erasures`; `None` if the profile is known to be erased.
    fn hash_if_not_erased(
        &self,
        erasure_key: &ErasureKey,
        iccid: &Iccid,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.not_erased.then(|| erasure_key.hash(iccid)).transpose()
    }
}

/// The write as that of one delivery; `None` if it is more than that.
pub(super) fn of<'a>(write: &'a BatchWrite<'a>) -> Option<One<'a>> {
    let BatchWrite { changed, unchanged, new, not_erased, transitions, deliveries, .. } = write;
    let connected = write.connected_profiles().next();
    let profile = match (&changed[..], &unchanged[..], &new[..], &not_erased[..]) {
        ([it], [], [], []) => ProfileWrite::Saved(it.profile, it.revision),
        ([], [(iccid, revision)], [], []) => ProfileWrite::Unchanged(iccid, *revision),
        ([], [], [profile], [] | [_]) => ProfileWrite::Created(profile),
        ([], [], [], [iccid]) => ProfileWrite::Absent(iccid),
        ([], [], [], []) => ProfileWrite::None,
        _ => return None,
    };
    let (transition, delivery) = match (&transitions[..], &deliveries[..]) {
        (transition @ ([] | [_]), delivery @ ([] | [_])) => (transition.first(), delivery.first()),
        _ => return None,
    };
    let notification = write.notification();
    let count = match tally::of(write)[..] {
        [] => None,
        [one @ CountChange { n: 1, .. }] => Some(one),
        _ => return None,
    };
    let not_erased = !not_erased.is_empty();
    Some(One { profile, not_erased, transition, delivery, notification, count, connected })
}

/// See [`super::write_if_unchanged`].
pub(super) async fn write(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    one: &One<'_>,
) -> Result<bool, StoreError> {
    match one.profile {
        ProfileWrite::Saved(profile, revision) => save(connection, profile, revision, one).await,
        ProfileWrite::Created(profile) => create(connection, erasure_key, profile, one).await,
        ProfileWrite::Unchanged(iccid, revision) => leave(connection, iccid, revision, one).await,
        ProfileWrite::Absent(iccid) => keep(connection, erasure_key, Some(iccid), one).await,
        ProfileWrite::None => keep(connection, erasure_key, None, one).await,
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
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $27 FROM written WHERE $2::bigint IS NOT NULL
             ),
             kept AS (
                 INSERT INTO deliveries (iccid, id, received_at, hook, provider, outcome, reason, event_id, headers, body)
                 SELECT $33, $12, $13, $14, $15, $16, $17, $18, $19::text::jsonb, $20
                 FROM written WHERE $12::uuid IS NOT NULL
             ),
             counted AS (
                 INSERT INTO count_changes (provider, day, outcome, from_state, to_state, ready_on, milestones, took, n)
                 SELECT $23, $24, $16, $25, $26, $28, $29, $30, 1 FROM written WHERE $23::text IS NOT NULL
             ),
             followed AS (
                 INSERT INTO new_changes (iccid, seq, kind, at)
                 SELECT $1, c.seq, c.kind, c.at
                 FROM written, (VALUES ($2, 'transition', $9), ($31::bigint, 'evidence', $32::timestamptz)) AS c (seq, kind, at)
                 WHERE c.seq IS NOT NULL
             )
             SELECT -- From here on only the commit waits, for its turn to notify: no lock timeout may end that. The profile
                    -- is written before, because it is in FROM: what nothing refers to is executed last.
                    set_config('lock_timeout', '0', true) AS "lock_timeout!",
                    CASE WHEN $22::text IS NOT NULL THEN pg_notify($21, $22) END IS NULL AS "notified!"
             FROM written"#,
            $iccid,
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
            delivery.map(|it| it.id),
            delivery.map(|it| it.received_at.as_datetime()),
            delivery.map(|it| it.hook),
            delivery.map(|it| it.provider),
            delivery.map(|it| it.outcome.as_str()),
            delivery.and_then(|it| it.reason),
            delivery.and_then(|it| it.event_id),
            delivery.map(|it| it.headers),
            delivery.map(|it| it.body),
            CHANNEL,
            $one.notification,
            count.map(|it| it.provider),
            count.and_then(|it| it.delivered).map(|(day, _)| day),
            count.and_then(|it| it.from).map(ProfileState::as_str),
            count.and_then(|it| it.to).map(ProfileState::as_str),
            moved.and_then(|it| it.source).map(Source::as_str),
            count.and_then(|it| it.reached).map(|it| it.ready_on),
            count.and_then(|it| it.reached).map(|it| it.milestones),
            count.and_then(|it| it.reached).and_then(|it| it.took),
            connected.map(|it| it.seq),
            connected.and_then(|it| datetime_option(it.connections.last_connected_at)),
            // None if it is about a life of the profile that was erased.
            delivery.and_then(|it| it.iccid).map(Iccid::as_str),
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
            datetime_option($profile.way.map(|way| way.ready_at)),
            $profile.way.map(|way| way.reached.as_str()),
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
    erasure_key: &ErasureKey,
    profile: &Profile,
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
        one.hash_if_not_erased(erasure_key, &profile.iccid)?
    );
    Ok(written.fetch_optional(connection).await?.is_some())
}

/// Keeps a delivery that leaves its profile as it is.
async fn leave(
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

/// Keeps a delivery that names a profile that does not exist, an erased one, or none.
async fn keep(
    connection: &mut PgConnection,
    erasure_key: &ErasureKey,
    iccid: Option<&Iccid>,
    one: &One<'_>,
) -> Result<bool, StoreError> {
    let hash = iccid.map(|iccid| one.hash_if_not_erased(erasure_key, iccid)).transpose()?;
    let written = write_one!(
        "written AS (
             SELECT WHERE NOT EXISTS (SELECT FROM profiles WHERE iccid = $1)
                      AND NOT EXISTS (SELECT FROM erasures WHERE iccid_hmac = $34)
         )",
        iccid.map_or("", Iccid::as_str),
        one,
        hash.flatten(),
    );
    Ok(written.fetch_optional(connection).await?.is_some())
}
