//! The table `intents`, and the counts of how far profiles come: `funnel_counts` and `install_times`, which are added up as the
//! other counts are ([`super::counts`]).

use sqlx::PgConnection;
use sqlx::types::time::Date;

use super::error::StoreError;
use crate::domain::{Iccid, Intent, Milestone, Timestamp, Took};

/// How far the profiles of one provider have come that were ready on one day.
#[derive(Debug)]
pub struct DayFunnel {
    /// The day in UTC, such as `2026-11-23`.
    pub day: String,
    /// The provider's slug.
    pub provider: String,
    /// How many profiles have reached what.
    pub reached: Vec<(Milestone, i64)>,
    /// How many installs took how long, shortest first.
    pub times: Vec<(Took, i64)>,
}

/// Reads the counts from this day on, ordered by day and provider.
///
/// # Errors
/// [`StoreError`].
pub async fn read(
    connection: &mut PgConnection,
    since: Date,
) -> Result<Vec<DayFunnel>, StoreError> {
    // One row for each day and provider: a row for each step of time would be some ten thousand.
    let rows = sqlx::query!(
        r#"SELECT to_char(day, 'YYYY-MM-DD') AS "day!", provider AS "provider!",
                  coalesce(array_agg(milestone) FILTER (WHERE milestone IS NOT NULL), '{}') AS "milestones!: Vec<Milestone>",
                  coalesce(array_agg(n) FILTER (WHERE milestone IS NOT NULL), '{}') AS "reached!",
                  coalesce(array_agg(took ORDER BY took) FILTER (WHERE took IS NOT NULL), '{}') AS "steps!",
                  coalesce(array_agg(n ORDER BY took) FILTER (WHERE took IS NOT NULL), '{}') AS "times!"
           FROM (SELECT day, provider, milestone, took, sum(n)::bigint AS n
                 FROM (SELECT day, provider, milestone, NULL::smallint AS took, profiles AS n FROM funnel_counts WHERE day >= $1
                       UNION ALL
                       SELECT ready_on, provider, m.milestone, NULL, n
                       FROM count_changes JOIN UNNEST($2::text[], $3::smallint[]) AS m (milestone, bit) ON milestones & bit <> 0
                       WHERE ready_on >= $1
                       UNION ALL
                       SELECT day, provider, NULL, took, profiles FROM install_times WHERE day >= $1
                       UNION ALL
                       SELECT ready_on, provider, NULL, took, n FROM count_changes WHERE ready_on >= $1 AND took IS NOT NULL) AS counts
                 GROUP BY day, provider, milestone, took) AS sums
           GROUP BY day, provider ORDER BY day, provider"#,
        since,
        &Milestone::ALL.map(Milestone::as_str) as &[&str],
        &Milestone::ALL.map(Milestone::bit)
    )
    .fetch_all(connection)
    .await?;
    let days = rows.into_iter().map(|row| DayFunnel {
        day: row.day,
        provider: row.provider,
        reached: row.milestones.into_iter().zip(row.reached).collect(),
        times: row.steps.into_iter().map(Took).zip(row.times).collect(),
    });
    Ok(days.collect())
}

/// What became of the report of an intent.
#[derive(Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is the first one of this profile, and was counted for this provider.
    Counted(String),
    /// Nothing was counted: it was reported before, or it is not known when the profile was ready.
    NotCounted,
}

/// Notes what a page has reported of a profile's user. `None` if there is no such profile.
///
/// # Errors
/// [`StoreError`].
pub async fn note_intent(
    connection: &mut PgConnection,
    iccid: &Iccid,
    intent: Intent,
    now: Timestamp,
) -> Result<Option<Noted>, StoreError> {
    // The lock makes an erasure wait, which then deletes this. It is not taken for what was reported before, because a webhook
    // that finds the profile locked takes a longer way.
    let noted = sqlx::query!(
        r#"WITH profile AS (
               SELECT iccid, provider, (coalesce(ready_at, $3) AT TIME ZONE 'UTC')::date AS ready_on,
                      ready_at IS NOT NULL OR state = 'PREPARING' AS counts
               FROM profiles
               WHERE iccid = $1 AND NOT EXISTS (SELECT FROM intents WHERE iccid = $1 AND intent = $2)
               FOR KEY SHARE
           ),
           noted AS (
               INSERT INTO intents (iccid, intent, at) SELECT iccid, $2, $3 FROM profile
               ON CONFLICT (iccid, intent) DO NOTHING
               RETURNING 1
           ),
           counted AS (
               INSERT INTO count_changes (provider, ready_on, milestones, n)
               SELECT provider, ready_on, $4, 1 FROM profile, noted WHERE counts
               RETURNING provider
           )
           SELECT (SELECT provider FROM counted) AS counted, EXISTS (SELECT FROM profiles WHERE iccid = $1) AS "is_known!""#,
        iccid.as_str(),
        intent.as_str(),
        now.as_datetime(),
        intent.milestone().bit()
    )
    .fetch_one(connection)
    .await?;
    Ok(noted.is_known.then(|| noted.counted.map_or(Noted::NotCounted, Noted::Counted)))
}

/// Lists what pages have reported of a profile's user, oldest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_intents(
    connection: &mut PgConnection,
    iccid: &Iccid,
) -> Result<Vec<(Intent, Timestamp)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT intent AS "intent: Intent", at AS "at: Timestamp" FROM intents WHERE iccid = $1 ORDER BY at, intent"#,
        iccid.as_str()
    );
    let rows = rows.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.intent, row.at)).collect())
}

/// Deletes what is kept about a profile.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn delete(connection: &mut PgConnection, iccid: &Iccid) -> Result<(), StoreError> {
    sqlx::query!("DELETE FROM intents WHERE iccid = $1", iccid.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
