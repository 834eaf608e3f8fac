//! What backends, operators, time and providers' answers do to a profile: it is registered, its access tokens are revoked, it is
//! erased, its credentials are sealed with a new key, it becomes overdue, an answer is applied; and what backends do to endpoints.
//!
//! A registration locks the profile's row, in one transaction, so that no webhook changes the profile meanwhile.

mod answer;

mod endpoints;

mod erasure;

mod overdue;

mod sealing;

pub use answer::{Applied, apply_answer};
pub use endpoints::{EndpointChange, change_endpoint, replay_endpoint};
pub use erasure::{EraseError, erase};
pub use overdue::find_overdue;
pub use sealing::{SealedAnew, seal_anew};

use sqlx::{Connection, PgConnection};

use crate::budget;
use crate::domain::{
    Advance, ChangeKind, Credentials, Iccid, Order, Profile, REPLICA_TOLERANCE_SECONDS,
    Registration, Timestamp, Transition,
};
use crate::store;
use crate::store::batch_write::{BatchWrite, Changed, write_if_unchanged};
use crate::store::erasures::Erasure;
use crate::store::profiles::Revision;
use crate::store::transitions::NewTransition;
use crate::store::{
    ErasureKey, Pool, RegistrationFacts, StoreError, Vault, changes, erasures, install_credentials,
    notify, orders, profiles,
};
use crate::telemetry;

/// The max number of attempts, if a webhook creates the profile at the same moment.
const TRIES: u32 = 5;

/// Whether a registration created the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// It created the profile.
    New,
    /// The profile existed.
    Known,
}

/// Why a profile was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The database failed, or was too slow. It is safe to retry.
    #[error("the database did not register a profile")]
    Store(#[from] StoreError),
    /// The profile that is to be replaced is this one, or has itself replaced it.
    #[error("the profiles would replace each other in a circle")]
    Circle,
}

/// Registers a profile, or updates its registration.
///
/// # Errors
/// [`RegisterError`]; nothing was changed, or the outcome of the commit is unknown.
pub async fn register(
    pool: &Pool,
    vault: &Vault,
    erasure_key: &ErasureKey,
    registration: &Registration,
) -> Result<Registered, RegisterError> {
    let attempt = pool.run(async |connection| {
        if replaces_in_a_circle(connection, registration).await? {
            return Ok(None);
        }
        for _ in 0..TRIES {
            if let Some(done) = try_register(connection, vault, erasure_key, registration).await? {
                return Ok(Some(done));
            }
        }
        Err(StoreError::Busy)
    });
    let done = tokio::time::timeout(budget::REGISTRATION, attempt).await;
    done.unwrap_or(Err(StoreError::Busy))?.ok_or(RegisterError::Circle)
}

/// Two registrations at the same moment can still close a circle. A reader of the chain stops after
/// [`orders::LONGEST_CHAIN`] steps.
async fn replaces_in_a_circle(
    connection: &mut PgConnection,
    registration: &Registration,
) -> Result<bool, StoreError> {
    let Some(replaced) = &registration.order.replaces else { return Ok(false) };
    let iccid = &registration.report.iccid;
    Ok(replaced == iccid || orders::successors(connection, iccid).await?.contains(replaced))
}

/// Makes one attempt. Returns `None` if a webhook has created the profile in the meantime.
async fn try_register(
    connection: &mut PgConnection,
    vault: &Vault,
    erasure_key: &ErasureKey,
    registration: &Registration,
) -> Result<Option<Registered>, StoreError> {
    let (iccid, now) = (&registration.report.iccid, registration.report.received_at);
    let mut transaction = connection.begin().await?;
    erasures::take_turn(&mut transaction, iccid).await?;
    let (known, revision) = lock(&mut transaction, iccid).await?.unzip();
    let erasure = match &known {
        Some(_) => None,
        None => erasures::recall(&mut transaction, erasure_key, iccid).await?,
    };
    let last_seq = erasure.map_or(0, |erasure| erasure.last_seq);
    let (profile, moved) = Profile::register(known.as_ref(), &registration.report, last_seq);
    let is_new = known.is_none();
    let (mut changed, mut unchanged, mut new) = (Vec::new(), Vec::new(), Vec::new());
    match (&known, revision) {
        // A backend that registers again what is registered writes nothing.
        (Some(known), Some(revision)) if *known == profile => unchanged.push((iccid, revision)),
        (Some(known), Some(revision)) => {
            changed.push(Changed { profile: &profile, revision, before: known.into() });
        }
        _ => new.push(&profile),
    }
    let moved = moved.as_ref();
    let new_transition = |transition| NewTransition { iccid, transition, delivery_id: None };
    let write = BatchWrite {
        changed,
        unchanged,
        new,
        absent: if is_new && erasure.is_none() { vec![iccid] } else { Vec::new() },
        transitions: moved.into_iter().map(new_transition).collect(),
        ..BatchWrite::default()
    };
    if !write_if_unchanged(&mut transaction, erasure_key, &write).await? {
        return Ok(None);
    }
    let facts = RegistrationFacts {
        at: now,
        uid: registration.uid.clone(),
        activated_at: registration.activated_at,
        last_seen: registration.last_seen,
    };
    let mut is_news = profiles::save_registration(&mut transaction, iccid, &facts).await?;
    is_news |= save_order(&mut transaction, registration).await?;
    if let Some(Erasure { at, .. }) = erasure {
        orders::begin_anew(&mut transaction, iccid).await?;
        profiles::begin_anew(&mut transaction, iccid, at, after_all_tokens(at)).await?;
    }
    if registration.credentials != Credentials::default() {
        let known = install_credentials::find(&mut transaction, iccid).await?;
        // Credentials that cannot be opened, because their key is lost, are replaced by those of the registration.
        let known = known.and_then(|sealed| vault.open(iccid, &sealed).ok()).unwrap_or_default();
        let credentials = registration.credentials.clone().or(known.clone());
        is_news |= credentials != known;
        let (sealed, host) = (vault.seal(iccid, &credentials)?, credentials.smdp_address());
        install_credentials::save(&mut transaction, iccid, &sealed, host, now).await?;
    }
    if is_news {
        changes::note(&mut transaction, iccid, ChangeKind::Registered).await?;
    }
    // Even without a transition: followers must learn that the profile can be installed now.
    notify::wake(&mut transaction, iccid).await?;
    erasures::forget(&mut transaction, erasure_key, iccid).await?;
    transaction.commit().await?;
    count(registration.report.provider, moved, known.as_ref(), &profile);
    Ok(Some(if is_new { Registered::New } else { Registered::Known }))
}

/// Counts what was committed: a transition, and what the profile has newly reached since it was `known`.
fn count(
    provider: &'static str,
    moved: Option<&Transition>,
    known: Option<&Profile>,
    now: &Profile,
) {
    if let Some(transition) = moved {
        telemetry::count_transitions(provider, transition.to_state, transition.kind, 1);
    }
    if let Some(advance) = Advance::between(known.and_then(|it| it.headway), now) {
        telemetry::count_advance(provider, advance);
    }
}

/// Returns whether the order says something new.
async fn save_order(
    connection: &mut PgConnection,
    registration: &Registration,
) -> Result<bool, StoreError> {
    let Registration { report, order, replaces_none, .. } = registration;
    if *order == Order::default() && !replaces_none {
        return Ok(false);
    }
    let (iccid, at) = (&report.iccid, report.received_at);
    if order.expected_from.is_some() {
        // What is overdue depends on the day.
        store::overdue::delete(connection, iccid).await?;
    }
    if let Some(replaced) = &order.replaces {
        // Its users are led to this profile from now on, also those who are led to another one yet.
        wake_all(connection, replaced).await?;
    }
    let before = orders::replaces(connection, iccid).await?;
    let is_news = orders::save(connection, iccid, order, *replaces_none, at).await?;
    let now = orders::replaces(connection, iccid).await?;
    if before != now {
        // Both show by which profile they were replaced.
        for replaced in before.iter().chain(&now) {
            changes::note(connection, replaced, ChangeKind::Registered).await?;
        }
    }
    Ok(is_news)
}

/// Revokes all access tokens of a profile that were issued until now. Returns whether the profile exists.
///
/// # Errors
/// [`StoreError`]; it is safe to retry.
pub async fn end_tokens(pool: &Pool, iccid: &Iccid, now: Timestamp) -> Result<bool, StoreError> {
    let attempt = pool.run(async |connection| {
        let mut transaction = connection.begin().await?;
        let from = after_all_tokens(now);
        let is_known = profiles::end_tokens(&mut transaction, iccid, from).await?;
        wake_all(&mut transaction, iccid).await?;
        transaction.commit().await?;
        Ok(is_known)
    });
    tokio::time::timeout(budget::REGISTRATION, attempt).await.unwrap_or(Err(StoreError::Busy))
}

/// Wakes the followers of a profile whose tokens are no longer valid, also those who were led to its successors.
async fn wake_all(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    notify::wake(connection, iccid).await?;
    for successor in orders::successors(connection, iccid).await? {
        notify::wake(connection, &successor).await?;
    }
    Ok(())
}

/// The time from which tokens must be issued to be valid, if all tokens until `time` are revoked. The margin covers a
/// replica whose clock is ahead and that has just issued one.
fn after_all_tokens(time: Timestamp) -> Timestamp {
    time.plus_seconds(REPLICA_TOLERANCE_SECONDS + 1)
}

/// Locks a profile, if it exists, and reads it. Waits for another transaction that holds it.
///
/// # Errors
/// [`StoreError`], also if the wait hits the statement timeout.
pub async fn lock(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Option<(Profile, Revision)>, StoreError> {
    let iccids = [iccid.as_str().to_owned()];
    profiles::wait_for_locks(connection, &iccids).await?;
    let locked = profiles::try_lock(connection, &iccids).await?;
    Ok(locked.into_iter().next())
}
