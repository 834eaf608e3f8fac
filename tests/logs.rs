//! What the log contains, and what it must never contain: secrets, identifiers, and text from requests.
//!
//! The real binary runs with its own code at level debug, in both formats, and once with everything at level trace. It
//! receives requests that tempt it to log them. The tests read its standard error.

#![expect(clippy::unwrap_used, reason = "a failure here fails the test that calls it")]

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
/// The secret part of the activation code.
const MATCHING_ID: &str = "K7-Qh2PLm9-04xZ";
/// The secret part of the URL of the provider's install page.
const PAGE_TOKEN: &str = "c2VjcmV0LXBhZ2U";
/// A log line with this word has copied it from a body, a header, a path or a query.
const MARKER: &str = "xylophone";
/// The request id that the caller sends.
const REQUEST_ID: &str = "shop-4711";
/// Line breaks, an escape sequence, a right-to-left override, and a Unicode line separator.
const NASTY: &str = "TELEPORTED\n\r\u{1b}[31m\u{202e}\u{2028}";

/// The filter that logs this service at level debug.
const OWN_DEBUG: &str = "info,esim_status=debug";

/// `esim-status serve` as a process, with its log in a file.
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

    /// Waits for a complete line with this text.
    async fn says(&self, text: &str) -> String {
        let find = || {
            let log = self.log();
            let mut lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            lines.find(|line| line.contains(text)).map(str::to_owned)
        };
        wait_until(text, async || find().is_some()).await;
        find().unwrap()
    }

    /// Stops the service as an operator would, and returns its log.
    fn stop(mut self) -> String {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
        self.log()
    }
}

/// A failed test leaves nothing running.
impl Drop for Serve {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn log_in(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

/// A service that logs at debug, with its database and its clients.
struct Running {
    serve: Serve,
    database: Database,
    anybody: Client,
    backend: Client,
    admin: Client,
}

impl Running {
    async fn start(format: &str, filter: &str) -> Self {
        let database = Database::migrated().await;
        let url = server().url(database.options.get_database().unwrap());
        let serve = Serve::start(&url, |command| {
            command.env("ESIM_STATUS_LOG_FORMAT", format).env("RUST_LOG", filter);
        });
        let line = serve.says("serving").await;
        let addresses = line.match_indices("127.0.0.1:").map(|(at, _)| {
            let end = line[at..].find([' ', '"', '\n']).unwrap();
            Client::new(format!("http://{}", &line[at..at + end]))
        });
        let [anybody, admin] = addresses.collect::<Vec<_>>().try_into().unwrap();
        Self { serve, backend: anybody.with_bearer(API_KEY), anybody, admin, database }
    }

    async fn deliver(&self, body: impl Into<reqwest::Body>) -> Answer {
        self.anybody.post(&TestApp::hook_path(), body).await
    }

    async fn report(&self, state: &str) -> String {
        let body = json!({ "iccid": ICCID, "profileState": state });
        self.deliver(body.to_string()).await.outcome()
    }

    async fn register(&self, object: impl Into<reqwest::Body>) -> Answer {
        let path = format!("/v1/profiles/{ICCID}");
        Answer::of(self.backend.request(Method::PUT, &path).body(object)).await
    }

    fn stop(self) -> String {
        self.serve.stop()
    }
}

/// Sends everything that a log could be tempted to quote.
async fn provoke(app: &Running) {
    let report = |state: &str| json!({ "iccid": ICCID, "profileState": state, "imsi": IMSI, "eid": EID, "x": MARKER });
    assert_eq!(app.deliver(report("INSTALLED").to_string()).await.outcome(), "moved");
    assert_eq!(app.deliver(report("INSTALLED").to_string()).await.outcome(), "repeated");
    assert_eq!(app.deliver(report(NASTY).to_string()).await.outcome(), "unrecognised");
    // The identifiers are where a state should be.
    let word = format!("{EID} OF {IMSI} AND {ICCID}");
    assert_eq!(app.deliver(report(&word).to_string()).await.outcome(), "unrecognised");
    let country = json!({ "iccid": ICCID, "newCountry": MARKER });
    assert_eq!(app.deliver(country.to_string()).await.outcome(), "connected");
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
        // Each reason is logged at most once a minute.
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
    app.backend.get_with("/nowhere", "x-request-id", &format!("{MARKER} {MARKER}")).await;

    // A row that the database refuses. Its error would quote the whole row.
    let mut connection = app.database.connect().await;
    let statement = "ALTER TABLE profiles ADD CHECK (state <> 'DELETED')";
    sqlx::query(statement).execute(&mut connection).await.unwrap();
    let refused = app.deliver(report("DELETED").to_string()).await;
    assert_eq!(refused.outcome(), "unrecognised");
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

/// The renamed table is named only by the cause of the cause.
fn assert_gives_the_cause(log: &str) {
    let line = log.lines().find(|line| line.contains("profiles cannot be read")).unwrap();
    assert!(line.contains("does not exist") && line.contains("database"), "{line}");
}

#[tokio::test]
async fn text_lines_are_complete_and_escaped_and_contain_no_identifiers() {
    let app = Running::start("text", OWN_DEBUG).await;
    provoke(&app).await;
    let log = app.stop();
    assert_keeps_secrets(&log);
    for line in log.lines() {
        assert!(line.starts_with("20"), "a line does not begin with its time: {line}");
    }
    assert_gives_the_cause(&log);
    let told = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(told("TELEPORTED"), 1, "{log}");
    assert_eq!(told(r#"word="TELEPORTED\n\r\u{1b}[31m\u{202e}\u{2028}""#), 1, "{log}");
    assert_eq!(told("webhook not authenticated"), 2, "{log}");
    assert_eq!(told("delivery kept, not applied"), 11, "{log}");
    assert_eq!(told(r#"word="…""#), 1, "{log}");
    assert!(told("iccid=Some(Iccid(…8961))") > 0, "{log}");
    assert!(told("the database rejects a batch for its content") > 0, "{log}");
    assert_eq!(told("effective settings"), 1, "{log}");
    let named = log.lines().filter(|line| line.contains("webhook not authenticated"));
    for (line, route) in named.zip(["{topic}/{secret}}", "{topic}}"]) {
        let request =
            format!("request{{id={REQUEST_ID} method=POST route=/webhooks/{{provider}}/{route}");
        assert!(line.contains(&request), "{line}");
    }
}

#[tokio::test]
async fn json_lines_are_one_object_each_and_contain_no_identifiers() {
    let app = Running::start("json", OWN_DEBUG).await;
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
    let nasty = r#""TELEPORTED\n\r\u{1b}[31m\u{202e}\u{2028}""#;
    assert_eq!(words, [nasty, r#""…""#, r#""DELETED""#]);
    let refused = lines.iter().filter(|line| line["message"] == "webhook not authenticated");
    let reasons: Vec<_> = refused.map(|line| line["reason"].clone()).collect();
    assert_eq!(reasons, ["wrong", "missing"]);
    let told = |line: &&&Value| line["message"] == "webhook not authenticated";
    let named: Vec<_> =
        lines.iter().filter(|line| told(&line)).map(|line| &line["request"]).collect();
    assert_eq!(named[0]["route"], "/webhooks/{provider}/{topic}/{secret}");
    assert_eq!(
        named[1],
        &json!({ "id": REQUEST_ID, "method": "POST", "route": "/webhooks/{provider}/{topic}" })
    );
}

/// The process logs for this test alone. A subscriber inside the test could not see everything: `tracing` remembers for
/// the whole process that a line is disabled if a thread without a subscriber is the first to reach it.
#[tokio::test]
async fn a_refused_body_of_one_hook_does_not_hide_that_of_another() {
    let app = Running::start("text", "info").await;
    for hook in ["esim-status", "country-change", "esim-status"] {
        let path = format!("/webhooks/gigastore/{hook}");
        let compressed =
            app.anybody.request(Method::POST, &path).header("content-encoding", "gzip");
        let answer = Answer::of(compressed.body("{}")).await;
        assert_eq!(answer.problem(), "unsupported-encoding");
    }
    let log = app.stop();
    for hook in ["esim-status", "country-change"] {
        let named = format!(r#"hook="gigastore/{hook}" problem="#);
        assert_eq!(log.matches(&named).count(), 1, "{hook}: {log}");
    }
}

#[tokio::test]
async fn install_credentials_are_in_no_log_line_at_any_level() {
    let app = Running::start("json", "trace").await;
    let object = json!({
        "iccid": ICCID,
        "imsi": IMSI,
        "activationCode": format!("LPA:1$smdp.example.test${MATCHING_ID}"),
        "installationUrl": format!("https://install.example.test/#/esim/profile?token={PAGE_TOKEN}"),
        "lastSeen": null,
        "activatedAt": null,
        "state": "RELEASED",
        "uid": "customer-4711",
        "active": true,
    });
    assert_eq!(app.register(object.to_string()).await.status, 201);
    let mut wrong = object.clone();
    wrong["state"] = json!(1);
    for refused in [wrong.to_string(), format!("{object}}}")] {
        assert!(app.register(refused).await.status.is_client_error());
    }
    assert_eq!(app.report("SOMETHING_NEW").await, "unrecognised");
    let claims = json!({ "aud": "esim-status", "sub": ICCID, "exp": unix_now() + 60 });
    let user = app.anybody.with_bearer(TestApp::token(&claims));
    for path in ["journey", "qr.svg", "qr.png"] {
        assert_eq!(user.get(&format!("/v1/profiles/self/{path}")).await.status, 200);
    }
    let own = format!("/v1/profiles/{ICCID}");
    assert_eq!(Answer::of(app.backend.request(Method::DELETE, &own)).await.status, 204);
    assert_eq!(app.report("INSTALLED").await, "ignored");

    let log = app.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["db.statement"].is_string()), "{log}");
    assert!(log.contains("a profile was erased on request"), "{log}");
    assert_keeps_secrets(&log);
    for secret in [MATCHING_ID, PAGE_TOKEN] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} was logged");
    }
}

/// A person at the console, as their browser sends what they do.
struct Person<'a> {
    app: &'a Running,
    cookie: String,
    form: String,
}

impl<'a> Person<'a> {
    async fn sign_in(app: &'a Running) -> Self {
        let stranger = Self { app, cookie: String::new(), form: String::new() };
        let wrong = stranger.post("/sign-in", &[("key", MARKER)]).await;
        assert_eq!(wrong.status, 403);
        let answer = stranger.post("/sign-in", &[("key", API_KEY)]).await;
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        let signed_in = Self { cookie, ..stranger };
        let home = signed_in.get("").await;
        Self { form: field(&home.text, "form"), ..signed_in }
    }

    async fn get(&self, path: &str) -> Answer {
        self.app.anybody.get_with(&format!("/console{path}"), "cookie", &self.cookie).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let request = self.app.anybody.request(Method::POST, &format!("/console{path}"));
        let request =
            request.header("cookie", &self.cookie).header("sec-fetch-site", "same-origin");
        let fields = [&[("form", &*self.form)], fields].concat();
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Answer::of(request.body(body)).await
    }

    /// The path of the page of a profile below the console.
    async fn find(&self, wanted: &str) -> String {
        let found = self.post("", &[("wanted", wanted)]).await;
        assert_eq!(found.status, 303, "{found:?}");
        found.header("location").trim_start_matches("/console").to_owned()
    }
}

/// The value of the first hidden field with this name.
fn field(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn what_support_searches_reads_and_does_is_logged_without_what_it_is_about() {
    const ORDER: &str = "order of Jane Doe";
    let app = Running::start("json", "trace").await;
    let code = format!("LPA:1$smdp.example.test${MATCHING_ID}");
    let object = json!({
        "iccid": ICCID, "imsi": IMSI, "activationCode": code, "state": "RELEASED", "uid": MARKER, "reference": ORDER,
        "installationUrl": format!("https://install.example.test/?token={PAGE_TOKEN}"),
    });
    assert_eq!(app.register(object.to_string()).await.status, 201);
    let report = json!({ "iccid": ICCID, "profileState": "INSTALLED", "imsi": IMSI, "eid": EID, "x": MARKER });
    assert_eq!(app.deliver(report.to_string()).await.outcome(), "moved");
    assert_eq!(app.deliver(format!("[{MARKER:?}]")).await.problem(), "malformed");
    let endpoint = json!({ "url": "https://127.0.0.1/hook", "description": MARKER });
    assert_eq!(app.backend.post("/v1/endpoints", endpoint.to_string()).await.status, 400);
    let endpoint =
        json!({ "url": "https://93.184.215.14/hook?shop=xylophone", "kinds": ["erased"] });
    let made = app.backend.post("/v1/endpoints", endpoint.to_string()).await.json();
    let endpoint = format!("/endpoints/{}", made["id"].as_str().unwrap());

    let person = Person::sign_in(&app).await;
    let path = person.find(ICCID).await;
    for wanted in [IMSI, EID, ORDER, MARKER] {
        assert_eq!(person.find(wanted).await, path, "{wanted}");
    }
    let digits = &ICCID[ICCID.len() - 6..];
    for wanted in [&*code, MATCHING_ID, digits, OTHER_ICCID] {
        person.post("", &[("wanted", wanted)]).await;
    }
    let page = person.get(&path).await;
    assert!(page.text.contains(EID), "{page:?}");
    let delivery = field(&page.text, "delivery");
    let body = person.post(&format!("{path}/body"), &[("delivery", &delivery)]).await;
    assert!(body.text.contains(MARKER), "{body:?}");
    let refused = person.get("/refused").await;
    let delivery = field(&refused.text, "delivery");
    let fields = [("delivery", &*delivery), ("outcome", "malformed")];
    assert!(person.post("/body", &fields).await.text.contains(MARKER));
    let link = person.post(&format!("{path}/link"), &[]).await;
    assert!(link.text.contains("/install#"), "{link:?}");
    for page in ["/evidence", "/changes?after=0-0"] {
        assert_eq!(person.get(&format!("{path}{page}")).await.status, 200, "{page}");
    }
    for page in ["/overdue", "/hooks", "/endpoints", &endpoint, "/funnel"] {
        assert_eq!(person.get(page).await.status, 200, "{page}");
    }
    for page in [&format!("/{ICCID}"), &format!("/profiles/{ICCID}"), "/endpoints/xylophone"] {
        assert_eq!(person.get(page).await.status, 404, "{page}");
    }
    assert_eq!(person.post(&format!("{endpoint}/off"), &[]).await.status, 303);
    assert_eq!(person.post(&format!("{endpoint}/on"), &[]).await.status, 303);
    let fields = [("from", "beginning"), ("confirmed", "yes"), ("host", "93.184.215.14")];
    assert_eq!(person.post(&format!("{endpoint}/replay"), &fields).await.status, 303);
    assert_eq!(person.post(&format!("{path}/erase"), &[("digits", "12")]).await.status, 400);
    assert_eq!(person.post(&format!("{path}/erase"), &[("digits", digits)]).await.status, 303);
    let metrics = app.admin.get("/metrics").await.text;
    assert!(metrics.contains(r#"route="/console/profiles/{profile}/erase""#), "{metrics}");
    assert_eq!(person.post("/sign-out", &[]).await.status, 303);
    assert_eq!(person.get("").await.status, 303);

    let cookie = person.cookie.split_once('=').unwrap().1.to_owned();
    let (form, handle) = (person.form.clone(), path.rsplit('/').next().unwrap().to_owned());
    let log = app.stop();
    assert_keeps_secrets(&log);
    for secret in [MATCHING_ID, PAGE_TOKEN, ORDER, "Jane", digits, &cookie, &form, &handle] {
        let found = log.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret} was logged");
    }
    for secret in
        [ICCID, digits, IMSI, EID, ORDER, MARKER, MATCHING_ID, API_KEY, &cookie, &form, &handle]
    {
        let found = metrics.lines().find(|line| line.contains(secret));
        assert_eq!(found, None, "{secret} is in a metric");
    }
    // Who did what.
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let done = |message: &str| {
        let of = lines.iter().filter(|line| line["message"] == message);
        of.inspect(|line| assert_eq!(line["key"], "shop", "{line}")).count()
    };
    for (message, times) in [
        ("somebody signed in to the console", 1),
        ("support searched", 9),
        ("support looked at a profile", 6),
        ("support read the body of a delivery", 2),
        ("support looked at a list", 2),
        ("support looked at an endpoint", 1),
        ("support switched an endpoint", 2),
        ("support replayed an endpoint", 1),
        ("somebody signed out of the console", 1),
    ] {
        assert_eq!(done(message), times, "{message}");
    }
}

/// Every request fails while the database is away, but the outage is logged once.
#[tokio::test]
async fn an_outage_is_logged_once_when_it_begins_and_once_when_it_ends() {
    let app = Running::start("json", OWN_DEBUG).await;
    let report = || json!({ "iccid": ICCID, "profileState": "INSTALLED" }).to_string();
    assert_eq!(app.deliver(report()).await.outcome(), "moved");
    let name = app.database.options.get_database().unwrap().to_owned();
    let mut operator = server_connection().await;
    let allow = |allowed: bool| format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    sqlx::raw_sql(sqlx::AssertSqlSafe(allow(false))).execute(&mut operator).await.unwrap();
    sqlx::query(end).bind(&name).execute(&mut operator).await.unwrap();
    for _ in 0..5 {
        assert_eq!(app.deliver(report()).await.status, 503);
        assert_eq!(app.backend.get(&format!("/v1/profiles/{ICCID}/transitions")).await.status, 503);
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(allow(true))).execute(&mut operator).await.unwrap();
    wait_until("deliveries are accepted again", async || app.deliver(report()).await.status == 200)
        .await;
    let log = app.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_of_a_call = |line: &&Value| {
        let of_the_upkeep =
            line["message"].as_str().is_some_and(|it| it.starts_with("the upkeep of the tables"));
        line["level"] == "ERROR" && !of_the_upkeep
    };
    let errors: Vec<_> = lines.iter().filter(is_of_a_call).collect();
    // One line from the writers, and one from the reads.
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let back = "the database takes deliveries again";
    let back: Vec<_> = lines.iter().filter(|line| line["message"] == back).collect();
    assert_eq!(back.len(), 1, "{log}");
    assert!(back[0]["deliveries"].as_u64().unwrap() >= 5, "{back:?}");
}

async fn server_connection() -> sqlx::PgConnection {
    let options = server().connect_options("postgres");
    sqlx::ConnectOptions::connect(&options).await.unwrap()
}

/// Starts a service that cannot reach its database, with a spool. Returns the service and the folder of the spool.
fn without_database(format: &str, filter: &str) -> (Serve, TempDir) {
    let spool = tempfile::tempdir().unwrap();
    // Nothing listens on port 1.
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
async fn an_empty_log_filter_counts_as_not_set_and_a_wrong_one_is_reported() {
    let (empty, _spool) = without_database("json", "");
    empty.says("effective settings").await;
    let (unreadable, _spool) = without_database("json", "esim_status=loud");
    unreadable.says("RUST_LOG cannot be read, so it is `info`").await;
    unreadable.says("effective settings").await;
    // `warning` is not a level, so it is parsed as the name of a crate.
    let (word, _spool) = without_database("json", "warning");
    word.says("RUST_LOG hides errors of this service").await;
    assert!(!empty.log().contains("RUST_LOG"), "{}", empty.log());
}
