//! The monthly partitions of the deliveries: made ahead, dropped after the retention.

use esim_status::domain::Timestamp;
use esim_status::store::partitions;
use esim_status_testing::{Database, TestApp};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::ICCID;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

async fn months(connection: &mut PgConnection) -> Vec<String> {
    let names = "SELECT replace(inhrelid::regclass::text, 'deliveries_', '') FROM pg_inherits
                 WHERE inhparent = 'deliveries'::regclass ORDER BY 1";
    sqlx::query_scalar(names).fetch_all(connection).await.unwrap()
}

async fn empty_table() -> PgConnection {
    Database::migrated().await.connect().await
}

#[tokio::test]
async fn months_are_made_ahead_and_dropped_once_all_of_them_is_past_the_retention() {
    let mut connection = empty_table().await;
    let rows: [(&str, u32, &[&str]); 6] = [
        ("2026-11-23T12:00:00Z", 90, &["2026_10", "2026_11", "2026_12", "2027_01", "2027_02"]),
        // The same again, and at the turn of the year.
        ("2026-11-30T23:59:59Z", 90, &["2026_10", "2026_11", "2026_12", "2027_01", "2027_02"]),
        (
            "2026-12-31T23:59:59Z",
            90,
            &["2026_10", "2026_11", "2026_12", "2027_01", "2027_02", "2027_03"],
        ),
        // The last moment of October is 90 days old a second later.
        (
            "2027-01-29T23:59:59Z",
            90,
            &["2026_10", "2026_11", "2026_12", "2027_01", "2027_02", "2027_03", "2027_04"],
        ),
        (
            "2027-01-30T00:00:00Z",
            90,
            &["2026_11", "2026_12", "2027_01", "2027_02", "2027_03", "2027_04"],
        ),
        ("2027-01-30T00:00:00Z", 1, &["2027_01", "2027_02", "2027_03", "2027_04"]),
    ];
    for (now, days, expected) in rows {
        partitions::maintain(&mut connection, at(now), days).await.unwrap();
        assert_eq!(months(&mut connection).await, expected, "{now}, {days} days");
    }
}

#[tokio::test]
async fn several_replicas_may_look_after_them_at_once() {
    let database = Database::migrated().await;
    let now = at("2026-11-23T12:00:00Z");
    let done = join_all(
        (0..8)
            .map(|_| async { partitions::maintain(&mut database.connect().await, now, 90).await }),
    );
    let done = done.await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(months(&mut database.connect().await).await.len(), 5);
}

#[tokio::test]
async fn the_months_that_a_batch_needs_are_made_by_any_number_of_replicas_and_nobody_waits() {
    let database = Database::migrated().await;
    let mut connection = database.connect().await;
    let times = ["2019-03-31T23:59:59Z", "2019-03-01T00:00:00Z", "2026-11-23T12:00:00Z"].map(at);
    partitions::make_for(&mut connection, &times[2..]).await.unwrap();
    assert_eq!(months(&mut connection).await, ["2026_11"]);
    // A writer that is in the middle of its transaction, and a reader of all months.
    let mut writer = database.connect().await;
    let mut writing = writer.begin().await.unwrap();
    let statement = "WITH read AS (SELECT count(*) FROM deliveries)
         INSERT INTO deliveries (id, received_at, hook, provider, outcome, headers, body)
         SELECT gen_random_uuid(), '2026-11-23T12:00:00Z', 'h', 'p', 'ignored', '{}', '' FROM read";
    writing.execute(statement).await.unwrap();
    let make = || async { partitions::make_for(&mut database.connect().await, &times).await };
    let done = join_all((0..6).map(|_| make())).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(months(&mut connection).await, ["2019_03", "2026_11"]);
    writing.commit().await.unwrap();
}

#[tokio::test]
async fn a_delivery_whose_month_has_no_partition_gets_one() {
    let app = TestApp::start().await;
    let mut connection = app.database.connect().await;
    for month in months(&mut connection).await {
        let statement = format!("DROP TABLE deliveries_{month}");
        connection.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    assert_eq!(months(&mut connection).await.len(), 1);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 1);
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn deliveries_and_event_ids_go_with_their_month_and_the_history_stays() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let mut connection = app.database.connect().await;
    let statement = "INSERT INTO event_ids VALUES ('h', 'old', '', NULL, now() - interval '91 days'),
                                                  ('h', 'new', '', NULL, now() - interval '89 days')";
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    let now = esim_status::web::now();
    partitions::maintain(&mut connection, now, 90).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar("SELECT event_id FROM event_ids")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(left, ["new"]);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 1);

    partitions::maintain(&mut connection, now.plus_seconds(86_400 * 200), 90).await.unwrap();
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
    assert_eq!(app.profile(ICCID).await["state"], "INSTALLED");
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn a_table_that_somebody_else_attached_is_left_alone() {
    let mut connection = empty_table().await;
    let statement = "CREATE TABLE deliveries_archive PARTITION OF deliveries FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')";
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    partitions::maintain(&mut connection, at("2026-11-23T12:00:00Z"), 1).await.unwrap();
    assert!(months(&mut connection).await.contains(&"archive".to_owned()));
}
