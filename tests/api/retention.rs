//! The monthly partitions of the deliveries: made ahead, dropped after the retention.

use esim_status::domain::Timestamp;
use esim_status::store::{partitions, read_pool};
use esim_status_testing::{Database, TestApp};
use futures_util::future::join_all;
use sqlx::PgPool;

use super::ICCID;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

async fn months(pool: &PgPool) -> Vec<String> {
    let names = "SELECT replace(inhrelid::regclass::text, 'deliveries_', '') FROM pg_inherits
                 WHERE inhparent = 'deliveries'::regclass ORDER BY 1";
    sqlx::query_scalar(names).fetch_all(pool).await.unwrap()
}

async fn empty_table() -> PgPool {
    read_pool(Database::migrated().await.options, 8)
}

#[tokio::test]
async fn months_are_made_ahead_and_dropped_once_all_of_them_is_past_the_retention() {
    let pool = empty_table().await;
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
        partitions::maintain(&pool, at(now), days).await.unwrap();
        assert_eq!(months(&pool).await, expected, "{now}, {days} days");
    }
}

#[tokio::test]
async fn several_replicas_may_look_after_them_at_once() {
    let pool = empty_table().await;
    let now = at("2026-11-23T12:00:00Z");
    let done = join_all((0..8).map(|_| partitions::maintain(&pool, now, 90))).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(months(&pool).await.len(), 5);
}

#[tokio::test]
async fn deliveries_and_event_ids_go_with_their_month_and_the_history_stays() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let pool = read_pool(app.database.options.clone(), 2);
    let statement = "INSERT INTO event_ids VALUES ('h', 'old', '', NULL, now() - interval '91 days'),
                                                  ('h', 'new', '', NULL, now() - interval '89 days')";
    sqlx::query(statement).execute(&pool).await.unwrap();
    let now = esim_status::web::now();
    partitions::maintain(&pool, now, 90).await.unwrap();
    let left: Vec<String> =
        sqlx::query_scalar("SELECT event_id FROM event_ids").fetch_all(&pool).await.unwrap();
    assert_eq!(left, ["new"]);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 1);

    partitions::maintain(&pool, now.plus_seconds(86_400 * 200), 90).await.unwrap();
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 0);
    assert_eq!(app.profile(ICCID).await["state"], "INSTALLED");
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn a_table_that_somebody_else_attached_is_left_alone() {
    let pool = empty_table().await;
    let statement = "CREATE TABLE deliveries_archive PARTITION OF deliveries FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')";
    sqlx::query(statement).execute(&pool).await.unwrap();
    partitions::maintain(&pool, at("2026-11-23T12:00:00Z"), 1).await.unwrap();
    assert!(months(&pool).await.contains(&"archive".to_owned()));
}
