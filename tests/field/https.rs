//! HTTPS as `docker-compose.yml` has it: a real Caddy with `deploy/caddy/Caddyfile`, and a certificate of a local authority.
//!
//! curl is the client, because it speaks HTTP/2 as browsers and providers do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use esim_status_testing::part::{Part, folder, free_port, give, installed, run};
use esim_status_testing::service::Service;
use esim_status_testing::turn::{beside_others, measured};
use esim_status_testing::{API_KEY, Database, HOOK_SECRET, TestApp, server, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

use super::authority::Authority;
use super::iccid;
use super::manifests::{list, read};

const DOMAIN: &str = "shop.example";

/// How soon something must arrive that nothing holds back.
const SOON: Duration = Duration::from_secs(5);

fn caddyfile() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/caddy/Caddyfile")
}

/// A Caddy with the Caddyfile of the repository. It ends with the test.
struct Caddy {
    _part: Part,
    folder: TempDir,
    http: u16,
    https: u16,
}

/// What curl got: the version of HTTP, the status, the head and the body.
#[derive(Debug)]
struct Got {
    version: String,
    status: u16,
    head: String,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

impl Caddy {
    async fn start(upstream: &str) -> Self {
        let (folder, http, https) = (folder(), free_port(), free_port());
        let here = folder.path();
        Authority(here).self_sign("ca");
        Authority(here).sign("site", Some(&format!("subjectAltName=DNS:{DOMAIN}\n")));
        let file = here.join("Caddyfile");
        fs::copy(caddyfile(), &file).unwrap();
        give(&file);
        let [here, file] = [here, &file].map(|it| it.display().to_string());
        let arguments = [
            format!("HOME={here}"),
            format!("CADDY_DOMAIN={DOMAIN}"),
            format!("CADDY_UPSTREAM={upstream}"),
            format!("CADDY_TLS=tls {here}/site.crt {here}/site.key"),
            format!("CADDY_HTTP_PORT={http}"),
            format!("CADDY_HTTPS_PORT={https}"),
            installed("caddy").display().to_string(),
        ];
        let arguments = arguments.iter().map(String::as_str);
        let arguments: Vec<_> =
            arguments.chain(["run", "--adapter", "caddyfile", "--config", &file]).collect();
        let log = folder.path().join("log");
        let mut part = Part::start(&installed("env"), &arguments, &log);
        wait_until("Caddy listens", || {
            assert!(part.runs(), "{}", fs::read_to_string(&log).unwrap_or_default());
            async move {
                TcpStream::connect(("127.0.0.1", http)).await.is_ok()
                    && TcpStream::connect(("127.0.0.1", https)).await.is_ok()
            }
        })
        .await;
        Self { _part: part, folder, http, https }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// curl's arguments for a request of the domain, which verifies the certificate.
    fn arguments(&self, url: &str, more: &[&str]) -> Vec<String> {
        let authority = self.file("ca.crt").display().to_string();
        let (http, https) = (self.http, self.https);
        let here =
            [format!("{DOMAIN}:443:127.0.0.1:{https}"), format!("{DOMAIN}:80:127.0.0.1:{http}")];
        let fixed = ["-s", "-S", "--noproxy", "*", "--max-time", "60", "--cacert", &authority];
        let fixed = fixed.into_iter().chain(here.iter().flat_map(|it| ["--connect-to", it]));
        fixed.chain(more.iter().copied()).chain([url]).map(str::to_owned).collect()
    }

    fn curl(&self, url: &str, more: &[&str]) -> Got {
        let ends = ["-D", "-", "-w", "\n%{http_version} %{http_code}"];
        let all = run(Command::new("curl").args(self.arguments(url, &[&ends, more].concat())));
        let (rest, end) = all.rsplit_once('\n').unwrap();
        let (version, status) = end.split_once(' ').unwrap();
        // After `100 Continue`, the head of the answer follows as a second one.
        let rest = rest.rsplit_once("HTTP/").map_or(rest, |(_, last)| last);
        let (head, body) = rest.split_once("\r\n\r\n").unwrap();
        Got {
            version: version.to_owned(),
            status: status.parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }

    /// Calls the domain over HTTPS, with the API key.
    fn call(&self, path: &str, more: &[&str]) -> Got {
        let key = format!("Authorization: Bearer {API_KEY}");
        self.curl(&format!("https://{DOMAIN}{path}"), &[&["-H", &*key], more].concat())
    }

    fn deliver(&self, body: &str) -> Got {
        self.call(&TestApp::hook_path(), &["--data-binary", body])
    }
}

fn report(number: usize, state: &str) -> String {
    json!({ "iccid": iccid(number), "profileState": state }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_page_stream_and_long_poll_pass_through_caddy_over_http_2() {
    let _turn = beside_others().await;
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let mut service = Service::start(&url).await;
    let caddy = Caddy::start(&service.address().to_string()).await;

    let delivered = caddy.deliver(&report(1, "RELEASED"));
    assert_eq!((delivered.status, &*delivered.version), (200, "2"), "{delivered:?}");
    assert_eq!(delivered.json()["outcome"], "moved");
    assert!(delivered.head.contains("strict-transport-security: max-age="), "{delivered:?}");
    let old = caddy.call(&TestApp::hook_path(), &["--http1.1", "-d", &report(1, "RELEASED")]);
    assert_eq!((old.status, &*old.version), (200, "1.1"), "{old:?}");
    let page = caddy.call("/install", &[]);
    assert_eq!((page.status, &*page.version), (200, "2"), "{page:?}");
    assert!(page.head.contains("content-security-policy: ") && page.body.contains("<html"));
    let plain = caddy.curl(&format!("http://{DOMAIN}/install"), &[]);
    assert_eq!(plain.status, 308);
    assert!(plain.head.contains(&format!("location: https://{DOMAIN}/install")), "{plain:?}");

    a_stream_and_a_long_poll_answer_immediately(&service, &caddy).await;
    limits_and_listeners_are_those_of_the_service(&caddy);

    service.terminate();
    service.ended().await;
    let begun = Instant::now();
    let away = caddy.deliver(&report(1, "INSTALLED"));
    let took = begun.elapsed();
    // It waits for a service that restarts, but not longer than a provider does.
    assert_eq!(away.status, 502, "{away:?}");
    assert!((Duration::from_millis(1_500)..SOON).contains(&took), "{took:?}");
    assert_eq!(caddy.call(&format!("/v1/profiles/{}", iccid(1)), &[]).status, 502);
    let log = caddy.log();
    assert!(log.contains("connection refused") && log.contains("\"method\":\"POST\""), "{log}");
    assert!(log.contains("admin endpoint disabled"), "{log}");
    for secret in [HOOK_SECRET, API_KEY, &*iccid(1)] {
        assert!(!log.contains(secret), "the log has a secret: {log}");
    }
}

async fn a_stream_and_a_long_poll_answer_immediately(service: &Service, caddy: &Caddy) {
    let profile = format!("/v1/profiles/{}", iccid(1));
    let url = format!("https://{DOMAIN}{profile}/events");
    let (out, key) = (caddy.file("stream"), format!("Authorization: Bearer {API_KEY}"));
    let mut stream = Command::new("curl")
        .args(caddy.arguments(&url, &["-N", "-H", &key]))
        .stdout(Stdio::from(fs::File::create(&out).unwrap()))
        .spawn()
        .unwrap();
    let has = |text: &'static str| {
        let out = out.clone();
        async move { fs::read_to_string(&out).unwrap().contains(text) }
    };
    wait_until("the stream begins", || has("event: profile")).await;

    let poll = caddy.call(&profile, &[]);
    let tag = poll.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let client = caddy.arguments(
        &format!("https://{DOMAIN}{profile}?wait=50"),
        &["-H", &key, "-H", &format!("If-None-Match: {tag}")],
    );
    let polling = spawn_blocking(move || run(Command::new("curl").args(client)));
    let waiting = "esim_status_streams 1";
    wait_until("the stream is open", async || {
        service.admin().get("/metrics").await.text.contains(waiting)
    })
    .await;

    let begun = Instant::now();
    assert_eq!(caddy.deliver(&report(1, "INSTALLED")).json()["outcome"], "moved");
    wait_until("the event arrives", || has("event: transition")).await;
    let event = begun.elapsed();
    let polled: Value = serde_json::from_str(&polling.await.unwrap()).unwrap();
    let polled_after = begun.elapsed();
    assert_eq!(polled["state"], "INSTALLED");
    assert!(event < SOON && polled_after < SOON, "{event:?}, {polled_after:?}");
    measured(
        "through Caddy",
        format!("event after {event:.1?}, long poll after {polled_after:.1?}"),
    );

    stream.kill().unwrap();
    stream.wait().unwrap();
    wait_until("the service notices that the client has gone", async || {
        service.admin().get("/metrics").await.text.contains("esim_status_streams 0")
    })
    .await;
}

fn limits_and_listeners_are_those_of_the_service(caddy: &Caddy) {
    for (bytes, status) in [(65_536, 400), (65_537, 413), (5_000_000, 413)] {
        let body = caddy.file("body");
        fs::write(&body, "x".repeat(bytes)).unwrap();
        let got = caddy.deliver(&format!("@{}", body.display()));
        assert_eq!(got.status, status, "{bytes} bytes: {got:?}");
        let problem = got.head.contains("content-type: application/problem+json");
        assert!(problem || status == 400, "{got:?}");
    }
    for path in ["/metrics", "/readyz", "/livez"] {
        let got = caddy.call(path, &[]);
        assert_eq!((got.status, &got.json()["code"]), (404, &json!("unknown-path")), "{path}");
    }
}

#[test]
fn docker_compose_publishes_nothing_but_https_beyond_this_machine() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker-compose.yml");
    let compose = read(&file).remove(0);
    let mut open = Vec::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        for port in list(&service["ports"]).iter().map(|it| it.as_str().unwrap()) {
            if !port.starts_with("127.0.0.1:") {
                open.push((name.as_str(), port));
            }
        }
    }
    assert_eq!(open, [("caddy", "80:80"), ("caddy", "443:443"), ("caddy", "443:443/udp")]);
    let caddy = &compose["services"]["caddy"];
    assert_eq!(caddy["profiles"], json!(["https"]));
    assert_eq!(caddy["environment"]["CADDY_UPSTREAM"], "esim-status:8080");
    assert!(list(&caddy["volumes"]).contains(&json!("./deploy/caddy:/etc/caddy:ro")));
    // The Caddyfile reads nothing that compose does not pass, except the ports, which have defaults.
    let caddyfile = fs::read_to_string(caddyfile()).unwrap();
    for name in caddyfile.split("{$").skip(1).filter_map(|rest| rest.split(['}', ':']).next()) {
        let is_passed = caddy["environment"][name].is_string() || name.ends_with("_PORT");
        assert!(is_passed, "docker-compose.yml does not pass {name}");
    }
}

#[test]
fn scripts_env_writes_what_https_needs_and_refuses_what_is_no_domain() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let with = |domain: &[&str]| {
        let here = tempfile::tempdir().unwrap();
        fs::create_dir(here.path().join("scripts")).unwrap();
        for file in ["scripts/env", "scripts/lib.sh", ".env.example"] {
            fs::copy(repository.join(file), here.path().join(file)).unwrap();
        }
        let script = here.path().join("scripts/env");
        let ran = Command::new(script).args(domain).stdin(Stdio::null()).output().unwrap();
        let written = fs::read_to_string(here.path().join(".env")).ok();
        assert_eq!(ran.status.success(), written.is_some(), "{ran:?}");
        (written, String::from_utf8(ran.stderr).unwrap())
    };
    let settings = |text: String| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let compose = fs::read_to_string(repository.join("docker-compose.yml")).unwrap();

    let plain = settings(with(&[]).0.unwrap());
    assert!(plain.contains(&"ESIM_STATUS_PUBLIC_URL=http://127.0.0.1:8080".to_owned()));
    let https = settings(with(&["Shop.Example"]).0.unwrap());
    for line in [
        "ESIM_STATUS_PUBLIC_URL=https://shop.example",
        "COMPOSE_PROFILES=https",
        "CADDY_DOMAIN=shop.example",
    ] {
        assert!(https.contains(&line.to_owned()), "{line} is not in .env");
    }
    assert_eq!(https.len(), plain.len() + 2);
    for line in &https {
        let (name, value) = line.split_once('=').unwrap();
        assert!(!value.contains("local-only"), "{name} is public");
        let is_used = name == "COMPOSE_PROFILES" || compose.contains(name);
        assert!(is_used, "docker-compose.yml does not use {name}");
    }
    for bad in [
        "https://shop.example",
        "shop.example:443",
        "shop",
        "203.0.113.7",
        "a b.example",
        "-a.example",
    ] {
        let (_, said) = with(&[bad]);
        assert!(said.contains("is not a domain") && said.contains("shop.example"), "{said}");
    }
}
