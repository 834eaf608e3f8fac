//! One embedded Postgres server for each test binary, and a fresh database for each test.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use embedded_postgres::Embedded;
use esim_status::store::{self, Connector};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

/// The server of this test binary. It stops when the process ends.
///
/// # Panics
/// If PostgreSQL is not installed; the message says how to install it.
pub fn server() -> MutexGuard<'static, Embedded> {
    static SERVER: OnceLock<Mutex<Embedded>> = OnceLock::new();
    let start = || match Embedded::start_ephemeral() {
        Ok(server) => Mutex::new(server),
        Err(error) => panic!("the tests need a PostgreSQL: {error}"),
    };
    SERVER.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The database of one test.
#[derive(Debug, Clone)]
pub struct Database {
    /// How to connect to it.
    pub options: PgConnectOptions,
}

impl Database {
    /// A fresh database with the current schema, copied from a template.
    pub async fn migrated() -> Self {
        static TEMPLATE: OnceCell<()> = OnceCell::const_new();
        let make = || async {
            let template = Self::create("template_app", "template1").await;
            store::migrate(&template.connector()).await.expect("the migrations apply");
        };
        TEMPLATE.get_or_init(make).await;
        Self::create(&Self::next_name(), "template_app").await
    }

    /// A fresh database without any table.
    pub async fn empty() -> Self {
        Self::create(&Self::next_name(), "template1").await
    }

    fn next_name() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    async fn create(name: &str, template: &str) -> Self {
        // Postgres copies a template only while nobody is connected to it, and makes one copy at a time.
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = ONE_AT_A_TIME.lock().await;
        let (admin, options) = {
            let server = server();
            (server.connect_options("postgres"), server.connect_options(name))
        };
        let mut connection = admin.connect().await.expect("the test server answers");
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
        connection.execute(AssertSqlSafe(statement)).await.expect("the database is created");
        connection.close().await.expect("the connection closes");
        Self { options }
    }

    /// How a service connects to it.
    pub fn connector(&self) -> Connector {
        self.options.clone().into()
    }

    /// A separate connection for the test.
    pub async fn connect(&self) -> PgConnection {
        self.options.connect().await.expect("the test's database answers")
    }

    /// Makes the server fail at each row of this profile that is written to the table.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn raise_at(&self, iccid: &str, table: &str) {
        let statement = format!(
            "CREATE OR REPLACE FUNCTION raise_at_one() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN IF NEW.iccid = '{iccid}' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER raise_at_one BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION raise_at_one()"
        );
        let created = self.connect().await.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await;
        created.expect("the trigger is created");
    }

    /// Returns the only value of a query's only row.
    pub async fn scalar<T>(&self, query: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let mut connection = self.connect().await;
        sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("the query has one value")
    }
}

/// Waits until `condition` holds, for at most 30 s; checks it every 20 ms.
///
/// # Panics
/// If it does not hold within 30 s.
pub async fn wait_until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "this did not happen within 30 s: {what}");
}
