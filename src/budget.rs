//! Every time limit whose size depends on another one, and the order that they must keep.
//!
//! One delivery that did not wait in the queue, at worst. Each limit counts from its own beginning: `PROVIDER` from the
//! connection, `DELIVERY` from the last byte, `BATCH` from when a writer takes the batch, `ATTEMPT` and `STATEMENT` from
//! theirs. For a delivery that waited, `DELIVERY` may end before `BATCH`: it is answered 503, and may be written all the
//! same.
//!
//! ```text
//! 0 ms        1,000      1,500 1,600     2,000 2,200   2,500
//! |-QUEUE_WAIT--|           |    |          |     |      PROVIDER gives up
//! |             |           |    |          |     DELIVERY: answered 503 by now
//! |             |           |    |          BATCH: no further attempt
//! |             |           |    ATTEMPT: the connection is given up, the batch looked up and written over another
//! |             |           STATEMENT: the server itself ends the statement, and says so
//! |             BATCH_WITH_SPOOL: the database had its chance, the delivery goes to the spool
//! |HELD_ROW (50): a row that another transaction is just inserting; the batch is split
//! ```
//!
//! So the limit that can name its cause ends first: a lock before its statement, the server before the connection, and
//! this service before its sender. Only with a spool is there an exception: `BATCH_WITH_SPOOL` ends before `STATEMENT`, and the
//! drainer finds out whether the statement has committed. The assertions below hold the order. `docs/operations.md` has
//! the same numbers.
//!
//! Pauses between two tries, and limits that nothing else depends on, are beside the code that waits.

use std::time::Duration;

/// One limit, for the table in `docs/operations.md`.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The constant's name.
    pub name: &'static str,
    /// The limit.
    pub time: Duration,
    /// What it limits, and why it is this long.
    pub meaning: &'static str,
}

macro_rules! limits {
    ($($(#[doc = $meaning:literal])+ $name:ident = $millis:literal;)+) => {
        $($(#[doc = $meaning])+ pub const $name: Duration = Duration::from_millis($millis);)+

        /// All of them, in the order in which they are declared.
        pub const LIMITS: &[Limit] =
            &[$(Limit { name: stringify!($name), time: $name, meaning: concat!($($meaning),+) }),+];
    };
}

limits! {
    /// A provider waits this long for an answer, connection and body included.
    PROVIDER = 2_500;
    /// A delivery waits this long for its commit. The rest is for the network and for reading the body.
    DELIVERY = 2_200;
    /// The expected wait of a delivery for its turn. If the queue is longer than that, new deliveries are refused.
    QUEUE_WAIT = 1_000;
    /// A batch is written, or refused, within this time, over as many connections as it takes.
    BATCH = 2_000;
    /// One attempt to write a batch. What is given up earlier than `BATCH` can be looked up over another connection.
    ATTEMPT = 1_600;
    /// A batch, if there is a spool: enough time is left to write its deliveries to the spool.
    BATCH_WITH_SPOOL = 1_000;
    /// A batch of a profile that another transaction holds.
    LANE = 2_000;
    /// One statement that writes, including its wait for a lock. The server cancels it.
    STATEMENT = 1_500;
    /// A writer's statement waits this long for a lock: of a profile that another transaction is just creating, or an event id that it is just reserving. Then the batch is split. Existing profiles that are locked are skipped without a wait.
    HELD_ROW = 50;
    /// A migration waits this long for a table that another transaction uses, and then tries again later: webhooks wait behind it.
    MIGRATION_LOCK = 700;
    /// A batch that takes longer makes the next ones smaller.
    SLOW_BATCH = 800;
    /// The smaller batches are sized to take this long.
    STEADY_BATCH = 400;
    /// A writer's connection that was quiet for this long is pinged before a statement depends on it.
    QUIET = 1_000;
    /// The same for a connection of lists, registrations and lookups.
    FRESH = 100;
    /// The answer to a ping, of writers and readers.
    QUESTION = 300;
    /// A batch of the spool's drainer. No sender waits for it.
    DRAINED_BATCH = 5_000;
    /// New deliveries are held back this long while the last deliveries of the spool are drained.
    LAST_OF_SPOOL = 600;
    /// The drainer waits this long for the writers to pause, before it switches back to the database.
    WRITERS_PAUSE = 200;
    /// A call waits this long for a connection of its pool.
    CONNECTION = 1_200;
    /// One query for single profiles.
    LOOK_UP = 2_000;
    /// The same over a connection that may be dead; after that, a new connection is tried.
    FIRST_LOOK_UP = 1_000;
    /// One statement of a list or a count. The server cancels it.
    READ_STATEMENT = 5_000;
    /// A list or a count in all.
    READ = 6_000;
    /// A read that no index serves waits this long for its turn.
    SCAN_TURN = 1_000;
    /// One part of a summary. The server cancels it, and the part is left out.
    SUMMARY_PART = 1_400;
    /// One statement that gives positions to changes, and a pause of the one who holds their lock: erasures wait for it.
    NUMBERING = 500;
    /// A registration, or the revocation of a profile's access tokens.
    REGISTRATION = 4_000;
    /// The same, including the wait for a connection.
    REGISTRATION_IN_ALL = 5_000;
    /// The server ends a transaction that is idle for this long. A frozen replica holds its locks until then.
    IDLE_TRANSACTION = 10_000;
    /// An erasure waits this long for transactions that began before it.
    EARLIER_TRANSACTIONS = 12_000;
    /// An erasure in all.
    ERASURE = 20_000;
    /// The database's answer to `/readyz`.
    READINESS = 1_000;
    /// A whole shutdown, after the notice: `DRAIN` and the limits that begin with `LAST_`, one after the other. The supervisor waits longer than that and the notice.
    SHUTDOWN = 15_000;
    /// At shutdown, connections that are just being opened are still accepted.
    LAST_CONNECTIONS = 1_000;
    /// Requests in flight at shutdown.
    DRAIN = 5_000;
    /// Requests to endpoints at shutdown. Meanwhile the admin listener closes.
    LAST_CHANGES = 2_500;
    /// What came by the hooks in the last minute is added to the database within this time.
    LAST_TALLIES = 1_000;
    /// Deliveries that wait for a writer at shutdown.
    LAST_DELIVERIES = 2_500;
    /// At the end, the last spans and log lines are sent to their collector within this time.
    LAST_TELEMETRY = 1_000;
    /// What still runs in separate threads, such as the look-up of a name, before the process exits.
    LAST_THREADS = 500;
    /// Requests in flight on the admin listener at shutdown.
    LAST_PROBES = 500;
    /// A start waits this long for a database that is not up yet.
    START = 30_000;
}

/// Fails the build where one limit, or the sum of several, is not below the other.
macro_rules! assert_order {
    ($($($lower:ident)and+ < $upper:ident,)+) => {
        $(const _: () = assert!(
            0 $(+ $lower.as_millis())+ < $upper.as_millis(),
            concat!(stringify!($($lower)and+), " must be below ", stringify!($upper)),
        );)+
    };
}

assert_order! {
    DELIVERY < PROVIDER,
    BATCH < DELIVERY,
    LANE < DELIVERY,
    QUEUE_WAIT and STEADY_BATCH and STEADY_BATCH < DELIVERY,
    ATTEMPT and QUESTION < BATCH,
    STATEMENT < ATTEMPT,
    STATEMENT < LANE,
    STEADY_BATCH < SLOW_BATCH,
    SLOW_BATCH < STATEMENT,
    HELD_ROW < QUESTION,
    MIGRATION_LOCK and HELD_ROW < STATEMENT,
    QUESTION < QUIET,
    // With a spool, a delivery may wait for the end of a drain, then tries the database, and is then spooled.
    BATCH_WITH_SPOOL and LAST_OF_SPOOL and WRITERS_PAUSE < DELIVERY,
    STATEMENT < DRAINED_BATCH,
    FIRST_LOOK_UP < LOOK_UP,
    READ_STATEMENT < READ,
    SUMMARY_PART and SUMMARY_PART and SUMMARY_PART and SUMMARY_PART < READ,
    // Of another replica, and of the upkeep.
    NUMBERING and NUMBERING < STATEMENT,
    STATEMENT < REGISTRATION,
    REGISTRATION < REGISTRATION_IN_ALL,
    IDLE_TRANSACTION < EARLIER_TRANSACTIONS,
    EARLIER_TRANSACTIONS < ERASURE,
    DELIVERY < DRAIN,
    DELIVERY < LAST_DELIVERIES,
    LAST_CONNECTIONS and LAST_PROBES < LAST_CHANGES,
    LAST_CONNECTIONS and DRAIN and LAST_CHANGES and LAST_TALLIES and LAST_DELIVERIES and LAST_TELEMETRY and LAST_THREADS < SHUTDOWN,
}

/// A limit as PostgreSQL writes it, so that a setting that is read back can be compared.
pub fn in_postgres(time: Duration) -> String {
    match time.as_millis() {
        0 => "0".to_owned(),
        millis if millis % 60_000 == 0 => format!("{}min", millis / 60_000),
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    }
}
