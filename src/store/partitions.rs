//! The monthly partitions of `deliveries`: made ahead, dropped after the retention, by whichever replica comes first.

use std::collections::BTreeSet;

use sqlx::types::time::OffsetDateTime;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::{Date, Month};

use super::codec::StoreError;
use super::event_ids;
use crate::domain::Timestamp;

/// How many months ahead of the current one have a partition. A service that was down for a while, or a database whose
/// maintenance fails for some weeks, still has somewhere to write.
const MONTHS_AHEAD: u8 = 3;

/// The key of the advisory lock that lets one replica at a time do this; an arbitrary number that stays the same.
const LOCK: i64 = 0x6573_696d_7061_7274;

/// How many event ids one statement forgets, so that none runs long.
const FORGET_AT_ONCE: i64 = 10_000;

/// Makes the partitions that are missing around `now` and drops what is older than the retention. Safe to call at any
/// time from any number of replicas.
///
/// # Errors
/// [`StoreError`].
pub async fn maintain(
    connection: &mut PgConnection,
    now: Timestamp,
    days: u32,
) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK).execute(&mut *transaction).await?;
    let existing = names(&mut transaction).await?;
    let oldest_kept = now.plus_seconds(-i64::from(days) * 86_400);
    // The month before too: a delivery that waited over midnight of the first keeps its time of receipt.
    let mut month = first_of_month(now.as_datetime().date()).previous_day().unwrap_or(Date::MIN);
    for _ in 0..MONTHS_AHEAD + 2 {
        month = first_of_month(month);
        let next = next_month(month);
        if midnight(next) > oldest_kept.as_datetime() && !existing.contains(&name(month)) {
            create(&mut transaction, month, next).await?;
        }
        month = next;
    }
    transaction.commit().await?;

    for partition in existing {
        let expired = month_of(&partition)
            .is_some_and(|month| midnight(next_month(month)) <= oldest_kept.as_datetime());
        if expired {
            drop_partition(connection, &partition).await?;
        }
    }
    while event_ids::forget(connection, oldest_kept, FORGET_AT_ONCE).await? > 0 {}
    Ok(())
}

/// Makes the partitions that deliveries with these times of receipt need, and no others. Safe to call from any number of
/// replicas; nobody who reads or writes `deliveries` waits for it. A month that is past the retention is made too: its deliveries
/// can then be written and applied, and the next upkeep drops it.
///
/// # Errors
/// [`StoreError`]; no partition was made then.
pub async fn make_for(
    connection: &mut PgConnection,
    received_at: &[Timestamp],
) -> Result<(), StoreError> {
    let months = received_at.iter().map(|it| first_of_month(it.as_datetime().date()));
    make(connection, months.collect()).await
}

/// Makes those of the months that are missing. Each begins with its first day.
async fn make(connection: &mut PgConnection, months: BTreeSet<Date>) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    // A writer's session does not wait for locks; here it waits for another replica that makes the same.
    sqlx::query!("SELECT set_config('lock_timeout', '1s', true)")
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", LOCK).execute(&mut *transaction).await?;
    let existing = names(&mut transaction).await?;
    for month in months {
        if !existing.contains(&name(month)) {
            create(&mut transaction, month, next_month(month)).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

/// Nobody reads or writes the table while this waits for its lock, so it waits a moment only; the next time may be better.
async fn drop_partition(connection: &mut PgConnection, partition: &str) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    sqlx::query!("SELECT set_config('lock_timeout', '200ms', true)")
        .fetch_one(&mut *transaction)
        .await?;
    // Another replica may have been faster.
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
    // Made alone and attached after: that keeps nobody from reading and writing, as making it a partition at once would.
    // A partition's name and bounds cannot be parameters; they are made of numbers only.
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

fn name(month: Date) -> String {
    format!("deliveries_{:04}_{:02}", month.year(), u8::from(month.month()))
}

/// The month that a partition's name tells; `None` for a table that somebody else attached.
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
