//! A database that answers with an error: read-only after a failover, deadlocks, serialization failures, locked tables.
//! The service retries immediately if a retry may succeed, a bounded number of times; otherwise the sender gets a 503
//! in time.
//!
//! A real Postgres is brought into each of these conditions by its settings, by triggers, and by rival transactions.

use std::time::{Duration, Instant};

use esim_status_testing::{TestApp, wait_until};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::history::assert_straight;
use super::iccid;
use super::numbered::{deliver, with_hook};
use super::turn::{Turn, beside_others, measured};

fn report(state: &str) -> String {
    json!({ "iccid": iccid(0), "profileState": state }).to_string()
}

/// Delivers, and asserts a 503 in time; returns how long it took.
async fn refused(turn: &Turn, app: &TestApp, state: &str) -> Duration {
    let begun = Instant::now();
    let answer = app.deliver(report(state)).await;
    let took = begun.elapsed();
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), "1");
    assert!(took < turn.budget(), "{took:?}");
    took
}

/// Delivers until the change is accepted; returns how long it took.
async fn healed(turn: &Turn, app: &TestApp, state: &str) -> Duration {
    let begun = Instant::now();
    wait_until("a delivery is accepted again", async || {
        app.deliver(report(state)).await.status == 200
    })
    .await;
    let took = begun.elapsed();
    assert!(took < turn.healing(), "{took:?}");
    assert_eq!(app.profile(&iccid(0)).await["state"], state);
    assert_straight(&app.database).await;
    took
}

async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

/// Waits until a statement of the service that contains these words waits for a lock.
async fn one_waits_for(app: &TestApp, words: &'static str) {
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'
                   AND application_name LIKE 'esim-status %' AND position($1 IN query) > 0";
    wait_until("a statement waits for a lock", async || {
        let mut connection = app.database.connect().await;
        let waiting = sqlx::query_scalar::<_, i64>(waits).bind(words).fetch_one(&mut connection);
        waiting.await.unwrap() > 0
    })
    .await;
}

#[tokio::test]
async fn a_database_that_becomes_read_only_costs_503s_until_it_is_writable_again() {
    let turn = beside_others().await;
    let app = TestApp::start().await;
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    let name = app.database.options.get_database().unwrap();
    let mut operator = app.database.connect().await;
    run(&mut operator, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    run(&mut operator, cut).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        slowest = slowest.max(refused(&turn, &app, "DISABLED").await);
    }
    assert_eq!(app.profile(&iccid(0)).await["state"], "INSTALLED");
    assert_eq!(app.admin.get("/livez").await.status, 200);
    run(&mut operator, &format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await;
    let heal = healed(&turn, &app, "DISABLED").await;
    measured(
        "failover to a read-only server",
        format!("503 after {slowest:.2?} (worst), reads continue; accepted again after {heal:.2?}"),
    );
}

#[tokio::test]
async fn the_victim_of_a_deadlock_retries() {
    let _turn = beside_others().await;
    let app = TestApp::start_with(with_hook).await;
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    let name = app.database.options.get_database().unwrap();
    let mut connection = app.database.connect().await;
    let set = format!("ALTER DATABASE {name} SET deadlock_timeout = '200ms'");
    run(&mut connection, &set).await;
    // The setting takes effect in the service's next connection.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'esim-status writer'";
    run(&mut connection, cut).await;

    // The holder locks the profile, so the delivery waits for it in a lane, and reserves its event id once it has the
    // profile.
    let mut holder = app.database.connect().await;
    let mut holder = holder.begin().await.unwrap();
    run(&mut holder, "SELECT 1 FROM profiles FOR UPDATE").await;
    let mut rival = connection.begin().await.unwrap();
    let claim = "INSERT INTO event_ids (hook, event_id, body_sha256, received_at)
                 VALUES ('gigastore/relayed', 'msg_1', '\\x00', now())";
    run(&mut rival, claim).await;
    let begun = Instant::now();
    let rivalling = async {
        one_waits_for(&app, "FOR UPDATE").await;
        holder.rollback().await.unwrap();
        // Deadlock: the delivery has locked the profile and waits for the id; the rival has the id and waits for the
        // profile.
        one_waits_for(&app, "INSERT INTO event_ids").await;
        run(&mut rival, "SELECT 1 FROM profiles FOR UPDATE").await;
        rival.rollback().await.unwrap();
    };
    let (answer, ()) = tokio::join!(deliver(&app, "msg_1", report("DISABLED")), rivalling);
    assert_eq!(answer.outcome(), "moved");
    let took = begun.elapsed();
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    wait_until("the deadlock is counted", async || {
        app.database.scalar::<i64>(deadlocks).await >= 1
    })
    .await;
    assert_straight(&app.database).await;
    measured("a deadlock", format!("no 503: accepted by a retry after {took:.2?}; 0 lost"));
}

#[tokio::test]
async fn serialization_failures_are_retried_a_bounded_number_of_times() {
    let turn = beside_others().await;
    let app = TestApp::start().await;
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    let mut connection = app.database.connect().await;
    // A sequence counts the calls even if the transaction is rolled back.
    let fail = "CREATE SEQUENCE calls;
                CREATE TABLE failing (calls bigint NOT NULL);
                INSERT INTO failing VALUES (2);
                CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF nextval('calls') <= (SELECT calls FROM failing) THEN
                        RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
                    END IF;
                    RETURN NULL;
                END $$;
                CREATE TRIGGER fail AFTER INSERT ON transitions EXECUTE FUNCTION fail()";
    sqlx::raw_sql(fail).execute(&mut connection).await.unwrap();
    assert_eq!(app.report(&iccid(0), "DISABLED").await, "moved");
    let calls = "SELECT last_value FROM calls";
    assert_eq!(app.database.scalar::<i64>(calls).await, 3);

    run(&mut connection, "UPDATE failing SET calls = 1000000").await;
    let took = refused(&turn, &app, "ERROR").await;
    let tries = app.database.scalar::<i64>(calls).await - 3;
    assert!((2..=5).contains(&tries), "{tries} tries");
    run(&mut connection, "UPDATE failing SET calls = 0").await;
    let heal = healed(&turn, &app, "ERROR").await;
    measured(
        "serialization failures",
        format!(
            "two are absorbed by retries; endless ones give a 503 after {tries} tries and {took:.2?}; accepted again after {heal:.2?}"
        ),
    );
}

#[tokio::test]
async fn a_locked_table_is_waited_for_within_the_budget() {
    let turn = beside_others().await;
    let app = TestApp::start().await;
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    let mut connection = app.database.connect().await;
    let mut rival = connection.begin().await.unwrap();
    run(&mut rival, "LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE").await;
    let took = refused(&turn, &app, "DISABLED").await;
    assert_eq!(app.profile(&iccid(0)).await["state"], "INSTALLED");
    // The lock is released while a delivery waits: the delivery is accepted.
    let profile = iccid(0);
    let (outcome, ()) = tokio::join!(app.report(&profile, "ERROR"), async {
        one_waits_for(&app, "").await;
        rival.rollback().await.unwrap();
    });
    assert_eq!(outcome, "moved");
    let heal = healed(&turn, &app, "DISABLED").await;
    measured(
        "a table locked by a rival",
        format!("503 after {took:.2?}, reads continue; accepted again after {heal:.2?}"),
    );
}
