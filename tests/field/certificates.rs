//! Certificates, passwords and databases that do not match `DATABASE_URL`: every command fails quickly, and says what
//! is wrong and how to fix it.
//!
//! A real PostgreSQL serves TLS with certificates from openssl, some made as PostgreSQL's manual describes, and the
//! real binary connects to it.

use std::fs;
use std::path::PathBuf;

use esim_status_testing::part::run;
use esim_status_testing::turn::{beside_others, measured};
use esim_status_testing::{binary, program, serving, wait_until};
use sqlx::{AssertSqlSafe, Executor};

use super::authority::Authority;
use super::server::Server;
use super::starts::refused_everywhere;

/// Connections over the network need a password, as nearly everywhere.
const HBA: &str = "local all all trust\nhost all all all scram-sha-256\n";

/// A server with TLS that requires a password.
struct Guarded {
    server: Server,
}

impl Guarded {
    async fn start() -> Self {
        let this = Self { server: Server::start(&[]).await };
        fs::write(this.server.data().join("pg_hba.conf"), HBA).unwrap();
        let mut connection = this.server.database("postgres").connect().await;
        for statement in [
            "CREATE ROLE field LOGIN PASSWORD 'right'",
            "CREATE DATABASE field OWNER field",
            "SELECT pg_reload_conf()",
        ] {
            connection.execute(statement).await.unwrap();
        }
        this
    }

    /// A file in the server's folder, beside its data.
    fn file(&self, name: &str) -> PathBuf {
        self.server.folder.path().join(name)
    }

    fn authority(&self) -> Authority<'_> {
        Authority(self.server.folder.path())
    }

    /// Makes the server use this certificate from now on.
    async fn show(&self, name: &str) {
        let database = self.server.database("postgres");
        let mut connection = database.connect().await;
        let file = self.file(&format!("{name}.crt")).display().to_string();
        for (setting, value) in [
            ("ssl_cert_file", &*file),
            ("ssl_key_file", &file.replace(".crt", ".key")),
            ("ssl", "on"),
        ] {
            let set = format!("ALTER SYSTEM SET {setting} = '{value}'");
            connection.execute(AssertSqlSafe(set)).await.unwrap();
        }
        connection.execute("SELECT pg_reload_conf()").await.unwrap();
        wait_until("the server uses the certificate", async || {
            database.scalar::<String>("SHOW ssl_cert_file").await == file
                && database.scalar::<String>("SHOW ssl").await == "on"
        })
        .await;
    }

    fn url(&self, password: &str, database: &str, parameters: &str) -> String {
        let port = self.server.port;
        format!("postgres://field:{password}@localhost:{port}/{database}{parameters}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_server_or_of_tls_is_reported_immediately_with_a_remedy() {
    let turn = beside_others().await;
    let guarded = Guarded::start().await;
    let authority = guarded.authority();
    authority.self_sign("ca");
    authority.sign("good", Some("subjectAltName=DNS:localhost\n"));
    authority.self_sign("itself");
    authority.sign("manual", None);
    let verify = |root: &str| {
        let root = guarded.file(root).display().to_string();
        format!("?sslmode=verify-full&sslrootcert={root}")
    };

    // A correct configuration is not refused.
    guarded.show("good").await;
    let mut migrate = program(&binary(), &["migrate"]);
    run(serving(&mut migrate, &guarded.url("right", "field", &verify("ca.crt"))));

    let right = |parameters: &str| guarded.url("right", "field", parameters);
    let good = [
        (
            "a wrong password",
            guarded.url("wrong", "field", ""),
            ["password authentication failed", "check user and password in DATABASE_URL"],
        ),
        (
            "no such database",
            guarded.url("right", "nowhere", ""),
            ["does not exist", "create the database"],
        ),
        ("no root", right("?sslmode=verify-full"), ["UnknownIssuer", "sslrootcert"]),
        ("another root", right(&verify("itself.crt")), ["invalid peer certificate", "sslrootcert"]),
        (
            "a root that does not exist",
            right(&verify("missing.crt")),
            ["No such file", "sslrootcert"],
        ),
    ];
    for (what, url, words) in good {
        let slowest = refused_everywhere(&turn, &url, &words).await;
        measured("a start", format!("{what}: refused within {slowest:.2?}, with the remedy"));
    }
    guarded.show("itself").await;
    let words = ["CaUsedAsEndEntity", "CA:FALSE"];
    let slowest = refused_everywhere(&turn, &right(&verify("itself.crt")), &words).await;
    measured(
        "a start",
        format!("a certificate that is its own CA: refused within {slowest:.2?}, with the remedy"),
    );

    if !authority.openssl("x509 -in manual.crt -noout -text").contains("Version: 1 ") {
        measured(
            "a start",
            "a certificate of version 1: this openssl creates version 3 with the same commands",
        );
        return;
    }
    guarded.show("manual").await;
    let words = ["UnsupportedCertVersion", "X.509 version 1", "sslmode=disable"];
    for (mode, parameters) in
        [("no sslmode", ""), ("require", "?sslmode=require"), ("verify-full", &verify("ca.crt"))]
    {
        let slowest = refused_everywhere(&turn, &right(parameters), &words).await;
        measured(
            "a start",
            format!(
                "a certificate of version 1, {mode}: refused within {slowest:.2?}, with the remedy"
            ),
        );
    }
}
