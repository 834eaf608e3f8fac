//! The counts of profiles by state and of deliveries by day.
//!
//! Writers append what they change to `count_changes` ([`super::batch_write`], [`super::erasures`]). [`add_up`] moves that
//! into `profile_counts` and `delivery_counts`, and [`count_anew`] replaces these by a count of the tables. What is not
//! added up yet is part of every summary, so the counts are never behind.

use sqlx::types::time::Date;
use sqlx::{Connection, PgConnection};
use time::Duration;
use tokio::time::sleep;

use super::error::StoreError;
use super::exclusive::{self, Work};
use crate::domain::{Milestone, Timestamp};

/// The max number of changes that one statement adds up, and the max number of such statements in one upkeep.
const MAX_ADDED: i64 = 50_000;
const MAX_ROUNDS: u32 = 100;

/// How often a count tries to begin: what adds up holds the lock for a moment.
const TRIES: u32 = 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// How many days back deliveries are counted: what a summary may ask for, and one more for a clock that is behind.
const DAYS_BACK: i64 = 91;

/// Adds up what writers have appended. Does nothing while another replica does, or counts.
///
/// # Errors
/// [`StoreError`]; each statement that succeeded stays done.
pub async fn add_up(connection: &mut PgConnection) -> Result<(), StoreError> {
    for _ in 0..MAX_ROUNDS {
        if add_some(connection).await? < MAX_ADDED {
            break;
        }
    }
    Ok(())
}

/// Returns how many changes were added up. A lock that the session holds already is no obstacle.
async fn add_some(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let added = sqlx::query_scalar!(
        r#"WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
           taken AS (
               DELETE FROM count_changes
               WHERE ctid = ANY(ARRAY(SELECT ctid FROM count_changes WHERE (SELECT locked FROM mine) LIMIT $2))
               RETURNING provider, day, outcome, from_state, to_state, ready_on, milestones, took, n
           ),
           states AS (
               INSERT INTO profile_counts AS c (provider, state, profiles)
               SELECT provider, state, sum(n)
               FROM (SELECT provider, to_state AS state, n FROM taken WHERE to_state IS NOT NULL
                     UNION ALL
                     SELECT provider, from_state, -n FROM taken WHERE from_state IS NOT NULL) AS changed
               GROUP BY provider, state HAVING sum(n) <> 0
               ON CONFLICT (provider, state) DO UPDATE SET profiles = c.profiles + EXCLUDED.profiles
           ),
           days AS (
               INSERT INTO delivery_counts AS c (day, provider, outcome, deliveries)
               SELECT day, provider, outcome, sum(n) FROM taken WHERE day IS NOT NULL
               GROUP BY day, provider, outcome
               ON CONFLICT (day, provider, outcome) DO UPDATE SET deliveries = c.deliveries + EXCLUDED.deliveries
           ),
           funnel AS (
               INSERT INTO funnel_counts AS c (day, provider, milestone, profiles)
               SELECT ready_on, provider, m.milestone, sum(n)
               FROM taken JOIN UNNEST($3::text[], $4::smallint[]) AS m (milestone, bit) ON milestones & bit <> 0
               GROUP BY ready_on, provider, m.milestone
               ON CONFLICT (day, provider, milestone) DO UPDATE SET profiles = c.profiles + EXCLUDED.profiles
           ),
           times AS (
               INSERT INTO install_times AS c (day, provider, took, profiles)
               SELECT ready_on, provider, took, sum(n) FROM taken WHERE took IS NOT NULL
               GROUP BY ready_on, provider, took
               ON CONFLICT (day, provider, took) DO UPDATE SET profiles = c.profiles + EXCLUDED.profiles
           )
           SELECT count(*) AS "added!" FROM taken"#,
        Work::Counts.key(),
        MAX_ADDED,
        &Milestone::ALL.map(Milestone::as_str) as &[&str],
        &Milestone::ALL.map(Milestone::bit)
    );
    Ok(added.fetch_one(connection).await?)
}

/// Counts the tables where that is due: all profiles and the newest two days of deliveries once a day, because replicas
/// of an older release and operators with psql change the tables and append nothing; and each earlier day once. Nobody
/// waits for this. It may take minutes, and does nothing while another replica does it. `now` is the earlier of this
/// machine's clock and the database's.
///
/// # Errors
/// [`StoreError`]. What was counted before the error stays, and the next call continues.
pub async fn count_anew(connection: &mut PgConnection, now: Timestamp) -> Result<(), StoreError> {
    let mut tries = 1;
    while !exclusive::begin(connection, Work::Counts).await? {
        if tries == TRIES {
            return Ok(());
        }
        tries += 1;
        sleep(PAUSE).await;
    }
    let counted = count_what_is_due(connection, now).await;
    exclusive::end(connection, Work::Counts).await?;
    counted
}

async fn count_what_is_due(
    connection: &mut PgConnection,
    now: Timestamp,
) -> Result<(), StoreError> {
    let today = now.as_datetime().date();
    let oldest = today.saturating_sub(Duration::days(DAYS_BACK));
    // A time in the future is of a clock that was ahead.
    let due = sqlx::query!(
        r#"SELECT (profiles_counted_at BETWEEN now() - interval '1 day' AND now()) IS NOT TRUE AS "profiles!",
                  (days_counted_at BETWEEN now() - interval '1 day' AND now()) IS NOT TRUE AS "days!"
           FROM upkeep"#
    );
    let due = due.fetch_one(&mut *connection).await?;
    if due.profiles {
        count_profiles(connection).await?;
    }
    if due.days {
        let yesterday = today.saturating_sub(Duration::days(1));
        count_days(connection, yesterday, Date::MAX).await?;
    }
    loop {
        let from = days_from(connection).await?.unwrap_or(today);
        if from <= oldest {
            break;
        }
        count_days(connection, from.saturating_sub(Duration::days(1)), from).await?;
    }
    sqlx::query!("DELETE FROM delivery_counts WHERE day < $1", oldest)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM funnel_counts WHERE day < $1", oldest)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("DELETE FROM install_times WHERE day < $1", oldest).execute(connection).await?;
    Ok(())
}

/// Replaces the counts of profiles.
///
/// What is counted and what was appended until then are read in one snapshot: what a writer commits meanwhile is neither
/// counted nor taken, and is added up later.
async fn count_profiles(connection: &mut PgConnection) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    begin_to_count(&mut transaction).await?;
    sqlx::query!("DELETE FROM profile_counts").execute(&mut *transaction).await?;
    sqlx::query!(
        "INSERT INTO profile_counts (provider, state, profiles)
         SELECT provider, state, count(*) FROM profiles GROUP BY provider, state"
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!("UPDATE upkeep SET profiles_counted_at = now()")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// Replaces the counts of the deliveries of these days, `until` excluded, in the same way.
async fn count_days(
    connection: &mut PgConnection,
    from: Date,
    until: Date,
) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    begin_to_count(&mut transaction).await?;
    sqlx::query!("DELETE FROM delivery_counts WHERE day >= $1 AND day < $2", from, until)
        .execute(&mut *transaction)
        .await?;
    sqlx::query!(
        "INSERT INTO delivery_counts (day, provider, outcome, deliveries)
         SELECT (received_at AT TIME ZONE 'UTC')::date, provider, outcome, count(*)
         FROM deliveries WHERE received_at >= $1 AND received_at < $2
         GROUP BY 1, 2, 3",
        from.midnight().assume_utc(),
        until.midnight().assume_utc()
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "UPDATE upkeep SET days_counted_from = least(days_counted_from, $1),
                            days_counted_at = CASE WHEN $2 THEN now() ELSE days_counted_at END",
        from,
        until == Date::MAX
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Adds up everything that the transaction sees, so that what is replaced then contains all of it.
async fn begin_to_count(transaction: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query!("SELECT set_config('statement_timeout', '0', true)")
        .fetch_one(&mut *transaction)
        .await?;
    while add_some(transaction).await? == MAX_ADDED {}
    Ok(())
}

/// The first day whose deliveries are counted completely, as are those of all later days; `None` if no day is.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn days_from(connection: &mut PgConnection) -> Result<Option<Date>, StoreError> {
    let from = sqlx::query_scalar!("SELECT days_counted_from FROM upkeep");
    Ok(from.fetch_one(connection).await?)
}

/// Whether all profiles have been counted.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn has_profiles(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let known =
        sqlx::query_scalar!(r#"SELECT profiles_counted_at IS NOT NULL AS "known!" FROM upkeep"#);
    Ok(known.fetch_one(connection).await?)
}
