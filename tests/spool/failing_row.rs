//! The server fails at one profile and serves all others: a trigger raises, or a page of the table is damaged. That must
//! not look like a database that is away.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use esim_status_testing::{Database, TestApp};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::Executor;
use tempfile::TempDir;

use super::away::with_spool;
use super::iccid;
use super::in_doubt::{delivery, drained, fill, states};
use super::postgres::Postgres;

fn report(profile: usize, state: &str) -> String {
    json!({ "iccid": iccid(profile), "profileState": state }).to_string()
}

/// Forty profiles are released and then installed, the second while the server fails at it.
async fn apply_all_but_one(app: &TestApp) {
    for profile in 1..=40 {
        assert_eq!(app.report(&iccid(profile), "RELEASED").await, "moved");
    }
    app.database.raise_at(&iccid(2), "profiles").await;
    let answers = join_all((1..=40).map(|it| app.deliver(report(it, "INSTALLED")))).await;
    for (index, answer) in answers.iter().enumerate() {
        let expected = if index == 1 { "unrecognised" } else { "moved" };
        assert_eq!(answer.outcome(), expected, "{answer:?}");
    }
}

async fn last_outcome(app: &TestApp, profile: usize) -> String {
    let list = app.backend.get(&format!("/v1/profiles/{}/deliveries", iccid(profile))).await;
    list.json()["items"][0]["outcome"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_spool_one_is_kept_and_the_others_are_applied() {
    let postgres = Postgres::start().await;
    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    apply_all_but_one(&app).await;
    assert_eq!(last_outcome(&app, 2).await, "unrecognised");
    assert_eq!(states(&app, 2).await, ["RELEASED"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_spool_one_is_kept_while_others_are_applied_and_none_waits_in_it() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    apply_all_but_one(&app).await;
    assert_eq!(app.deliver(report(2, "DISABLED")).await.outcome(), "unrecognised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_spool_one_is_kept_once_others_were_written() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let deliveries = [
        delivery(1, 9, &report(2, "RELEASED")),
        delivery(2, 8, &report(1, "RELEASED")),
        delivery(3, 7, &report(2, "INSTALLED")),
        delivery(4, 6, &report(3, "RELEASED")),
    ];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    postgres.database.raise_at(&iccid(2), "profiles").await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!((states(&app, 1).await, states(&app, 3).await).0, ["RELEASED"]);
    let kept = "SELECT count(*) FROM deliveries WHERE outcome = 'unrecognised'";
    assert_eq!(app.database.scalar::<i64>(kept).await, 2);
    assert_eq!(app.service.app().spool.as_ref().unwrap().figures().refused, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_spool_one_that_cannot_even_be_kept_waits_and_delays_no_other() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let deliveries = [
        delivery(1, 9, &report(2, "RELEASED")),
        delivery(2, 8, &report(2, "INSTALLED")),
        delivery(3, 7, &report(1, "RELEASED")),
        delivery(4, 6, &report(3, "RELEASED")),
    ];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    postgres.database.raise_at(&iccid(2), "deliveries").await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    let spool = app.service.app().spool.clone().unwrap();
    let only_two_left = async || spool.figures().deliveries == 2;
    esim_status_testing::wait_until("the others are drained", only_two_left).await;
    assert_eq!(app.deliver(report(1, "INSTALLED")).await.status, 202);
    let both = async || states(&app, 1).await == ["RELEASED", "INSTALLED"];
    esim_status_testing::wait_until("a new one is drained", both).await;

    let repair = "DROP TRIGGER raise_at_one ON deliveries";
    app.database.connect().await.execute(repair).await.unwrap();
    drained(&app).await;
    assert_eq!(states(&app, 2).await, ["RELEASED", "INSTALLED"]);
    assert_eq!(spool.figures().refused, 0);
}

/// A rule of the operator refuses it: the sender is answered 202, and it is kept until the rule is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_spool_what_the_database_refuses_to_keep_is_kept_there() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(app.report(&iccid(1), "RELEASED").await, "moved");
    let mut operator = app.database.connect().await;
    let rule = format!(
        "ALTER TABLE deliveries ADD CONSTRAINT not_two CHECK (iccid IS DISTINCT FROM '{}')",
        iccid(2)
    );
    operator.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(rule))).await.unwrap();
    assert_eq!(app.deliver(report(2, "RELEASED")).await.status, 202);
    let spool = app.service.app().spool.clone().unwrap();
    let is_refused = async || spool.figures().refused == 1;
    esim_status_testing::wait_until("it is set aside", is_refused).await;
    drop(spool);
    app.stop().await;

    operator.execute("ALTER TABLE deliveries DROP CONSTRAINT not_two").await.unwrap();
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(states(&app, 2).await, ["RELEASED"]);
}

/// Everything fails: most must wait for the repair, and not be kept one by one, also right after all was well. Each writer and the drainer
/// may be about to keep one when that is noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_spool_all_wait_if_the_server_fails_at_all() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let before = [delivery(1_000, 9, &report(1_000, "RELEASED"))];
    fill(folder.path(), &before.each_ref().map(|it| (it, "gigastore"))).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    let mut operator = postgres.database.connect().await;
    let spoil = "CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nobody'; END $$;
                 CREATE TRIGGER raise BEFORE INSERT ON profiles FOR EACH STATEMENT EXECUTE FUNCTION raise()";
    operator.execute(sqlx::raw_sql(spoil)).await.unwrap();
    let failed = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    let earlier = app.database.scalar::<i64>(failed).await;
    for answer in join_all((1..=60).map(|it| app.deliver(report(it, "INSTALLED")))).await {
        assert!(answer.status == 202 || answer.outcome() == "unrecognised", "{answer:?}");
    }
    let many_tries = async || app.database.scalar::<i64>(failed).await > earlier + 30;
    esim_status_testing::wait_until("many were tried", many_tries).await;
    operator.execute("DROP TRIGGER raise ON profiles").await.unwrap();
    drained(&app).await;
    let kept = "SELECT count(*) FROM deliveries WHERE outcome = 'unrecognised'";
    let kept = app.database.scalar::<i64>(kept).await;
    assert!(kept <= 8 + 3, "{kept}");
    let moved = "SELECT count(*) FROM deliveries WHERE outcome = 'moved'";
    assert_eq!(app.database.scalar::<i64>(moved).await, 61 - kept);
}

/// The drainer looks up whether a delivery was written already. A page of that index that cannot be read says nothing of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_spool_what_cannot_be_looked_up_waits_and_delays_no_other() {
    let (mut postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    // Ids from 1,000 to 2,000,000: the first page of the index has the lowest.
    let many = "INSERT INTO deliveries (id, received_at, hook, provider, outcome, headers, body)
                SELECT lpad(to_hex(n * 1000), 32, '0')::uuid, now(), 'gigastore/esim-status', 'gigastore', 'ignored', '{}', ''
                FROM generate_series(1, 2000) AS n";
    app.database.connect().await.execute(many).await.unwrap();
    let index = "(SELECT indexrelid FROM pg_index WHERE indisprimary AND indrelid = (SELECT tableoid FROM deliveries LIMIT 1))";
    let (path, name): (String, String) = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT current_setting('data_directory') || '/' || pg_relation_filepath({index}), {index}::regclass::text"
    )))
    .fetch_one(&mut app.database.connect().await)
    .await
    .unwrap();
    app.stop().await;
    postgres.stop();
    damage(path.into(), 1);
    postgres.start_again();

    let deliveries = [
        delivery(1, 9, &report(2, "RELEASED")),
        delivery(1_999_001, 8, &report(1, "RELEASED")),
        delivery(2, 7, &report(2, "INSTALLED")),
        delivery(1_999_002, 6, &report(3, "RELEASED")),
    ];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    let spool = app.service.app().spool.clone().unwrap();
    let only_two_left = async || spool.figures().deliveries == 2;
    esim_status_testing::wait_until("the others are drained", only_two_left).await;
    assert_eq!((states(&app, 1).await, states(&app, 3).await).0, ["RELEASED"]);

    let repair = sqlx::AssertSqlSafe(format!("REINDEX INDEX {name}"));
    app.database.connect().await.execute(sqlx::raw_sql(repair)).await.unwrap();
    drained(&app).await;
    assert_eq!(states(&app, 2).await, ["RELEASED", "INSTALLED"]);
    assert_eq!(spool.figures().refused, 0);
}

/// Overwrites the beginning of a page.
fn damage(path: PathBuf, page: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0xa5; 512], page * 8_192).unwrap();
}

/// The file and the page that hold a profile.
async fn page_of(database: &Database, profile: usize) -> (PathBuf, u64) {
    let (path, page): (String, i64) = sqlx::query_as(
        "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('profiles'),
                (ctid::text::point)[0]::bigint
         FROM profiles WHERE iccid = $1",
    )
    .bind(iccid(profile))
    .fetch_one(&mut database.connect().await)
    .await
    .unwrap();
    (path.into(), page.cast_unsigned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_page_costs_only_the_profiles_on_it() {
    let mut postgres = Postgres::start().await;
    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    for answer in join_all((1..=400).map(|it| app.deliver(report(it, "RELEASED")))).await {
        assert_eq!(answer.outcome(), "moved");
    }
    app.database.connect().await.execute("VACUUM profiles").await.unwrap();
    let (path, damaged) = page_of(&app.database, 1).await;
    let mut healthy = Vec::new();
    for profile in 2..=400 {
        if page_of(&app.database, profile).await.1 != damaged {
            healthy.push(profile);
        }
        if healthy.len() == 20 {
            break;
        }
    }
    app.stop().await;
    postgres.stop();
    damage(path, damaged);
    postgres.start_again();

    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    let asked: Vec<_> = healthy.iter().copied().chain([1]).collect();
    let of = |profile: usize| format!("/v1/profiles/{}", iccid(profile));
    let answers = join_all(asked.iter().map(|it| async { app.backend.get(&of(*it)).await })).await;
    let (last, others) = answers.split_last().unwrap();
    assert!(others.iter().all(|it| it.status == 200), "{others:?}");
    assert_eq!(last.problem(), "unavailable");
    let answers = join_all(asked.iter().map(|it| app.deliver(report(*it, "INSTALLED")))).await;
    let (last, others) = answers.split_last().unwrap();
    assert!(others.iter().all(|it| it.status == 200), "{others:?}");
    assert_eq!(last.problem(), "unavailable");
}
