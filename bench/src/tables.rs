//! The databases that are measured on: an empty one, and one with a few years of history.

use std::fmt::Write;

use anyhow::Context;
use sqlx::Row;

use crate::postgres::Postgres;

/// The database with the schema alone, from which others are made.
const BLANK: &str = "blank";

/// The large one's name; another number where what is in it changes.
pub const LARGE: &str = "large_1";

/// How many profiles are in the large one. With four transitions for each third and three for the others: 10 million.
pub const LARGE_PROFILES: u64 = 3_000_000;

impl Postgres {
    /// Makes the blank database.
    ///
    /// # Errors
    /// What failed.
    pub fn make_blank(&self) -> anyhow::Result<()> {
        self.make(BLANK)
    }

    /// Makes a database with the schema alone.
    ///
    /// # Errors
    /// What failed.
    pub fn make_from_blank(&self, database: &str) -> anyhow::Result<()> {
        self.remove(database)?;
        self.execute("postgres", &format!("CREATE DATABASE {database} TEMPLATE {BLANK}"))
    }

    /// Makes the large database, unless it is there from an earlier run with a schema that can be brought up to date.
    ///
    /// # Errors
    /// What failed.
    pub fn make_large(&self) -> anyhow::Result<()> {
        let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{LARGE}'");
        let there = self.ask("postgres", &query)?.try_get::<i64, _>(0)? == 1;
        if there && self.migrate(LARGE).is_ok() {
            return Ok(());
        }
        self.remove(LARGE)?;
        // Under another name first, so that one that was interrupted is never taken for a whole one.
        self.make("large_new")?;
        self.fill("large_new", LARGE_PROFILES)?;
        self.execute("postgres", &format!("ALTER DATABASE large_new RENAME TO {LARGE}"))
    }

    /// Reads the large database into the server's memory, as it would be after a while of work; without the extension
    /// for it, the first measurements will wait for the disk.
    ///
    /// # Errors
    /// What failed.
    pub fn warm_large(&self) -> anyhow::Result<()> {
        if self.execute(LARGE, "CREATE EXTENSION IF NOT EXISTS pg_prewarm").is_err() {
            eprintln!("PostgreSQL comes without pg_prewarm: the large table is measured cold");
            return Ok(());
        }
        self.execute(
            LARGE,
            "SELECT sum(pg_prewarm(oid)) FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('i', 'r')",
        )
    }

    /// Puts profiles 0 to `count` into a database, each with a life behind it that ended `DISABLED`, as
    /// [`crate::deliveries`] expects.
    ///
    /// # Errors
    /// What failed.
    pub fn fill(&self, database: &str, count: u64) -> anyhow::Result<()> {
        let iccid = iccid_of("n").context("a formatter for text does not fail")?;
        let last = count.saturating_sub(1);
        // Device and subscription as `deliveries` writes them.
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
fn iccid_of(number: &str) -> Result<String, std::fmt::Error> {
    // Every second digit counts twice, from the last before the check digit on; 894400 in front makes 29 of it.
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
    fn profiles_in_the_table_are_those_that_deliveries_speak_of() {
        // Where we are root, the server runs as somebody else, who has to get there.
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
