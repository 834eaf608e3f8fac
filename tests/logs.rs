//! What the log says and what it never says: the standard error of the real binary, in either format, at debug for our own code.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test that calls it")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use esim_status_testing::{
    API_KEY, Answer, Client, Database, HOOK_SECRET, TOKEN_SECRET, TestApp, program, server,
    serving, unix_now, wait_until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const ICCID: &str = "89972123300991848961";
const OTHER_ICCID: &str = "89972123300990000007";
const IMSI: &str = "260216611193634";
const EID: &str = "89049032123451234512345678901235";
/// Whatever holds this was copied from a body, a header, a path or a query.
const MARKER: &str = "xylophone";
/// What a caller calls its request.
const REQUEST_ID: &str = "shop-4711";
/// A line break, an escape sequence, a mark that turns the line around, and a line break of Unicode's.
const NASTY: &str = "TELEPORTED\n\r\u{1b}[31m\u{202e}\u{2028}";

/// `esim-status serve` as a process of its own, with its log in a file.
struct Serve {
    process: Child,
    folder: TempDir,
}

impl Serve {
    fn start(database_url: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(log_in(&folder)).unwrap();
        let mut command = program(env!("CARGO_BIN_EXE_esim-status"), &["serve"]);
        change(serving(&mut command, database_url).stderr(Stdio::from(log)));
        Self { process: command.spawn().unwrap(), folder }
    }

    fn log(&self) -> String {
        fs::read_to_string(log_in(&self.folder)).unwrap_or_default()
    }

    /// Waits for a whole line with this text.
    async fn says(&self, text: &str) -> String {
        let find = || {
            let log = self.log();
            let mut lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            lines.find(|line| line.contains(text)).map(str::to_owned)
        };
        wait_until(text, async || find().is_some()).await;
        find().unwrap()
    }

    /// Ends it as an operator would, and gives back what it wrote.
    fn stop(mut self) -> String {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
        self.log()
    }
}

/// Where a test fails, nothing is left running.
impl Drop for Serve {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn log_in(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

/// A service at debug, with its database and its callers.
struct Running {
    serve: Serve,
    database: Database,
    anybody: Client,
    backend: Client,
}

impl Running {
    async fn start(format: &str) -> Self {
        let database = Database::migrated().await;
        let url = server().url(database.options.get_database().unwrap());
        let serve = Serve::start(&url, |command| {
            command.env("ESIM_STATUS_LOG_FORMAT", format).env("RUST_LOG", "info,esim_status=debug");
        });
        let line = serve.says("serving").await;
        let at = line.find("127.0.0.1:").unwrap();
        let end = line[at..].find([' ', '"', '\n']).unwrap();
        let anybody = Client::new(format!("http://{}", &line[at..at + end]));
        Self { serve, backend: anybody.with_bearer(API_KEY), anybody, database }
    }

    async fn deliver(&self, body: impl Into<reqwest::Body>) -> Answer {
        self.anybody.post(&TestApp::hook_path(), body).await
    }

    fn stop(self) -> String {
        self.serve.stop()
    }
}

/// Everything that a log could be tempted to quote.
async fn provoke(app: &Running) {
    let report = |state: &str| json!({ "iccid": ICCID, "profileState": state, "imsi": IMSI, "eid": EID, "x": MARKER });
    assert_eq!(app.deliver(report("INSTALLED").to_string()).await.outcome(), "moved");
    assert_eq!(app.deliver(report("INSTALLED").to_string()).await.outcome(), "repeated");
    assert_eq!(app.deliver(report(NASTY).to_string()).await.outcome(), "unrecognised");
    let country = json!({ "iccid": ICCID, "newCountry": MARKER });
    assert_eq!(app.deliver(country.to_string()).await.outcome(), "ignored");
    for malformed in [
        MARKER.to_owned(),
        format!("{MARKER:?}"),
        OTHER_ICCID.to_owned(),
        format!(r#"{{"{MARKER}":1,"{MARKER}":1}}"#),
        format!(r#"{{"iccid":{OTHER_ICCID},"profileState":"{MARKER}"}}"#),
        format!(r#"{{"iccid":"{OTHER_ICCID}{OTHER_ICCID}","profileState":"INSTALLED"}}"#),
        format!(r#"{{"iccid":"{ICCID}","imsi":{IMSI},"profileState":"INSTALLED"}}"#),
        format!(r#"{{"iccid":"{ICCID}","profileState":["{MARKER}"]}}"#),
    ] {
        assert_eq!(app.deliver(malformed).await.problem(), "malformed");
    }
    for path in [
        "/webhooks/gigastore/esim-status/xylophone-1f2e3d4c5b6a",
        "/webhooks/gigastore/esim-status",
        // Each reason is told once a minute at most.
        "/webhooks/gigastore/esim-status/xylophone-1f2e3d4c5b6a",
    ] {
        let request = app.anybody.request(Method::POST, path).header("user-agent", MARKER);
        let request = request.header("x-request-id", REQUEST_ID);
        let refused = Answer::of(request.body(report("RELEASED").to_string())).await;
        assert_eq!(refused.problem(), "not-authentic");
    }
    for path in [
        format!("/webhooks/{MARKER}/{OTHER_ICCID}/{HOOK_SECRET}"),
        format!("/{MARKER}/{ICCID}"),
        format!("/v1/profiles/{ICCID}?access_token={API_KEY}&{MARKER}=1"),
        format!("/v1/profiles/{OTHER_ICCID}/transitions"),
        format!("/v1/profiles?imsi={IMSI}&eid={EID}&uid={MARKER}"),
        format!("/v1/profiles?limit={MARKER}"),
    ] {
        app.backend.get(&path).await;
        app.anybody.get(&path).await;
    }
    let claims = json!({ "aud": "esim-status", "sub": ICCID, "exp": unix_now() + 60 });
    let good = app.anybody.with_bearer(TestApp::token(&claims));
    assert_eq!(good.get("/v1/profiles/self").await.status, 200);
    let stale = json!({ "aud": "esim-status", "sub": ICCID, "exp": 1 });
    let stale = app.anybody.with_bearer(TestApp::token(&stale));
    assert_eq!(stale.get("/v1/profiles/self").await.status, 401);
    app.backend.get_with("/", "x-request-id", &format!("{MARKER} {MARKER}")).await;

    // A row that the database refuses, which it would describe in full.
    let mut connection = app.database.connect().await;
    let statement = "ALTER TABLE profiles ADD CHECK (state <> 'DELETED')";
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    let refused = app.deliver(report("DELETED").to_string()).await;
    assert_eq!(refused.problem(), "internal");
    let statement = "ALTER TABLE profiles RENAME TO elsewhere";
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    assert_eq!(app.deliver(report("DISABLED").to_string()).await.problem(), "unavailable");
    assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}")).await.status, 503);
}

fn assert_keeps_secrets(log: &str) {
    for secret in
        [HOOK_SECRET, API_KEY, TOKEN_SECRET, ICCID, OTHER_ICCID, IMSI, EID, MARKER, "eyJ", "Bearer"]
    {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} is in: {line:?}");
    }
    let control = |c: char| c.is_control() && c != '\n';
    let odd = |c: char| control(c) || ('\u{2028}'..='\u{202e}').contains(&c);
    assert!(!log.contains(odd), "{log:?}");
}

/// The table that was renamed is named by the cause of the cause.
fn assert_gives_the_cause(log: &str) {
    let line = log.lines().find(|line| line.contains("profiles cannot be read")).unwrap();
    assert!(line.contains("does not exist") && line.contains("database"), "{line}");
}

#[tokio::test]
async fn text_lines_are_whole_escaped_and_name_nobody() {
    let app = Running::start("text").await;
    provoke(&app).await;
    let log = app.stop();
    assert_keeps_secrets(&log);
    for line in log.lines() {
        assert!(line.starts_with("20"), "every line begins with its time: {line}");
    }
    assert_gives_the_cause(&log);
    let told = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(told("TELEPORTED"), 1, "{log}");
    assert_eq!(told(r#"word="TELEPORTED\n\r\u{1b}[31m\u{202e}\u{2028}""#), 1, "{log}");
    assert_eq!(told("webhook without a valid proof"), 2, "{log}");
    assert_eq!(told("delivery kept, not applied"), 9, "{log}");
    assert!(told("iccid=Some(Iccid(…8961))") > 0, "{log}");
    assert!(told("the database refuses a batch for its content") > 0, "{log}");
    assert_eq!(told("effective settings"), 1, "{log}");
    let named = log.lines().filter(|line| line.contains("webhook without a valid proof"));
    for (line, route) in named.zip(["{topic}/{secret}}", "{topic}}"]) {
        let request =
            format!("request{{id={REQUEST_ID} method=POST route=/webhooks/{{provider}}/{route}");
        assert!(line.contains(&request), "{line}");
    }
}

#[tokio::test]
async fn json_lines_are_one_object_each_and_name_nobody() {
    let app = Running::start("json").await;
    provoke(&app).await;
    let log = app.stop();
    assert_keeps_secrets(&log);
    assert_gives_the_cause(&log);
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        for member in ["timestamp", "level", "message"] {
            assert!(line[member].is_string(), "{line}");
        }
    }
    let words: Vec<_> = lines.iter().filter_map(|line| line["word"].as_str()).collect();
    assert_eq!(words, [r#""TELEPORTED\n\r\u{1b}[31m\u{202e}\u{2028}""#]);
    let refused = lines.iter().filter(|line| line["message"] == "webhook without a valid proof");
    let reasons: Vec<_> = refused.map(|line| line["reason"].clone()).collect();
    assert_eq!(reasons, ["wrong", "missing"]);
    let told = |line: &&&Value| line["message"] == "webhook without a valid proof";
    let named: Vec<_> =
        lines.iter().filter(|line| told(&line)).map(|line| &line["request"]).collect();
    assert_eq!(named[0]["route"], "/webhooks/{provider}/{topic}/{secret}");
    assert_eq!(
        named[1],
        &json!({ "id": REQUEST_ID, "method": "POST", "route": "/webhooks/{provider}/{topic}" })
    );
}

/// Everything fails while the database is away; one line says so.
#[tokio::test]
async fn an_outage_is_a_line_when_it_begins_and_one_when_it_ends() {
    let app = Running::start("json").await;
    let report = || json!({ "iccid": ICCID, "profileState": "INSTALLED" }).to_string();
    assert_eq!(app.deliver(report()).await.outcome(), "moved");
    let name = app.database.options.get_database().unwrap().to_owned();
    let mut operator = server_connection().await;
    let allow = |allowed: bool| format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    sqlx::raw_sql(sqlx::AssertSqlSafe(allow(false))).execute(&mut operator).await.unwrap();
    sqlx::query(end).bind(&name).execute(&mut operator).await.unwrap();
    for _ in 0..30 {
        assert_eq!(app.deliver(report()).await.status, 503);
        assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}/transitions")).await.status, 503);
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(allow(true))).execute(&mut operator).await.unwrap();
    wait_until("deliveries are accepted again", async || app.deliver(report()).await.status == 200)
        .await;
    let log = app.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    // One of the writers, and one of the reads.
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let back = "the database takes deliveries again";
    let back: Vec<_> = lines.iter().filter(|line| line["message"] == back).collect();
    assert_eq!(back.len(), 1, "{log}");
    assert!(back[0]["deliveries"].as_u64().unwrap() >= 30, "{back:?}");
}

async fn server_connection() -> sqlx::PgConnection {
    let options = server().connect_options("postgres");
    sqlx::ConnectOptions::connect(&options).await.unwrap()
}

/// A service that does not reach its database, once it has said so, with its folder for the spool.
fn without_database(format: &str, filter: &str) -> (Serve, TempDir) {
    let spool = tempfile::tempdir().unwrap();
    // Port 1 of this machine: nobody answers.
    let serve = Serve::start("postgres://nobody@127.0.0.1:1/nothing", |command| {
        command.env("ESIM_STATUS_LOG_FORMAT", format).env("RUST_LOG", filter);
        command.env("ESIM_STATUS_SPOOL_DIR", spool.path());
    });
    (serve, spool)
}

#[tokio::test]
async fn an_outage_is_logged_with_all_its_causes_in_either_format() {
    const OUTAGE: &str = "serving without the database";
    let (text, _spool) = without_database("text", "info");
    let (json, _spool) = without_database("json", "info");
    let (text, json) = (text.says(OUTAGE).await, json.says(OUTAGE).await);
    let json: Value = serde_json::from_str(&json).unwrap();
    let causes: Vec<_> =
        json["error_sources"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(causes.iter().any(|cause| cause.contains("Connection refused")), "{json}");
    for cause in [json["error"].as_str().unwrap()].iter().chain(&causes) {
        assert!(text.contains(cause), "{cause} is not in {text}");
    }
}

#[tokio::test]
async fn a_filter_of_nothing_is_none_and_one_that_cannot_be_meant_is_said() {
    let (empty, _spool) = without_database("json", "");
    empty.says("effective settings").await;
    let (unreadable, _spool) = without_database("json", "esim_status=loud");
    unreadable.says("RUST_LOG cannot be read, so it is `info`").await;
    unreadable.says("effective settings").await;
    // Read as the name of a crate.
    let (word, _spool) = without_database("json", "warning");
    word.says("RUST_LOG hides errors of this service").await;
    assert!(!empty.log().contains("RUST_LOG"), "{}", empty.log());
}
