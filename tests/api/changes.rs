//! `GET /v1/changes`: every change of every profile, in one order that never skips and never goes back.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use esim_status::store::upkeep;
use esim_status_testing::history::{assert_placed, assert_straight};
use esim_status_testing::{Database, TestApp};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::esim::{erase, object, places_of, put, register};
use super::overdue::look;
use super::{ICCID, iccid};

/// One answer.
struct Read {
    items: Vec<Value>,
    next: String,
}

async fn read(app: &TestApp, query: &str) -> Read {
    let answer = app.backend.get(&format!("/v1/changes?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let json = answer.json();
    let items = json["items"].as_array().unwrap().clone();
    Read { items, next: json["nextCursor"].as_str().unwrap().to_owned() }
}

/// Everything after a cursor, page by page.
async fn read_all(app: &TestApp, mut after: String, limit: usize) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let page = read(app, &format!("after={after}&limit={limit}")).await;
        if page.items.is_empty() {
            assert_eq!(page.next, after);
            return all;
        }
        assert!(page.items.len() <= limit);
        assert_eq!(page.items.last().unwrap()["cursor"], page.next);
        after = page.next;
        all.extend(page.items);
    }
}

/// What an item says, in one line.
fn told(item: &Value) -> String {
    let (kind, iccid) = (item["kind"].as_str().unwrap(), item["iccid"].as_str().unwrap());
    match &item["transition"] {
        Value::Null => format!("{kind} {iccid}"),
        transition => format!(
            "{kind} {iccid} {} {}",
            transition["seq"],
            transition["toState"].as_str().unwrap()
        ),
    }
}

fn lines(items: &[Value]) -> Vec<String> {
    items.iter().map(told).collect()
}

async fn start_of(app: &TestApp) -> String {
    read(app, "limit=1").await.next
}

#[tokio::test]
async fn every_kind_of_change_is_told_once_in_its_order() {
    let app = TestApp::start().await;
    let now = read(&app, "after=now").await;
    assert!(now.items.is_empty());
    register(&app, &object(ICCID)).await;
    // The same registration again is no change.
    register(&app, &object(ICCID)).await;
    app.report(ICCID, "INSTALLED").await;
    app.report(ICCID, "INSTALLED").await;
    let country = json!({ "imsi": "260060147200183", "iccid": ICCID, "previousCountry": null, "newCountry": "PL" });
    assert_eq!(app.deliver(country.to_string()).await.outcome(), "connected");
    app.report(&iccid(1), "RELEASED").await;
    let all = read(&app, "").await;
    assert_eq!(
        lines(&all.items),
        [
            format!("transition {ICCID} 1 RELEASED"),
            format!("registered {ICCID}"),
            format!("transition {ICCID} 2 INSTALLED"),
            format!("evidence {ICCID}"),
            format!("transition {} 1 RELEASED", iccid(1)),
        ]
    );
    // With the profile as it is now, as a backend sees it.
    for item in &all.items[..4] {
        let profile = &item["profile"];
        assert_eq!((&profile["state"], &profile["country"]), (&json!("INSTALLED"), &json!("PL")));
        assert_eq!(profile["uid"], "customer-4711");
    }
    assert_eq!(all.items[2]["transition"]["fromState"], "RELEASED");
    // `now` is where the beginning of all this was.
    assert_eq!(read(&app, &format!("after={}", now.next)).await.items, all.items);
    assert_eq!(read(&app, "after=now").await.next, all.next);
    // A cursor is for ever.
    let second = all.items[1]["cursor"].as_str().unwrap();
    let later = read(&app, &format!("after={second}&limit=2")).await;
    assert_eq!(later.items, all.items[2..4]);

    let reference = json!({ "iccid": ICCID, "state": "RELEASED", "reference": "4711" });
    for _ in 0..2 {
        assert_eq!(put(&app.backend, ICCID, reference.to_string()).await.status, 200);
    }
    look(&app, 86_400 + 60).await;
    let after = read(&app, &format!("after={}", all.next)).await;
    assert_eq!(
        lines(&after.items),
        [format!("registered {ICCID}"), format!("overdue {} 2 RELEASED", iccid(1))]
    );
    assert_eq!(after.items[0]["profile"]["reference"], "4711");
    assert_eq!(after.items[1]["transition"]["reason"], "not-installed");
}

#[tokio::test]
async fn an_erasure_takes_all_that_was_told_with_it_and_is_told_for_a_week() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    app.report(&iccid(1), "RELEASED").await;
    let before = read(&app, "").await;
    app.report(ICCID, "INSTALLED").await;
    erase(&app.backend, ICCID).await.is(204);
    let all = read(&app, "").await;
    assert_eq!(
        lines(&all.items),
        [format!("transition {} 1 RELEASED", iccid(1)), format!("erased {ICCID}")]
    );
    assert!(all.items[1].get("profile").is_none() && all.items[1].get("transition").is_none());
    // A reader that had come this far goes on.
    let after = read(&app, &format!("after={}", before.next)).await;
    assert_eq!(after.items, all.items[1..]);
    // The next life has its own changes, and the erasure stays told before them.
    register(&app, &object(ICCID)).await;
    let anew = read(&app, &format!("after={}", before.next)).await;
    assert_eq!(anew.items.len(), 3);
    assert_eq!(anew.items[0], all.items[1]);
    assert_eq!(anew.items[1]["transition"]["seq"], 3);
    erase(&app.backend, ICCID).await.is(204);

    let mut connection = app.database.connect().await;
    let week = "UPDATE changes SET at = at - interval '7 days'";
    read(&app, "").await;
    connection.execute(week).await.unwrap();
    upkeep::run_small(&mut connection).await.unwrap();
    assert_eq!(lines(&read(&app, "").await.items), [format!("transition {} 1 RELEASED", iccid(1))]);
    assert_eq!(places_of(&app.database, ICCID).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_erasure_that_is_repeated_before_anybody_reads_is_still_told() {
    let app = TestApp::start().await;
    register(&app, &object(ICCID)).await;
    let replacement = json!({ "iccid": iccid(1), "state": "RELEASED", "replaces": ICCID });
    assert!(put(&app.backend, &iccid(1), replacement.to_string()).await.status.is_success());
    let before = read(&app, "").await;
    // The replaced profile has changed too: it has a successor now.
    let last: Vec<_> = before.items.iter().rev().take(3).map(told).collect();
    assert!(last.contains(&format!("registered {ICCID}")), "{last:?}");
    erase(&app.backend, ICCID).await.is(204);
    // The answer was lost.
    erase(&app.backend, ICCID).await.is(404);
    let after = read(&app, &format!("after={}", before.next)).await;
    let told = lines(&after.items);
    assert!(told.contains(&format!("erased {ICCID}")), "{told:?}");
    // Who keeps a copy of the replacement learns that it no longer names the erased one.
    assert!(told.contains(&format!("registered {}", iccid(1))), "{told:?}");
    assert!(after.items.iter().all(|it| it["profile"]["replaces"].is_null()));
    erase(&app.backend, ICCID).await.is(404);
    assert_eq!(read(&app, &format!("after={}", before.next)).await.items, after.items);
}

#[tokio::test]
async fn a_note_that_commits_after_the_erasure_of_its_profile_is_dropped() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let mut late = app.database.connect().await;
    let mut transaction = late.begin().await.unwrap();
    let note = "INSERT INTO new_changes (iccid, seq, kind, at) VALUES ('89972123300991848961', 1, 'registered', now())";
    transaction.execute(note).await.unwrap();
    erase(&app.backend, ICCID).await.is(204);
    transaction.commit().await.unwrap();
    assert_eq!(lines(&read(&app, "").await.items), [format!("erased {ICCID}")]);
    let left = "SELECT count(*) FROM changes WHERE kind <> 'erased'";
    assert_eq!(app.database.scalar::<i64>(left).await, 0);
}

#[tokio::test]
async fn many_changes_at_once_are_told_in_passes_that_keep_each_profile_in_order() {
    let app = TestApp::start().await;
    let mut connection = app.database.connect().await;
    // 38 profiles with 400 transitions each, one with 12,000, and one erased and begun anew with 6,000, in no order.
    let fill = "CREATE TEMP TABLE p AS
                    SELECT '8997212330099' || lpad(n::text, 7, '0') AS iccid, CASE n WHEN 1 THEN 12000 WHEN 2 THEN 6200 ELSE 400 END AS seq
                    FROM generate_series(1, 40) AS n;
                INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
                SELECT iccid, 'gigastore', 'INSTALLED', 'INSTALLED', now(), seq, 0, 2, now() FROM p;
                INSERT INTO transitions (iccid, seq, from_state, to_state, raw_state, kind, received_at, provider)
                SELECT iccid, s, CASE WHEN s > 1 THEN 'RELEASED' END, 'RELEASED', 'x', 'normal', now(), 'gigastore'
                FROM p, generate_series(1, seq) AS s WHERE iccid <> '89972123300990000002' OR s > 200;
                INSERT INTO new_changes (iccid, seq, kind, at)
                SELECT iccid, s, 'transition', now() FROM p, generate_series(1, seq) AS s
                WHERE iccid <> '89972123300990000002' OR s > 200 ORDER BY random();
                INSERT INTO new_changes (iccid, seq, kind, at) VALUES ('89972123300990000002', 200, 'erased', now()),
                                                                       ('89972123300990000001', 12000, 'evidence', now())";
    // The planner takes the table for empty, as it is after most vacuums.
    connection.execute("VACUUM ANALYZE new_changes").await.unwrap();
    connection.execute(sqlx::raw_sql(fill)).await.unwrap();
    app.report(ICCID, "RELEASED").await;
    let end = read(&app, "after=now").await.next;
    let (placed, given): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM changes), last_position FROM change_feed")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!((placed, given), (12_000 + 38 * 400 + 6_000 + 3, placed));
    let anew = "SELECT min(position) FILTER (WHERE kind = 'erased') - min(position) FROM changes
                WHERE iccid = '89972123300990000002'";
    assert_eq!(app.database.scalar::<i64>(anew).await, 0, "the erasure comes before the next life");
    assert_placed(&app.database).await;
    assert!(read(&app, &format!("after={end}")).await.items.is_empty());
}

#[tokio::test]
async fn an_erasure_of_what_has_no_position_yet_leaves_nothing() {
    let app = TestApp::start().await;
    app.report(ICCID, "INSTALLED").await;
    erase(&app.backend, ICCID).await.is(204);
    assert_eq!(lines(&read(&app, "").await.items), [format!("erased {ICCID}")]);
    // An unknown profile was never told of.
    erase(&app.backend, &iccid(1)).await.is(404);
    assert_eq!(read(&app, "").await.items.len(), 1);
}

#[tokio::test]
async fn a_call_that_waits_is_answered_by_the_first_change_on_any_replica() {
    let database = Database::migrated().await;
    let one = TestApp::start_on(database.clone(), |_| ()).await;
    let other = TestApp::start_on(database, |_| ()).await;
    let after = start_of(&one).await;
    let query = format!("after={after}&wait=60");
    let begun = Instant::now();
    let mut waiting = pin!(read(&one, &query));
    let early = tokio::time::timeout(Duration::from_millis(200), waiting.as_mut()).await;
    assert!(early.is_err(), "it was answered without a change");
    let (outcome, found) = join(other.report(ICCID, "RELEASED"), waiting).await;
    assert_eq!(outcome, "moved");
    assert_eq!(lines(&found.items), [format!("transition {ICCID} 1 RELEASED")]);
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited for its time");
    // Without a change, it is answered when its time is over.
    let empty = read(&one, &format!("after={}&wait=1", found.next)).await;
    assert!(empty.items.is_empty());
    assert_eq!(empty.next, found.next);
}

#[tokio::test]
async fn a_change_whose_profile_cannot_be_read_is_passed_by_nobody_and_delivered_once_it_can() {
    let app = TestApp::start().await;
    for number in 0..3 {
        app.report(&iccid(number), "RELEASED").await;
    }
    let spoil = format!("UPDATE profiles SET eid = 'zz' WHERE iccid = '{}'", iccid(1));
    app.database.connect().await.execute(AssertSqlSafe(spoil)).await.unwrap();
    // What comes before it is read.
    let before = read(&app, "limit=10").await;
    assert_eq!(before.items.len(), 1);
    let refused = app.backend.get(&format!("/v1/changes?after={}", before.next)).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (500, "internal".to_owned()));
    let correct = "UPDATE profiles SET eid = NULL";
    app.database.connect().await.execute(correct).await.unwrap();
    assert_eq!(read(&app, "limit=10").await.items.len(), 3);
}

#[tokio::test]
async fn what_commits_late_is_told_after_what_was_read_before() {
    let app = TestApp::start().await;
    app.report(&iccid(1), "RELEASED").await;
    // Another writer has begun, and takes its time.
    let mut late = app.database.connect().await;
    let mut transaction = late.begin().await.unwrap();
    let write = "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
                 VALUES ('8997212330099000099', 'gigastore', 'RELEASED', 'RELEASED', now(), 1, 0, 1, now());
                 INSERT INTO transitions (iccid, seq, to_state, raw_state, kind, received_at, provider)
                 VALUES ('8997212330099000099', 1, 'RELEASED', 'RELEASED', 'normal', now(), 'gigastore');
                 INSERT INTO new_changes (iccid, seq, kind, at) VALUES ('8997212330099000099', 1, 'transition', now())";
    transaction.execute(sqlx::raw_sql(write)).await.unwrap();
    app.report(&iccid(2), "RELEASED").await;
    let before = read(&app, "").await;
    assert_eq!(before.items.len(), 2);
    transaction.commit().await.unwrap();
    let after = read(&app, &format!("after={}", before.next)).await;
    assert_eq!(lines(&after.items), ["transition 8997212330099000099 1 RELEASED"]);
    assert_eq!(read_all(&app, start_of(&app).await, 1).await.len(), 2);
}

/// Follows until everything is written and read.
async fn follow(app: &TestApp, limit: usize, is_over: &AtomicBool) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let was_over = is_over.load(Ordering::SeqCst);
        let begin = if after.is_empty() { String::new() } else { format!("after={after}&") };
        let page = read(app, &format!("{begin}limit={limit}&wait=1")).await;
        after = page.next;
        if page.items.is_empty() && was_over {
            return all;
        }
        all.extend(page.items);
    }
}

#[tokio::test]
async fn readers_beside_many_writers_miss_nothing_and_read_nothing_twice() {
    const PROFILES: usize = 24;
    const STATES: usize = 20;
    let database = Database::migrated().await;
    let apps = [
        TestApp::start_on(database.clone(), |_| ()).await,
        TestApp::start_on(database.clone(), |settings| settings.writers = 3).await,
    ];
    let is_over = AtomicBool::new(false);
    let write = async {
        join_all((0..PROFILES).map(async |number| {
            for round in 0..STATES {
                let state = ["RELEASED", "INSTALLED"][round % 2];
                let app = &apps[(number + round) % 2];
                let body = json!({ "iccid": iccid(number), "profileState": state }).to_string();
                while app.deliver(body.clone()).await.status != 200 {}
            }
        }))
        .await;
        is_over.store(true, Ordering::SeqCst);
    };
    let ((), one, other) =
        tokio::join!(write, follow(&apps[0], 7, &is_over), follow(&apps[1], 200, &is_over));
    assert_eq!(lines(&one), lines(&other), "both read the same order");
    let mut seqs: HashMap<String, u64> = HashMap::new();
    for item in &one {
        let last = seqs.entry(item["iccid"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(item["transition"]["seq"].as_u64(), Some(*last + 1), "{}", told(item));
        *last += 1;
    }
    assert_eq!(seqs.len(), PROFILES);
    for (iccid, last) in seqs {
        assert_eq!(apps[0].profile(&iccid).await["seq"], last);
    }
    assert_straight(&database).await;
}

#[tokio::test]
async fn what_nobody_noted_is_found_and_told_in_the_order_of_its_profile() {
    let app = TestApp::start().await;
    for state in ["RELEASED", "INSTALLED", "DISABLED"] {
        app.report(ICCID, state).await;
        app.report(&iccid(1), state).await;
    }
    // As if the release before had written them.
    let mut connection = app.database.connect().await;
    let forget = "DELETE FROM new_changes; DELETE FROM changes;
                  UPDATE change_feed SET searches_left = 1, search_at = now()";
    connection.execute(sqlx::raw_sql(forget)).await.unwrap();
    app.report(ICCID, "INSTALLED").await;
    let all = read(&app, "").await;
    let states = ["1 RELEASED", "2 INSTALLED", "3 DISABLED", "4 INSTALLED"];
    assert_eq!(lines(&all.items), states.map(|it| format!("transition {ICCID} {it}")));
    upkeep::run_small(&mut connection).await.unwrap();
    let rest = read(&app, &format!("after={}", all.next)).await;
    assert_eq!(
        lines(&rest.items),
        states[..3].iter().map(|it| format!("transition {} {it}", iccid(1))).collect::<Vec<_>>()
    );
    assert_straight(&app.database).await;
    // It is searched once.
    let again = "SELECT searches_left::bigint FROM change_feed WHERE searched_to IS NULL";
    assert_eq!(app.database.scalar::<i64>(again).await, 0);
    upkeep::run_small(&mut connection).await.unwrap();
    assert!(read(&app, &format!("after={}", rest.next)).await.items.is_empty());
}

#[tokio::test]
async fn a_reader_begins_with_the_first_change_of_a_time() {
    let app = TestApp::start().await;
    for n in 0..6 {
        app.report(&iccid(n), "RELEASED").await;
    }
    let all = read(&app, "").await.items;
    // As a delivery has it that was received long before it was applied: later in the order, and older.
    let mut connection = app.database.connect().await;
    let older = "UPDATE changes SET at = at - interval '1 hour' WHERE position = 4";
    connection.execute(older).await.unwrap();
    for (n, change) in all.iter().enumerate().filter(|(n, _)| *n != 3) {
        let at = change["at"].as_str().unwrap();
        let rest = read(&app, &format!("after={at}")).await.items;
        assert_eq!(lines(&rest), lines(&all[n..]), "{at}");
    }
    let end = read(&app, "after=2999-01-01T00:00:00Z").await;
    assert_eq!((end.items.len(), end.next), (0, read(&app, "after=now").await.next));
    assert_eq!(read(&app, "after=2000-01-01T00:00:00%2B02:00").await.items.len(), 6);
}

#[tokio::test]
async fn a_cursor_that_was_not_given_here_is_refused() {
    let app = TestApp::start().await;
    app.report(ICCID, "RELEASED").await;
    let all = read(&app, "").await;
    for query in
        ["after=then", "after=MQ%3D", "after=LTE", "wait=61", "limit=0", "cursor=MQ", "wait=x"]
    {
        let answer = app.backend.get(&format!("/v1/changes?{query}")).await;
        assert_eq!(answer.problem(), "invalid-parameter", "{query}");
    }
    // As after the restore of a backup: nothing is at the position, or something else.
    let mut connection = app.database.connect().await;
    connection.execute("DELETE FROM changes").await.unwrap();
    connection.execute("UPDATE change_feed SET last_position = 0").await.unwrap();
    for _ in 0..2 {
        let answer = app.backend.get(&format!("/v1/changes?after={}", all.next)).await;
        assert_eq!(answer.problem(), "invalid-parameter");
        assert!(answer.text.contains("backup"), "{}", answer.text);
        app.report(&iccid(1), "RELEASED").await;
        read(&app, "after=now").await;
    }
    let token = app.user(ICCID).get("/v1/changes").await;
    assert_eq!((token.status.as_u16(), &*token.problem()), (403, "forbidden"));
}
