//! Looks for profiles to which something should have happened that did not.
//!
//! Nothing is kept for that while webhooks are written. A profile can become overdue only some time after its last change,
//! so it is enough to look at the profiles that changed that long ago, a minute of changes each minute.

use sqlx::PgConnection;

use crate::domain::{Iccid, OverdueReason, Patience, Profile, Timestamp};
use crate::store::exclusive::{self, Work};
use crate::store::inquiries::{self, Urgency};
use crate::store::overdue::{self, Noted, Providers, Scan};
use crate::store::{StoreError, StoredProfile, profiles};
use crate::telemetry::{self, Seldom};

/// Changes are looked at this many seconds later, when all of them are written.
const SETTLED_SECONDS: i64 = 120;

/// How far back the first look of all goes, in seconds: an installation that is upgraded has many old profiles.
const FIRST_LOOK_SECONDS: i64 = 86_400;

/// The changes of how many seconds one statement looks at, at least, and how many statements look for one reason.
const SLICE_SECONDS: i64 = 600;
const MAX_SLICES: i64 = 100;

/// How many profiles are read at a time.
const PAGE: usize = 500;

/// Looks once through what has become due, and writes a line into the history of each profile that is overdue. Returns how many
/// were found. Notes that their provider is to be asked, if it is one of `asked`. Does nothing while another replica looks.
///
/// # Errors
/// [`StoreError`]. What was written before the error stays, and the next call continues.
pub async fn find_overdue(
    connection: &mut PgConnection,
    patience: &Patience,
    asked: &[&str],
    now: Timestamp,
) -> Result<u64, StoreError> {
    if !exclusive::begin(connection, Work::Overdue).await? {
        return Ok(0);
    }
    let found = find_all(connection, patience, asked, now).await;
    exclusive::end(connection, Work::Overdue).await?;
    found
}

async fn find_all(
    connection: &mut PgConnection,
    patience: &Patience,
    asked: &[&str],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (mut found, mut failed) = (0, None);
    for reason in OverdueReason::ALL {
        let allowance = patience.of(reason);
        let own: Vec<_> = allowance.of_providers().map(|(provider, _)| provider).collect();
        overdue::keep_scans_of(connection, reason, &own).await?;
        let usual = (Scan { reason, providers: Providers::AllBut(&own) }, allowance.usual());
        let others = allowance.of_providers().map(|(provider, allowed)| {
            (Scan { reason, providers: Providers::Only(provider) }, allowed)
        });
        for (scan, allowed) in std::iter::once(usual).chain(others) {
            match look(connection, &scan, allowed, patience, asked, now).await {
                // Those of other states and providers are found all the same.
                Err(error) if error.may_be_one_row() => failed = Some(error),
                looked => found += looked?,
            }
        }
    }
    overdue::forget(connection).await?;
    failed.map_or(Ok(found), Err)
}

/// Looks at the changes that became `allowed` seconds old since the last look.
async fn look(
    connection: &mut PgConnection,
    scan: &Scan<'_>,
    allowed: i64,
    patience: &Patience,
    asked: &[&str],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let end = now.plus_seconds(-allowed.max(SETTLED_SECONDS));
    let first = end.plus_seconds(-FIRST_LOOK_SECONDS);
    let mut from = overdue::scanned_until(connection, scan, first, end).await?;
    let (mut found, mut is_complete) = (0, true);
    let slice = (end.unix_seconds() - from.unix_seconds()) / MAX_SLICES;
    while from < end {
        let until = from.plus_seconds(slice.max(SLICE_SECONDS)).min(end);
        let candidates = overdue::find_candidates(connection, scan, from, until).await?;
        for page in candidates.chunks(PAGE) {
            let (noted, missed, failed) = note(connection, page, patience, asked, now).await?;
            found += noted;
            // Those that another transaction has locked, or has just changed, are looked for again in a minute: a late report
            // changes a profile and ends nothing. Those at which the database fails are looked for again for a day: the cause may
            // be the database, and not the profile.
            is_complete &= missed == 0 && (failed == 0 || until < first);
        }
        if is_complete {
            overdue::note_scanned(connection, scan, until).await?;
        }
        from = until;
    }
    Ok(found)
}

/// Reads these profiles, without those that cannot be read, and counts these: one such row must not keep the others waiting.
async fn find(
    connection: &mut PgConnection,
    iccids: &[String],
) -> Result<(Vec<StoredProfile>, u64), StoreError> {
    match profiles::find(connection, iccids).await {
        Err(error) if error.may_be_one_row() => {}
        together => return Ok((together?, 0)),
    }
    let (mut found, mut failed) = (Vec::new(), 0);
    for iccid in iccids {
        match profiles::find(connection, std::slice::from_ref(iccid)).await {
            Err(error) if error.may_be_one_row() => {
                log_failed(iccid, &error);
                failed += 1;
            }
            alone => found.extend(alone?),
        }
    }
    Ok((found, failed))
}

/// Logs that the database fails at a profile.
fn log_failed(iccid: &str, error: &StoreError) {
    static SELDOM: Seldom = Seldom::new();
    if let Some(left_out) = SELDOM.due() {
        let iccid = Iccid::parse(iccid).ok();
        let error = error as &dyn std::error::Error;
        tracing::error!(
            ?iccid,
            error,
            left_out,
            "a profile cannot be read or written, so it is not said whether it is overdue: is its row damaged, or does a trigger raise?"
        );
    }
}

/// Returns how many of these profiles were found to be overdue, how many were locked or have just changed, and at how many the
/// database failed.
async fn note(
    connection: &mut PgConnection,
    iccids: &[String],
    patience: &Patience,
    asked: &[&str],
    now: Timestamp,
) -> Result<(u64, u64, u64), StoreError> {
    let (mut noted, mut missed) = (0, 0);
    let (profiles, mut failed) = find(connection, iccids).await?;
    for stored in profiles {
        let profile = &stored.profile;
        let expected_from = stored.order.expected_from;
        let Some(reason) = profile.overdue(expected_from, patience, now) else { continue };
        let line = profile.note_overdue(reason, now);
        let written = match overdue::note(connection, &stored, &line).await {
            Err(error) if error.may_be_one_row() => {
                log_failed(profile.iccid.as_str(), &error);
                failed += 1;
                continue;
            }
            written => written?,
        };
        match written {
            Noted::Written => {
                noted += 1;
                telemetry::count_overdue(&profile.provider, reason, 1);
                if asked.contains(&profile.provider.as_str()) {
                    let noted = Profile { seq: line.seq, ..profile.clone() };
                    inquiries::want(connection, &noted, Urgency::Sometime, now, now).await?;
                }
            }
            Noted::Missed => missed += 1,
        }
    }
    Ok((noted, missed, failed))
}
