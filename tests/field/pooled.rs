//! A pooler in front of the database. With session pooling everything works, even if startup parameters are ignored.
//! With transaction pooling the service cannot work, and refuses to start.
//!
//! The real binary connects through a real pgbouncer, and the test uses every kind of connection that the service
//! opens.

use std::time::{Duration, Instant};

use esim_status_testing::history::assert_straight;
use esim_status_testing::service::Service;
use esim_status_testing::turn::{beside_others, measured};
use esim_status_testing::{
    Answer, Client, Database, TestApp, binary, program, serving, wait_until,
};
use reqwest::Method;
use serde_json::json;
use sqlx::Connection;

use super::bouncer::{Bouncer, IGNORED};
use super::iccid;
use super::server::Server;
use super::starts::refused_everywhere;

/// How long a statement of the writers may run.
const STATEMENT: Duration = Duration::from_millis(1_500);

async fn report(client: &Client, profile: usize, state: &str) -> Answer {
    let body = json!({ "iccid": iccid(profile), "profileState": state });
    client.post(&TestApp::hook_path(), body.to_string()).await
}

/// Uses every kind of connection: writers, lookups, lists, LISTEN, registrations, upkeep, `doctor`.
async fn everything_works(service: &Service, bouncer: &Bouncer) {
    let (anybody, backend) =
        (Client::new(format!("http://{}", service.address())), service.backend());
    for number in 0..40 {
        let state = ["RELEASED", "INSTALLED"][number / 20];
        assert_eq!(report(&anybody, number % 20, state).await.outcome(), "moved");
    }
    let own = format!("/v1/profiles/{}", iccid(0));
    for path in [
        &own,
        &format!("{own}/transitions"),
        &format!("{own}/deliveries"),
        "/v1/profiles",
        "/v1/deliveries",
        "/v1/summary",
    ] {
        let answer = backend.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    assert_eq!(service.admin().get("/readyz").await.status, 200);

    let tag = backend.get(&own).await.header("etag").to_owned();
    let request = backend.request(Method::GET, &format!("{own}?wait=60"));
    let following = Answer::of(request.header("if-none-match", tag));
    let begun = Instant::now();
    let (followed, _) = tokio::join!(following, report(&anybody, 0, "DISABLED"));
    assert_eq!(followed.json()["state"], "DISABLED");
    assert!(begun.elapsed() < Duration::from_secs(10), "the long poll was not woken");

    let object = json!({ "iccid": iccid(100), "activationCode": "LPA:1$smdp.example.test$ABC", "state": "RELEASED" });
    let path = format!("/v1/profiles/{}", iccid(100));
    let put = backend.request(Method::PUT, &path).body(object.to_string());
    assert_eq!(Answer::of(put).await.status, 201);
    assert_eq!(Answer::of(backend.request(Method::DELETE, &path)).await.status, 204);
    assert_eq!(report(&anybody, 100, "RELEASED").await.outcome(), "ignored");

    let mut doctor =
        program(&binary(), &["doctor", "--url", &format!("http://{}", service.address())]);
    let doctor = serving(&mut doctor, bouncer.url()).output().unwrap();
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success() && text.contains("Nothing is wrong."), "{text}");
}

/// Delivers to a profile that another transaction holds: the statement times out, and its backend ends with it. Returns
/// how long each took.
async fn time_outs_are_set(
    service: &Service,
    database: &Database,
    limit: Duration,
) -> (Duration, Duration) {
    let anybody = Client::new(format!("http://{}", service.address()));
    let mut connection = database.connect().await;
    let mut holder = connection.begin().await.unwrap();
    let hold = sqlx::query("SELECT 1 FROM profiles WHERE iccid = $1 FOR UPDATE").bind(iccid(1));
    hold.execute(&mut *holder).await.unwrap();
    let begun = Instant::now();
    let answer = report(&anybody, 1, "ERROR").await;
    let answered = begun.elapsed();
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "unavailable"));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until("no backend waits for the lock", async || {
        database.scalar::<i64>(waiting).await == 0
    })
    .await;
    let ended = begun.elapsed();
    assert!(answered.max(ended) < limit, "answered after {answered:?}, ended after {ended:?}");
    holder.rollback().await.unwrap();
    assert_eq!(report(&anybody, 1, "ERROR").await.outcome(), "moved");
    (answered, ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_session_pooler_everything_works_and_timeouts_are_set() {
    let turn = beside_others().await;
    for (what, ignored) in [("options are dropped", IGNORED), ("nothing is dropped", "")] {
        let database = Database::empty().await;
        let bouncer = Bouncer::start(&database, "session", ignored).await;
        let service = Service::start(bouncer.url()).await;
        everything_works(&service, &bouncer).await;
        // A statement is tried at most twice.
        let limit = 2 * STATEMENT + turn.slack();
        let (answered, ended) = time_outs_are_set(&service, &database, limit).await;
        measured(
            &format!("pgbouncer by session, {what}"),
            format!(
                "everything works; a locked profile is 503 after {answered:.2?}, its backend ended after {ended:.2?}"
            ),
        );
        assert_straight(&database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_transaction_pooler_the_service_refuses_to_start_and_names_the_pooler() {
    let turn = beside_others().await;
    for ignored in [IGNORED, ""] {
        // The schema exists already, as at a second start, so only the pooler prevents the start.
        let database = Database::migrated().await;
        let bouncer = Bouncer::start(&database, "transaction", ignored).await;
        let words = ["transaction", "pool_mode = session"];
        let slowest = refused_everywhere(&turn, bouncer.url(), &words).await;
        measured(
            "pgbouncer by transaction",
            format!("refused within {slowest:.2?}, with the remedy"),
        );
    }
}

/// The pooler reports the loss of its server in the server's name (08P01), after the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_server_process_is_lost_behind_a_pooler_is_looked_up() {
    let server = Server::start(&[]).await;
    let database = server.database("postgres");
    let bouncer = Bouncer::start(&database, "session", "").await;
    let service = Service::start(bouncer.url()).await;
    let anybody = Client::new(format!("http://{}", service.address()));
    assert_eq!(report(&anybody, 0, "RELEASED").await.outcome(), "moved");
    // From now on a commit is done, and waits for a standby that does not exist.
    let mut operator = database.connect().await;
    for statement in
        ["ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"]
    {
        sqlx::raw_sql(statement).execute(&mut operator).await.unwrap();
    }
    let set = "SELECT setting = 'nobody' FROM pg_settings WHERE name = 'synchronous_standby_names'";
    wait_until("the setting is loaded", async || database.scalar::<bool>(set).await).await;
    let (answer, ()) = tokio::join!(report(&anybody, 0, "INSTALLED"), async {
        let ends = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        wait_until("a commit waits, and its process is ended", async || {
            database.scalar::<i64>(ends).await > 0
        })
        .await;
    });
    assert_eq!(answer.outcome(), "moved", "{answer:?}");
    assert_eq!(database.scalar::<i64>("SELECT count(*) FROM deliveries").await, 2);
    assert_straight(&database).await;
}
