//! The commands of the binary: what they print, how they end, and what they leave behind.
//!
//! Each test runs the real binary as a process, reads its output, sends it signals, and calls the service that it
//! starts.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use esim_status::{clock, store, web};
use esim_status_testing::process::children;
use esim_status_testing::{
    API_KEY, Answer, Client, Database, HOOK_SECRET, TOKEN_SECRET, server, wait_until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::Value;
use sqlx::Connection;
use sqlx::migrate::Migrate;

const ICCID: &str = "89480100000472018362";

/// How long a start or a stop may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

fn program(arguments: &[&str]) -> Command {
    esim_status_testing::program(env!("CARGO_BIN_EXE_esim-status"), arguments)
}

fn output(command: &mut Command) -> (bool, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

/// The settings of `serve` for this database, with any free ports.
fn serving(command: &mut Command, database: &Database) {
    let name = database.options.get_database().unwrap_or_default();
    esim_status_testing::serving(command, &server().url(name));
}

/// A command that runs until it gets a signal.
struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// The lines of one output stream, as they arrive.
struct Lines {
    coming: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, coming) = channel();
        thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|it| sender.send(it))
        });
        Self { coming, seen: Vec::new() }
    }

    /// Waits for a line with this text. The lines before it are then in `seen`.
    fn find(&mut self, text: &str) -> Option<String> {
        let start = Instant::now();
        while let Ok(line) = self.coming.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
            self.seen.push(line.clone());
            if line.contains(text) {
                return Some(line);
            }
        }
        None
    }

    /// Reads to the end of the stream, and returns everything.
    fn all(&mut self) -> String {
        self.seen.extend(self.coming.iter());
        self.seen.join("\n")
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Waits until the command prints this text to this stream.
    fn says(&mut self, on: fn(&mut Self) -> &mut Lines, text: &str) -> String {
        if let Some(line) = on(self).find(text) {
            return line;
        }
        drop(self.child.kill());
        panic!(
            "`{text}` was not printed; the output was:\n{}\n{}",
            self.stdout.all(),
            self.stderr.all()
        );
    }

    fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits until the command has ended, and returns how long that took.
    async fn end(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let mut status = None;
        wait_until("the command ends", || {
            status = self.child.try_wait().unwrap();
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        (status.unwrap(), start.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A running `serve`.
struct Serve {
    running: Running,
    public: String,
    admin: String,
}

impl Serve {
    fn start(database: &Database) -> Self {
        let mut command = program(&["serve"]);
        serving(&mut command, database);
        Self::run(&mut command)
    }

    fn run(command: &mut Command) -> Self {
        let mut running = Running::start(command);
        let line: Value =
            serde_json::from_str(&running.says(|it| &mut it.stderr, "\"serving\"")).unwrap();
        let address = |name: &str| line[name].as_str().unwrap().to_owned();
        Self { public: address("public"), admin: address("admin"), running }
    }

    fn hook(&self) -> String {
        format!("http://{}/webhooks/gigastore/esim-status/{HOOK_SECRET}", self.public)
    }
}

/// Whether a process still runs. A zombie does not.
fn runs(pid: i32) -> bool {
    let arguments = ["-o", "stat=", "-p", &pid.to_string()];
    let state = String::from_utf8(Command::new("ps").args(arguments).output().unwrap().stdout);
    let state = state.unwrap().trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

async fn all_gone(pids: &[i32]) {
    assert!(!pids.is_empty(), "no database was started");
    for pid in pids {
        wait_until("the database is gone", || async { !runs(*pid) }).await;
    }
}

/// A running `dev`, its welcome text, and the processes of its database.
struct Dev {
    running: Running,
    welcome: String,
    database: Vec<i32>,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        Self::welcomed(Running::start(program(&["dev"]).args(arguments)))
    }

    fn welcomed(mut running: Running) -> Self {
        running.says(|it| &mut it.stdout, "Ctrl-C ends it");
        let welcome = running.stdout.seen.join("\n");
        let database = children(running.pid());
        Self { running, welcome, database }
    }

    fn ephemeral() -> Self {
        Self::start(&["--ephemeral", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
    }

    /// The lines of the welcome text that contain this.
    fn lines(&self, text: &str) -> Vec<String> {
        let lines = self.welcome.lines().filter(|line| line.contains(text));
        lines.map(|line| line.trim().to_owned()).collect()
    }

    fn base(&self) -> String {
        let hook = self.lines("Webhook URL").remove(0);
        let url = hook.rsplit(' ').next().unwrap();
        url.split_once("/webhooks/").unwrap().0.to_owned()
    }
}

/// Does what `curl` would do with the flags that the welcome text uses.
async fn curl(line: &str) -> Answer {
    let quoted: Vec<_> = line.split('\'').collect();
    let mut words = Vec::new();
    for (index, part) in quoted.into_iter().enumerate() {
        if index % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
    }
    let mut words = words.into_iter();
    assert_eq!(words.next(), Some("curl"));
    let (mut url, mut headers, mut body) = (None, Vec::new(), None);
    while let Some(word) = words.next() {
        match word {
            "-i" | "-s" => {}
            "-H" => headers.push(words.next().unwrap().split_once(": ").unwrap()),
            "-d" => body = words.next(),
            _ => url = Some(word),
        }
    }
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let mut request = Client::new(url.unwrap()).request(method, "");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/x-www-form-urlencoded");
        request = request.body(body.to_owned());
    }
    Answer::of(request).await
}

#[test]
fn serve_without_settings_names_every_missing_one() {
    let (success, stdout, stderr) = output(&mut program(&["serve"]));
    assert!(!success && stdout.is_empty(), "{stdout}");
    for name in [
        "DATABASE_URL is missing",
        "ESIM_STATUS_GIGASTORE_SECRETS is missing",
        "ESIM_STATUS_API_KEYS is missing",
        "ESIM_STATUS_TOKEN_SECRETS is missing",
    ] {
        assert!(stderr.contains(name), "{stderr}");
    }
}

#[tokio::test]
async fn serve_logs_its_settings_without_secrets_serves_and_stops_on_sigterm() {
    let mut serve = Serve::start(&Database::empty().await);
    let admin = Client::new(format!("http://{}", serve.admin));
    wait_until("the service is ready", || async { admin.get("/readyz").await.status == 200 }).await;
    let public = Client::new(format!("http://{}", serve.public));
    let path = format!("/webhooks/gigastore/esim-status/{HOOK_SECRET}");
    let body = format!(r#"{{"iccid":"{ICCID}","profileState":"INSTALLED"}}"#);
    assert_eq!(public.post(&path, body).await.outcome(), "moved");
    let backend = public.with_bearer(API_KEY);
    assert_eq!(backend.get(&format!("/v1/profiles/{ICCID}")).await.status, 200);
    let wrong = public.with_bearer("not-the-key-not-the-key");
    assert_eq!(wrong.get(&format!("/v1/profiles/{ICCID}")).await.status, 401);

    serve.running.signal(Signal::SIGTERM);
    let (status, took) = serve.running.end().await;
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
    let (stdout, stderr) = (serve.running.stdout.all(), serve.running.stderr.all());
    assert_eq!(stdout, "");
    for wanted in [
        "effective settings",
        "ESIM_STATUS_WRITERS=2",
        "/webhooks/gigastore/esim-status (url-secret)",
        "ended",
    ] {
        assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
    }
    for secret in [HOOK_SECRET, API_KEY, TOKEN_SECRET, ICCID] {
        assert!(!stderr.contains(secret), "`{secret}` is in:\n{stderr}");
    }
}

/// A poll lasts as long as its caller asks for; counted among the durations, it would make the service look slow.
#[tokio::test]
async fn a_long_poll_is_not_counted_among_the_durations() {
    let serve = Serve::start(&Database::empty().await);
    let admin = Client::new(format!("http://{}", serve.admin));
    wait_until("the service is ready", || async { admin.get("/readyz").await.status == 200 }).await;
    let public = Client::new(format!("http://{}", serve.public));
    let body = format!(r#"{{"iccid":"{ICCID}","profileState":"INSTALLED"}}"#);
    let path = format!("/webhooks/gigastore/esim-status/{HOOK_SECRET}");
    assert_eq!(public.post(&path, body).await.outcome(), "moved");
    let backend = public.with_bearer(API_KEY);
    let path = format!("/v1/profiles/{ICCID}");
    let tag = backend.get(&path).await.header("etag").to_owned();
    assert_eq!(backend.get_with(&path, "if-none-match", &tag).await.status, 304);
    let poll = format!("{path}?wait=1");
    assert_eq!(backend.get_with(&poll, "if-none-match", &tag).await.status, 304);
    let metrics = admin.get("/metrics").await.text;
    let count = metrics.lines().find_map(|line| {
        let counts = line.starts_with("esim_status_request_duration_seconds_count");
        let is_it = line.contains("/v1/profiles/{iccid}\"") && line.contains("\"304\"");
        (counts && is_it).then(|| line.rsplit(' ').next()?.parse::<u64>().ok())?
    });
    assert_eq!(count, Some(1));
}

#[tokio::test]
async fn serve_names_the_address_that_is_in_use() {
    let database = Database::empty().await;
    let first = Serve::start(&database);
    let mut second = program(&["serve"]);
    serving(&mut second, &database);
    let (success, _, stderr) = output(second.env("ESIM_STATUS_LISTEN", &first.public));
    assert!(!success);
    let wanted = format!("cannot listen on {}: choose another with --listen", first.public);
    assert!(stderr.contains(&wanted), "{stderr}");
}

/// Docker's client passes these variables into containers; nothing listens on this port.
fn with_proxy(command: &mut Command) -> &mut Command {
    let proxy = "http://127.0.0.1:9";
    command.envs([("HTTP_PROXY", proxy), ("http_proxy", proxy), ("ALL_PROXY", proxy)])
}

#[tokio::test]
async fn commands_ask_a_service_on_this_machine_directly_and_not_through_a_proxy() {
    let database = Database::empty().await;
    let mut serve = Serve::start(&database);
    let health =
        |admin: &str| output(with_proxy(&mut program(&["health", "--admin-listen", admin])));
    let (success, stdout, stderr) = health(&serve.admin);
    assert!(success && stdout == "ready\n", "{stdout}{stderr}");
    let (success, stdout, stderr) =
        output(with_proxy(&mut program(&["send", &serve.hook()])).args(["--state", "RELEASED"]));
    assert!(success && stdout.contains("\"moved\""), "{stdout}{stderr}");
    let mut doctor = program(&["doctor", "--url", &format!("http://{}", serve.public)]);
    serving(&mut doctor, &database);
    let (success, stdout, stderr) = output(with_proxy(&mut doctor));
    assert!(success && stdout.contains("Nothing is wrong."), "{stdout}{stderr}");
    let live = output(&mut program(&["health", "--live", "--admin-listen", &serve.admin]));
    assert_eq!((live.0, &*live.1), (true, "ok\n"));
    serve.running.signal(Signal::SIGTERM);
    assert!(serve.running.end().await.0.success());
    let (success, _, stderr) = health(&serve.admin);
    assert!(!success && !stderr.is_empty(), "{stderr}");
}

#[tokio::test]
async fn serve_stops_on_a_signal_while_it_waits_for_its_database() {
    // Accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://nobody@{}/nothing", silent.local_addr().unwrap());
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = program(&["serve"]);
        let mut running = Running::start(esim_status_testing::serving(&mut command, &url));
        running.says(|it| &mut it.stderr, "effective settings");
        let _held = silent.accept().unwrap();
        running.signal(signal);
        let (status, took) = running.end().await;
        assert!(status.success() && took < Duration::from_secs(10), "{status}, {took:?}");
    }
}

#[tokio::test]
async fn serve_shuts_down_gracefully_when_its_terminal_closes() {
    let mut serve = Serve::start(&Database::empty().await);
    serve.running.signal(Signal::SIGHUP);
    assert!(serve.running.end().await.0.success());
    assert!(serve.running.stderr.all().contains("draining"));
}

/// The environment variables that a command's help names.
fn variables(command: &str) -> Vec<String> {
    let (_, help, _) = output(&mut program(&[command, "--help"]));
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set() {
    let database = Database::empty().await;
    let mut command = program(&["serve"]);
    serving(&mut command, &database);
    let given: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    let variables = variables("serve");
    assert!(variables.len() > 20, "{variables:?}");
    for name in variables.iter().filter(|name| given.iter().all(|it| it != name.as_str())) {
        command.env(name, "");
    }
    let serve = Serve::run(&mut command);
    let (success, stdout, stderr) =
        output(&mut program(&["health", "--admin-listen", &serve.admin]));
    assert!(success, "{stdout}{stderr}");
}

#[tokio::test]
async fn migrate_logs_that_it_waits_for_the_schema() {
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let mut elsewhere = database.connect().await;
    elsewhere.lock().await.unwrap();
    let mut migrate = Running::start(program(&["migrate"]).env("DATABASE_URL", &url));
    migrate.says(|it| &mut it.stderr, "waiting for the schema");
    elsewhere.unlock().await.unwrap();
    assert!(migrate.end().await.0.success());
}

#[tokio::test]
async fn migrate_and_dev_stop_on_a_signal_while_they_wait() {
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let mut elsewhere = database.connect().await;
    elsewhere.lock().await.unwrap();
    for arguments in [&["migrate"] as &[_], &["dev", "--ephemeral"]] {
        let mut running = Running::start(program(arguments).env("DATABASE_URL", &url));
        running.says(|it| &mut it.stderr, "waiting for the schema");
        running.signal(Signal::SIGTERM);
        let (status, took) = running.end().await;
        // An exit code shows that the signal did not kill the process.
        assert!(status.code().is_some() && took < Duration::from_secs(20), "{status}, {took:?}");
    }
    elsewhere.unlock().await.unwrap();
}

#[tokio::test]
async fn migrate_brings_the_schema_up_to_date_and_refuses_a_newer_one() {
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let migrate = || output(program(&["migrate"]).env("DATABASE_URL", &url));
    for _ in 0..2 {
        let (success, stdout, stderr) = migrate();
        assert!(success, "{stderr}");
        assert!(stdout.contains(&store::latest_version().to_string()), "{stdout}");
    }
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (29991231000000, 'from the future', true, '\\x00', 0)",
    )
    .execute(&mut database.connect().await)
    .await
    .unwrap();
    let (success, _, stderr) = migrate();
    assert!(!success && stderr.contains("run a release at least as new"), "{stderr}");
    let (success, _, stderr) = output(&mut program(&["migrate"]));
    assert!(!success && stderr.contains("DATABASE_URL is missing"), "{stderr}");
}

#[tokio::test]
async fn send_acts_as_the_provider_and_fails_if_a_webhook_is_refused() {
    let serve = Serve::start(&Database::empty().await);
    let hook = serve.hook();
    let send = |url: &str, flags: &[&str]| output(program(&["send", url]).args(flags));

    let (success, stdout, stderr) = send(&hook, &["--lifecycle", "--iccid", ICCID]);
    assert!(success, "{stdout}{stderr}");
    assert_eq!(stdout.matches("\"moved\"").count(), 5, "{stdout}");
    let (success, stdout, _) = send(&hook, &["--state", "RELEASED", "--iccid", ICCID]);
    assert!(success && stdout.contains("\"repeated\""), "{stdout}");
    let connected = ["--state", "INSTALLED", "--connected", "PL", "--iccid", ICCID];
    let (success, stdout, stderr) = send(&hook, &connected);
    assert!(success && stdout.contains("connected PL: 200"), "{stdout}{stderr}");
    assert!(stdout.find("\"moved\"") < stdout.find("\"connected\""), "{stdout}");

    let (success, stdout, _) = send(&hook, &["--body", "{\"iccid\":"]);
    assert!(!success && stdout.contains("400") && stdout.contains("malformed"), "{stdout}");
    let bare = hook.trim_end_matches(HOOK_SECRET).trim_end_matches('/');
    let (success, stdout, _) = send(bare, &["--state", "RELEASED"]);
    assert!(!success && stdout.contains("401"), "{stdout}");
    let (success, stdout, stderr) =
        send(bare, &["--state", "DISABLED", "--auth", "url-secret", "--secret", HOOK_SECRET]);
    assert!(success, "{stdout}{stderr}");

    let (success, _, stderr) = send(&hook, &[]);
    assert!(!success && stderr.contains("nothing to send"), "{stderr}");
    let (success, _, stderr) = send(&hook, &["--connected", "PL", "--provider", "esim-access"]);
    assert!(!success && stderr.contains("reports no connections"), "{stderr}");
    let (success, _, stderr) = send(&hook, &["--lifecycle", "--provider", "nobody"]);
    assert!(!success && stderr.contains("gigastore"), "{stderr}");
    // Nothing listens on port 1. The error must not show the secret in the URL.
    let nowhere = format!("http://127.0.0.1:1/webhooks/gigastore/esim-status/{HOOK_SECRET}");
    let (success, stdout, stderr) = send(&nowhere, &["--state", "RELEASED"]);
    assert!(!success && !stderr.is_empty(), "{stdout}");
    assert!(!stderr.contains(HOOK_SECRET), "{stderr}");
}

#[tokio::test]
async fn doctor_reports_what_is_right_and_what_is_wrong() {
    let database = Database::empty().await;
    let serve = Serve::start(&database);
    let url = format!("http://{}", serve.public);
    let doctor = |change: fn(&mut Command) -> &mut Command| {
        let mut command = program(&["doctor", "--url", &url]);
        serving(&mut command, &database);
        let (success, stdout, stderr) = output(change(&mut command));
        (success, format!("{stdout}{stderr}"))
    };

    let (success, text) = doctor(|command| command);
    assert!(success && text.contains("Nothing is wrong."), "{text}");
    for good in ["the schema is that of this binary", "refuses a webhook without credentials"] {
        assert!(text.contains(good), "{text}");
    }

    let other = "77b1c0e4d2a95f386e01";
    let (success, text) =
        doctor(|command| command.env("ESIM_STATUS_GIGASTORE_SECRETS", "77b1c0e4d2a95f386e01"));
    // Each of the provider's four hooks has these secrets.
    assert!(!success && text.contains("4 things are wrong."), "{text}");
    assert!(text.contains("the running service has the same secrets"), "{text}");
    assert!(!text.contains(other) && !text.contains(HOOK_SECRET), "{text}");

    // A publicly known secret is an error here, although `serve` only warns about it.
    let (_, text) = doctor(|command| {
        command.env("ESIM_STATUS_API_KEYS", "local-only-c80d64f92b17e35a0f6b9d12e47c83a5")
    });
    assert!(text.contains("WRONG  ESIM_STATUS_API_KEYS: these secrets are those of"), "{text}");

    let (success, text) = doctor(|command| command.env("DATABASE_URL", "postgres://127.0.0.1:1/x"));
    assert!(!success && text.contains("it does not answer"), "{text}");

    let (success, text) =
        doctor(|command| command.env("DATABASE_URL", "postgres://h/x?sslrootcert=/not/there"));
    assert!(!success && text.contains("/not/there"), "{text}");

    // Each host is reported separately; the result depends on the host that the service would use.
    let options = &database.options;
    let (user, name) = (options.get_username(), options.get_database().unwrap());
    let (folder, port) = (options.get_socket().unwrap().display(), options.get_port());
    let hosts = format!("postgres:///{name}?user={user}&host=127.0.0.1,{folder}&port=1,{port}");
    let mut command = program(&["doctor", "--url", &url]);
    serving(&mut command, &database);
    let (success, text, _) = output(command.env("DATABASE_URL", hosts));
    assert!(success, "{text}");
    for said in
        ["127.0.0.1:1: Connection refused", ": accepts writes", "a session keeps its timeouts"]
    {
        assert!(text.contains(said), "{text}");
    }

    let (success, text) = doctor(Command::env_clear);
    assert!(!success, "{text}");
    for name in ["DATABASE_URL", "ESIM_STATUS_API_KEYS", "ESIM_STATUS_TOKEN_SECRETS"] {
        assert!(text.contains(name), "{text}");
    }
    let history: i64 = database.scalar("SELECT count(*) FROM transitions").await;
    assert_eq!(history, 0, "doctor has changed a profile");
}

#[tokio::test]
async fn doctor_tries_the_webhook_url_exactly_as_it_is_pasted() {
    let database = Database::empty().await;
    for (secret, is_odd) in [("q7+/Zk3d/1Vt8Wm/aP0xY==", false), ("q7?Zk3d-1Vt8Wm-aP0xY", true)] {
        let mut command = program(&["serve"]);
        serving(&mut command, &database);
        let serve = Serve::run(command.env("ESIM_STATUS_GIGASTORE_SECRETS", secret));
        let mut command = program(&["doctor", "--url", &format!("http://{}", serve.public)]);
        serving(&mut command, &database);
        let (success, text, _) = output(command.env("ESIM_STATUS_GIGASTORE_SECRETS", secret));
        assert!(success, "{text}");
        assert!(
            text.contains("accepts credentials by url-secret") && !text.contains(secret),
            "{text}"
        );
        assert_eq!(text.contains("does not arrive unchanged (secret number 1)"), is_odd, "{text}");
    }
}

/// A provider whose only sample says that it becomes this state.
fn declaration(state: &str) -> String {
    format!(
        r#"[[providers]]
slug = "acme"
iccid = "/sim/iccid"
state = "/event"
states = {{ "profile.installed" = "INSTALLED", "profile.deleted" = "DELETED" }}

[[providers.samples]]
body = '{{"event":"profile.installed","sim":{{"iccid":"{ICCID}"}}}}'
iccid = "{ICCID}"
state = "{state}"

[[hooks]]
path = "acme/events"
provider = "acme"
auth = {{ kind = "url-secret", secrets = ["{HOOK_SECRET}"] }}

[[hooks]]
path = "roamify/events"
provider = "roamify"
auth = {{ kind = "hmac-sha256", header = "X-Roamify-Signature", encoding = "hex", secrets = ["3b9f27c1d85e40a6f2b7"] }}

[[hooks]]
path = "esim-go/events"
provider = "esim-go"
auth = {{ kind = "hmac-sha256", header = "X-Signature-SHA256", secrets = ["Zt5nQ0xR7bLc2VwK8mHdYp3s"] }}

[[hooks]]
path = "simlessly/events"
provider = "simlessly"
auth = {{ kind = "simlessly", access_key = "ak-204417", secrets = ["a41c07d95be8823f6610"] }}
"#
    )
}

#[tokio::test]
async fn a_declaration_whose_sample_does_not_hold_refuses_the_start_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acme.toml");
    std::fs::write(&path, declaration("DELETED")).unwrap();
    let database = Database::empty().await;
    for command in ["serve", "doctor"] {
        let mut command = program(&[command]);
        serving(&mut command, &database);
        let (success, stdout, stderr) = output(command.env("ESIM_STATUS_CONFIG", &path));
        let text = format!("{stdout}{stderr}");
        assert!(!success, "{text}");
        for part in [
            "acme.toml, line 7: this sample of the provider acme does not hold",
            "the body becomes INSTALLED, not DELETED",
            "correct the declaration or the sample",
        ] {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        assert!(!text.contains(ICCID), "{text}");
    }
}

#[tokio::test]
async fn a_declared_provider_is_served_and_doctor_tries_its_hook() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acme.toml");
    std::fs::write(&path, declaration("INSTALLED")).unwrap();
    let database = Database::empty().await;
    let mut command = program(&["serve"]);
    serving(&mut command, &database);
    let serve = Serve::run(command.env("ESIM_STATUS_CONFIG", &path));
    let url = format!("http://{}", serve.public);
    let body = format!(r#"{{"event":"profile.deleted","sim":{{"iccid":"{ICCID}"}}}}"#);
    let hook = format!("{url}/webhooks/acme/events/{HOOK_SECRET}");
    let (success, stdout, stderr) = output(&mut program(&["send", &hook, "--body", &body]));
    assert!(success && stdout.contains("\"moved\""), "{stdout}{stderr}");

    for (provider, iccid, steps, credentials) in [
        (
            "roamify",
            "8991000000000034562",
            7,
            "--auth hmac-sha256 --header X-Roamify-Signature --secret 3b9f27c1d85e40a6f2b7",
        ),
        (
            "esim-go",
            "8991000000000034563",
            7,
            "--auth hmac-sha256 --header X-Signature-SHA256 --encoding base64 --secret Zt5nQ0xR7bLc2VwK8mHdYp3s",
        ),
        (
            "simlessly",
            "8991000000000034564",
            6,
            "--auth simlessly --access-key ak-204417 --secret a41c07d95be8823f6610",
        ),
    ] {
        let hook = format!("{url}/webhooks/{provider}/events");
        let mut send = program(&["send", &hook, "--provider", provider, "--lifecycle"]);
        send.args(["--iccid", iccid]).args(credentials.split(' '));
        let (success, stdout, stderr) = output(&mut send);
        assert!(success, "{stdout}{stderr}");
        assert_eq!(stdout.matches("\"moved\"").count(), steps, "{stdout}");
    }
    let hook = format!("{url}/webhooks/simlessly/events");
    let mut send = program(&["send", &hook, "--provider", "simlessly", "--lifecycle"]);
    let (success, _, stderr) =
        output(send.args(["--auth", "simlessly", "--secret", "a41c07d95be8823f6610"]));
    assert!(!success && stderr.contains("--access-key is missing"), "{stderr}");

    let mut command = program(&["doctor", "--url", &url]);
    serving(&mut command, &database);
    let (success, text, _) = output(command.env("ESIM_STATUS_CONFIG", &path));
    assert!(success && text.contains("Nothing is wrong."), "{text}");
    for said in [
        "becomes what it says (acme 1, roamify ",
        "acme/events: accepts credentials by url-secret",
        "roamify/events: accepts credentials by hmac-sha256",
        "esim-go/events: accepts credentials by hmac-sha256",
        "simlessly/events: refuses a webhook without credentials",
        "simlessly/events: accepts credentials by simlessly",
    ] {
        assert!(text.contains(said), "`{said}` is not in: {text}");
    }
}

#[test]
fn doctor_shows_what_a_body_becomes_in_the_lines_of_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let (config, body) = (folder.path().join("acme.toml"), folder.path().join("body.json"));
    std::fs::write(&config, declaration("INSTALLED")).unwrap();
    let try_body = |text: &str, flags: &[&str]| {
        std::fs::write(&body, text).unwrap();
        // It needs neither a database nor secrets.
        let mut command = program(&["doctor", "--try-body"]);
        command.arg(&body).args(flags).arg("--config").arg(&config);
        output(&mut command)
    };
    let deleted = format!(r#"{{"event":"profile.deleted","sim":{{"iccid":"{ICCID}"}}}}"#);
    let (success, stdout, stderr) = try_body(&deleted, &["--provider", "acme"]);
    assert!(success, "{stderr}");
    assert_eq!(stdout, format!("# by acme\nstate = \"DELETED\"\niccid = \"{ICCID}\"\n\n"));
    let (success, stdout, _) = try_body(&deleted, &[]);
    assert!(success && stdout.contains("# by gigastore\noutcome = \"malformed\"\n"), "{stdout}");
    assert!(stdout.contains("# by roamify\noutcome = \"ignored\"\n"), "{stdout}");
    let (success, stdout, _) = try_body("{}", &["--provider", "acme"]);
    assert!(
        !success && stdout.contains("# iccid is missing: it should be at /sim/iccid"),
        "{stdout}"
    );
    let (success, _, stderr) = try_body("{}", &["--provider", "nobody"]);
    assert!(
        !success && stderr.contains("acme, esim-access, esim-go, gigastore, roamify, simlessly"),
        "{stderr}"
    );
    // A sample is written from what is printed, so it need not hold yet.
    for text in [declaration("DELETED"), declaration("INSTALLED").replace("state = \"INST", "#")] {
        std::fs::write(&config, text).unwrap();
        let (success, stdout, _) = try_body(&deleted, &["--provider", "acme"]);
        let (begin, end) = ("# by acme\nstate = \"DELETED\"\n", "# not finished: ");
        assert!(success && stdout.starts_with(begin) && stdout.contains(end), "{stdout}");
    }
    let (success, _, stderr) = output(&mut program(&["doctor", "--try-body", "/not/there"]));
    assert!(!success && stderr.contains("cannot read /not/there"), "{stderr}");
}

#[tokio::test]
async fn serve_warns_about_secrets_on_the_command_line() {
    let mut command = program(&["serve", "--api-keys", API_KEY]);
    serving(&mut command, &Database::empty().await);
    let mut running = Running::start(&mut command);
    let line = running.says(|it| &mut it.stderr, "its list of processes");
    assert!(line.contains("ESIM_STATUS_API_KEYS") && !line.contains(API_KEY), "{line}");
    assert!(!line.contains("ESIM_STATUS_TOKEN_SECRETS"), "{line}");
}

#[tokio::test]
async fn token_prints_a_token_that_the_service_accepts() {
    let serve = Serve::start(&Database::empty().await);
    let (sent, _, stderr) =
        output(program(&["send", &serve.hook()]).args(["--state", "INSTALLED", "--iccid", ICCID]));
    assert!(sent, "{stderr}");
    let (success, token, stderr) =
        output(program(&["token", ICCID]).env("ESIM_STATUS_TOKEN_SECRETS", TOKEN_SECRET));
    assert!(success, "{stderr}");
    let user = Client::new(format!("http://{}", serve.public)).with_bearer(token.trim());
    assert_eq!(user.get("/v1/profiles/self").await.json()["iccid"], ICCID);
    let (success, _, stderr) = output(&mut program(&["token", ICCID]));
    assert!(!success && stderr.contains("ESIM_STATUS_TOKEN_SECRETS is missing"), "{stderr}");
}

#[test]
fn openapi_prints_the_generated_document() {
    let (success, stdout, _) = output(&mut program(&["openapi"]));
    assert!(success);
    assert!(stdout.trim_end() == web::openapi().to_pretty_json().unwrap(), "{stdout}");
}

/// The names of the commands, as the binary lists them.
fn commands() -> Vec<String> {
    let (_, help, _) = output(&mut program(&["help"]));
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    // The lines that go on are indented deeper.
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_manual_has_a_page_for_each_command_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("pages");
    let mut command = program(&["man"]);
    command.arg(&pages).env("ESIM_STATUS_API_KEYS", API_KEY);
    let (success, stdout, stderr) = output(&mut command);
    assert!(success && stdout.contains("esim-status.1"), "{stdout}{stderr}");
    let commands = commands();
    assert!(commands.len() > 10 && commands.contains(&"serve".to_owned()), "{commands:?}");
    for name in commands.iter().filter(|name| *name != "help") {
        let page = std::fs::read_to_string(pages.join(format!("esim-status-{name}.1"))).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH OPTIONS"), "{page}");
        assert!(!page.contains(API_KEY), "{page}");
    }
    let serve = std::fs::read_to_string(pages.join("esim-status-serve.1")).unwrap();
    assert!(serve.contains("ESIM_STATUS_API_KEYS"), "{serve}");
}

#[test]
fn the_completions_of_bash_are_valid_and_know_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("completions");
    let (success, script, stderr) = output(&mut program(&["completions", "bash"]));
    assert!(success, "{stderr}");
    std::fs::write(&file, script).unwrap();
    // As bash asks: the words of the line so far, and which of them is being completed.
    let ask = r#"set -e; source "$1"; COMP_WORDS=(esim-status ""); COMP_CWORD=1
        registered=$(complete -p esim-status); function=${registered#*-F }
        "${function%% *}" esim-status "" esim-status; printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    let (success, stdout, stderr) = output(bash.args(["-c", ask, "bash"]).arg(file));
    assert!(success, "{stderr}");
    for name in commands() {
        assert!(stdout.lines().any(|line| line == name), "{name} is not in: {stdout}");
    }
}

#[tokio::test]
async fn the_version_and_the_metrics_name_the_same_build() {
    let serve = Serve::start(&Database::empty().await);
    let metrics = Client::new(format!("http://{}", serve.admin)).get("/metrics").await.text;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("esim_status_build_info{version=\""));
    let (version, rest) = line.unwrap().split_once("\",commit=\"").unwrap();
    let commit = rest.strip_suffix("\"} 1").unwrap();
    let (success, stdout, _) = output(&mut program(&["--version"]));
    let known = if commit.is_empty() { String::new() } else { format!(" ({commit})") };
    assert!(success);
    assert_eq!(stdout, format!("esim-status {version}{known}\n"));
}

#[test]
fn without_a_command_the_binary_lists_its_commands() {
    let (success, stdout, stderr) = output(&mut program(&[]));
    assert!(!success);
    let help = format!("{stdout}{stderr}");
    for command in ["serve", "dev", "migrate", "send", "token", "doctor", "health", "openapi"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{help}");
    }
}

#[tokio::test]
async fn the_commands_that_dev_prints_work_when_pasted_and_ctrl_c_leaves_nothing_behind() {
    let mut dev = Dev::ephemeral();
    let sends = dev.lines(" send http");
    let curls = dev.lines("curl ");
    assert!(!sends.is_empty() && curls.len() >= 3, "{}", dev.welcome);
    for line in sends {
        // The pauses are only for people to watch.
        let line = line.replace("--pause 2", "--pause 0");
        let (success, stdout, stderr) = output(Command::new("sh").args(["-c", &line]));
        assert!(success && stdout.contains("\"outcome\""), "{line}: {stdout}{stderr}");
    }
    for line in curls {
        let answer = curl(&line).await;
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        assert!(!line.ends_with("/evidence") || answer.json()["signed"].is_string(), "{answer:?}");
    }
    // The provider's other webhooks have the same secret.
    let hook = dev.lines("Webhook URL").remove(0);
    let hook = hook.rsplit(' ').next().unwrap().replace("esim-status", "country-change");
    let country = r#"{"iccid":"89972123300991848961","previousCountry":null,"newCountry":"PL"}"#;
    assert_eq!(Client::new(hook).post("", country).await.outcome(), "connected");
    let client = Client::new(dev.base());
    assert_eq!(client.get("/openapi.json").await.status, 200);
    for line in dev.lines("/install#") {
        assert_eq!(Client::new(line).get("").await.status, 200);
    }

    dev.running.signal(Signal::SIGINT);
    let (status, took) = dev.running.end().await;
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    all_gone(&dev.database).await;
}

#[tokio::test]
async fn a_killed_dev_leaves_no_database_running() {
    let mut dev = Dev::ephemeral();
    dev.running.signal(Signal::SIGKILL);
    assert!(!dev.running.end().await.0.success());
    all_gone(&dev.database).await;
}

#[tokio::test]
async fn two_devs_at_the_same_time_find_different_ports() {
    let start = || Running::start(&mut program(&["dev", "--ephemeral"]));
    let (first, second) = (start(), start());
    let (first, second) = (Dev::welcomed(first), Dev::welcomed(second));
    assert_ne!(first.base(), second.base());
    for dev in [&first, &second] {
        let answer = curl(&dev.lines("curl -i")[0]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_data_folder_keeps_profiles_and_secrets_and_is_used_by_one_dev_at_a_time() {
    let outer =
        tempfile::Builder::new().prefix("commands-of-esim-status-").tempdir_in("/tmp").unwrap();
    // The database may run as another user, who must be able to enter the folder.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(outer.path(), mode).unwrap();
    let folder = outer.path().join("dev");
    let folder = folder.to_str().unwrap();
    let flags = ["--data-dir", folder, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

    let mut first = Dev::start(&flags);
    let (success, _, stderr) = output(program(&["dev"]).args(flags));
    assert!(!success && stderr.contains(folder), "{stderr}");
    let post = first.lines("curl -i").remove(0);
    assert_eq!(curl(&post).await.status, 200);
    let read = first.lines("/transitions").remove(0);
    let history = curl(&read).await.json()["items"].as_array().unwrap().len();
    first.running.signal(Signal::SIGTERM);
    assert!(first.running.end().await.0.success());
    all_gone(&first.database).await;

    // As a folder from before there were evidence sheets. The key is the last line.
    let secrets = outer.path().join("dev/secrets.toml");
    let text = std::fs::read_to_string(&secrets).unwrap();
    let (before, _) = text.split_once("evidence_key").unwrap();
    std::fs::write(&secrets, before).unwrap();

    let second = Dev::start(&flags);
    let again = read.replace(&first.base(), &second.base());
    let sheet = curl(&again.replace("/transitions", "/evidence")).await.json();
    assert!(sheet["signed"].is_string(), "{sheet}");
    assert!(std::fs::read_to_string(&secrets).unwrap().contains("evidence_key"));
    let kept = curl(&again).await.json()["items"].as_array().unwrap().len();
    assert!(kept >= history && history > 0, "{history} became {kept}");
}

/// Runs `erase` with a list of these profiles.
fn erase(database: &Database, iccids: &[String]) -> (bool, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("erased");
    std::fs::write(&list, iccids.join("\n")).unwrap();
    let mut command = program(&["erase", "--from"]);
    command.arg(&list);
    command.env("DATABASE_URL", server().url(database.options.get_database().unwrap()));
    output(&mut command)
}

#[tokio::test]
async fn erase_goes_on_after_a_profile_that_cannot_be_erased_and_ends_where_the_database_does() {
    let database = Database::migrated().await;
    let mut connection = database.connect().await;
    store::upkeep::prepare(&mut connection, clock::now(), 90).await.unwrap();
    let iccids: Vec<_> = (0..5).map(|number| format!("8948010000047201837{number}")).collect();
    let create =
        "INSERT INTO profiles (iccid, provider, state, raw_state, since, seq, installs_seen, deliveries, updated_at)
         SELECT iccid, 'gigastore', 'RELEASED', 'RELEASED', now(), 1, 0, 1, now() FROM UNNEST($1::text[]) AS iccid";
    sqlx::query(create).bind(&iccids).execute(&mut connection).await.unwrap();
    // The second one is refused, and the fourth has a value that only a newer release knows.
    let refuse = "
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON profiles FOR EACH ROW WHEN (OLD.iccid = '89480100000472018371')
        EXECUTE FUNCTION refuse();
        UPDATE profiles SET eid = 'zz' WHERE iccid = '89480100000472018373'";
    sqlx::raw_sql(refuse).execute(&mut connection).await.unwrap();
    // Another transaction holds the first one for longer than a statement may take.
    let mut holder = database.connect().await;
    let mut holding = holder.begin().await.unwrap();
    let hold = "SELECT FROM profiles WHERE iccid = $1 FOR UPDATE";
    sqlx::query(hold).bind(&iccids[0]).execute(&mut *holding).await.unwrap();
    let (success, text, errors) = erase(&database, &iccids);
    assert!(!success);
    assert!(text.contains("Profiles in the list: 5. Erased: 3. Failed: 2."), "{text}{errors}");
    assert!(text.contains("run this again"), "{text}{errors}");
    assert!(!iccids.iter().any(|it| format!("{text}{errors}").contains(it)), "{text}{errors}");
    holding.rollback().await.unwrap();
    let left = "SELECT string_agg(iccid, ' ' ORDER BY iccid) FROM profiles";
    assert_eq!(database.scalar::<String>(left).await, iccids[..2].join(" "));

    // Now the server ends the session instead: no other profile is tried.
    let end = "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN OLD; END $$";
    sqlx::raw_sql(end).execute(&mut connection).await.unwrap();
    sqlx::query(create).bind(&iccids[2..]).execute(&mut connection).await.unwrap();
    let (success, text, errors) = erase(&database, &iccids);
    assert!(!success);
    assert!(errors.contains("stopped after 1 of 5"), "{text}{errors}");
    assert_eq!(database.scalar::<String>(left).await, iccids[1..].join(" "));
    sqlx::raw_sql("DROP TRIGGER refuse ON profiles").execute(&mut connection).await.unwrap();
    let (success, text, errors) = erase(&database, &iccids);
    assert!(success, "{text}{errors}");
    assert!(text.contains("Profiles in the list: 5. Erased: 4. The others"), "{text}{errors}");
}

#[tokio::test]
async fn reread_shows_and_applies_what_is_understood_now() {
    let database = Database::migrated().await;
    // As if the adapter had not known the word when the webhook came.
    let kept = format!(
        "INSERT INTO deliveries (id, received_at, hook, provider, iccid, outcome, headers, body)
         SELECT '019aaf5e-0000-7000-8000-000000000001', now(), 'gigastore/esim-status', 'gigastore', '{ICCID}', 'unrecognised', '{{}}',
                convert_to('{{\"iccid\":\"{ICCID}\",\"profileState\":\"INSTALLED\"}}', 'UTF8')"
    );
    let mut connection = database.connect().await;
    store::upkeep::prepare(&mut connection, clock::now(), 90).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(kept)).execute(&mut connection).await.unwrap();
    let attempt = |apply: &[&str], hook: &str| {
        let mut arguments = vec!["reread", "--hook", hook, "--since", "2020-01-01T00:00:00Z"];
        arguments.extend(apply);
        let mut command = program(&arguments);
        command.env("DATABASE_URL", server().url(database.options.get_database().unwrap()));
        let (success, text, errors) = output(&mut command);
        assert!(!format!("{text}{errors}").contains(ICCID), "{text}{errors}");
        (success, text, errors)
    };
    let reread = |apply: &[&str], hook: &str| {
        let (success, text, errors) = attempt(apply, hook);
        assert!(success, "{text}{errors}");
        text
    };
    let hook = "gigastore/esim-status";
    let text = reread(&[], hook);
    assert!(text.contains("unrecognised → moved INSTALLED"), "{text}");
    assert!(text.contains("Would become, of 1 that were kept: 1 moved."), "{text}");
    assert!(reread(&["--apply"], "gigastore/other").contains("is that the path of the hook?"));
    // The profile has meanwhile got a value that only a newer release knows.
    let spoil = format!(
        "INSERT INTO profiles (iccid, provider, state, raw_state, eid, since, seq, installs_seen, deliveries, updated_at)
         VALUES ('{ICCID}', 'gigastore', 'RELEASED', 'RELEASED', 'zz', now(), 1, 0, 1, now())"
    );
    sqlx::query(sqlx::AssertSqlSafe(spoil)).execute(&mut connection).await.unwrap();
    for apply in [&[][..], &["--apply"]] {
        let (success, text, errors) = attempt(apply, hook);
        assert!(!success, "{text}{errors}");
        assert!(text.contains("their profiles cannot be read or written: 1."), "{text}{errors}");
        assert!(errors.contains("column eid of a stored row"), "{text}{errors}");
    }
    sqlx::query("DELETE FROM profiles").execute(&mut connection).await.unwrap();
    assert!(reread(&["--apply"], hook).contains("Applied, of 1 that were kept: 1 moved."));
    assert!(reread(&["--apply"], hook).contains("has kept nothing"));
    let state = "SELECT state FROM profiles";
    assert_eq!(database.scalar::<String>(state).await, "INSTALLED");
}
