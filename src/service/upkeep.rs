//! What a running service does from time to time: the upkeep of the tables and of the metrics, and looking for what is overdue.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock;
use crate::domain::Patience;
use crate::outgoing::Gauges;
use crate::registry;
use crate::reread;
use crate::store::deliveries::{REUSED_EVENT_ID, UNAPPLIED};
use crate::store::{self, Clocks, Session, StoreError, kept, upkeep};
use crate::telemetry;
use crate::web::{self, AppState};

/// The intervals of the whole and of the small upkeep of the tables. One that has failed is retried after the latter.
const UPKEEP: Duration = Duration::from_hours(1);
const UPKEEP_SMALL: Duration = Duration::from_mins(1);

/// How far back the small and the whole upkeep look for connections whose profile was not known. Install and connection are mostly
/// seconds apart; one of them may have waited in a spool.
const UNPLACED_FOR: Duration = Duration::from_mins(15);
const UNPLACED_FOR_LONG: Duration = Duration::from_hours(24);

/// How long a small upkeep may take. A connection that is lost without an error would otherwise block it for ever, and what is overdue
/// would not be found.
const SMALL_LIMIT: Duration = Duration::from_mins(5);

/// The interval of the upkeep of metrics, which folds histograms.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// The pause before the newest deliveries are read again if the database is unavailable.
const NEWEST_PAUSE: Duration = Duration::from_secs(5);

/// Does the whole upkeep of the tables every hour and the small one every minute, and that of the metrics and idle
/// connections every few seconds, until it is aborted. The first upkeep of the tables comes this long after the start;
/// without a `first` one, there is none.
pub(super) async fn run(
    app: AppState,
    (first, retention_days, patience): (Option<Duration>, u32, Patience),
) {
    let metrics = telemetry::metrics();
    let mut often = tokio::time::interval(METRICS_UPKEEP);
    // Beside each other: the whole one may build an index for an hour, and what is overdue must be found meanwhile.
    let tables = async {
        let Some(first) = first else { return };
        let gauges = Gauges::default();
        let small = repeat(Kind::Small, first, || keep_up(&app, &patience, &gauges));
        let whole = repeat(Kind::Whole, first, || clean_up(&app, retention_days));
        tokio::join!(small, whole);
    };
    let metric_upkeep = async {
        loop {
            often.tick().await;
            metrics.run_upkeep();
            for pool in [&app.reads, &app.registrations, &app.probe] {
                pool.tidy();
            }
        }
    };
    tokio::join!(tables, metric_upkeep, learn_newest(&app));
}

/// Does an upkeep again and again, each within its limit, and one that has failed after a minute.
async fn repeat<F: Future<Output = Result<(), StoreError>>>(
    kind: Kind,
    first: Duration,
    upkeep: impl Fn() -> F,
) -> ! {
    let mut due = Instant::now() + first;
    // Also before the first success: otherwise nothing would say that there is none.
    telemetry::set_upkeep_success(kind.name(), clock::now());
    loop {
        sleep_until(due).await;
        let begun = Instant::now();
        let is_done = is_done(kind, timeout(kind.limit(), upkeep()).await);
        if is_done {
            telemetry::set_upkeep_success(kind.name(), clock::now());
        }
        let now = Instant::now();
        due = if is_done { now.max(begun + kind.interval()) } else { now + UPKEEP_SMALL };
    }
}

/// How much of the tables' upkeep is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Small,
}

impl Kind {
    /// Its name in the metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Small => "small",
        }
    }

    fn interval(self) -> Duration {
        match self {
            Self::Whole => UPKEEP,
            Self::Small => UPKEEP_SMALL,
        }
    }

    /// How long it may take. Building an index takes long.
    fn limit(self) -> Duration {
        match self {
            Self::Whole => UPKEEP,
            Self::Small => SMALL_LIMIT,
        }
    }
}

/// Whether an upkeep was completed. Otherwise it is retried in a minute, and this logs why.
fn is_done(kind: Kind, ended: Result<Result<(), StoreError>, Elapsed>) -> bool {
    let error = match ended {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error,
        Err(_) => {
            let limit = kind.limit();
            tracing::warn!(
                ?kind,
                ?limit,
                "the upkeep of the tables did not end in time and will be retried in a minute: was its connection lost, or is a table locked?"
            );
            return false;
        }
    };
    let is_away = error.is_only_away();
    let error = &error as &dyn std::error::Error;
    match kind {
        Kind::Whole => tracing::error!(
            error,
            "the upkeep of the tables failed and will be retried; partitions exist for some months"
        ),
        // If the database is away, others report that.
        Kind::Small if is_away => {}
        Kind::Small => tracing::warn!(
            error,
            "the small upkeep of the tables failed and will be retried in a minute"
        ),
    }
    false
}

/// Reads the times of the newest deliveries from the database once after the start.
async fn learn_newest(app: &AppState) {
    loop {
        let found = app.reads.run(async |connection| store::deliveries::newest(connection).await);
        match found.await {
            Ok(newest) => return app.tallies.learn(&newest),
            Err(_) => tokio::time::sleep(NEWEST_PAUSE).await,
        }
    }
}

/// The small upkeep: keeps what the hooks have received, places connections, finds what is overdue, shows how endpoints do,
/// and adds up what was counted.
async fn keep_up(app: &AppState, patience: &Patience, gauges: &Gauges) -> Result<(), StoreError> {
    // Each does without the others: a table that cannot be read must not hide that a hook is silent.
    let kept = web::keep_tallies(app.clone()).await.map(drop);
    let mut connection = app.connector.connect(Session::Upkeep).await?;
    let placed = place_connections(app, &mut connection, UNPLACED_FOR).await;
    let overdue = find_overdue(app, &mut connection, patience).await;
    let counted = count_to_reread(app, &mut connection).await;
    let shown = gauges.show(&mut connection).await;
    upkeep::run_small(&mut connection).await?;
    kept.and(placed).and(overdue).and(counted).and(shown)?;
    Ok(connection.close().await?)
}

/// Applies the connections of the last while that came before their profile was known.
async fn place_connections(
    app: &AppState,
    connection: &mut PgConnection,
    last: Duration,
) -> Result<(), StoreError> {
    let since = clock::now().plus_seconds(-i64::try_from(last.as_secs()).unwrap_or(i64::MAX));
    let (pool, key, providers) = (&app.registrations, &app.erasure_key, &app.providers);
    reread::place(connection, pool, key, providers, since).await
}

/// The whole upkeep, over its own connection: it may build an index.
async fn clean_up(app: &AppState, retention_days: u32) -> Result<(), StoreError> {
    let mut connection = app.connector.connect(Session::Upkeep).await?;
    upkeep::run_whole(&mut connection, clock::now(), retention_days).await?;
    place_connections(app, &mut connection, UNPLACED_FOR_LONG).await?;
    Ok(connection.close().await?)
}

/// Sets the gauge of what waits to be read again. The counters beside it end with the replica that has counted.
async fn count_to_reread(app: &AppState, connection: &mut PgConnection) -> Result<(), StoreError> {
    let counts = kept::count_to_reread(connection).await?;
    for provider in app.providers.slugs() {
        let of = |reason: &str| {
            let of_it = counts.iter().filter(|it| it.provider == provider && it.reason == reason);
            of_it.map(|it| it.deliveries).sum()
        };
        telemetry::set_to_reread(provider, of(UNAPPLIED), of(REUSED_EVENT_ID));
    }
    Ok(())
}

/// Looks for what is overdue by this machine's clock and by the database's: one that is ahead must not write what is not true.
async fn find_overdue(
    app: &AppState,
    connection: &mut PgConnection,
    patience: &Patience,
) -> Result<(), StoreError> {
    let now = Clocks::read(connection, clock::now()).await?.earlier();
    registry::find_overdue(connection, patience, &app.askable, now).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn an_upkeep_that_was_cut_off_or_failed_is_not_done() {
        for kind in [Kind::Whole, Kind::Small] {
            let cut_off = timeout(Duration::ZERO, pending()).await;
            assert!(!is_done(kind, cut_off), "{kind:?}");
            let failed = Err(StoreError::Database(sqlx::Error::PoolTimedOut));
            assert!(!is_done(kind, Ok(failed)), "{kind:?}");
            assert!(is_done(kind, Ok(Ok(()))), "{kind:?}");
        }
        assert!(Kind::Small.limit() < Kind::Whole.limit());
    }
}
