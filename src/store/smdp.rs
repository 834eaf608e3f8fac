//! How the servers do that install profiles (SM-DP+): of the last profiles that tried, how many arrived.

use sqlx::PgConnection;

use super::deliveries::first_id;
use super::error::StoreError;
use crate::domain::Timestamp;

/// How many of the last profiles of a server are looked at. Percentages of fewer say nothing.
pub const LOOKED_AT: i64 = 20;

/// How far back they are looked for, in seconds, and in how many of the last changes: on a busy system, those of an hour.
const BACK_SECONDS: i64 = 86_400;
const MAX_DELIVERIES: i64 = 5_000;

/// The max number of servers.
const MAX_HOSTS: i64 = 50;

/// What became of the last installs from one server.
#[derive(Debug)]
pub struct Arrivals {
    /// The SM-DP+ address.
    pub host: String,
    /// How many profiles have tried within a day, the last [`LOOKED_AT`] at most: they failed, arrived, or were downloaded
    /// more than a quarter of an hour ago.
    pub tried: i64,
    /// How many of these are on a device.
    pub arrived: i64,
}

/// Reads how each server does from which a profile was tried within a day.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn read(
    connection: &mut PgConnection,
    now: Timestamp,
) -> Result<Vec<Arrivals>, StoreError> {
    let since = now.plus_seconds(-BACK_SECONDS);
    let arrivals = sqlx::query_as!(
        Arrivals,
        r#"WITH changed AS MATERIALIZED (
               SELECT DISTINCT iccid FROM (
                   SELECT iccid FROM deliveries
                   WHERE id >= $1 AND received_at >= $2 AND outcome = 'moved' AND iccid IS NOT NULL
                   ORDER BY id DESC LIMIT $3) AS last
           ),
           tried AS (
               SELECT c.host, p.state, row_number() OVER (PARTITION BY c.host ORDER BY p.since DESC, p.iccid) AS n
               FROM changed JOIN profiles AS p USING (iccid) JOIN install_credentials AS c USING (iccid)
               WHERE c.host IS NOT NULL
                 AND (p.state IN ('ERROR', 'INSTALLED', 'DISABLED')
                      OR p.state = 'DOWNLOADED' AND p.since < $4::timestamptz - interval '15 min')
           )
           SELECT host AS "host!", count(*) AS "tried!",
                  count(*) FILTER (WHERE state IN ('INSTALLED', 'DISABLED')) AS "arrived!"
           FROM tried WHERE n <= $5 GROUP BY host ORDER BY host LIMIT $6"#,
        first_id(since),
        since.as_datetime(),
        MAX_DELIVERIES,
        now.as_datetime(),
        LOOKED_AT,
        MAX_HOSTS
    );
    Ok(arrivals.fetch_all(connection).await?)
}
