//! Reads stored deliveries again that could not be applied when they arrived: after an adapter has learned a word, a provider was
//! declared anew, or a profile was registered with another provider.
//!
//! A delivery that is understood now is applied by its event time. If it has none, it is `late` if a newer report about its profile was
//! applied or repeated since. The delivery's row then says what became of it, so it is applied once.

mod connections;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::delivery::{AuthenticDelivery, EventId};
use crate::domain::{
    Iccid, Outcome, Profile, ProfileState, Source, Timestamp, Transition, Verdict,
};
use crate::providers::{Content, Providers, Reading};
use crate::registry;
use crate::store::batch_write::{BatchWrite, Changed, write_if_unchanged};
use crate::store::deliveries::DeliveryRecord;
use crate::store::event_ids::{self, NewEvent};
use crate::store::transitions::NewTransition;
use crate::store::{
    ErasureKey, Fault, StoreError, erasures, fault_of, kept, last_reports, profiles, transitions,
};

pub use connections::place;

/// How many deliveries are read from the database at once.
const PAGE: i64 = 200;

/// The max number of attempts, if a webhook changes the profile at the same moment.
const TRIES: u32 = 5;

/// A delivery that is understood now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Understood {
    /// Its id.
    pub id: Uuid,
    /// When it was received.
    pub received_at: Timestamp,
    /// What became of it when it arrived.
    pub was: Outcome,
    /// What becomes of it now.
    pub is: Outcome,
    /// The state that it reports.
    pub state: Option<ProfileState>,
}

/// What a run has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of deliveries that were kept and not applied.
    pub looked_at: u64,
    /// The number of deliveries whose profile another transaction held for too long.
    pub busy: u64,
    /// The number of deliveries whose profile cannot be read or written.
    pub unapplied: u64,
}

/// Reads again what the hook has received since a time, oldest first, and passes each delivery that is understood now to `tell`.
/// Changes nothing. An event that came twice under one id is passed twice. A profile that cannot be read stops no other
/// one.
///
/// # Errors
/// [`StoreError`].
pub async fn preview(
    connection: &mut PgConnection,
    key: &ErasureKey,
    from: &Selection<'_>,
    mut tell: impl FnMut(Understood),
) -> Result<Counts, StoreError> {
    let mut judged: HashMap<Iccid, Option<Profile>> = HashMap::new();
    let mut pages = Pages::default();
    let mut unapplied = 0;
    while let Some(page) = pages.next(connection, from).await? {
        for (record, reading) in page {
            match preview_one(connection, key, &mut judged, &record, &reading).await {
                Ok(outcome) => outcome.into_iter().for_each(|outcome| {
                    tell(understood(&record, outcome, &reading));
                }),
                Err(error) if is_of_the_profile(&error) => {
                    warn(&record, &error);
                    unapplied += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Counts { looked_at: pages.looked_at, busy: 0, unapplied })
}

/// Reads again in the same way, applies each delivery that is understood now, and passes it to `tell`. Safe to call again, and beside
/// running services. A profile that cannot be read or written stops no other one. `writing` is a connection that an erasure waits for, as for a registration's.
///
/// # Errors
/// [`StoreError`]; what was applied before stays applied.
pub async fn apply(
    connection: &mut PgConnection,
    writing: &mut PgConnection,
    key: &ErasureKey,
    from: &Selection<'_>,
    mut tell: impl FnMut(Understood),
) -> Result<Counts, StoreError> {
    let mut pages = Pages::default();
    let (mut busy, mut unapplied) = (0, 0);
    while let Some(page) = pages.next(connection, from).await? {
        for (record, reading) in page {
            match apply_one(writing, key, &record, &reading).await {
                Ok(outcome) => outcome.into_iter().for_each(|outcome| {
                    tell(understood(&record, outcome, &reading));
                }),
                Err(error) => {
                    if error.is_busy() {
                        busy += 1;
                    } else if is_of_the_profile(&error) {
                        warn(&record, &error);
                        unapplied += 1;
                    } else {
                        return Err(error);
                    }
                    // Rolls back now, and not when the connection is next used: its locks would be kept until then.
                    writing.ping().await?;
                }
            }
        }
    }
    Ok(Counts { looked_at: pages.looked_at, busy, unapplied })
}

/// Whether a profile cannot be read or written, and others can.
fn is_of_the_profile(error: &StoreError) -> bool {
    match error {
        StoreError::Database(error) if fault_of(error) == Fault::Data => true,
        error => error.may_be_one_row(),
    }
}

fn warn(record: &DeliveryRecord, error: &StoreError) {
    let (delivery, error) = (record.id, error as &dyn std::error::Error);
    tracing::warn!(%delivery, error, "a delivery was left, because its profile cannot be read or written");
}

/// Which deliveries to read again, and by which adapters.
#[derive(Debug)]
pub struct Selection<'a> {
    /// The path of the hook that has received them.
    pub hook: &'a str,
    /// The time from which on they were received.
    pub since: Timestamp,
    /// The providers that are known now.
    pub providers: &'a Providers,
}

/// Walks through the deliveries.
#[derive(Debug, Default)]
struct Pages {
    last: Option<Uuid>,
    looked_at: u64,
}

impl Pages {
    /// The deliveries of the next page that now say something of a profile. `None` after the last page.
    async fn next(
        &mut self,
        connection: &mut PgConnection,
        from: &Selection<'_>,
    ) -> Result<Option<Vec<(DeliveryRecord, Reading)>>, StoreError> {
        let Selection { hook, since, providers } = *from;
        let page = kept::list_unread(connection, hook, since, self.last, PAGE).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.last = Some(last.id);
        self.looked_at += page.len() as u64;
        let read = page.into_iter().filter_map(|record| {
            let reading = read(providers, &record)?;
            Some((record, reading))
        });
        Ok(Some(read.collect()))
    }
}

/// What the adapter reads in a stored delivery, if that says something of a profile.
fn read(providers: &Providers, record: &DeliveryRecord) -> Option<Reading> {
    let delivery = AuthenticDelivery::restored(
        record.id,
        record.received_at,
        Arc::from(record.hook.as_str()),
        record.event_id.clone(),
        record.headers.clone(),
        Bytes::copy_from_slice(&record.body),
    );
    let reading = providers.find(&record.provider)?.parse(&delivery).ok()?;
    if record.outcome == Outcome::Duplicate && is_still_under_its_id(record, &reading) {
        return None;
    }
    let says_something = match &reading.content {
        Content::Report(report) => report.claim.is_some(),
        Content::Connection(_) => true,
        Content::Ignored { .. } => false,
    };
    says_something.then_some(reading)
}

/// Whether the event id of a duplicate is still that of its event: the adapter reads the same one in the body, or the sender has signed it
/// in the headers.
fn is_still_under_its_id(record: &DeliveryRecord, reading: &Reading) -> bool {
    let Some(came_under) = record.event_id.as_deref() else { return true };
    match &reading.event_id {
        Some(event_id) => event_id.as_str() == came_under,
        None => !record.body.windows(came_under.len()).any(|part| part == came_under.as_bytes()),
    }
}

fn understood(record: &DeliveryRecord, is: Outcome, reading: &Reading) -> Understood {
    let claim = reading.report().and_then(|report| report.claim);
    let DeliveryRecord { id, received_at, outcome: was, .. } = *record;
    Understood { id, received_at, was, is, state: claim.map(|claim| claim.state) }
}

/// What the delivery does to its profile. `None` if nothing: a connection of a profile that is still not known.
fn judge(
    known: Option<&Profile>,
    record: &DeliveryRecord,
    reading: &Reading,
    is_overtaken: bool,
) -> Option<Verdict> {
    let verdict = match &reading.content {
        Content::Report(report) => Profile::observe_delayed(known, report, is_overtaken),
        Content::Connection(connection) => Profile::connect(known, connection),
        Content::Ignored { .. } => return None,
    };
    (verdict.outcome() != record.outcome).then_some(verdict)
}

/// Whether the state of the profile was reported since.
async fn is_overtaken(
    connection: &mut PgConnection,
    record: &DeliveryRecord,
    iccid: &Iccid,
) -> Result<bool, StoreError> {
    let iccids = [iccid.as_str()];
    Ok(!last_reports::since(connection, &iccids, record.received_at).await?.is_empty())
}

/// Whether the profile was erased since this time.
async fn is_erased(
    connection: &mut PgConnection,
    key: &ErasureKey,
    known: Option<&Profile>,
    iccid: &Iccid,
    received_at: Timestamp,
) -> Result<bool, StoreError> {
    Ok(match known {
        Some(known) => known.erased_at.is_some_and(|at| received_at < at),
        None => erasures::recall(connection, key, iccid).await?.is_some(),
    })
}

/// Judges a delivery after those before it, whose profiles are in `judged`. Returns what would become of it; `None` if nothing.
async fn preview_one(
    connection: &mut PgConnection,
    key: &ErasureKey,
    judged: &mut HashMap<Iccid, Option<Profile>>,
    record: &DeliveryRecord,
    reading: &Reading,
) -> Result<Option<Outcome>, StoreError> {
    let Some(iccid) = reading.iccid() else { return Ok(None) };
    let known = if let Some(known) = judged.get(iccid) {
        known.clone()
    } else {
        let read = profiles::read(connection, &[iccid.as_str().to_owned()]).await?;
        read.into_iter().next().map(|(profile, _)| profile)
    };
    if is_erased(connection, key, known.as_ref(), iccid, record.received_at).await? {
        return Ok(None);
    }
    let is_overtaken = is_overtaken(connection, record, iccid).await?;
    let Some(verdict) = judge(known.as_ref(), record, reading, is_overtaken) else {
        return Ok(None);
    };
    let outcome = verdict.outcome();
    judged.insert(iccid.clone(), verdict.into_parts().0.or(known));
    Ok(Some(outcome))
}

/// Applies a delivery. Returns what became of it; `None` if nothing, also if another process has applied it.
async fn apply_one(
    connection: &mut PgConnection,
    key: &ErasureKey,
    record: &DeliveryRecord,
    reading: &Reading,
) -> Result<Option<Outcome>, StoreError> {
    let Some(iccid) = reading.iccid() else { return Ok(None) };
    for _ in 0..TRIES {
        let mut transaction = connection.begin().await?;
        erasures::take_turn(&mut transaction, iccid).await?;
        let (known, revision) = registry::lock(&mut transaction, iccid).await?.unzip();
        if is_erased(&mut transaction, key, known.as_ref(), iccid, record.received_at).await? {
            // Now, and not when the connection is next used: its locks would be kept until then.
            transaction.rollback().await?;
            return Ok(None);
        }
        let is_overtaken = is_overtaken(&mut transaction, record, iccid).await?;
        let verdict = judge(known.as_ref(), record, reading, is_overtaken);
        let Some(verdict) = verdict else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let is_seen = is_seen(&mut transaction, record, reading).await?;
        let outcome = if is_seen { Outcome::Duplicate } else { verdict.outcome() };
        let (profile, moved) = if is_seen { (None, None) } else { verdict.into_parts() };
        let was_counted = profile.is_some() && was_counted(&mut transaction, record, iccid).await?;
        let profile =
            profile.map(|it| Profile { deliveries: it.deliveries - i64::from(was_counted), ..it });
        let moved = moved.map(|it| Transition { source: Some(Source::Reread), ..it });
        let (mut changed, mut new) = (Vec::new(), Vec::new());
        match (&profile, &known, revision) {
            (Some(profile), Some(known), Some(revision)) => {
                changed.push(Changed { profile, revision, before: known.into() });
            }
            (Some(profile), ..) => new.push(profile),
            (None, ..) => {}
        }
        let of_it = |transition| NewTransition { iccid, transition, delivery_id: Some(record.id) };
        let write = BatchWrite {
            absent: if known.is_none() { vec![iccid] } else { Vec::new() },
            changed,
            new,
            transitions: moved.iter().map(of_it).collect(),
            connected: if outcome == Outcome::Connected { vec![iccid] } else { Vec::new() },
            ..BatchWrite::default()
        };
        if !write_if_unchanged(&mut transaction, key, &write).await? {
            transaction.rollback().await?;
            continue;
        }
        if !kept::note_reread(&mut transaction, record, outcome, iccid).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        if profile.is_some() {
            profiles::mark_unreported(&mut transaction, iccid).await?;
        }
        transaction.commit().await?;
        return Ok(Some(outcome));
    }
    Err(StoreError::Busy)
}

/// Whether the event was received before under its id. A body that was not understood as an event has reserved none.
async fn is_seen(
    connection: &mut PgConnection,
    record: &DeliveryRecord,
    reading: &Reading,
) -> Result<bool, StoreError> {
    // What it came under is that of another event.
    let came_under = record.event_id.as_deref().filter(|_| record.outcome != Outcome::Duplicate);
    let in_body = reading.event_id.as_ref().map(EventId::as_str);
    let Some(event_id) = in_body.or(came_under) else { return Ok(false) };
    let event_id = event_ids::reserved(event_id, reading.iccid());
    let reserves = record.outcome != Outcome::Malformed && !record.is_unapplied();
    let its_own = came_under.filter(|_| reserves);
    if its_own.is_some_and(|its| event_ids::reserved(its, record.iccid.as_ref()) == event_id) {
        return Ok(false);
    }
    let event = NewEvent {
        hook: &record.hook,
        event_id: &event_id,
        body_sha256: &Sha256::digest(&record.body),
        iccid: reading.iccid(),
    };
    Ok(!event_ids::reserve(connection, &[event]).await?.is_empty())
}

/// Whether the delivery was counted when it arrived: one with an unknown word was, if its profile was known. A profile that begins
/// with what was read again was probably not.
async fn was_counted(
    connection: &mut PgConnection,
    record: &DeliveryRecord,
    iccid: &Iccid,
) -> Result<bool, StoreError> {
    if record.outcome != Outcome::Unrecognised || record.is_unapplied() {
        return Ok(false);
    }
    let first = transitions::list(connection, iccid, 0, 1).await?;
    Ok(first.first().is_some_and(|first| {
        first.source != Some(Source::Reread) && first.received_at <= record.received_at
    }))
}
