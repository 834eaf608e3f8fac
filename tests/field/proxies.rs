//! nginx and haproxy before the service, with pools of kept connections: no webhook is lost on a connection that is just being closed,
//! whenever it comes.

use std::fs;
use std::time::Duration;

use esim_status_testing::service::Service;
use esim_status_testing::turn::{beside_others, from_environment, measured};
use esim_status_testing::{Client, Database, TestApp, server, wait_until};
use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::iccid;
use super::part::{Part, folder, give, installed};
use super::server::free_port;

/// How many clients send at once, each with a pause of its own.
const CLIENTS: usize = 125;

/// Around our time-outs: a body, a head, a client that takes nothing; and then around theirs and that of idle connections.
const PAUSES: [u64; 7] = [8, 5, 8, 15, 60, 75, 8];

/// How many of the pauses are tried where nothing else is said.
const USUAL: u64 = 2;

/// A proxy that keeps connections to the service for a minute. It ends with the test.
struct Front {
    process: Part,
    folder: TempDir,
    url: String,
}

impl Front {
    async fn start(program: &str, arguments: &[&str], settings: String, port: u16) -> Self {
        let folder = folder();
        let file = folder.path().join("settings");
        let here = folder.path().display().to_string();
        fs::write(&file, settings.replace("{here}", &here)).unwrap();
        give(&file);
        let arguments: Vec<_> = arguments.iter().map(|it| it.replace("{here}", &here)).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let log = folder.path().join("log");
        let mut process = Part::start(&installed(program), &arguments, &log);
        wait_until(program, || {
            assert!(process.runs(), "{}", fs::read_to_string(&log).unwrap_or_default());
            async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }
        })
        .await;
        Self { process, folder, url: format!("http://127.0.0.1:{port}") }
    }

    async fn nginx(service: &Service) -> Self {
        let port = free_port();
        let settings = format!(
            "daemon off;
             worker_processes 2;
             pid {{here}}/pid;
             events {{ worker_connections 1024; }}
             http {{
                 access_log off;
                 client_body_temp_path {{here}}/body;
                 proxy_temp_path {{here}}/proxy;
                 fastcgi_temp_path {{here}}/fastcgi;
                 uwsgi_temp_path {{here}}/uwsgi;
                 scgi_temp_path {{here}}/scgi;
                 upstream service {{ server {}; keepalive 256; keepalive_timeout 60s; }}
                 server {{
                     listen 127.0.0.1:{port};
                     keepalive_timeout 120s;
                     location / {{
                         proxy_pass http://service;
                         proxy_http_version 1.1;
                         proxy_set_header Connection \"\";
                         proxy_next_upstream off;
                     }}
                 }}
             }}",
            service.address()
        );
        let arguments = ["-e", "{here}/errors", "-p", "{here}", "-c", "{here}/settings"];
        Self::start("nginx", &arguments, settings, port).await
    }

    async fn haproxy(service: &Service) -> Self {
        let port = free_port();
        let settings = format!(
            "global
                 maxconn 2000
             defaults
                 mode http
                 retries 0
                 timeout connect 5s
                 timeout client 120s
                 timeout server 60s
                 timeout http-keep-alive 60s
                 http-reuse always
             frontend webhooks
                 bind 127.0.0.1:{port}
                 default_backend service
             backend service
                 server one {}\n",
            service.address()
        );
        Self::start("haproxy", &["-db", "-f", "{here}/settings"], settings, port).await
    }
}

/// Every client delivers, pauses for about as long as was asked for, and delivers again. Gives back how many there were, and what was not
/// answered 200.
async fn deliver_with_pauses(front: &Front, pauses: &[u64]) -> (usize, Vec<String>) {
    let sending = (0..CLIENTS).map(async |number| {
        let client = Client::new(front.url.clone());
        let mut wrong = Vec::new();
        for (round, pause) in [&0].into_iter().chain(pauses).enumerate() {
            // Five milliseconds before the time to five after it, over all clients.
            let offset = Duration::from_micros(100 * number as u64);
            sleep((Duration::from_secs(*pause) + offset).saturating_sub(OFF)).await;
            let body = json!({ "iccid": iccid(number), "profileState": STATES[round % 2] });
            let request = client.request(reqwest::Method::POST, &TestApp::hook_path());
            // Between sender and proxy nothing is kept: that time-out is theirs.
            let request = request.header("connection", "close").body(body.to_string());
            match request.send().await {
                Ok(answer) if answer.status() == 200 => {}
                other => wrong.push(format!("after {pause} s: {other:?}")),
            }
        }
        wrong
    });
    let wrong = join_all(sending).await.concat();
    (CLIENTS * (pauses.len() + 1), wrong)
}

const OFF: Duration = Duration::from_millis(5);
const STATES: [&str; 2] = ["INSTALLED", "DISABLED"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_keep_connections_lose_no_webhook() {
    let _turn = beside_others().await;
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let service = Service::start(&url).await;
    let fronts = [Front::nginx(&service).await, Front::haproxy(&service).await];
    let count = from_environment("ESIM_STATUS_PROXY_PAUSES", USUAL);
    let pauses = &PAUSES[..usize::try_from(count).unwrap().min(PAUSES.len())];
    let delivered = join_all(fronts.iter().map(|front| deliver_with_pauses(front, pauses))).await;
    for ((count, wrong), name) in delivered.iter().zip(["nginx", "haproxy"]) {
        measured(
            &format!("{name} with kept connections"),
            format!("{count} webhooks with pauses of {pauses:?} s, {} not 200", wrong.len()),
        );
    }
    for (front, (_, wrong)) in fronts.into_iter().zip(delivered) {
        let errors = fs::read_to_string(front.folder.path().join("errors")).unwrap_or_default();
        assert!(wrong.is_empty(), "{wrong:#?}\n{errors}");
        drop(front.process);
    }
}
