//! The monthly partitions of the deliveries: created ahead, dropped after the retention period.
//!
//! The tests run the upkeep against a real Postgres with chosen clocks, concurrently, and while other transactions hold
//! locks.

use esim_status::domain::Timestamp;
use esim_status::store::{Clocks, partitions, upkeep};
use esim_status_testing::{Database, TestApp, wait_until};
use futures_util::future::join_all;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use super::ICCID;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn read_pool(options: PgConnectOptions, size: u32) -> PgPool {
    let options = options.options([("statement_timeout", "5s")]);
    PgPoolOptions::new().max_connections(size).connect_lazy_with(options)
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
async fn partitions_are_created_ahead_and_dropped_when_the_whole_month_has_expired() {
    let pool = empty_table().await;
    let rows: [(&str, i64, &[&str]); 6] = [
        ("2026-11-23T12:00:00Z", 90, &["2026_10", "2026_11", "2026_12", "2027_01", "2027_02"]),
        // The same once more, and at the turn of the year.
        ("2026-11-30T23:59:59Z", 90, &["2026_10", "2026_11", "2026_12", "2027_01", "2027_02"]),
        (
            "2026-12-31T23:59:59Z",
            90,
            &["2026_10", "2026_11", "2026_12", "2027_01", "2027_02", "2027_03"],
        ),
        // One second later, the last moment of October is 90 days old.
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
    let mut connection = pool.acquire().await.unwrap();
    for (now, days, expected) in rows {
        let (now, kept_from) = (at(now), at(now).plus_seconds(-86_400 * days));
        let clocks = Clocks { ours: now, theirs: now };
        partitions::make_ahead(&mut connection, clocks, kept_from).await.unwrap();
        partitions::drop_expired(&mut connection, kept_from).await.unwrap();
        assert_eq!(months(&pool).await, expected, "{now}, {days} days");
    }
}

#[tokio::test]
async fn partitions_are_created_around_both_clocks() {
    let pool = empty_table().await;
    let (ours, theirs) = (at("2027-12-23T12:00:00Z"), at("2026-11-23T12:00:00Z"));
    let clocks = Clocks { ours, theirs };
    let kept_from = clocks.earlier().plus_seconds(-86_400 * 90);
    let mut connection = pool.acquire().await.unwrap();
    partitions::make_ahead(&mut connection, clocks, kept_from).await.unwrap();
    let made = months(&pool).await;
    assert_eq!(made[..5], ["2026_10", "2026_11", "2026_12", "2027_01", "2027_02"]);
    assert_eq!(made[5..], ["2027_11", "2027_12", "2028_01", "2028_02", "2028_03"]);
}

#[tokio::test]
async fn several_replicas_may_run_the_upkeep_concurrently() {
    let pool = empty_table().await;
    let now = esim_status::clock::now();
    let run_whole = || async { upkeep::run_whole(&mut *pool.acquire().await?, now, 90).await };
    let done = join_all((0..8).map(|_| run_whole())).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let made = months(&pool).await;
    // Six if a month ended between this machine's clock and the database's.
    assert!([5, 6].contains(&made.len()), "{made:?}");
}

#[tokio::test]
async fn several_replicas_may_create_a_batchs_partitions_concurrently_without_waiting() {
    let pool = empty_table().await;
    let times = ["2019-03-31T23:59:59Z", "2019-03-01T00:00:00Z", "2026-11-23T12:00:00Z"].map(at);
    partitions::make_for(&mut pool.acquire().await.unwrap(), &times[2..]).await.unwrap();
    assert_eq!(months(&pool).await, ["2026_11"]);
    // A transaction in progress that writes to one partition and has read all of them.
    let mut writing = pool.begin().await.unwrap();
    let statement = "WITH read AS (SELECT count(*) FROM deliveries)
        INSERT INTO deliveries (id, received_at, hook, provider, outcome, headers, body)
        SELECT gen_random_uuid(), '2026-11-23T12:00:00Z', 'h', 'p', 'ignored', '{}', '' FROM read";
    sqlx::query(statement).execute(&mut *writing).await.unwrap();
    let make = || async { partitions::make_for(&mut *pool.acquire().await?, &times).await };
    let done = join_all((0..6).map(|_| make())).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(months(&pool).await, ["2019_03", "2026_11"]);
    writing.commit().await.unwrap();
}

#[tokio::test]
async fn a_delivery_in_a_month_without_a_partition_creates_one() {
    let app = TestApp::start().await;
    let pool = read_pool(app.database.options.clone(), 2);
    for month in months(&pool).await {
        let statement = format!("DROP TABLE deliveries_{month}");
        sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    }
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    assert_eq!(months(&pool).await.len(), 1);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 1);
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn expired_deliveries_and_event_ids_are_deleted_and_the_history_stays() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let mut connection = app.database.connect().await;
    let fill = "INSERT INTO event_ids VALUES ('h', 'old', '', NULL, now() - interval '91 days'),
                                             ('h', 'new', '', NULL, now() - interval '89 days'),
                                             ('h', 'retried', '', NULL, now() - interval '13 days')";
    sqlx::query(fill).execute(&mut connection).await.unwrap();
    let fill = "INSERT INTO customer_deliveries VALUES ('kept', 'p', gen_random_uuid(), now() - interval '120 days'),
                                                       ('past', 'p', gen_random_uuid(), now() - interval '122 days')";
    sqlx::query(fill).execute(&mut connection).await.unwrap();
    let now = esim_status::clock::now();
    for (days, expected) in [(90, &["new", "retried"][..]), (1, &["retried"])] {
        upkeep::run_whole(&mut connection, now, days).await.unwrap();
        let left = sqlx::query_scalar::<_, String>("SELECT event_id FROM event_ids ORDER BY 1");
        assert_eq!(left.fetch_all(&mut connection).await.unwrap(), expected, "{days} days");
        let left: i64 = app.database.scalar("SELECT count(*) FROM customer_deliveries").await;
        assert_eq!(left, i64::from(days == 90));
    }
    let of_now = "SELECT count(*) FROM deliveries";
    assert_eq!(app.database.scalar::<i64>(of_now).await, 1);
    let in_a_while = now.plus_seconds(86_400 * 200);
    partitions::drop_expired(&mut connection, in_a_while).await.unwrap();
    assert_eq!(app.database.scalar::<i64>(of_now).await, 0);
    assert_eq!(app.profile(ICCID).await["state"], "INSTALLED");
    app.assert_straight(ICCID).await;
}

#[tokio::test]
async fn a_wrong_clock_deletes_no_partition_and_no_event_id() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
    let mut connection = app.database.connect().await;
    let fill = "INSERT INTO event_ids VALUES ('h', 'seen', '', NULL, now())";
    sqlx::query(fill).execute(&mut connection).await.unwrap();
    let pool = read_pool(app.database.options.clone(), 1);
    let before = months(&pool).await;
    for days in [400, -400, 20_000] {
        let now = esim_status::clock::now().plus_seconds(86_400 * days);
        upkeep::run_whole(&mut connection, now, 90).await.unwrap();
        let kept = months(&pool).await;
        assert!(before.iter().all(|month| kept.contains(month)), "{days}: {kept:?}");
    }
    for query in ["SELECT count(*) FROM deliveries", "SELECT count(*) FROM event_ids"] {
        assert_eq!(app.database.scalar::<i64>(query).await, 1, "{query}");
    }
}

#[tokio::test]
async fn expired_data_that_cannot_be_dropped_does_not_prevent_a_start() {
    let database = Database::migrated().await;
    let mut connection = database.connect().await;
    let old = "CREATE TABLE deliveries_2020_01 PARTITION OF deliveries FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')";
    sqlx::query(old).execute(&mut connection).await.unwrap();
    // While these locks are held, neither table can be dropped or searched.
    let mut held = connection.begin().await.unwrap();
    let lock = "LOCK TABLE event_ids, deliveries_2020_01 IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let app = TestApp::start_on(database, |_| ()).await;
    assert_eq!(app.report(ICCID, "INSTALLED").await, "moved");
}

/// A large table may lack the index before the upkeep runs, or have one whose build was interrupted.
#[tokio::test]
async fn the_index_on_a_large_table_is_built_without_blocking_writers() {
    let pool = empty_table().await;
    let execute = async |statement: &'static str| sqlx::query(statement).execute(&pool).await;
    let indexes = "SELECT indexrelid::regclass::text || ' ' || indisvalid FROM pg_index
                   WHERE indrelid = 'event_ids'::regclass AND indexrelid::regclass::text LIKE '%_id%' ORDER BY 1";
    let before: Vec<String> = sqlx::query_scalar(indexes).fetch_all(&pool).await.unwrap();
    execute("DROP INDEX event_ids_age").await.unwrap();
    execute("CREATE INDEX event_ids_received_at ON event_ids USING brin (received_at)")
        .await
        .unwrap();
    // A replica that stopped during the build has left an invalid index.
    let mut writing = pool.begin().await.unwrap();
    let claim = "INSERT INTO event_ids VALUES ('h', 'open', '', NULL, now())";
    sqlx::query(claim).execute(&mut *writing).await.unwrap();
    let mut building = pool.acquire().await.unwrap();
    execute_with_time_out(&mut building).await.unwrap_err();
    let mut connection = pool.acquire().await.unwrap();
    let (built, ()) = tokio::join!(
        async { upkeep::run_whole(&mut connection, esim_status::clock::now(), 90).await },
        async {
            wait_until("the build waits for a transaction", async || {
                let waits = "SELECT count(*) > 0 FROM pg_stat_activity
                             WHERE datname = current_database() AND wait_event_type = 'Lock'";
                sqlx::query_scalar(waits).fetch_one(&pool).await.unwrap()
            })
            .await;
            execute("INSERT INTO event_ids VALUES ('h', 'other', '', NULL, now())").await.unwrap();
            writing.commit().await.unwrap();
        }
    );
    built.unwrap();
    let after: Vec<String> = sqlx::query_scalar(indexes).fetch_all(&pool).await.unwrap();
    assert_eq!(after, before);
    let time_out: String =
        sqlx::query_scalar("SHOW statement_timeout").fetch_one(&mut *connection).await.unwrap();
    assert_eq!(time_out, "5s");
}

/// How `forget` in `store/event_ids.rs` finds what is old enough.
const OLD_ENOUGH: &str =
    "SELECT hook, event_id FROM event_ids WHERE received_at < $1 ORDER BY received_at LIMIT $2";

/// A table that is filled and emptied again and again keeps neither the order of its rows nor its size.
#[tokio::test]
async fn old_event_ids_are_found_by_their_index_after_many_have_come_and_gone() {
    let source = include_str!("../../src/store/event_ids.rs");
    assert!(source.contains(OLD_ENOUGH), "the statement has changed");
    let pool = empty_table().await;
    let mut connection = pool.acquire().await.unwrap();
    let add = async |connection: &mut PgConnection, name: &str, count: i32, days: i32| {
        let add = "INSERT INTO event_ids
                   SELECT 'h', $1 || n, '', NULL, now() - make_interval(days => $3) - make_interval(secs => random() * 80000)
                   FROM generate_series(1, $2) AS n";
        let add = sqlx::query(add).bind(name).bind(count).bind(days);
        add.execute(connection).await.unwrap();
    };
    add(&mut connection, "kept", 20_000, 1).await;
    for round in 0..3 {
        add(&mut connection, &format!("old {round} "), 15_000, 100).await;
        upkeep::run_whole(&mut connection, esim_status::clock::now(), 90).await.unwrap();
        let left = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM event_ids");
        assert_eq!(left.fetch_one(&mut *connection).await.unwrap(), 20_000);
    }
    add(&mut connection, "old", 2_000, 100).await;
    sqlx::query("ANALYZE event_ids").execute(&mut *connection).await.unwrap();
    let explain = OLD_ENOUGH.replace("$1", "now() - interval '90 days'").replace("$2", "10000");
    let explain = AssertSqlSafe(format!("EXPLAIN {explain}"));
    let plan = sqlx::query_scalar::<_, String>(explain).fetch_all(&mut *connection).await.unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("event_ids_age") && !plan.contains("Seq Scan"), "{plan}");
}

async fn execute_with_time_out(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SET statement_timeout = '100ms'").execute(&mut *connection).await?;
    let build = "CREATE INDEX CONCURRENTLY event_ids_age ON event_ids (received_at)";
    sqlx::query(build).execute(connection).await.map(drop)
}

#[tokio::test]
async fn a_partition_attached_by_an_operator_is_not_dropped() {
    let pool = empty_table().await;
    let statement = "CREATE TABLE deliveries_archive PARTITION OF deliveries FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')";
    sqlx::query(statement).execute(&pool).await.unwrap();
    upkeep::run_whole(&mut pool.acquire().await.unwrap(), esim_status::clock::now(), 1)
        .await
        .unwrap();
    assert!(months(&pool).await.contains(&"archive".to_owned()));
}

/// Building an index waits for every transaction that may still use the table without it.
#[tokio::test]
async fn an_index_that_takes_long_does_not_delay_the_small_upkeep() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "RELEASED").await, "moved");
    let database = app.database.clone();
    app.stop().await;
    let counted = "SELECT count(*) FROM count_changes";
    assert!(database.scalar::<i64>(counted).await > 0);
    let mut other = database.connect().await;
    let mut transaction = other.begin().await.unwrap();
    sqlx::query("UPDATE profiles SET uid = uid").execute(&mut *transaction).await.unwrap();

    let app = TestApp::start_on(database, |settings| {
        settings.first_upkeep = Some(std::time::Duration::ZERO);
    })
    .await;
    let building = "SELECT count(*) FROM pg_stat_activity
                    WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'";
    wait_until("an index is being built", async || app.database.scalar::<i64>(building).await > 0)
        .await;
    wait_until("counts are added up", async || app.database.scalar::<i64>(counted).await == 0)
        .await;
    assert!(app.database.scalar::<i64>(building).await > 0);
    transaction.rollback().await.unwrap();
}

/// The replica that has kept them may be gone, and its counters with it.
#[tokio::test]
async fn a_metric_says_what_is_kept_until_it_is_read_again() {
    let app = TestApp::start().await;
    assert_eq!(app.report(ICCID, "RELEASED").await, "moved");
    let refuse = "ALTER TABLE profiles ADD CONSTRAINT released CHECK (state = 'RELEASED')";
    sqlx::query(refuse).execute(&mut app.database.connect().await).await.unwrap();
    assert_eq!(app.report(ICCID, "INSTALLED").await, "unrecognised");
    let database = app.database.clone();
    app.stop().await;

    let app = TestApp::start_on(database, |settings| {
        settings.first_upkeep = Some(std::time::Duration::ZERO);
    })
    .await;
    // Other services of this process set it too.
    let line = "esim_status_deliveries_to_reread{provider=\"gigastore\",why=\"unapplied\"} 1\n";
    let says_so = async || app.admin.get("/metrics").await.text.contains(line);
    wait_until("the metric says so", says_so).await;
}
