//! `serve` on a schema that another process is migrating, that is half migrated, or that is newer than the binary.
//!
//! The test holds sqlx's migration lock, or changes the table of applied migrations, and starts the real binary.

use std::time::Instant;

use esim_status_testing::{Database, server, wait_until};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::{Connection, Executor};

use super::service::Service;
use super::turn::{beside_others, measured};

static MIGRATOR: Migrator = sqlx::migrate!();

fn url(database: &Database) -> String {
    server().url(database.options.get_database().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_waits_for_a_migration_that_runs_elsewhere_and_logs_it() {
    let _turn = beside_others().await;
    let database = Database::empty().await;
    let mut elsewhere = database.connect().await;
    elsewhere.lock().await.unwrap();
    // It waits in short pieces.
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'esim-status migrate'
                   AND query ILIKE '%pg_advisory_lock%' AND now() - backend_start > '3 s'";
    let url = url(&database);
    let ending = async {
        wait_until("the service waits for the lock", async || {
            database.scalar::<i64>(waits).await > 0
        })
        .await;
        elsewhere.unlock().await.unwrap();
        Instant::now()
    };
    let (service, freed) = tokio::join!(Service::start(&url), ending);
    let took = freed.elapsed();
    service.ready().await;
    assert!(service.log().contains("waiting for the schema"), "{}", service.log());
    measured(
        "migration running elsewhere",
        format!("waits, logs it, and serves {took:.2?} after the migration ends"),
    );
}

/// Someone reads a table that a migration changes, for a long time, such as a dump. Writers of the table must not wait behind
/// the migration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_do_not_wait_behind_a_migration_that_waits_for_a_reader() {
    let _turn = beside_others().await;
    let database = Database::empty().await;
    let mut connection = database.connect().await;
    MIGRATOR.run_direct(Some(20_261_126_130_000), &mut connection, false).await.unwrap();
    let mut reader = connection.begin().await.unwrap();
    reader.execute("SELECT count(*) FROM profiles").await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'esim-status migrate'
                   AND wait_event_type = 'Lock'";
    let url = url(&database);
    let writing = async {
        let mut writer = database.connect().await;
        writer.execute("SET statement_timeout = 1500").await.unwrap();
        for _ in 0..5 {
            wait_until("the migration waits", async || database.scalar::<i64>(waits).await > 0)
                .await;
            writer.execute("UPDATE profiles SET deliveries = deliveries").await.unwrap();
        }
        reader.rollback().await.unwrap();
    };
    let (service, ()) = tokio::join!(Service::start(&url), writing);
    service.ready().await;
    assert!(service.log().contains("waiting for the schema"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_half_migrated_or_newer_is_refused_with_a_remedy() {
    let _turn = beside_others().await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (29991231000000, 'from the future', true, '\\x00', 0)";
    let half = "UPDATE _sqlx_migrations SET success = false WHERE version = 20261123100300";
    for (fault, change, remedy) in [
        ("schema newer than the binary", newer, "run a release at least as new"),
        ("migration half applied", half, "delete its row and run `esim-status migrate` again"),
    ] {
        let database = Database::migrated().await;
        sqlx::query(change).execute(&mut database.connect().await).await.unwrap();
        let begun = Instant::now();
        let said = Service::refusal(&url(&database)).await;
        assert!(said.contains(remedy), "{said}");
        measured(fault, format!("refuses to start after {:.2?}, with the remedy", begun.elapsed()));
    }
}
