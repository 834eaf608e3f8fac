//! The databases for the measurements: an empty one, and one with a few years of history.

use std::fmt::Write;

use anyhow::Context;
use sqlx::Row;

use crate::postgres::Postgres;

/// The database with only the schema, which others are copied from.
pub const BLANK: &str = "blank";

/// The name of the large database. Increase the number if its content changes.
pub const LARGE: &str = "large_1";

/// How many profiles are in the large database. Every third profile has four transitions and the others have three,
/// which makes 10 million.
pub const LARGE_PROFILES: u64 = 3_000_000;

impl Postgres {
    /// Recreates a database as a copy of another.
    ///
    /// # Errors
    /// If a step fails.
    pub fn copy(&self, template: &str, database: &str) -> anyhow::Result<()> {
        self.remove(database)?;
        self.execute("postgres", &format!("CREATE DATABASE {database} TEMPLATE {template}"))
    }

    /// Creates the large database, unless it exists from an earlier run and can be migrated.
    ///
    /// # Errors
    /// If a step fails.
    pub fn make_large(&self) -> anyhow::Result<()> {
        let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{LARGE}'");
        let there = self.ask("postgres", &query)?.try_get::<i64, _>(0)? == 1;
        if there && self.migrate(LARGE).is_ok() {
            return Ok(());
        }
        self.remove(LARGE)?;
        // First under another name, so that an interrupted run does not leave an incomplete database with the final
        // name.
        self.make("large_new")?;
        self.fill("large_new", LARGE_PROFILES)?;
        self.execute("postgres", &format!("ALTER DATABASE large_new RENAME TO {LARGE}"))
    }

    /// Loads the large database into the server's memory, where it would be after some use. Without the extension for
    /// this, the first measurements wait for the disk.
    ///
    /// # Errors
    /// If a step fails.
    pub fn warm_large(&self) -> anyhow::Result<()> {
        if self.execute(LARGE, "CREATE EXTENSION IF NOT EXISTS pg_prewarm").is_err() {
            eprintln!("PostgreSQL has no pg_prewarm: the large table is measured cold");
            return Ok(());
        }
        self.execute(
            LARGE,
            "SELECT sum(pg_prewarm(oid)) FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('i', 'r')",
        )
    }

    /// Inserts `count` profiles into a database, each with a history that ends with `DISABLED`, as
    /// [`crate::deliveries`] expects.
    ///
    /// # Errors
    /// If a step fails.
    pub fn fill(&self, database: &str, count: u64) -> anyhow::Result<()> {
        let iccid = iccid_of("n").context("a formatter for text does not fail")?;
        let last = count.saturating_sub(1);
        // EID and IMSI as in `deliveries`.
        self.execute(
            database,
            &format!(
                "SET synchronous_commit = off;
                 INSERT INTO profiles (iccid, provider, state, enabled, raw_state, imsi, eid, since, seq, installs_seen,
                                       deliveries, last_delivery_at, updated_at)
                 SELECT {iccid}, 'gigastore', 'DISABLED', false, 'DISABLED', '234' || lpad(n::text, 12, '0'),
                        '89049032' || lpad(n::text, 12, '0') || lpad(n::text, 12, '0'),
                        now() - interval '1 day', CASE WHEN n % 3 = 0 THEN 4 ELSE 3 END, 1, 4,
                        now() - interval '1 day', now() - interval '1 day'
                 FROM generate_series(0, {last}) AS n;
                 INSERT INTO transitions (iccid, seq, from_state, to_state, enabled, raw_state, kind, received_at, provider,
                                          delivery_id)
                 SELECT {iccid}, step, life[step - 1], life[step], (ARRAY[NULL, NULL, true, false])[step + 4 - steps],
                        life[step], 'normal', now() - interval '1 day' * (steps - step + 1), 'gigastore',
                        gen_random_uuid()
                 FROM generate_series(0, {last}) AS n,
                      LATERAL (SELECT CASE WHEN n % 3 = 0 THEN 4 ELSE 3 END AS steps) AS s,
                      LATERAL (SELECT CASE steps WHEN 4 THEN ARRAY['RELEASED', 'DOWNLOADED', 'INSTALLED', 'DISABLED']
                                                 ELSE ARRAY['RELEASED', 'INSTALLED', 'DISABLED'] END AS life) AS l,
                      LATERAL generate_series(1, steps) AS step"
            ),
        )?;
        self.execute(database, "VACUUM (FREEZE, ANALYZE)")?;
        self.execute(database, "CHECKPOINT")
    }
}

/// [`crate::deliveries::iccid`] in SQL, for a column of numbers.
///
/// # Errors
/// None: a formatter for text does not fail.
pub fn iccid_of(number: &str) -> Result<String, std::fmt::Error> {
    // The Luhn algorithm: every second digit counts twice, starting next to the check digit. The prefix 894400 adds 29.
    let mut sum = String::from("29");
    for place in 0..12 {
        let digit = format!("({number} / {}) % 10", 10_u64.pow(place));
        match place % 2 {
            0 => write!(sum, " + ({digit}) * 2 / 10 + ({digit}) * 2 % 10")?,
            _ => write!(sum, " + {digit}")?,
        }
    }
    let number = format!("lpad({number}::text, 12, '0')");
    Ok(format!("'894400' || {number} || ((10 - ({sum}) % 10) % 10)::text"))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::deliveries::iccid;

    #[test]
    fn profiles_in_the_table_are_those_that_deliveries_are_about() {
        // If this is root, the server runs as another user, who must be able to enter the folder.
        let open = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(open).tempdir_in("/tmp").unwrap();
        let postgres = Postgres::start(&folder.path().join("bench")).unwrap();
        postgres.make("filled").unwrap();
        postgres.fill("filled", 3_000).unwrap();
        let row = postgres
            .ask("filled", "SELECT array_agg(iccid ORDER BY iccid), sum(seq)::bigint FROM profiles")
            .unwrap();
        let expected: Vec<_> = (0..3_000).map(iccid).collect();
        assert_eq!(row.get::<Vec<String>, _>(0), expected);
        assert_eq!(row.get::<i64, _>(1), 10_000);
        let transitions = postgres
            .ask(
                "filled",
                "SELECT count(*), count(from_state) FROM transitions WHERE to_state <> 'ERROR'",
            )
            .unwrap();
        assert_eq!((transitions.get::<i64, _>(0), transitions.get::<i64, _>(1)), (10_000, 7_000));
    }
}
