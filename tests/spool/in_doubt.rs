//! Deliveries that are in the spool and may also be in the database, and deliveries that the database will never
//! accept.
//!
//! The tests write a spool directly, as a service that was killed leaves it, prepare the database to match or to
//! refuse, and then start a real service that drains it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use esim_status::clock;
use esim_status::config::{self, ServeArgs};
use esim_status::delivery::{AuthenticDelivery, Authenticator, Delivery, Scheme, StandardSecrets};
use esim_status::ingest::{Accepted, Arrival, Submission};
use esim_status::providers::Providers;
use esim_status::spool::Spool;
use esim_status_testing::{TestApp, wait_until};
use http::HeaderMap;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::away::with_spool;
use super::iccid;
use super::postgres::Postgres;

/// A delivery that was received this many seconds ago.
pub(super) fn delivery(number: u128, seconds_ago: i64, body: &str) -> AuthenticDelivery {
    let received_at = clock::now().plus_seconds(-seconds_ago);
    let (hook, body) =
        (Arc::from("gigastore/esim-status"), Bytes::copy_from_slice(body.as_bytes()));
    let id = Uuid::from_u128(number);
    let delivery = Delivery::new(id, received_at, hook, None, HeaderMap::new(), body);
    Authenticator::new(Scheme::None).check(delivery).unwrap()
}

/// The same delivery again.
fn copy(delivery: &AuthenticDelivery) -> AuthenticDelivery {
    let (hook, body) = (delivery.hook_path().clone(), delivery.body().clone());
    let (id, at) = (delivery.id(), delivery.received_at());
    let copy = Delivery::new(id, at, hook, None, HeaderMap::new(), body);
    Authenticator::new(Scheme::None).check(copy).unwrap()
}

fn report(number: u128, seconds_ago: i64, profile: usize, state: &str) -> AuthenticDelivery {
    let body = json!({ "iccid": iccid(profile), "profileState": state }).to_string();
    delivery(number, seconds_ago, &body)
}

/// An event with an id, from a sender that signs.
fn event(number: u128, event_id: &str, seconds_ago: i64, body: &str) -> AuthenticDelivery {
    let secrets = StandardSecrets::parse("test", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    let authenticator = Authenticator::new(Scheme::StandardWebhooks(secrets.unwrap()));
    let received_at = clock::now().plus_seconds(-seconds_ago);
    let credentials = authenticator.credentials_for(event_id, received_at, body.as_bytes());
    let (hook, headers) =
        (Arc::from("gigastore/esim-status"), credentials.headers.into_iter().collect());
    let (id, body) = (Uuid::from_u128(number), Bytes::copy_from_slice(body.as_bytes()));
    let delivery = Delivery::new(id, received_at, hook, None, headers, body);
    authenticator.check(delivery).unwrap()
}

/// Writes a delivery to the database, as for a webhook.
async fn commit(app: &TestApp, delivery: &AuthenticDelivery) {
    let accepted = app.service.app().ingest.submit(submission(copy(delivery))).await.unwrap();
    assert!(matches!(accepted, Accepted::Committed(_)), "{accepted:?}");
}

fn submission(delivery: AuthenticDelivery) -> Submission {
    let provider = Providers::default().find("gigastore").unwrap();
    let parsed = provider.parse(&delivery);
    Submission { delivery, provider: provider.slug(), parsed, arrival: Arrival::Direct }
}

/// Creates a spool with these deliveries, as a service that was killed leaves it.
pub(super) async fn fill(folder: &Path, deliveries: &[(&AuthenticDelivery, &'static str)]) {
    let spool = Spool::open(folder, 1 << 20).await.unwrap();
    spool.append(deliveries).await.unwrap();
}

pub(super) async fn drained(app: &TestApp) {
    wait_until("the spool is drained", async || {
        app.service.app().spool.as_ref().unwrap().figures().deliveries == 0
    })
    .await;
}

pub(super) async fn states(app: &TestApp, profile: usize) -> Vec<String> {
    let transitions = app.transitions(&iccid(profile)).await;
    transitions.iter().map(|it| it["toState"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_committed_before_the_service_was_killed_are_not_applied_again() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let deliveries = [
        report(1, 9, 1, "RELEASED"),
        report(2, 8, 1, "INSTALLED"),
        delivery(3, 7, "{"),
        report(4, 6, 1, "DISABLED"),
        report(5, 5, 2, "RELEASED"),
    ];
    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    for delivery in &deliveries[..3] {
        commit(&app, delivery).await;
    }
    app.stop().await;
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;

    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(states(&app, 1).await, ["RELEASED", "INSTALLED", "DISABLED"]);
    assert_eq!(states(&app, 2).await, ["RELEASED"]);
    assert_eq!(app.profile(&iccid(1)).await["deliveries"], 3);
    app.assert_straight(&iccid(1)).await;
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 5);
}

/// Its commit was not confirmed in time, so nobody has counted it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_before_and_not_applied_is_counted_when_it_is_found() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let data = json!({ "iccid": iccid(1), "status": "TELEPORTED" });
    let body = json!({ "event_category": "esim", "event_type": "status", "data": data });
    let delivery = delivery(1, 9, &body.to_string());
    let mut counted = Vec::new();
    for _ in 0..2 {
        fill(folder.path(), &[(&delivery, "roamify")]).await;
        let app = TestApp::start_on(postgres.database.clone(), |settings| {
            with_spool(folder.path())(settings);
            settings.providers = Providers::built_in().unwrap();
        })
        .await;
        drained(&app).await;
        let metrics = app.admin.get("/metrics").await.text;
        let name = "esim_status_unknown_words_total{provider=\"roamify\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        counted.push(count.parse::<u64>().unwrap());
        app.stop().await;
    }
    assert_eq!(counted[1], counted[0] + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_progress_is_waited_for_and_not_applied_again() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let deliveries =
        [report(1, 9, 1, "RELEASED"), report(2, 8, 1, "INSTALLED"), delivery(3, 7, "{")];
    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    for delivery in &deliveries {
        commit(&app, delivery).await;
    }
    app.stop().await;
    // All rows again, in a transaction that has done everything but commit.
    let mut connection = postgres.database.connect().await;
    for table in ["profiles", "transitions", "deliveries"] {
        let copy = format!("CREATE TEMP TABLE copy_of_{table} AS SELECT * FROM {table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut connection).await.unwrap();
    }
    let truncate = "TRUNCATE profiles, transitions, deliveries";
    sqlx::raw_sql(truncate).execute(&mut connection).await.unwrap();
    let mut in_doubt = connection.begin().await.unwrap();
    for table in ["profiles", "transitions", "deliveries"] {
        let insert = format!("INSERT INTO {table} SELECT * FROM copy_of_{table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut *in_doubt).await.unwrap();
    }

    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    wait_until("the drainer waits for the transaction", async || {
        postgres.database.scalar::<i64>(waits).await > 0
    })
    .await;
    in_doubt.commit().await.unwrap();
    drained(&app).await;
    assert_eq!(states(&app, 1).await, ["RELEASED", "INSTALLED"]);
    app.assert_straight(&iccid(1)).await;
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 3);
    let figures = app.service.app().spool.as_ref().unwrap().figures();
    assert_eq!(figures.refused, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_that_cannot_be_written_block_no_others_and_are_tried_again_at_the_next_start() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let of_acme = delivery(3, 8, r#"{"iccid":"8910300000019600001","status":"LOADED"}"#);
    let deliveries = [
        report(1, 9, 1, "RELEASED"),
        // The database refuses to apply this one, and to keep that one.
        report(2, 9, 4, "INSTALLED"),
        report(5, 8, 5, "INSTALLED"),
        report(4, 7, 1, "DISABLED"),
    ];
    let mut entries: Vec<_> = deliveries.iter().map(|it| (it, "gigastore")).collect();
    entries.insert(2, (&of_acme, "acme"));
    fill(folder.path(), &entries).await;
    let refuse = format!(
        "ALTER TABLE profiles ADD CONSTRAINT not_this CHECK (iccid <> '{}');
         ALTER TABLE deliveries ADD CONSTRAINT not_that CHECK (iccid <> '{}')",
        iccid(4),
        iccid(5)
    );
    let mut operator = postgres.database.connect().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(refuse)).execute(&mut operator).await.unwrap();
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(states(&app, 1).await, ["RELEASED", "DISABLED"]);
    assert_eq!(app.service.app().spool.as_ref().unwrap().figures().refused, 2);
    assert!(
        app.admin.get("/metrics").await.text.contains("esim_status_spool_refused_deliveries 2")
    );
    let kept = app.backend.get(&format!("/v1/profiles/{}/deliveries", iccid(4))).await.json();
    assert_eq!(kept["items"][0]["outcome"], "unrecognised");
    app.stop().await;
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("spool.db"));
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let reasons: Vec<String> = sqlx::query_scalar("SELECT reason FROM refused ORDER BY seq")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(reasons[0], "this version knows no provider acme");
    assert!(reasons[1].contains("violates check constraint"), "{reasons:?}");
    drop(connection);

    let fix = "ALTER TABLE deliveries DROP CONSTRAINT not_that";
    sqlx::raw_sql(fix).execute(&mut operator).await.unwrap();
    let spool = with_spool(folder.path());
    let app = TestApp::start_on(postgres.database.clone(), |settings| {
        spool(settings);
        settings.providers = acme();
    })
    .await;
    drained(&app).await;
    assert_eq!(states(&app, 5).await, ["INSTALLED"]);
    assert_eq!(app.profile("8910300000019600001").await["state"], "DOWNLOADED");
    assert_eq!(app.service.app().spool.as_ref().unwrap().figures().refused, 0);
}

/// A provider that nobody knew when its delivery was spooled.
fn acme() -> Providers {
    let declaration = r#"
        [[providers]]
        slug = "acme"
        iccid = "/iccid"
        state = "/status"
        states = { LOADED = "DOWNLOADED" }
        [[providers.samples]]
        body = '{"iccid":"8910300000019600001","status":"LOADED"}'
        iccid = "8910300000019600001"
        state = "DOWNLOADED"
    "#;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("esim-status.toml");
    std::fs::write(&path, declaration).unwrap();
    config::providers(&ServeArgs { config: Some(path), ..ServeArgs::defaults() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portals_test_that_waited_in_the_spool_is_ignored_if_the_hook_allows_it() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let deliveries = [delivery(1, 9, ""), delivery(2, 8, "{}"), delivery(3, 7, "{")];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    let app = TestApp::start_on(postgres.database.clone(), |settings| {
        with_spool(folder.path())(settings);
        settings.hooks.values_mut().for_each(|it| Arc::get_mut(it).unwrap().takes_tests = true);
    })
    .await;
    drained(&app).await;
    let outcomes: Vec<String> = sqlx::query_scalar("SELECT outcome FROM deliveries ORDER BY id")
        .fetch_all(&mut app.database.connect().await)
        .await
        .unwrap();
    assert_eq!(outcomes, ["ignored", "ignored", "malformed"]);
}

/// Its hook may be gone: the provider alone says how it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_is_read_by_its_declared_provider_in_the_order_of_its_event_times() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let now = clock::now().unix_seconds();
    let event = |number: u128, seconds_ago: i64, status: &str, happened_ago: i64| {
        let data = json!({ "iccid": iccid(1), "status": status, "timestamp": now - happened_ago });
        let body = json!({ "event_category": "esim", "event_type": "status", "data": data });
        delivery(number, seconds_ago, &body.to_string())
    };
    let deliveries = [
        event(1, 9, "NEW", 100),
        event(2, 8, "ACTIVATED", 60),
        event(3, 7, "INSTALLED", 80),
        event(4, 6, "INACTIVE", 40),
    ];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "roamify"))).await;
    let app = TestApp::start_on(postgres.database.clone(), |settings| {
        with_spool(folder.path())(settings);
        settings.providers = Providers::built_in().unwrap();
    })
    .await;
    drained(&app).await;
    assert_eq!(states(&app, 1).await, ["RELEASED", "INSTALLED", "INSTALLED", "DISABLED"]);
    let kinds: Vec<_> =
        app.transitions(&iccid(1)).await.iter().map(|it| it["kind"].clone()).collect();
    assert_eq!(kinds, ["normal", "normal", "late", "normal"]);
    assert_eq!(app.profile(&iccid(1)).await["provider"], "roamify");
    app.assert_straight(&iccid(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_older_than_every_partition_is_written() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let (old, new) = (report(1, 40 * 365 * 86_400, 1, "RELEASED"), report(2, 9, 1, "INSTALLED"));
    fill(folder.path(), &[(&old, "gigastore"), (&new, "gigastore")]).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(states(&app, 1).await, ["RELEASED", "INSTALLED"]);
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spooled_delivery_of_a_profile_that_was_erased_is_stored_without_its_body() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    assert_eq!(app.report(&iccid(1), "RELEASED").await, "moved");
    // One was received before the erasure, and one after it.
    let early = report(1, 60, 1, "INSTALLED");
    let own = format!("/v1/profiles/{}", iccid(1));
    let erased = app.backend.request(reqwest::Method::DELETE, &own).send().await.unwrap();
    assert_eq!(erased.status(), 204);
    let late = report(2, 0, 1, "DISABLED");
    app.stop().await;
    fill(folder.path(), &[(&early, "gigastore"), (&late, "gigastore")]).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(app.backend.get(&own).await.status, 404);
    let kept =
        "SELECT count(*) FROM deliveries WHERE outcome = 'ignored' AND iccid IS NULL AND body = ''";
    assert_eq!(app.database.scalar::<i64>(kept).await, 2);
}

/// A database with a profile that was reported, erased and registered again.
async fn with_a_next_life() -> Postgres {
    let postgres = Postgres::start().await;
    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    assert_eq!(app.report(&iccid(1), "RELEASED").await, "moved");
    let own = format!("/v1/profiles/{}", iccid(1));
    let erased = app.backend.request(reqwest::Method::DELETE, &own).send().await.unwrap();
    assert_eq!(erased.status(), 204);
    let object = json!({ "iccid": iccid(1), "state": "RELEASED" }).to_string();
    let registered = app.backend.request(reqwest::Method::PUT, &own).body(object);
    assert_eq!(registered.send().await.unwrap().status(), 201);
    app.stop().await;
    postgres
}

/// Neither delivery is a report. Because of their event ids, the batch is written in a transaction that locks profiles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_spooled_before_an_erasure_keeps_nothing_after_a_new_registration() {
    let (postgres, folder) = (with_a_next_life().await, TempDir::new().unwrap());
    let ignored = json!({ "iccid": iccid(1), "balanceAmountInByte": 1 }).to_string();
    let malformed = json!({ "iccid": iccid(1), "profileState": 1 }).to_string();
    let deliveries = [event(1, "msg_1", 60, &ignored), event(2, "msg_2", 59, &malformed)];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    let events = "SELECT count(*) FROM deliveries WHERE event_id IS NOT NULL";
    assert_eq!(app.database.scalar::<i64>(events).await, 2);
    let named = "SELECT count(*) FROM deliveries WHERE iccid IS NOT NULL OR body <> ''";
    assert_eq!(app.database.scalar::<i64>(named).await, 0);
    assert_eq!(app.profile(&iccid(1)).await["state"], "RELEASED");
}

/// A delivery that is alone in its batch is written by a separate statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_delivery_from_before_an_erasure_is_not_filed_under_the_next_life() {
    let (postgres, folder) = (with_a_next_life().await, TempDir::new().unwrap());
    fill(folder.path(), &[(&report(1, 60, 1, "INSTALLED"), "gigastore")]).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 1);
    let deliveries = app.backend.get(&format!("/v1/profiles/{}/deliveries", iccid(1))).await.json();
    assert_eq!(deliveries["items"], json!([]));
    assert_eq!(app.profile(&iccid(1)).await["state"], "RELEASED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_event_in_the_spool_is_a_duplicate() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let body = json!({ "iccid": iccid(1), "profileState": "RELEASED" }).to_string();
    // Signed long ago: the age of a signature is not checked again.
    let deliveries = [event(1, "msg_1", 4_000, &body), event(2, "msg_1", 3_999, &body)];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    let count =
        "SELECT count(*) FROM deliveries WHERE event_id = 'msg_1' AND outcome = 'duplicate'";
    assert_eq!(app.database.scalar::<i64>(count).await, 1);
    assert_eq!(states(&app, 1).await, ["RELEASED"]);
}

/// A profile with the number 1 that is released, these deliveries in a spool, and a session whose transaction has locked the profile.
async fn with_locked_profile(
    deliveries: &[AuthenticDelivery],
) -> (Postgres, TempDir, PgConnection) {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let app = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    assert_eq!(app.report(&iccid(1), "RELEASED").await, "moved");
    app.stop().await;
    let deliveries: Vec<_> = deliveries.iter().map(|it| (it, "gigastore")).collect();
    fill(folder.path(), &deliveries).await;
    let mut operator = postgres.database.connect().await;
    let hold = "BEGIN; UPDATE profiles SET uid = 'backfilled'";
    sqlx::raw_sql(hold).execute(&mut operator).await.unwrap();
    (postgres, folder, operator)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_held_by_another_transaction_delays_no_other_spooled_delivery() {
    let deliveries = [
        report(1, 9, 1, "INSTALLED"),
        report(2, 8, 2, "RELEASED"),
        report(3, 7, 1, "DISABLED"),
        report(4, 6, 3, "RELEASED"),
        delivery(5, 5, "{"),
    ];
    let (postgres, folder, mut operator) = with_locked_profile(&deliveries).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    let spool = app.service.app().spool.clone().unwrap();
    wait_until("the others are drained", async || spool.figures().deliveries == 2).await;
    assert_eq!(states(&app, 2).await, ["RELEASED"]);
    // Deliveries that arrive in the meantime are drained too.
    let direct = json!({ "iccid": iccid(2), "profileState": "INSTALLED" }).to_string();
    assert_eq!(app.deliver(direct).await.status, 202);
    wait_until("the new delivery is drained", async || states(&app, 2).await.len() == 2).await;
    assert_eq!(states(&app, 1).await, ["RELEASED"]);

    sqlx::raw_sql("ROLLBACK").execute(&mut operator).await.unwrap();
    drained(&app).await;
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 7);
    let states_of_the_held = states(&app, 1).await;
    assert_eq!(states_of_the_held, ["RELEASED", "INSTALLED", "DISABLED"]);
    app.assert_straight(&iccid(1)).await;
}

/// A pass through the spool would never come to its end while deliveries keep coming.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_was_locked_for_a_moment_is_drained_while_deliveries_keep_coming() {
    let deliveries = [report(1, 9, 1, "INSTALLED"), report(2, 8, 2, "RELEASED")];
    let (postgres, folder, mut operator) = with_locked_profile(&deliveries).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    let mut senders = JoinSet::new();
    for sender in 0..32 {
        let ingest = app.service.app().ingest.clone();
        senders.spawn(async move {
            for number in 1_000.. {
                let delivery = report(sender << 64 | number, 1, number as usize, "RELEASED");
                ingest.submit(submission(delivery)).await.unwrap();
            }
        });
    }
    wait_until("others are drained", async || states(&app, 2).await == ["RELEASED"]).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut operator).await.unwrap();
    let is_drained = async || states(&app, 1).await == ["RELEASED", "INSTALLED"];
    wait_until("it is drained", is_drained).await;
    assert!(!senders.is_empty());
}

/// Another replica is writing a delivery of the same event, and does not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_id_held_by_another_transaction_delays_no_other_spooled_delivery() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let activation = json!({ "uid": "customer-4711", "activatedItem": "EU 5 GB" }).to_string();
    let deliveries = [
        event(1, "msg_1", 9, &activation),
        event(2, "msg_2", 8, &activation),
        report(3, 7, 1, "RELEASED"),
        event(4, "msg_4", 6, &activation),
    ];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    TestApp::start_on(postgres.database.clone(), |_| ()).await.stop().await;
    let mut other = postgres.database.connect().await;
    let mut transaction = other.begin().await.unwrap();
    let hold = "INSERT INTO event_ids (hook, event_id, body_sha256, received_at)
                SELECT 'gigastore/esim-status', 'msg_' || n, sha256('another'), now() FROM generate_series(1, 2) AS n";
    sqlx::query(hold).execute(&mut *transaction).await.unwrap();

    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    let spool = app.service.app().spool.clone().unwrap();
    wait_until("the others are drained", async || spool.figures().deliveries == 2).await;
    assert_eq!(states(&app, 1).await, ["RELEASED"]);

    transaction.rollback().await.unwrap();
    drained(&app).await;
    assert_eq!(app.database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spooled_delivery_is_late_if_another_replica_has_written_a_newer_one() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let other = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    assert_eq!(other.report(&iccid(1), "RELEASED").await, "moved");
    assert_eq!(other.report(&iccid(1), "DISABLED").await, "moved");
    assert_eq!(other.report(&iccid(2), "RELEASED").await, "moved");
    // One is older than what the other replica wrote; the other comes from a replica whose clock is slightly behind.
    let deliveries = [report(1, 120, 1, "INSTALLED"), report(2, 1, 2, "INSTALLED")];
    fill(folder.path(), &deliveries.each_ref().map(|it| (it, "gigastore"))).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(app.profile(&iccid(1)).await["state"], "DISABLED");
    let transitions = app.transitions(&iccid(1)).await;
    assert_eq!(
        (&transitions[2]["toState"], &transitions[2]["kind"]),
        (&json!("INSTALLED"), &json!("late"))
    );
    app.assert_straight(&iccid(1)).await;
    let own = format!("/v1/profiles/{}/deliveries", iccid(1));
    let deliveries = app.backend.get(&own).await.json();
    let late = deliveries["items"].as_array().unwrap().iter().find(|it| it["outcome"] == "late");
    assert!(late.unwrap()["reason"].as_str().unwrap().contains("waited in the spool"), "{late:?}");
    assert_eq!(app.profile(&iccid(2)).await["state"], "INSTALLED");
}

/// An install and its first connection are seconds apart, and a load balancer may send them to two replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spooled_report_is_applied_although_another_replica_has_heard_of_a_connection_since() {
    let (postgres, folder) = (Postgres::start().await, TempDir::new().unwrap());
    let other = TestApp::start_on(postgres.database.clone(), |_| ()).await;
    let country = json!({ "iccid": iccid(1), "previousCountry": null, "newCountry": "PL" });
    assert_eq!(other.report(&iccid(1), "RELEASED").await, "moved");
    let earlier = "UPDATE deliveries SET received_at = received_at - interval '1 hour'";
    sqlx::query(earlier).execute(&mut other.database.connect().await).await.unwrap();
    assert_eq!(other.deliver(country.to_string()).await.outcome(), "connected");
    assert_eq!(other.report(&iccid(1), "TELEPORTED").await, "unrecognised");
    fill(folder.path(), &[(&report(1, 120, 1, "INSTALLED"), "gigastore")]).await;
    let app = TestApp::start_on(postgres.database.clone(), with_spool(folder.path())).await;
    drained(&app).await;
    assert_eq!(states(&app, 1).await, ["RELEASED", "INSTALLED"]);
    let profile = app.profile(&iccid(1)).await;
    assert_eq!((&profile["state"], &profile["country"]), (&json!("INSTALLED"), &json!("PL")));
    app.assert_straight(&iccid(1)).await;
}
