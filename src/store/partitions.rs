//! The monthly partitions of `deliveries`: created ahead, dropped after the retention, by whichever replica comes
//! first.

use std::collections::BTreeSet;
use std::iter::successors;

use sqlx::types::time::OffsetDateTime;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::{Date, Month};

use super::clocks::Clocks;
use super::error::StoreError;
use super::exclusive;
use crate::domain::Timestamp;

/// How many months ahead have a partition. A service that was down for a while, or a database whose upkeep fails
/// for some weeks, can still write.
const MONTHS_AHEAD: u8 = 3;

/// The max number of partitions that one call drops. Each drop may block readers and writers while it waits for its
/// lock.
const MAX_DROPPED: usize = 12;

/// Creates the missing partitions around both clocks, except those that end before `kept_from`, which the next
/// [`drop_expired`] would drop. Safe to call at any time, from any number of replicas.
///
/// # Errors
/// [`StoreError`]; no partition was created then.
pub async fn make_ahead(
    connection: &mut PgConnection,
    clocks: Clocks,
    kept_from: Timestamp,
) -> Result<(), StoreError> {
    let months = [clocks.ours, clocks.theirs].into_iter().flat_map(around);
    make(connection, months.filter(|month| !is_expired(*month, kept_from)).collect()).await
}

/// Drops the partitions that end before `kept_from`, up to a max number.
///
/// # Errors
/// [`StoreError`]. A partition that is in use is not an error: it is left for the next call.
pub async fn drop_expired(
    connection: &mut PgConnection,
    kept_from: Timestamp,
) -> Result<(), StoreError> {
    let existing = names(connection).await?;
    let expired = existing
        .iter()
        .filter(|name| month_of(name).is_some_and(|month| is_expired(month, kept_from)));
    for partition in expired.take(MAX_DROPPED) {
        drop_partition(connection, partition).await?;
    }
    Ok(())
}

/// Creates the partitions that deliveries with these times of receipt need, and no others. Safe to call from any number
/// of replicas; readers and writers of `deliveries` do not wait for it. A month that is past the retention is created
/// too: its deliveries can then be written and applied, and the next upkeep drops it.
///
/// # Errors
/// [`StoreError`]; no partition was created then.
pub async fn make_for(
    connection: &mut PgConnection,
    received_at: &[Timestamp],
) -> Result<(), StoreError> {
    let months = received_at.iter().map(|it| first_of_month(it.as_datetime().date()));
    make(connection, months.collect()).await
}

/// Creates the partitions of these months that are missing. Each month is given by its first day.
async fn make(connection: &mut PgConnection, months: BTreeSet<Date>) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    // A writer's session hardly waits for locks, but this must wait for another replica that creates the same
    // partition.
    sqlx::query!("SELECT set_config('lock_timeout', '1s', true)")
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", exclusive::PARTITIONS)
        .execute(&mut *transaction)
        .await?;
    let existing = names(&mut transaction).await?;
    for month in months {
        if !existing.contains(&name(month)) {
            create(&mut transaction, month, next_month(month)).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

/// While this waits for its lock, it blocks all readers and writers of the table. So it waits briefly, and leaves the
/// rest to the next call.
async fn drop_partition(connection: &mut PgConnection, partition: &str) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("SELECT set_config('lock_timeout', '200ms', true)")
        .fetch_one(&mut *transaction)
        .await?;
    // Another replica may have dropped it already.
    let statement = format!("DROP TABLE IF EXISTS {partition}");
    match sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await {
        Ok(_) => {
            transaction.commit().await?;
            tracing::info!(%partition, "dropped deliveries that are past their retention");
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, %partition, "deliveries past their retention could not be dropped yet");
        }
    }
    Ok(())
}

async fn names(connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar!(
        r#"SELECT c.relname::text AS "name!" FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
           WHERE i.inhparent = 'deliveries'::regclass"#
    )
    .fetch_all(connection)
    .await?;
    Ok(names)
}

async fn create(connection: &mut PgConnection, from: Date, to: Date) -> Result<(), StoreError> {
    let name = name(from);
    // Created as a separate table and then attached, which does not block readers and writers, as creating it as a
    // partition would. A partition's name and bounds cannot be parameters; they consist of numbers only.
    for statement in [
        format!("CREATE TABLE {name} (LIKE deliveries INCLUDING ALL)"),
        format!(
            "ALTER TABLE deliveries ATTACH PARTITION {name} FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
        ),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The month of `now`, those ahead of it, and the one before: a delivery that is written after midnight of the first
/// may have been received before.
fn around(now: Timestamp) -> impl Iterator<Item = Date> {
    let this = first_of_month(now.as_datetime().date());
    let before = first_of_month(this.previous_day().unwrap_or(this));
    successors(Some(before), |month| Some(next_month(*month))).take(usize::from(MONTHS_AHEAD) + 2)
}

fn is_expired(month: Date, kept_from: Timestamp) -> bool {
    midnight(next_month(month)) <= kept_from.as_datetime()
}

fn name(month: Date) -> String {
    format!("deliveries_{:04}_{:02}", month.year(), u8::from(month.month()))
}

/// The month in a partition's name; `None` for a table that someone else attached.
fn month_of(name: &str) -> Option<Date> {
    let (year, month) = name.strip_prefix("deliveries_")?.split_once('_')?;
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year.parse().ok()?, month, 1).ok()
}

fn first_of_month(date: Date) -> Date {
    date.replace_day(1).unwrap_or(date)
}

fn next_month(first: Date) -> Date {
    let (year, month) = (first.year(), first.month());
    let year = if month == Month::December { year + 1 } else { year };
    Date::from_calendar_date(year, month.next(), 1).unwrap_or(Date::MAX)
}

fn midnight(date: Date) -> OffsetDateTime {
    date.midnight().assume_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_months_are_inverse() {
        let month = Date::from_calendar_date(2026, Month::December, 1).unwrap();
        assert_eq!(name(month), "deliveries_2026_12");
        assert_eq!(month_of("deliveries_2026_12"), Some(month));
        assert_eq!(next_month(month), Date::from_calendar_date(2027, Month::January, 1).unwrap());
        assert_eq!(month_of("deliveries_archive"), None);
        assert_eq!(month_of("deliveries_2026_13"), None);
    }
}
