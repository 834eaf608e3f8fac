//! The kinds of session, and the settings of each. They are set by a statement after connecting, because a pooler or
//! proxy may refuse start-up options, or silently drop them.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::super::backends::Backend;
use crate::budget;

/// The purpose of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// A writer's or the drainer's: never waits long for another transaction.
    Writer,
    /// A lane's: waits for a profile that another transaction holds, up to the statement timeout.
    Lane,
    /// Registrations and erasures.
    Registrations,
    /// Reads of single profiles, many in one query.
    Lookup,
    /// Lists, counts, histories.
    Reads,
    /// Listens for changes.
    Listen,
    /// Reads and saves for endpoints.
    Outgoing,
    /// Checks whether the database answers.
    Probe,
    /// Prepares the tables and maintains them, and holds the locks of what one replica at a time does.
    Upkeep,
    /// Migrates the schema; may take long.
    Migrate,
}

/// The number of kinds.
pub(super) const KINDS: usize = 10;

/// What a server reports about itself. The time is a number, because a role may have a `DateStyle` that cannot be read back.
const SERVER: &str = "current_setting('transaction_read_only') = 'on', pg_is_in_recovery(), pg_backend_pid(), \
    (SELECT (extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_stat_activity WHERE pid = pg_backend_pid())";

type Setting = (&'static str, Cow<'static, str>);

/// For all that has a time-out.
const BOUNDED: [(&str, &str); 2] =
    [("default_transaction_isolation", "read committed"), ("timezone", "UTC")];

/// For statements that find every row by its key: planned once, and never by reading a table through, which would seem right for
/// as long as the table is small and stay so in a plan that is kept.
const BY_KEY: [(&str, &str); 3] =
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("jit", "off")];

/// For lists with filters: which index is best depends on the values. A plan that is kept would not know them.
const BY_FILTER: (&str, &str) = ("plan_cache_mode", "force_custom_plan");

/// A list of rows is joined to rows of a table that were found by their keys: with a hash, not by comparing each with each, which
/// would seem right as long as the table is small.
const JOINED_BY_HASH: (&str, &str) = ("enable_nestloop", "off");

/// What a server reports about itself when a session begins.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Whether its sessions cannot write.
    pub read_only: bool,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The process that serves the session, if the server tells.
    pub(super) backend: Option<Backend>,
}

impl Session {
    /// Whether it does without a session while the server has too few for webhooks and readiness.
    pub(super) fn gives_way(self) -> bool {
        matches!(self, Self::Registrations | Self::Reads | Self::Outgoing)
    }

    /// The name under which the server lists it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Writer | Self::Registrations => "esim-status writer",
            Self::Lane => "esim-status lane",
            Self::Lookup | Self::Reads => "esim-status reader",
            Self::Listen => "esim-status listener",
            Self::Outgoing => "esim-status outgoing",
            Self::Probe => "esim-status probe",
            Self::Upkeep => "esim-status upkeep",
            Self::Migrate => "esim-status migrate",
        }
    }

    /// The settings of such a session.
    pub(super) fn settings(self) -> Vec<Setting> {
        let statement = match self {
            Self::Writer | Self::Lane | Self::Registrations => budget::STATEMENT,
            Self::Lookup
            | Self::Reads
            | Self::Listen
            | Self::Outgoing
            | Self::Probe
            | Self::Upkeep => budget::READ_STATEMENT,
            Self::Migrate => Duration::ZERO,
        };
        let lock = match self {
            Self::Writer => budget::HELD_ROW,
            Self::Migrate => budget::MIGRATION_LOCK,
            _ => Duration::ZERO,
        };
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
        if let Self::Writer | Self::Lane | Self::Registrations | Self::Lookup | Self::Outgoing =
            self
        {
            set(&BY_KEY);
        }
        if self == Self::Reads {
            set(&[BY_FILTER]);
        }
        if let Self::Writer | Self::Lane = self {
            set(&[JOINED_BY_HASH]);
        }
        settings
    }

    /// Sets the session up in one round trip. The settings survive a rollback.
    pub(super) async fn set_up(self, connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
        let mut statement = format!("SELECT {SERVER}");
        for (name, value) in self.settings() {
            // Names and values are the constants above.
            _ = write!(statement, ", set_config('{name}', '{value}', false)");
        }
        // A simple query: it prepares no statement that a pooler could mix up.
        let row = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_one(connection).await?;
        let (pid, started): (i32, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
        Ok(Server {
            read_only: row.try_get(0)?,
            in_recovery: row.try_get(1)?,
            backend: started.and_then(|micros| Backend::new(pid, micros)),
        })
    }

    /// Reads the settings back, and returns those that differ from what was set, each with its actual value.
    ///
    /// # Errors
    /// If the server does not answer.
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
