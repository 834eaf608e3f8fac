//! `GET /v1/summary`: counts by state and by day, and profiles that are stuck.
//!
//! Real services receive webhooks, registrations and erasures; some tests change the age of rows, write as an older release
//! does, or hold locks so that a part cannot be read or a count cannot go on.

use std::cell::Cell;

use esim_status::clock;
use esim_status::store::upkeep;
use esim_status_testing::history::assert_counted;
use esim_status_testing::{Database, TestApp, wait_until};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::esim::{erase, object, register};
use super::iccid;

#[tokio::test]
async fn profiles_are_counted_by_state_and_deliveries_by_day_and_outcome() {
    let app = TestApp::start().await;
    assert_eq!(
        app.backend.get("/v1/summary").await.json(),
        json!({ "states": [], "days": [], "funnel": [], "stuck": [] })
    );
    for (number, state) in
        ["INSTALLED", "INSTALLED", "ERROR", "RELEASED", "TELEPORTED"].iter().enumerate()
    {
        app.report(&iccid(number), state).await;
    }
    app.report(&iccid(0), "INSTALLED").await;
    app.deliver("{").await;

    let summary = app.backend.get("/v1/summary").await.json();
    let row = |state: &str, profiles: i64| json!({ "provider": "gigastore", "state": state, "profiles": profiles });
    assert_eq!(
        summary["states"],
        json!([row("ERROR", 1), row("INSTALLED", 2), row("RELEASED", 1)])
    );
    // Midnight may pass during the test, so the days are added up.
    let count = |outcome: &str| -> i64 {
        let days = summary["days"].as_array().unwrap().iter();
        days.filter(|day| day["outcome"] == outcome)
            .filter_map(|day| day["deliveries"].as_i64())
            .sum()
    };
    assert_eq!(["moved", "repeated", "unrecognised", "malformed"].map(count), [4, 1, 1, 1]);
    assert_eq!(summary["days"][0]["provider"], "gigastore");
    assert_eq!(summary["days"][0]["day"].as_str().map(str::len), Some("2026-11-23".len()));
}

#[tokio::test]
async fn a_profile_is_stuck_in_error_immediately_downloaded_after_an_hour_preparing_after_a_day() {
    let app = TestApp::start().await;
    for (number, state, age) in [
        (0, "ERROR", "0"),
        (1, "DOWNLOADED", "59 minutes"),
        (2, "DOWNLOADED", "61 minutes"),
        (3, "CREATED", "23 hours"),
        (4, "CREATED", "25 hours"),
        (5, "RELEASED", "90 days"),
        (6, "INSTALLED", "90 days"),
    ] {
        assert_eq!(app.report(&iccid(number), state).await, "moved");
        let mut connection = app.database.connect().await;
        sqlx::query("UPDATE profiles SET since = now() - $1::text::interval WHERE iccid = $2")
            .bind(age)
            .bind(iccid(number))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let summary = app.backend.get("/v1/summary").await.json();
    let stuck = summary["stuck"].as_array().unwrap().iter();
    let stuck: Vec<_> = stuck.map(|profile| profile["iccid"].clone()).collect();
    assert_eq!(
        stuck,
        [4, 2, 0].map(|number| Value::from(iccid(number))),
        "those stuck longest come first"
    );
}

#[tokio::test]
async fn a_part_that_cannot_be_read_is_named_and_the_others_are_answered() {
    let app = TestApp::start().await;
    app.report(&iccid(0), "RELEASED").await;
    app.report(&iccid(0), "ERROR").await;
    let mut connection = app.database.connect().await;
    for (table, part) in [
        ("profile_counts", "states"),
        ("delivery_counts", "days"),
        ("funnel_counts", "funnel"),
        ("profiles", "stuck"),
    ] {
        let mut held = connection.begin().await.unwrap();
        let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *held).await.unwrap();
        let summary = app.backend.get("/v1/summary").await.json();
        assert_eq!(summary["missing"], json!([part]), "{summary:#}");
        for (name, count, expected) in [
            ("states", &summary["states"][0]["profiles"], 1),
            ("days", &summary["days"][0]["deliveries"], 2),
            ("funnel", &summary["funnel"][0]["ready"], 1),
        ] {
            let expected = if name == part { Value::Null } else { json!(expected) };
            assert_eq!(*count, expected, "{summary:#}");
        }
        let stuck = if part == "stuck" { Value::Null } else { json!(iccid(0)) };
        assert_eq!(summary["stuck"][0]["iccid"], stuck, "{summary:#}");
        held.rollback().await.unwrap();
    }
    let summary = app.backend.get("/v1/summary").await.json();
    assert!(summary.get("missing").is_none(), "{summary:#}");
    // If no part can be read, there is no summary.
    let mut held = connection.begin().await.unwrap();
    let lock = "LOCK TABLE upkeep, profiles, funnel_counts IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    assert_eq!(app.backend.get("/v1/summary").await.problem(), "unavailable");
}

/// What the summary answers, without the stuck profiles, which depend on the clock.
async fn counts(app: &TestApp) -> (Value, Value) {
    let summary = app.backend.get("/v1/summary?days=90").await.json();
    assert!(summary.get("missing").is_none() && summary.get("daysSince").is_none(), "{summary:#}");
    (summary["states"].clone(), summary["days"].clone())
}

/// Makes every count due, and counts.
async fn count_anew(database: &Database) {
    let mut connection = database.connect().await;
    let due = "UPDATE upkeep SET profiles_counted_at = now() - interval '25 hours', days_counted_at = now() - interval '25 hours'";
    connection.execute(due).await.unwrap();
    upkeep::run_whole(&mut connection, clock::now(), 90).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counts_are_those_of_the_tables_whatever_was_written_and_whenever_they_are_added_up() {
    let app = TestApp::start().await;
    let other = TestApp::start_on(app.database.clone(), |_| ()).await;
    let is_writing = Cell::new(true);
    let writing = async {
        for round in 0..12 {
            let at_once = (0..24).map(|number| {
                let app = if (number + round) % 3 == 0 { &other } else { &app };
                async move {
                    let profile = iccid(number);
                    match (number + round * 5) % 8 {
                        0 => drop(register(app, &object(&profile)).await),
                        1 => drop(erase(&app.backend, &profile).await),
                        2 => drop(app.deliver(format!("{{ {profile}")).await),
                        3 => drop(app.report(&profile, "TELEPORTED").await),
                        4 => drop(app.report(&profile, "ERROR").await),
                        5 | 6 => drop(app.report(&profile, "INSTALLED").await),
                        _ => drop(app.report(&profile, "RELEASED").await),
                    }
                }
            });
            join_all(at_once).await;
        }
        is_writing.set(false);
    };
    // The last round ends too: a session that is dropped while it counts would keep its lock for some time.
    let adding = async {
        while is_writing.get() {
            count_anew(&app.database).await;
            let mut connection = app.database.connect().await;
            upkeep::run_small(&mut connection).await.unwrap();
            assert_counted(&app.database).await;
        }
    };
    tokio::join!(writing, adding);
    assert_counted(&app.database).await;
    let (states, days) = counts(&app).await;
    let number = |rows: &Value, member: &str| -> i64 {
        rows.as_array().unwrap().iter().filter_map(|row| row[member].as_i64()).sum()
    };
    let stored = app.database.scalar::<i64>("SELECT count(*) FROM profiles").await;
    assert_eq!(number(&states, "profiles"), stored);
    let stored = app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await;
    assert_eq!(number(&days, "deliveries"), stored);

    // Nothing is left to be added up, and the answer is the same.
    let mut connection = app.database.connect().await;
    upkeep::run_small(&mut connection).await.unwrap();
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM count_changes").await, 0);
    assert_eq!(counts(&app).await, (states.clone(), days.clone()));
    count_anew(&app.database).await;
    assert_eq!(counts(&app).await, (states, days));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_while_the_tables_are_counted_is_neither_lost_nor_counted_twice() {
    let app = TestApp::start().await;
    for number in 0..4 {
        app.report(&iccid(number), "RELEASED").await;
    }
    let mut connection = app.database.connect().await;
    upkeep::run_small(&mut connection).await.unwrap();
    let due = "UPDATE upkeep SET profiles_counted_at = NULL, days_counted_at = NULL, days_counted_from = NULL";
    connection.execute(due).await.unwrap();
    // These locks stop the counting after it has begun to look at the tables.
    let (mut first, mut second) = (app.database.connect().await, app.database.connect().await);
    let mut profiles = first.begin().await.unwrap();
    profiles.execute("SELECT FROM profile_counts FOR UPDATE").await.unwrap();
    let mut days = second.begin().await.unwrap();
    days.execute("SELECT FROM delivery_counts FOR UPDATE").await.unwrap();
    let counting = tokio::spawn(async move {
        upkeep::run_whole(&mut connection, clock::now(), 90).await.unwrap();
    });
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity, upkeep
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND profiles_counted_at IS NULL";
    wait_until("the profiles are counted", async || app.database.scalar(waits).await).await;
    app.report(&iccid(0), "INSTALLED").await;
    app.report(&iccid(4), "RELEASED").await;
    profiles.rollback().await.unwrap();
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity, upkeep
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND profiles_counted_at IS NOT NULL";
    wait_until("the deliveries are counted", async || app.database.scalar(waits).await).await;
    app.report(&iccid(1), "INSTALLED").await;
    app.report(&iccid(5), "RELEASED").await;
    days.rollback().await.unwrap();
    counting.await.unwrap();
    assert_counted(&app.database).await;
    let (states, _) = counts(&app).await;
    let row = |state: &str, profiles: i64| json!({ "provider": "gigastore", "state": state, "profiles": profiles });
    assert_eq!(states, json!([row("INSTALLED", 2), row("RELEASED", 4)]));
}

#[tokio::test]
async fn what_an_older_release_wrote_before_and_beside_this_one_is_counted() {
    let app = TestApp::start().await;
    app.report(&iccid(0), "RELEASED").await;
    let mut connection = app.database.connect().await;
    // As after an upgrade: the tables have rows, and nothing has been counted.
    let before = "UPDATE upkeep SET profiles_counted_at = NULL, days_counted_at = NULL, days_counted_from = NULL";
    let older = "INSERT INTO deliveries (id, received_at, hook, provider, outcome, headers, body)
                 SELECT gen_random_uuid(), now() - interval '1 day' * n, 'h', 'gigastore', 'ignored', '{}', ''
                 FROM generate_series(0, 20) AS n";
    let unknown = "UPDATE profiles SET ready_at = NULL, reached = NULL";
    for statement in [before, "DELETE FROM count_changes", unknown, older] {
        connection.execute(statement).await.unwrap();
    }
    let summary = app.backend.get("/v1/summary").await.json();
    assert_eq!(summary["states"][0]["profiles"], 1, "{summary:#}");
    assert_eq!(summary["missing"], json!(["days"]), "{summary:#}");
    upkeep::run_whole(&mut connection, clock::now(), 90).await.unwrap();
    assert_counted(&app.database).await;
    counts(&app).await;

    // Until the next count, the summary does not have what a replica of the older release writes.
    for statement in [older, "UPDATE profiles SET state = 'ERROR'"] {
        connection.execute(statement).await.unwrap();
    }
    upkeep::run_whole(&mut connection, clock::now(), 90).await.unwrap();
    assert_eq!(counts(&app).await.0[0]["state"], "RELEASED");
    count_anew(&app.database).await;
    let (states, _) = counts(&app).await;
    assert_eq!(states, json!([{ "provider": "gigastore", "state": "ERROR", "profiles": 1 }]));
}

#[tokio::test]
async fn days_that_are_not_counted_yet_are_left_out_and_the_first_counted_day_is_named() {
    let app = TestApp::start().await;
    app.report(&iccid(0), "RELEASED").await;
    let mut connection = app.database.connect().await;
    let day = "UPDATE upkeep SET days_counted_from = (SELECT (received_at AT TIME ZONE 'UTC')::date FROM deliveries)";
    connection.execute(day).await.unwrap();
    let summary = app.backend.get("/v1/summary").await.json();
    let day: String = app.database.scalar("SELECT days_counted_from::text FROM upkeep").await;
    assert_eq!(summary["daysSince"], day, "{summary:#}");
    assert_eq!(summary["days"][0]["deliveries"], 1, "{summary:#}");
}

#[tokio::test]
async fn days_must_be_between_1_and_90() {
    let app = TestApp::start().await;
    for good in ["", "?days=1", "?days=90"] {
        assert_eq!(app.backend.get(&format!("/v1/summary{good}")).await.status, 200, "{good}");
    }
    for bad in ["days=0", "days=91", "days=-1", "days=x", "days=1&days=2", "day=1"] {
        let answer = app.backend.get(&format!("/v1/summary?{bad}")).await;
        assert_eq!(answer.problem(), "invalid-parameter", "{bad}");
    }
}
