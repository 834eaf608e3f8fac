//! `GET /v1/profiles`: filters and paging.
//!
//! Five profiles with different members are listed with every filter, page size and invalid parameter. A few among thousands
//! are listed without reading the others, which the statistics of Postgres tell.

use esim_status::clock;
use esim_status::domain::ProfileState;
use esim_status::store::upkeep;
use esim_status_testing::{Database, TestApp, wait_until};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};

use super::esim::{object, register};
use super::iccid;

const EID: &str = "8904903212345123451234567890ABCD";

/// The numbers of the profiles that a query finds, in the order of the answer.
async fn found(app: &TestApp, query: &str) -> Vec<usize> {
    let page = app.backend.get(&format!("/v1/profiles?{query}")).await.json();
    let items = page["items"].as_array().unwrap_or_else(|| panic!("{query}: {page}"));
    let number = |item: &serde_json::Value| (0..10).find(|number| item["iccid"] == iccid(*number));
    items.iter().filter_map(number).collect()
}

/// Five profiles: 0 and 1 installed, 2 released, 3 in error and with an EID, 4 released and with an IMSI.
async fn with_five() -> TestApp {
    let app = TestApp::start().await;
    // Created in another order than that of their ICCIDs, which is the order of the list.
    for (number, state, eid, imsi) in [
        (3, "ERROR", EID, ""),
        (0, "INSTALLED", "", ""),
        (4, "RELEASED", "", "001010123456789"),
        (1, "ENABLED", "", ""),
        (2, "RELEASED", "", ""),
    ] {
        let body =
            json!({ "iccid": iccid(number), "profileState": state, "eid": eid, "imsi": imsi });
        assert_eq!(app.deliver(body.to_string()).await.outcome(), "moved");
    }
    let mut connection = app.database.connect().await;
    for statement in [
        "UPDATE profiles SET uid = 'customer 7', updated_at = '2026-01-02T03:04:05Z' WHERE iccid LIKE '%0'",
        "UPDATE profiles SET provider = 'other' WHERE iccid LIKE '%2'",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    app
}

#[tokio::test]
async fn profiles_are_found_by_each_filter_and_by_several_together() {
    let app = with_five().await;
    let eid = format!("eid={EID}");
    let eid_in_lower_case = eid.to_lowercase();
    let rows: [(&str, &[usize]); 20] = [
        ("", &[0, 1, 2, 3, 4]),
        ("state=INSTALLED", &[0, 1]),
        ("state=installed", &[0, 1]),
        ("state=DELETED", &[]),
        ("provider=gigastore", &[0, 1, 3, 4]),
        ("provider=nobody", &[]),
        ("uid=customer%207", &[0]),
        ("uid=customer+7", &[0]),
        ("uid=customer", &[]),
        ("imsi=001010123456789", &[4]),
        ("imsi=00101", &[]),
        (&eid, &[3]),
        // An EID may be written in either case.
        (&eid_in_lower_case, &[3]),
        ("updatedSince=2026-01-02T03:04:05Z", &[0, 1, 2, 3, 4]),
        ("updatedSince=2026-01-02T04:04:05%2B01:00", &[0, 1, 2, 3, 4]),
        ("updatedSince=2026-01-02T04:04:05+01:00", &[0, 1, 2, 3, 4]),
        ("updatedSince=2026-01-02T03:04:05.000001Z", &[1, 2, 3, 4]),
        ("updatedSince=9999-12-31T23:59:59Z", &[]),
        ("state=RELEASED&provider=gigastore&imsi=001010123456789", &[4]),
        ("state=RELEASED&uid=customer+7", &[]),
    ];
    for (query, expected) in rows {
        assert_eq!(found(&app, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn pages_have_no_gaps_and_no_duplicates() {
    let app = with_five().await;
    for limit in 1..=6 {
        let (mut numbers, mut cursor) = (Vec::new(), String::new());
        loop {
            let query = format!("limit={limit}{cursor}");
            numbers.extend(found(&app, &query).await);
            let page = app.backend.get(&format!("/v1/profiles?{query}")).await.json();
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(numbers, [0, 1, 2, 3, 4], "by {limit}");
    }
}

/// How many profiles are in the table beside those that a test looks for.
const OTHERS: i64 = 12_000;

/// Inserts profiles that were installed long ago, with ICCIDs below those of the test's own.
async fn with_others() -> TestApp {
    let app = TestApp::start().await;
    let others = format!(
        "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, last_delivery_at,
                               updated_at)
         SELECT '8997212330088' || lpad(n::text, 7, '0'), 'gigastore', 'INSTALLED', 'INSTALLED', t, 1, 1, 1, t, t
         FROM generate_series(1, {OTHERS}) AS n, (SELECT now() - interval '30 days' AS t) AS times"
    );
    let mut connection = app.database.connect().await;
    sqlx::query(AssertSqlSafe(others)).execute(&mut connection).await.unwrap();
    connection.execute("ANALYZE profiles").await.unwrap();
    app
}

/// The ICCIDs on all pages of a list.
async fn all(app: &TestApp, query: &str) -> Vec<String> {
    let (mut iccids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.backend.get(&format!("/v1/profiles?{query}{cursor}")).await.json();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{query}: {page}"));
        iccids.extend(items.iter().filter_map(|it| it["iccid"].as_str()).map(str::to_owned));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return iccids,
        }
    }
}

/// The database's time, as a parameter of a query.
async fn time(app: &TestApp) -> String {
    let now = r#"SELECT to_char(clock_timestamp(), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
    app.database.scalar(now).await
}

/// How many rows of the table the service has read until it ended.
async fn rows_read(app: TestApp, before: i64) -> i64 {
    let database = app.database.clone();
    app.stop().await;
    let sessions = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name LIKE 'esim-status%'";
    // A session reports its statistics when it ends.
    wait_until("the sessions end", async || database.scalar::<i64>(sessions).await == 0).await;
    read_so_far(&database).await - before
}

async fn read_so_far(database: &Database) -> i64 {
    let read = "SELECT (idx_tup_fetch + seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname = 'profiles'";
    database.scalar(read).await
}

#[tokio::test]
async fn a_list_of_few_among_many_is_complete_whatever_it_filters_by() {
    let app = with_others().await;
    app.report(&iccid(0), "ERROR").await;
    app.report(&iccid(1), "RELEASED").await;
    let mut connection = app.database.connect().await;
    let other = "UPDATE profiles SET provider = 'other' WHERE iccid LIKE '8997212330099%'";
    connection.execute(other).await.unwrap();
    let (both, none) = (vec![iccid(0), iccid(1)], Vec::new());
    for (query, expected) in [
        ("provider=other&limit=1", &both),
        ("provider=other&state=ERROR", &both[..1].to_vec()),
        ("state=RELEASED", &both[1..].to_vec()),
        ("state=RELEASED&provider=gigastore", &none),
        ("state=ERROR&provider=gigastore", &none),
        ("updatedSince=2020-01-01T00:00:00Z&provider=other", &both),
    ] {
        assert_eq!(all(&app, query).await, *expected, "{query}");
    }
    let others = all(&app, "state=INSTALLED&limit=200").await;
    assert_eq!(i64::try_from(others.len()).unwrap(), OTHERS);
    assert!(others.is_sorted());
    // Changes that are some, and so many that they are not looked for one by one.
    for (some, expected) in [("iccid < '89972123300880001201'", 1_200), ("true", OTHERS + 2)] {
        let since = time(&app).await;
        let change = format!("UPDATE profiles SET updated_at = now() WHERE {some}");
        sqlx::query(AssertSqlSafe(change)).execute(&mut connection).await.unwrap();
        let changed = all(&app, &format!("updatedSince={since}&limit=200")).await;
        assert_eq!((i64::try_from(changed.len()).unwrap(), changed.is_sorted()), (expected, true));
        let none = all(&app, &format!("updatedSince={since}&state=DELETED")).await;
        assert!(none.is_empty(), "{none:?}");
    }
}

#[tokio::test]
async fn profiles_in_each_state_are_found_also_those_that_were_there_before_they_were_marked() {
    let app = TestApp::start().await;
    let mut connection = app.database.connect().await;
    for (number, state) in ProfileState::ALL.into_iter().enumerate() {
        let profile = "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
                       VALUES ($1, 'gigastore', $2, $2, now() - interval '2 days', 1, 0, 0, now())";
        let profile = sqlx::query(profile).bind(iccid(number)).bind(state.as_str());
        profile.execute(&mut connection).await.unwrap();
    }
    let as_before = "
        SET session_replication_role = replica;
        UPDATE profiles SET rare_state = NULL, rare_since = NULL, unreported_at = NULL;
        RESET session_replication_role;
        DROP INDEX profiles_rare_state, profiles_rare_since, profiles_unreported;
        UPDATE upkeep SET rare_states_marked = false";
    for marked in [true, false, true] {
        if marked {
            upkeep::run_whole(&mut connection, clock::now(), 90).await.unwrap();
        } else {
            connection.execute(as_before).await.unwrap();
        }
        let known: bool = app.database.scalar("SELECT rare_states_marked FROM upkeep").await;
        assert_eq!(known, marked);
        for (number, state) in ProfileState::ALL.into_iter().enumerate() {
            let query = format!("state={state}");
            assert_eq!(all(&app, &query).await, [iccid(number)], "{state}, marked: {marked}");
        }
        let stuck = app.backend.get("/v1/summary").await.json()["stuck"].clone();
        assert_eq!(stuck.as_array().map(Vec::len), Some(3), "{stuck}");
    }
    let valid =
        "SELECT count(*) FROM pg_index WHERE indrelid = 'profiles'::regclass AND indisvalid";
    assert_eq!(app.database.scalar::<i64>(valid).await, 8);
}

#[tokio::test]
async fn profiles_in_a_rare_state_are_listed_without_reading_the_others() {
    let app = with_others().await;
    app.report(&iccid(0), "ERROR").await;
    app.report(&iccid(1), "RELEASED").await;
    app.report(&iccid(1), "ERROR").await;
    app.report(&iccid(2), "ERROR").await;
    app.report(&iccid(2), "INSTALLED").await;
    let before = read_so_far(&app.database).await;
    for _ in 0..3 {
        assert_eq!(all(&app, "state=ERROR").await, [iccid(0), iccid(1)]);
        let summary = app.backend.get("/v1/summary").await.json();
        assert_eq!(summary["stuck"].as_array().map(Vec::len), Some(2), "{summary:#}");
    }
    let read = rows_read(app, before).await;
    assert!(read < 500, "{read} rows were read");
}

#[tokio::test]
async fn recent_changes_are_listed_without_reading_the_others_whoever_made_them() {
    let app = with_others().await;
    app.report(&iccid(0), "RELEASED").await;
    app.report(&iccid(1), "RELEASED").await;
    let since = time(&app).await;
    let before = read_so_far(&app.database).await;
    app.report(&iccid(1), "RELEASED").await;
    app.report(&iccid(2), "INSTALLED").await;
    register(&app, &object(&iccid(3))).await;
    let mut connection = app.database.connect().await;
    // As a replica does that writes what has waited in its spool.
    let late =
        "UPDATE profiles SET last_delivery_at = now() - interval '3 hours', updated_at = now()
                WHERE iccid = $1";
    sqlx::query(late).bind(iccid(0)).execute(&mut connection).await.unwrap();
    let query = format!("updatedSince={since}");
    for _ in 0..3 {
        assert_eq!(all(&app, &query).await, [0, 1, 2, 3].map(iccid));
        assert_eq!(all(&app, &format!("{query}&limit=1")).await, [0, 1, 2, 3].map(iccid));
        assert_eq!(all(&app, &format!("{query}&state=INSTALLED")).await, [iccid(2)]);
    }
    drop(connection);
    let read = rows_read(app, before).await;
    assert!(read < 500, "{read} rows were read");
}

#[tokio::test]
async fn an_invalid_parameter_is_named() {
    let app = TestApp::start().await;
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e9", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=!!!!", "cursor"),
        ("cursor=MQ", "cursor"),
        ("cursor=%FF", "cursor"),
        ("cursor=JzsgRFJPUCBUQUJMRQ", "cursor"),
        ("state=TELEPORTED", "state"),
        ("state=%00", "state"),
        ("imsi=x", "imsi"),
        ("imsi=1%00", "imsi"),
        ("eid=x", "eid"),
        ("uid=%00", "uid"),
        ("provider=a%00b", "provider"),
        ("updatedSince=yesterday", "updatedSince"),
        ("updatedSince=2026-02-30T00:00:00Z", "updatedSince"),
        ("updatedSince=2026-01-02T03:04:05", "updatedSince"),
        ("updatedSince=infinity", "updatedSince"),
        ("status=INSTALLED", "status"),
        ("State=INSTALLED", "State"),
        ("iccid=89972123300991848961", "iccid"),
        ("state=ERROR&state=RELEASED", "state"),
        ("<script>=1", "?script?"),
    ] {
        let answer = app.backend.get(&format!("/v1/profiles?{query}")).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.problem()),
            (400, "invalid-parameter"),
            "{query}"
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(&format!("{named}: ")), "{query}: {detail}");
    }
    let long = format!("/v1/profiles?uid={}", "x".repeat(257));
    assert_eq!(app.backend.get(&long).await.problem(), "invalid-parameter");
}
