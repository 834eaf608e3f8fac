//! Connecting to the database: several hosts in `DATABASE_URL`, session settings, roles with few connections, and
//! databases that refuse.
//!
//! Real Postgres servers are switched between read-only and writable, a TCP listener plays a silent host, and roles are
//! created with a `CONNECTION LIMIT` or without the right to log in.

use std::time::{Duration, Instant};

use esim_status::service::Service;
use esim_status::store::{Connector, Session};
use esim_status_testing::{Database, TestApp, settings};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio::net::TcpListener;

use super::iccid;
use super::postgres::Postgres;
use super::turn::beside_others;

/// Makes a server's database read-only, or writable again.
async fn set_read_only(postgres: &Postgres, read_only: bool) {
    let set = format!("ALTER DATABASE postgres SET default_transaction_read_only = {read_only}");
    let mut connection = postgres.database().connect().await;
    let begin = "SET default_transaction_read_only = off";
    connection.execute(begin).await.unwrap();
    connection.execute(AssertSqlSafe(set)).await.unwrap();
}

/// A `DATABASE_URL` with these hosts, each a socket folder or an address, with its port.
fn url(hosts: &[(String, u16)], parameters: &str) -> String {
    let folders: Vec<_> = hosts.iter().map(|(host, _)| host.as_str()).collect();
    let ports: Vec<_> = hosts.iter().map(|(_, port)| port.to_string()).collect();
    let (folders, ports) = (folders.join(","), ports.join(","));
    format!("postgres:///postgres?user=postgres&host={folders}&port={ports}{parameters}")
}

fn host(postgres: &Postgres) -> (String, u16) {
    let options = postgres.database().options;
    let folder = options.get_socket().unwrap().display().to_string();
    (folder, options.get_port())
}

/// The socket folder of the server that the connector chooses.
async fn leads_to(connector: &Connector) -> String {
    let mut connection = connector.connect(Session::Writer).await.unwrap();
    let folder = "SELECT current_setting('unix_socket_directories')";
    sqlx::query_scalar(folder).fetch_one(&mut *connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writable_host_is_found_among_dead_silent_and_read_only_ones() {
    let turn = beside_others().await;
    let (one, two) = (Postgres::start(), Postgres::start());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = ("127.0.0.1".to_owned(), silent.local_addr().unwrap().port());
    // Nothing listens there.
    let dead = ("127.0.0.1".to_owned(), 1);
    let user = one.database().options.get_username().to_owned();
    let url = url(&[dead, silent, host(&one), host(&two)], "&target_session_attrs=read-write");
    let url = url.replace("user=postgres", &format!("user={user}"));
    let connector = Connector::parse(&url).unwrap();
    for (read_only, good) in [(&one, &two), (&two, &one), (&one, &two)] {
        set_read_only(read_only, true).await;
        set_read_only(good, false).await;
        let begun = Instant::now();
        assert_eq!(leads_to(&connector).await, host(good).0);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1) + turn.slack(), "{took:?}");
    }
    set_read_only(&two, true).await;
    let error = connector.connect(Session::Writer).await.unwrap_err();
    assert!(error.is_away());
    let text = error.to_string();
    for said in ["Connection refused", "no answer within", "it accepts no writes"] {
        assert!(text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn a_session_keeps_its_settings_after_a_rollback_and_despite_those_of_the_database() {
    let database = Database::migrated().await;
    let name = database.options.get_database().unwrap();
    let set = format!("ALTER DATABASE {name} SET statement_timeout = '1h'");
    database.connect().await.execute(AssertSqlSafe(set)).await.unwrap();
    for session in [Session::Writer, Session::Registrations, Session::Lookup, Session::Reads] {
        let mut connection = database.connector().connect(session).await.unwrap();
        let transaction = connection.begin().await.unwrap();
        transaction.rollback().await.unwrap();
        let lost = session.lost_settings(&mut connection).await.unwrap();
        assert_eq!(lost, [""; 0], "{session:?}");
        connection.execute("SET statement_timeout = '2h'").await.unwrap();
        let lost = session.lost_settings(&mut connection).await.unwrap();
        assert_eq!(lost.len(), 1, "{lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_give_up_connections_to_webhooks_if_the_role_has_few() {
    let turn = beside_others().await;
    let database = Database::empty().await;
    let name = database.options.get_database().unwrap().to_owned();
    let mut operator = database.connect().await;
    let make =
        format!("CREATE ROLE few LOGIN CONNECTION LIMIT 8; ALTER DATABASE {name} OWNER TO few");
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut operator).await.unwrap();
    let as_few = Database { options: database.options.clone().username("few") };
    let app = TestApp::start_on(as_few, |settings| settings.readers = 20).await;
    assert_eq!(app.report(&iccid(0), "INSTALLED").await, "moved");
    // Lists take and hold all remaining connections.
    join_all((0..20).map(|_| app.backend.get("/v1/profiles"))).await;
    let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'esim-status writer'";
    let reading = async {
        for _ in 0..20 {
            join_all((0..10).map(|_| app.backend.get("/v1/profiles"))).await;
        }
    };
    let writing = async {
        let mut worst = Duration::ZERO;
        for (number, state) in ["DISABLED", "INSTALLED"].iter().cycle().take(10).enumerate() {
            operator.execute(cut).await.unwrap();
            let begun = Instant::now();
            assert_eq!(app.report(&iccid(0), state).await, "moved", "{number}");
            worst = worst.max(begun.elapsed());
        }
        worst
    };
    let (worst, ()) = tokio::join!(writing, reading);
    assert!(worst < turn.budget(), "{worst:?}");
    assert_eq!(app.admin.get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_refuses_fails_the_start_with_a_remedy() {
    let turn = beside_others().await;
    let database = Database::migrated().await;
    let options = database.options.clone();
    let mut operator = database.connect().await;
    // A role that may not log in.
    let make = "CREATE ROLE barred NOLOGIN";
    operator.execute(make).await.unwrap();
    let rows = [
        (options.clone().database("not_there"), "create the database"),
        (options.clone().username("nobody_at_all"), "create the role"),
        (options.clone().username("barred"), "create the role"),
    ];
    for with_spool in [false, true] {
        for (options, remedy) in &rows {
            let folder = tempfile::tempdir().unwrap();
            let mut settings = settings(&Database { options: options.clone() });
            settings.spool = with_spool.then(|| esim_status::config::SpoolSettings {
                folder: folder.path().to_owned(),
                max_bytes: 1 << 20,
            });
            let begun = Instant::now();
            let error = anyhow::Error::from(Service::start(settings).await.unwrap_err());
            let (took, text) = (begun.elapsed(), format!("{error:#}"));
            assert!(text.contains(remedy), "{text}");
            assert!(took < Duration::from_secs(1) + turn.slack(), "{took:?}");
        }
    }
}
