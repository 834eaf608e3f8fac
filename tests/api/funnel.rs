//! How far profiles come: what pages report of their users, and the funnel of the summary.
//!
//! Real services receive registrations, webhooks and reports of pages; one test changes when profiles were ready.

use std::collections::BTreeSet;

use esim_status::clock;
use esim_status::store::upkeep;
use esim_status_testing::{Answer, Client, TestApp};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Executor;

use super::esim::{erase, object, object_with, register};
use super::{ICCID, iccid};

async fn report(client: &Client, iccid: &str, intent: &str) -> Answer {
    let path = format!("/v1/profiles/{iccid}/intents/{intent}");
    Answer::of(client.request(Method::PUT, &path)).await
}

async fn connect(app: &TestApp, iccid: &str) {
    let body = json!({ "iccid": iccid, "imsi": "260060147200183", "previousCountry": null, "newCountry": "PL" });
    assert_eq!(app.deliver(body.to_string()).await.status, 200);
}

/// The numbers of the funnel. Midnight may pass during a test, so the days are added up.
async fn funnel(app: &TestApp) -> [i64; 7] {
    let summary = app.backend.get("/v1/summary").await.json();
    let days = summary["funnel"].as_array().unwrap().clone();
    ["ready", "opened", "linkTapped", "qrShown", "downloaded", "installed", "connected"]
        .map(|member| days.iter().filter_map(|day| day[member].as_i64()).sum())
}

async fn run(app: &TestApp, sql: &'static str) {
    app.database.connect().await.execute(sql).await.unwrap();
}

#[tokio::test]
async fn each_milestone_of_a_profile_is_counted_once() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    assert_eq!(funnel(&app).await, [1, 0, 0, 0, 0, 0, 0]);
    let user = app.user(ICCID);
    for _ in 0..2 {
        for intent in ["opened", "qr-shown", "link-tapped"] {
            assert_eq!(report(&user, "self", intent).await.status, 204, "{intent}");
        }
    }
    assert_eq!(funnel(&app).await, [1, 1, 1, 1, 0, 0, 0]);
    for state in ["DOWNLOADED", "INSTALLED", "RELEASED", "DOWNLOADED", "INSTALLED"] {
        app.report(ICCID, state).await;
    }
    assert_eq!(funnel(&app).await, [1, 1, 1, 1, 1, 1, 0]);
    connect(&app, ICCID).await;
    connect(&app, ICCID).await;
    let all = funnel(&app).await;
    assert_eq!(all, [1; 7]);
    let mut connection = app.database.connect().await;
    upkeep::run_small(&mut connection).await.unwrap();
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM count_changes").await, 0);
    assert_eq!(funnel(&app).await, all, "it is the same once it is added up");
}

#[tokio::test]
async fn what_was_not_reported_follows_from_what_was() {
    let app = TestApp::start().await;
    app.report(&iccid(0), "RELEASED").await;
    app.report(&iccid(0), "INSTALLED").await;
    app.report(&iccid(1), "RELEASED").await;
    connect(&app, &iccid(1)).await;
    assert_eq!(funnel(&app).await, [2, 0, 0, 0, 2, 2, 1]);
    // These were never reported as ready.
    app.report(&iccid(2), "INSTALLED").await;
    app.report(&iccid(3), "DOWNLOADED").await;
    assert_eq!(report(&app.backend, &iccid(2), "opened").await.status, 204);
    assert_eq!(funnel(&app).await, [2, 0, 0, 0, 2, 2, 1]);
}

#[tokio::test]
async fn a_page_that_is_opened_before_the_profile_is_ready_counts() {
    let app = TestApp::start().await;
    register(&app, &object_with(ICCID, "state", "CREATED")).await;
    assert_eq!(report(&app.user(ICCID), "self", "opened").await.status, 204);
    assert_eq!(funnel(&app).await, [0, 1, 0, 0, 0, 0, 0]);
    app.report(ICCID, "RELEASED").await;
    assert_eq!(funnel(&app).await, [1, 1, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn half_and_nine_tenths_of_the_installs_took_no_longer_than_is_said() {
    let app = TestApp::start().await;
    for number in 0..10 {
        app.report(&iccid(number), "RELEASED").await;
    }
    // All on the same day, the one before the first was ready.
    let ready = "UPDATE profiles
                 SET ready_at = (SELECT date_trunc('day', min(ready_at), 'UTC') FROM profiles) - interval '1 hour'
                 RETURNING to_char(ready_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')";
    let day = app.database.scalar::<String>(ready).await;
    let before = "SELECT extract(epoch FROM now() - max(ready_at))::float8 FROM profiles";
    let shortest = app.database.scalar::<f64>(before).await;
    for number in 0..10 {
        if number == 6 {
            // The last four take a day longer.
            run(&app, "UPDATE profiles SET since = since, ready_at = ready_at - interval '1 day'")
                .await;
        }
        app.report(&iccid(number), "INSTALLED").await;
    }
    let summary = app.backend.get("/v1/summary").await.json();
    let rows: Vec<_> = summary["funnel"].as_array().unwrap().iter().collect();
    let of = |day: &str| rows.iter().find(|row| row["day"] == day).map(|row| (*row).clone());
    let last = of(&day).expect("the day on which six were ready");
    assert_eq!(last["installed"], 6, "{summary:#}");
    let p50 = last["secondsToInstall"]["p50"].as_f64().unwrap();
    assert!((p50 / shortest - 1.0).abs() < 0.06, "{p50} instead of {shortest}");
    let earlier = rows.iter().find(|row| row["day"].as_str() < Some(&day)).unwrap();
    assert_eq!(earlier["installed"], 4, "{summary:#}");
    let p90 = earlier["secondsToInstall"]["p90"].as_f64().unwrap();
    assert!((p90 / (shortest + 86_400.0) - 1.0).abs() < 0.06, "{p90}");
    let today = rows.iter().find(|row| row["installed"] == 0).unwrap();
    assert_eq!(today["secondsToInstall"], Value::Null, "{summary:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_at_the_same_time_are_one_and_webhooks_beside_them_are_not_lost() {
    let app = TestApp::start().await;
    let other = TestApp::start_on(app.database.clone(), |_| ()).await;
    for number in 0..8 {
        register(&app, &object(&iccid(number))).await;
    }
    let at_once = (0..96).map(|number: usize| {
        let (app, profile) =
            (if number.is_multiple_of(2) { &app } else { &other }, iccid(number % 8));
        async move {
            let reported = report(&app.backend, &profile, "opened");
            let (reported, outcome) = tokio::join!(reported, app.report(&profile, "DOWNLOADED"));
            assert_eq!(reported.status, 204);
            outcome
        }
    });
    let outcomes = join_all(at_once).await;
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "moved").count(), 8, "{outcomes:?}");
    assert_eq!(funnel(&app).await, [8, 8, 0, 0, 8, 0, 0]);
}

#[tokio::test]
async fn what_a_page_reported_is_erased_with_the_profile_and_the_counts_stay() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    assert_eq!(report(&app.user(ICCID), "self", "opened").await.status, 204);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM intents").await, 1);
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM intents").await, 0);
    assert_eq!(report(&app.backend, ICCID, "opened").await.problem(), "unknown-profile");
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM intents").await, 0);
    assert_eq!(funnel(&app).await, [1, 1, 0, 0, 0, 0, 0]);
    // The next life counts anew.
    register(&app, &object(ICCID)).await;
    assert_eq!(report(&app.backend, ICCID, "opened").await.status, 204);
    assert_eq!(funnel(&app).await, [2, 2, 0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn only_known_intents_of_ones_own_profile_are_accepted() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    register(&app, &object(&iccid(1))).await;
    let user = app.user(ICCID);
    for unknown in ["installed", "Opened", "opened%00", "x"] {
        assert_eq!(
            report(&user, "self", unknown).await.problem(),
            "invalid-parameter",
            "{unknown}"
        );
    }
    assert_eq!(report(&user, &iccid(1), "opened").await.problem(), "unknown-profile");
    assert_eq!(report(&app.anybody, ICCID, "opened").await.problem(), "unauthenticated");
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM intents").await, 0);
}

/// Without an upkeep of the older days, the tables would grow for ever.
#[tokio::test]
async fn days_that_no_summary_can_ask_for_are_deleted() {
    let app = TestApp::start().await;
    run(
        &app,
        "INSERT INTO funnel_counts SELECT current_date - n, 'gigastore', 'ready', 1 FROM generate_series(80, 100) AS n;
         INSERT INTO install_times SELECT current_date - n, 'gigastore', 8, 1 FROM generate_series(80, 100) AS n",
    )
    .await;
    upkeep::run_whole(&mut app.database.connect().await, clock::now(), 90).await.unwrap();
    let left = "SELECT count(*) FROM funnel_counts JOIN install_times USING (day) WHERE day < current_date - 92";
    assert_eq!(app.database.scalar::<i64>(left).await, 0);
    let summary = app.backend.get("/v1/summary?days=90").await.json();
    let days: BTreeSet<_> =
        summary["funnel"].as_array().unwrap().iter().map(|it| it["day"].to_string()).collect();
    assert!(days.len() >= 10, "{summary:#}");
}
