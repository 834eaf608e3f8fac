//! What a running service does from time to time: the upkeep of the tables and of the metrics, and looking for what is overdue.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::clock;
use crate::domain::Patience;
use crate::registry;
use crate::store::{self, Clocks, Session, StoreError, upkeep};
use crate::telemetry;
use crate::web::{self, AppState};

/// The interval of the tables' whole upkeep; and the interval of the small upkeep, after which a whole one that has
/// failed is also retried.
const UPKEEP: Duration = Duration::from_hours(1);
const UPKEEP_SMALL: Duration = Duration::from_mins(1);

/// The interval of the upkeep of metrics, which folds histograms.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// The pause before the newest deliveries are read again if the database is unavailable.
const NEWEST_PAUSE: Duration = Duration::from_secs(5);

/// Does the whole upkeep of the tables every hour and the small one every minute, and that of the metrics and idle
/// connections every few seconds, until it is aborted. The first upkeep of the tables comes this long after the start;
/// without a `first` one, they are not looked after.
pub(super) async fn look_after(
    app: AppState,
    (first, retention_days, patience): (Option<Duration>, u32, Patience),
) {
    let metrics = telemetry::metrics();
    let mut often = tokio::time::interval(METRICS_UPKEEP);
    let look_after_tables = async {
        let Some(first) = first else { return };
        let mut seldom = tokio::time::interval_at(Instant::now() + first, UPKEEP_SMALL);
        seldom.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut whole_at = Instant::now();
        loop {
            seldom.tick().await;
            let now = Instant::now();
            let retention = (now >= whole_at).then_some(retention_days);
            // A connection that is lost without an error would block the upkeep forever.
            let upkeep = look_after_tables(&app, retention, &patience);
            match (timeout(UPKEEP, upkeep).await, retention) {
                (Ok(Err(error)), Some(_)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "the upkeep of the tables failed and will be retried; partitions exist for some months"
                    );
                }
                // If the database is away, others report that.
                (Ok(Err(error)), None) if error.is_away() => {}
                (Ok(Err(error)), None) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "the small upkeep of the tables failed and will be retried in a minute"
                    );
                }
                (_, Some(_)) => whole_at = now + UPKEEP,
                (_, None) => {}
            }
        }
    };
    let look_after_metrics = async {
        loop {
            often.tick().await;
            metrics.run_upkeep();
            for pool in [&app.reads, &app.registrations, &app.probe] {
                pool.tidy();
            }
        }
    };
    tokio::join!(look_after_tables, look_after_metrics, learn_newest(&app));
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

/// Does the upkeep of the tables over its own connection, because building an index may take long and must not block a
/// reader's. Without a retention, does the small upkeep only.
async fn look_after_tables(
    app: &AppState,
    retention_days: Option<u32>,
    patience: &Patience,
) -> Result<(), StoreError> {
    // Each does without the others: a table that cannot be looked after must not hide that a hook is silent.
    let kept = web::keep_tallies(app.clone()).await.map(drop);
    let mut connection = app.connector.connect(Session::Upkeep).await?;
    let overdue = find_overdue(app, &mut connection, patience).await;
    match retention_days {
        Some(days) => upkeep::look_after(&mut connection, clock::now(), days).await?,
        None => upkeep::add_up(&mut connection).await?,
    }
    kept.and(overdue)?;
    Ok(connection.close().await?)
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
