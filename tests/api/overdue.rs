//! What should have happened to a profile and did not: found once, told in the history, on the stream and in lists, and over
//! with the next change.
//!
//! The tests look for it as the service does every minute, with a clock that is ahead.

use esim_status::clock;
use esim_status::domain::Patience;
use esim_status::registry::find_overdue;
use esim_status_testing::TestApp;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::esim::{erase, object, object_with, places_of, register};
use super::esim_go;
use super::sse::Events;
use super::{ICCID, iccid};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Looks for what will be overdue after this many seconds, and returns how many profiles were found.
pub(crate) async fn look(app: &TestApp, after: i64) -> u64 {
    look_with(app, &Patience::default(), &[], after).await
}

/// The same with other times. The provider is to be asked about what is found, if it is one of `asked`.
pub(crate) async fn look_with(
    app: &TestApp,
    patience: &Patience,
    asked: &[&str],
    after: i64,
) -> u64 {
    let mut connection = app.database.connect().await;
    let now = clock::now().plus_seconds(after);
    find_overdue(&mut connection, patience, asked, now).await.unwrap()
}

async fn listed(app: &TestApp, query: &str) -> Vec<String> {
    let page = app.backend.get(&format!("/v1/profiles?{query}")).await.json();
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}")).iter();
    items.map(|item| format!("{} {}", item["iccid"].as_str().unwrap(), item["overdue"])).collect()
}

#[tokio::test]
async fn a_profile_that_is_left_alone_is_overdue_once_until_it_changes() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    assert_eq!(look(&app, DAY - 60).await, 0);
    let user = app.invited(ICCID).await;
    let mut events = Events::open(&user, "self").await;
    events.event().await;
    // Two replicas look at the same time, and again later.
    let (one, other) = tokio::join!(look(&app, DAY + 60), look(&app, DAY + 60));
    assert_eq!(one + other, 1);
    assert_eq!(look(&app, DAY + 120).await, 0);
    let told = events.event().await;
    assert_eq!((told.event.as_str(), told.id), ("transition", Some(2)));
    assert_eq!(
        (&told.data["kind"], &told.data["reason"]),
        (&json!("overdue"), &json!("not-installed"))
    );
    assert_eq!(told.data["profile"]["overdue"], "not-installed");
    let history = app.transitions(ICCID).await;
    let states: Vec<_> = history.iter().map(|it| (&it["fromState"], &it["toState"])).collect();
    assert_eq!(
        states,
        [(&Value::Null, &json!("RELEASED")), (&json!("RELEASED"), &json!("RELEASED"))]
    );
    let before = app.profile(ICCID).await;
    assert_eq!(
        (&before["seq"], &before["state"], &before["overdue"]),
        (&json!(2), &json!("RELEASED"), &json!("not-installed"))
    );
    let found = format!("{ICCID} \"not-installed\"");
    for query in ["overdue=true", "overdue=true&state=RELEASED", "overdue=true&uid=customer-4711"] {
        assert_eq!(listed(&app, query).await, [found.as_str()], "{query}");
    }
    for query in ["overdue=true&state=ERROR", "overdue=true&provider=other", "overdue=true&uid=x"] {
        assert_eq!(listed(&app, query).await, Vec::<String>::new(), "{query}");
    }
    assert_eq!(app.backend.get("/v1/profiles?overdue=no").await.problem(), "invalid-parameter");
    // The user's next step is as before, and a repeated word changes nothing.
    assert_eq!(user.get("/v1/profiles/self/journey").await.json()["step"], "install");
    assert_eq!(app.report(ICCID, "RELEASED").await, "repeated");
    assert_eq!(app.profile(ICCID).await["overdue"], "not-installed");
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let after = app.profile(ICCID).await;
    assert_eq!((&after["seq"], &after["overdue"]), (&json!(3), &Value::Null));
    assert_eq!(listed(&app, "overdue=true").await, Vec::<String>::new());
    assert_eq!(look(&app, 2 * DAY).await, 0);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM overdue").await, 0);
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(places_of(&app.database, ICCID).await, Vec::<String>::new());
}

#[tokio::test]
async fn each_reason_is_found_after_its_own_time() {
    let app = TestApp::start().await;
    let day = |days: i64| clock::now().plus_seconds(days * DAY).to_string()[..10].to_owned();
    for (number, states, day_of_travel) in [
        (0, &["RELEASED"][..], None),
        (1, &["RELEASED", "DOWNLOADED"], None),
        (2, &["RELEASED", "ERROR"], None),
        (3, &["INSTALLED"], Some(day(3))),
        (4, &["INSTALLED"], None),
        (5, &["INSTALLED", "RELEASED"], None),
        (6, &["RELEASED"], Some(day(5))),
    ] {
        let iccid = iccid(number);
        let object = object_with(&iccid, "expectedFrom", json!(day_of_travel));
        register(&app, &object).await;
        for state in states {
            let outcome = app.report(&iccid, state).await;
            assert!(["moved", "repeated"].contains(&&*outcome), "{outcome}");
        }
    }
    for (after, found) in [
        (60, vec![]),
        (180, vec![(2, "failed")]),
        (HOUR + 60, vec![(1, "not-finished"), (2, "failed")]),
        (DAY + 60, vec![(0, "not-installed"), (1, "not-finished"), (2, "failed")]),
        (
            6 * DAY,
            vec![
                (0, "not-installed"),
                (1, "not-finished"),
                (2, "failed"),
                (3, "not-connected"),
                (6, "not-installed"),
            ],
        ),
        (
            60 * DAY,
            vec![
                (0, "not-installed"),
                (1, "not-finished"),
                (2, "failed"),
                (3, "not-connected"),
                (6, "not-installed"),
            ],
        ),
    ] {
        look(&app, after).await;
        let expected: Vec<_> =
            found.iter().map(|(number, why)| format!("{} \"{why}\"", iccid(*number))).collect();
        assert_eq!(listed(&app, "overdue=true").await, expected, "after {after} s");
    }
    let connected = json!({ "iccid": iccid(3), "newCountry": "PL" });
    assert_eq!(app.deliver(connected.to_string()).await.outcome(), "connected");
    assert_eq!(app.profile(&iccid(3)).await["overdue"], Value::Null);
    assert_eq!(listed(&app, "overdue=true").await.len(), 4);
}

#[tokio::test]
async fn a_profile_that_another_transaction_holds_is_found_later() {
    let app = TestApp::start().await;
    for number in [0, 1] {
        assert_eq!(app.report(&iccid(number), "ERROR").await, "moved");
    }
    let mut holder = app.database.connect().await;
    let mut held = holder.begin().await.unwrap();
    held.execute("SELECT FROM profiles ORDER BY iccid LIMIT 1 FOR UPDATE").await.unwrap();
    assert_eq!(look(&app, HOUR).await, 1);
    assert_eq!(look(&app, HOUR).await, 0);
    held.rollback().await.unwrap();
    assert_eq!(look(&app, 2 * HOUR).await, 1);
    assert_eq!(listed(&app, "overdue=true").await.len(), 2);
}

#[tokio::test]
async fn a_late_report_ends_nothing() {
    let app = TestApp::start_with(esim_go::with_esim_go).await;
    let outcome = async |status, seconds| {
        esim_go::deliver(&app, esim_go::event(ICCID, status, seconds).to_string()).await.outcome()
    };
    assert_eq!(outcome("Downloaded", 600).await, "moved");
    assert_eq!(look(&app, 2 * HOUR).await, 1);
    // The history has it, and the state stays.
    assert_eq!(outcome("Installed", 0).await, "late");
    assert_eq!(app.profile(ICCID).await["overdue"], "not-finished");
    let found = format!("{ICCID} \"not-finished\"");
    for query in ["overdue=true", "overdue=true&state=DOWNLOADED", "overdue=true&provider=esim-go"]
    {
        assert_eq!(listed(&app, query).await, [found.as_str()], "{query}");
    }
    assert_eq!(look(&app, 3 * HOUR).await, 0, "it is said once");
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM overdue").await, 1);
    assert_eq!(outcome("Installed", 1_200).await, "moved");
    assert_eq!(app.profile(ICCID).await["overdue"], Value::Null);
    assert_eq!(look(&app, 3 * HOUR).await, 0);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM overdue").await, 0);
}

#[tokio::test]
async fn each_provider_has_its_own_time() {
    let app = TestApp::start().await;
    for (number, provider) in [(0, "gigastore"), (1, "roamify"), (2, "gigastore")] {
        register(&app, &object(&iccid(number))).await;
        let change = format!(
            "UPDATE profiles SET provider = '{provider}' WHERE iccid = '{}'",
            iccid(number)
        );
        app.database.connect().await.execute(AssertSqlSafe(change)).await.unwrap();
    }
    let patience =
        |text: &str| Patience { not_installed: text.parse().unwrap(), ..Patience::default() };
    let own = patience("24,roamify=72");
    assert_eq!(look_with(&app, &own, &[], DAY + 60).await, 2);
    assert_eq!(listed(&app, "overdue=true&provider=roamify").await.len(), 0);
    // It has no time of its own any more: what the common look has passed is looked at again.
    let common = Patience::default();
    assert_eq!(look_with(&app, &common, &[], DAY + 120).await, 1);
    assert_eq!(listed(&app, "overdue=true&provider=roamify").await.len(), 1);
    // A shorter time that begins now finds what the common look has not reached.
    register(&app, &object(&iccid(3))).await;
    assert_eq!(look_with(&app, &patience("4000"), &[], DAY + 180).await, 0);
    assert_eq!(look_with(&app, &patience("4000,gigastore=2"), &[], DAY + 240).await, 1);
}

#[tokio::test]
async fn a_backend_that_registers_again_and_again_postpones_nothing_and_a_bad_row_blocks_nothing() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let before = app.profile(ICCID).await;
    // Half a day later, and the same object again.
    let earlier = "UPDATE profiles SET since = since - interval '12 h', updated_at = updated_at - interval '12 h',
                                       unreported_at = unreported_at - interval '12 h'";
    app.database.connect().await.execute(earlier).await.unwrap();
    assert_eq!(register(&app, &object(ICCID)).await.status, 200);
    assert_eq!(app.profile(ICCID).await["seq"], before["seq"]);
    assert_eq!(app.report(&iccid(1), "ERROR").await, "moved");
    let bad = "UPDATE profiles SET eid = 'zz' WHERE state = 'ERROR'";
    app.database.connect().await.execute(bad).await.unwrap();
    assert_eq!(look(&app, 12 * HOUR + 60).await, 1);
    assert_eq!(app.profile(ICCID).await["overdue"], "not-installed");
    // Another day of travel, and the profile is not late any more.
    let travel = clock::now().plus_seconds(30 * DAY).to_string()[..10].to_owned();
    register(&app, &object_with(ICCID, "expectedFrom", travel)).await;
    assert_eq!(app.profile(ICCID).await["overdue"], Value::Null);
    assert_eq!(look(&app, 31 * DAY + 60).await, 1);
    assert_eq!(app.transitions(ICCID).await.len(), 3);
}
