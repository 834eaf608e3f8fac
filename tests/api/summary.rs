//! `GET /v1/summary`: counts by state and by day, and profiles that are stuck.
//!
//! A real service receives webhooks; some tests change the age of rows, or lock a partition so that counting times out.

use esim_status_testing::TestApp;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};

use super::iccid;

#[tokio::test]
async fn profiles_are_counted_by_state_and_deliveries_by_day_and_outcome() {
    let app = TestApp::start().await;
    assert_eq!(
        app.backend.get("/v1/summary").await.json(),
        json!({ "states": [], "days": [], "stuck": [] })
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
async fn if_counting_takes_too_long_only_older_days_are_left_out() {
    let app = TestApp::start().await;
    app.report(&iccid(0), "ERROR").await;
    // The lock on the partition of the previous month blocks every count that reads it.
    let mut connection = app.database.connect().await;
    let mut held = connection.begin().await.unwrap();
    let month_before = "SELECT inhrelid::regclass::text FROM pg_inherits
                        WHERE inhparent = 'deliveries'::regclass ORDER BY 1 LIMIT 1";
    let partition: String = sqlx::query_scalar(month_before).fetch_one(&mut *held).await.unwrap();
    let lock = format!("LOCK TABLE {partition} IN ACCESS EXCLUSIVE MODE");
    sqlx::query(AssertSqlSafe(lock)).execute(&mut *held).await.unwrap();
    let summary = app.backend.get("/v1/summary?days=90").await.json();
    assert_eq!(summary["states"][0]["profiles"], 1, "{summary:#}");
    assert_eq!(summary["stuck"][0]["iccid"], iccid(0), "{summary:#}");
    assert_eq!(summary["days"][0]["deliveries"], 1, "{summary:#}");
    let (since, day) = (summary["daysSince"].as_str(), summary["days"][0]["day"].as_str());
    assert!(since.is_some() && since <= day, "{summary:#}");
    held.rollback().await.unwrap();
    let summary = app.backend.get("/v1/summary?days=90").await.json();
    assert!(summary.get("daysSince").is_none(), "{summary:#}");
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
