//! What a session is for, and what is set for it. Settings are made by a statement after connecting: what sits between us and the
//! server may refuse start-up options, or drop them without a word.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::budget;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// A writer's or the drainer's: never waits for another transaction for long.
    Writer,
    /// A lane's: waits for a profile that another transaction holds, as long as a statement may run.
    Lane,
    /// Registrations and erasures.
    Registrations,
    /// Single profiles, many at once.
    Lookup,
    /// Lists, counts, histories.
    Reads,
    /// Hears of changes.
    Listen,
    /// Says whether the database answers.
    Probe,
    /// Gets the tables ready and looks after them.
    Upkeep,
    /// Brings the schema up to date; may take long.
    Migrate,
}

/// How many kinds there are.
pub(super) const KINDS: usize = 9;

/// What a server says of itself.
const SERVER: &str = "current_setting('transaction_read_only') = 'on', pg_is_in_recovery()";

type Setting = (&'static str, Cow<'static, str>);

/// For all that has a time-out.
const BOUNDED: [(&str, &str); 2] =
    [("default_transaction_isolation", "read committed"), ("timezone", "UTC")];

/// For statements that find every row by its key: planned once, and never by reading a table through, which would seem right for
/// as long as the table is small and stay so in a plan that is kept.
const BY_KEY: [(&str, &str); 3] =
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off")];

/// Rows that come together are joined to rows of a table: by their keys, not by reading an index through, which would seem right
/// as long as the table is small. By a bitmap an index can only be searched.
const JOINED_BY_KEY: (&str, &str) = ("enable_indexscan", "off");

/// What a server says of itself when a session begins.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Whether its sessions cannot write.
    pub read_only: bool,
    /// Whether it is a standby.
    pub in_recovery: bool,
}

impl Session {
    /// Whether it goes without a session while there are too few for those that webhooks and readiness need.
    pub(super) fn gives_way(self) -> bool {
        matches!(self, Self::Registrations | Self::Reads)
    }

    /// Under which name the server shows it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Writer | Self::Registrations => "esim-status writer",
            Self::Lane => "esim-status lane",
            Self::Lookup | Self::Reads => "esim-status reader",
            Self::Listen => "esim-status listener",
            Self::Probe => "esim-status probe",
            Self::Upkeep => "esim-status upkeep",
            Self::Migrate => "esim-status migrate",
        }
    }

    /// What is set for it.
    pub(super) fn settings(self) -> Vec<Setting> {
        let statement = match self {
            Self::Writer | Self::Lane | Self::Registrations => budget::STATEMENT,
            Self::Lookup | Self::Reads | Self::Listen | Self::Probe | Self::Upkeep => {
                budget::READ_STATEMENT
            }
            Self::Migrate => Duration::ZERO,
        };
        let lock = if self == Self::Writer { budget::HELD_ROW } else { Duration::ZERO };
        let mut settings: Vec<Setting> = Vec::new();
        let mut limit = |name, time| settings.push((name, budget::in_postgres(time).into()));
        limit("statement_timeout", statement);
        limit("lock_timeout", lock);
        if self != Self::Migrate {
            limit("idle_in_transaction_session_timeout", budget::IDLE_TRANSACTION);
        }
        let mut set = |values: &[(&'static str, &'static str)]| {
            settings.extend(values.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))));
        };
        if self != Self::Migrate {
            set(&BOUNDED);
        }
        if let Self::Writer | Self::Lane | Self::Registrations | Self::Lookup = self {
            set(&BY_KEY);
        }
        if let Self::Writer | Self::Lane | Self::Registrations = self {
            set(&[JOINED_BY_KEY]);
        }
        settings
    }

    /// Sets it up in one round trip, for as long as it lives: no rollback undoes it.
    pub(super) async fn set_up(self, connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
        let mut statement = format!("SELECT {SERVER}");
        for (name, value) in self.settings() {
            // Names and values are the constants above.
            _ = write!(statement, ", set_config('{name}', '{value}', false)");
        }
        // A simple query: it prepares nothing that a pooler could mix up.
        let row = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_one(connection).await?;
        Ok(Server { read_only: row.try_get(0)?, in_recovery: row.try_get(1)? })
    }

    /// Reads its settings back: names those that are not what was set, each with the value that it has.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub async fn lost_settings(
        self,
        connection: &mut PgConnection,
    ) -> Result<Vec<String>, sqlx::Error> {
        let mut lost = Vec::new();
        for (name, wanted) in self.settings() {
            let statement = format!("SELECT current_setting('{name}')");
            let row = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_one(&mut *connection).await?;
            let found: String = row.try_get(0)?;
            if found != wanted {
                lost.push(format!("{name} is {found} and not {wanted}"));
            }
        }
        Ok(lost)
    }
}
