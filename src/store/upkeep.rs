//! The periodic upkeep of the tables: creates partitions for coming months, and deletes what is past its retention.
//!
//! A wrong clock must not destroy anything. Deliveries carry times of this machine's clock, so partitions are created
//! around both its clock and the database's. Only what has expired by both clocks is dropped, so a clock that is ahead
//! cannot cause it.

use sqlx::PgConnection;

use super::clocks::Clocks;
use super::error::StoreError;
use super::{
    backlogs, changes, counts, customer_deliveries, event_ids, hook_health, indexes, marks,
    partitions, profiles,
};
use crate::domain::Timestamp;

/// The min number of days that event ids are kept. Senders retry for some days, whatever the retention of deliveries
/// is.
const MIN_EVENT_ID_DAYS: u32 = 14;

/// The max number of event ids that one statement deletes, so that none runs long; and the max number of such
/// statements in one upkeep.
const MAX_FORGOTTEN: u64 = 10_000;
const MAX_ROUNDS: u32 = 100;

/// Creates the missing partitions around now, and warns if the clocks differ. That is all a service needs in order to
/// start. `now` is this machine's clock, `days` the retention of deliveries.
///
/// # Errors
/// [`StoreError`].
pub async fn prepare(
    connection: &mut PgConnection,
    now: Timestamp,
    days: u32,
) -> Result<(), StoreError> {
    let clocks = read_clocks(connection, now).await?;
    partitions::make_ahead(connection, clocks, days_before(clocks.earlier(), days)).await
}

/// The small upkeep, every minute: adds up the counts, and gives positions to changes. Safe to call from any number of replicas.
///
/// # Errors
/// [`StoreError`]; nothing is lost by it.
pub async fn run_small(connection: &mut PgConnection) -> Result<(), StoreError> {
    counts::add_up(connection).await?;
    changes::run_upkeep(connection).await
}

/// The whole upkeep, every hour. Each run does a bounded amount of work and leaves the rest to the next. Safe to call from any
/// number of replicas.
///
/// # Errors
/// [`StoreError`]; what was done before the error stays done.
pub async fn run_whole(
    connection: &mut PgConnection,
    now: Timestamp,
    days: u32,
) -> Result<(), StoreError> {
    let clocks = read_clocks(connection, now).await?;
    let now = clocks.earlier();
    let kept_from = days_before(now, days);
    partitions::make_ahead(connection, clocks, kept_from).await?;
    partitions::drop_expired(connection, kept_from).await?;
    if indexes::ensure(connection, event_ids::BY_AGE).await? {
        let kept_from = days_before(now, days.max(MIN_EVENT_ID_DAYS));
        for _ in 0..MAX_ROUNDS {
            let forgotten = event_ids::forget(connection, kept_from, MAX_FORGOTTEN).await?;
            if forgotten < MAX_FORGOTTEN {
                break;
            }
        }
    }
    // The deliveries themselves are dropped by whole months.
    let kept_from = days_before(now, days.saturating_add(31));
    customer_deliveries::forget(connection, kept_from, MAX_FORGOTTEN).await?;
    indexes::ensure(connection, profiles::BY_END).await?;
    hook_health::forget(connection, now).await?;
    backlogs::forget(connection).await?;
    run_small(connection).await?;
    counts::count_anew(connection, now).await?;
    marks::mark_all(connection).await
}

async fn read_clocks(connection: &mut PgConnection, now: Timestamp) -> Result<Clocks, StoreError> {
    let clocks = Clocks::read(connection, now).await?;
    if let Some(ahead) = clocks.difference() {
        tracing::warn!(
            seconds_ahead = ahead.round(),
            "this machine's clock and the database's differ: set both by NTP"
        );
    }
    Ok(clocks)
}

fn days_before(now: Timestamp, days: u32) -> Timestamp {
    now.plus_seconds(-i64::from(days) * 86_400)
}
