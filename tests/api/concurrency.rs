//! Concurrent deliveries, to one service and to several on one database: every profile keeps one consistent history.
//!
//! Each test sends real requests concurrently, then checks the stored history with `assert_straight`. Some tests hold
//! row locks from another connection, as another transaction would.

use std::time::Duration;

use esim_status_testing::{Database, TestApp, wait_until};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::time::Instant;

use super::{ICCID, iccid};

/// How long a provider waits for an answer (2.5 s), plus a second for a busy machine.
const BUDGET: Duration = Duration::from_millis(3_500);

const STATES: [&str; 4] = ["RELEASED", "INSTALLED", "DISABLED", "ERROR"];

#[tokio::test]
async fn two_hundred_concurrent_deliveries_leave_one_consistent_history() {
    let app = TestApp::start().await;
    let reports = (0..200).map(|number| app.report(ICCID, STATES[number % 4]));
    let outcomes = join_all(reports).await;
    let moved = outcomes.iter().filter(|outcome| *outcome == "moved").count();
    let repeated = outcomes.iter().filter(|outcome| *outcome == "repeated").count();
    assert_eq!(moved + repeated, 200);
    let profile = app.profile(ICCID).await;
    assert_eq!((&profile["seq"], &profile["deliveries"]), (&json!(moved), &json!(200)));
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn several_writers_keep_the_order_of_one_sender() {
    let app = TestApp::start_with(|settings| settings.writers = 4).await;
    let senders = (0..16).map(|number| {
        let (app, iccid) = (&app, iccid(number));
        async move {
            for state in STATES.iter().cycle().take(12) {
                assert_eq!(app.report(&iccid, state).await, "moved");
            }
            app.assert_straight(&iccid).await;
            assert_eq!(app.profile(&iccid).await["seq"], 12);
        }
    });
    join_all(senders).await;
}

/// Two services on one database, like two replicas.
async fn two_replicas() -> [TestApp; 2] {
    let database = Database::migrated().await;
    let (one, other) = tokio::join!(
        TestApp::start_on(database.clone(), |_| ()),
        TestApp::start_on(database.clone(), |settings| settings.writers = 3),
    );
    [one, other]
}

#[tokio::test]
async fn two_services_started_concurrently_on_an_empty_database_both_serve() {
    let database = Database::empty().await;
    let (one, other) = tokio::join!(
        TestApp::start_on(database.clone(), |_| ()),
        TestApp::start_on(database.clone(), |_| ()),
    );
    assert_eq!(one.report(ICCID, "INSTALLED").await, "moved");
    assert_eq!(other.report(ICCID, "INSTALLED").await, "repeated");
}

#[tokio::test]
async fn a_writer_notices_what_another_replica_has_written_since() {
    let [one, other] = two_replicas().await;
    for (replica, state) in [
        (&one, "RELEASED"),
        (&other, "INSTALLED"),
        // This replica still remembers the profile as released.
        (&one, "RELEASED"),
        (&one, "INSTALLED"),
        (&other, "DISABLED"),
        (&one, "INSTALLED"),
    ] {
        assert_eq!(replica.report(ICCID, state).await, "moved", "{state}");
    }
    // The same for a change that an operator has made by hand.
    let by_hand = "UPDATE profiles SET imsi = '260010000000001'";
    one.database.connect().await.execute(by_hand).await.unwrap();
    assert_eq!(one.report(ICCID, "DISABLED").await, "moved");
    assert_eq!(one.profile(ICCID).await["imsi"], "260010000000001");
    assert_eq!(one.profile(ICCID).await["seq"], 7);
    one.assert_straight(ICCID).await;
}

/// Reports a state as a provider does: retries until it is accepted. A busy machine may need a retry.
async fn report_until_taken(app: &TestApp, iccid: &str, state: &str) {
    let body = json!({ "iccid": iccid, "profileState": state }).to_string();
    for _ in 0..10 {
        let answer = app.deliver(body.clone()).await;
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.problem(), "unavailable");
    }
    panic!("refused ten times");
}

async fn assert_no_deadlock(app: &TestApp) {
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(app.database.scalar::<i64>(deadlocks).await, 0);
}

#[tokio::test]
async fn the_same_deliveries_sent_to_two_services_concurrently_are_applied_once() {
    let apps = two_replicas().await;
    for (round, state) in ["RELEASED", "INSTALLED", "DISABLED"].iter().enumerate() {
        join_all((0..60).map(async |number| {
            report_until_taken(&apps[number / 6 % 2], &iccid(number % 6), state).await;
        }))
        .await;
        for number in 0..6 {
            assert_eq!(apps[0].profile(&iccid(number)).await["seq"], round + 1);
        }
    }
    for number in 0..6 {
        apps[0].assert_straight(&iccid(number)).await;
    }
    assert_no_deadlock(&apps[0]).await;
}

#[tokio::test]
async fn different_deliveries_sent_to_two_services_concurrently_leave_consistent_histories() {
    let apps = two_replicas().await;
    join_all((0..100).map(async |number| {
        let state = STATES[number / 3 % 4];
        report_until_taken(&apps[number % 2], &iccid(number % 5), state).await;
    }))
    .await;
    for number in 0..5 {
        apps[0].assert_straight(&iccid(number)).await;
        assert!(apps[1].profile(&iccid(number)).await["deliveries"].as_i64() >= Some(20));
    }
    assert_no_deadlock(&apps[0]).await;
}

#[tokio::test]
async fn a_profile_locked_by_another_transaction_delays_no_other_profile() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "RELEASED").await, "moved");
    let mut connection = app.database.connect().await;
    let mut lock = connection.begin().await.unwrap();
    let statement = "SELECT 1 FROM profiles WHERE iccid = $1 FOR UPDATE";
    sqlx::query(statement).bind(ICCID).execute(&mut *lock).await.unwrap();

    let locked = async {
        let begun = Instant::now();
        let body = json!({ "iccid": ICCID, "profileState": "INSTALLED" }).to_string();
        (app.deliver(body).await, begun.elapsed())
    };
    // Deliveries for other profiles are accepted while the lock is held.
    let others = join_all((0..20).map(async |number| {
        assert_eq!(app.report(&iccid(number), "INSTALLED").await, "moved");
    }));
    let ((answer, took), _) = tokio::join!(locked, others);
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), "1");
    assert!(took < BUDGET, "{took:?}");

    let (outcome, ()) = tokio::join!(app.report(ICCID, "DISABLED"), async {
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("the delivery waits for the lock", async || {
            app.database.scalar::<i64>(waits).await > 0
        })
        .await;
        lock.commit().await.unwrap();
    });
    assert_eq!(outcome, "moved");
    app.assert_straight(ICCID).await;
    assert_eq!(app.profile(ICCID).await["state"], "DISABLED");
}

/// Makes the database wait for the test on a delivery of the first profile, and refuse that of the second one. Counts the latter.
const SLOW_AND_POISON: &str = "
    CREATE SEQUENCE refused;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.iccid = '{poison}' THEN
            PERFORM nextval('refused');
            PERFORM pg_sleep(0.2);
            RAISE check_violation USING MESSAGE = 'refused by the test';
        END IF;
        PERFORM pg_advisory_xact_lock(7);
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON deliveries FOR EACH ROW
        WHEN (NEW.iccid IN ('{slow}', '{poison}')) EXECUTE FUNCTION refuse()";

/// One batch has two deliveries of a profile that is held, and one between them that the database refuses. It is cut into pieces,
/// and the profile is released after the piece with its first delivery was put aside.
#[tokio::test]
async fn deliveries_of_a_held_profile_keep_their_order_around_one_that_is_refused() {
    let app = TestApp::start_with(|settings| settings.writers = 1).await;
    let (slow, held, poison) = (iccid(0), iccid(1), iccid(2));
    let mut operator = app.database.connect().await;
    let trigger = SLOW_AND_POISON.replace("{slow}", &slow).replace("{poison}", &poison);
    operator.execute(sqlx::raw_sql(AssertSqlSafe(trigger))).await.unwrap();
    let mut rival = app.database.connect().await;
    let mut creating = rival.begin().await.unwrap();
    let create = "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
                  VALUES ($1, 'gigastore', 'RELEASED', 'RELEASED', now(), 1, 0, 1, now())";
    sqlx::query(create).bind(&held).execute(&mut *creating).await.unwrap();

    let deliver = async |iccid: &str, state: &str| {
        let body = json!({ "iccid": iccid, "profileState": state }).to_string();
        app.deliver(body).await
    };
    let queued = async |count: usize| {
        wait_until("it waits for the writer", async || app.service.app().ingest.depth() == count)
            .await;
    };
    operator.execute("SELECT pg_advisory_lock(7)").await.unwrap();
    let seen = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    let waits = async || app.database.scalar::<i64>(seen).await > 0;
    let refused = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM refused";
    let (first, first_of_held, of_poison, last_of_held, ()) = tokio::join!(
        deliver(&slow, "RELEASED"),
        async {
            wait_until("the writer is busy", waits).await;
            deliver(&held, "INSTALLED").await
        },
        async {
            queued(1).await;
            deliver(&poison, "RELEASED").await
        },
        async {
            queued(2).await;
            deliver(&held, "DISABLED").await
        },
        async {
            queued(3).await;
            operator.execute("SELECT pg_advisory_unlock(7)").await.unwrap();
            wait_until("only the second piece is left to be refused", async || {
                app.database.scalar::<i64>(refused).await > 0
            })
            .await;
            creating.rollback().await.unwrap();
        }
    );
    assert_eq!(first.outcome(), "moved");
    assert_eq!(of_poison.problem(), "internal");
    assert_eq!(first_of_held.outcome(), "moved");
    assert_eq!(last_of_held.outcome(), "moved");
    let states: Vec<_> =
        app.transitions(&held).await.iter().map(|it| it["toState"].clone()).collect();
    assert_eq!(states, ["INSTALLED", "DISABLED"]);
    // Once to apply it, and once to keep it without its profile. Not as part of the whole batch, which ended at the held profile:
    // the profile was held until its piece was put aside.
    assert_eq!(app.database.scalar::<i64>(refused).await, 2);
}

#[tokio::test]
async fn reads_succeed_while_a_profile_is_locked() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "RELEASED").await, "moved");
    let mut connection = app.database.connect().await;
    let mut lock = connection.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM profiles FOR UPDATE").execute(&mut *lock).await.unwrap();
    assert_eq!(app.profile(ICCID).await["state"], "RELEASED");
    assert_eq!(app.user(ICCID).get("/v1/profiles/self").await.json()["state"], "RELEASED");
    assert_eq!(app.backend.get("/v1/profiles").await.status, 200);
}
