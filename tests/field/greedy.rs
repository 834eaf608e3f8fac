//! Callers that take all they can get: thousands of streams, polls and long queries with one user's token, and
//! thousands of unfinished request heads. Webhooks are still accepted, and memory stays bounded.
//!
//! Raw TCP clients call the real binary while 100 webhooks a second arrive.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use esim_status_testing::service::Service;
use esim_status_testing::turn::{alone, from_environment, measured};
use esim_status_testing::wire::read_reply;
use esim_status_testing::{Database, TestApp, server, unix_now, wait_until};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::load::{Load, assert_kept_once, statuses};

/// The profile that is followed. It does not change, so that polls wait.
const QUIET: &str = "89972123300991848961";

/// How many requests are opened concurrently, unless `ESIM_STATUS_GREEDY_AT_A_TIME` sets another number. If all of them
/// were opened together, the clients and the service would use every core of a small machine, and webhooks would wait
/// for the CPU.
const AT_A_TIME: u64 = 100;

/// How long to wait for an answer. A poll that is accepted gives none in this time.
const ANSWER: Duration = Duration::from_secs(1);

/// How many webhooks arrive each second in the meantime.
const WEBHOOKS: usize = 100;

/// A query of about this length. Queries of 64 KB once stalled all webhooks.
fn query(bytes: usize) -> String {
    let parameters: Vec<_> = (0..bytes / 8).map(|number| format!("p{number:05}=")).collect();
    parameters.join("&")
}

/// The requests that the holder of a token sends.
fn requests(token: &str, tag: &str) -> [String; 4] {
    let request = |path: &str, more: &str| {
        format!(
            "GET /v1/profiles/self{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        )
    };
    [
        request("/events", ""),
        request("?wait=60", &format!("If-None-Match: {tag}\r\n")),
        request(&format!("?{}", query(65_536)), ""),
        request(&format!("?{}", query(15_000)), ""),
    ]
}

/// Sends a request and keeps the connection open. Returns the status, or 0 if there was no answer.
async fn take(address: SocketAddr, request: &str) -> (u16, Option<TcpStream>) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return (0, None) };
    // The service may close the connection before a request that is too long has been sent.
    let _ = stream.write_all(request.as_bytes()).await;
    match timeout(ANSWER, read_reply(&mut stream)).await {
        Ok(Ok(reply)) => (reply.status, Some(stream)),
        Ok(Err(_)) => (0, None),
        Err(_) => (0, Some(stream)),
    }
}

/// A few thousand clients by default; `ESIM_STATUS_GREEDY_CLIENTS=20000` is more than the service's max connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_cannot_use_up_the_capacity_that_webhooks_need() {
    let _turn = alone().await;
    let clients = usize::try_from(from_environment("ESIM_STATUS_GREEDY_CLIENTS", 3_000)).unwrap();
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let most = if clients > 10_000 { "16384" } else { "2000" };
    let service = Service::start_with(&url, &[("ESIM_STATUS_MAX_CONNECTIONS", most)]).await;
    service.ready().await;
    let body = json!({ "iccid": QUIET, "profileState": "RELEASED" }).to_string();
    assert_eq!(service.backend().post(&TestApp::hook_path(), body).await.outcome(), "moved");
    let claims = json!({ "aud": "esim-status", "sub": QUIET, "exp": unix_now() + 600 });
    let token = TestApp::token(&claims);
    let user = service.backend().with_bearer(token.as_str());
    let tag = user.get("/v1/profiles/self").await.header("etag").to_owned();

    let load = Load::start(&service, WEBHOOKS);
    let at_a_time = from_environment("ESIM_STATUS_GREEDY_AT_A_TIME", AT_A_TIME);
    let room = Arc::new(Semaphore::new(usize::try_from(at_a_time).unwrap()));
    let mut taking = JoinSet::new();
    let requests: Arc<[String; 4]> = Arc::new(requests(&token, &tag));
    for number in 0..clients {
        let (address, room, requests) = (service.address(), room.clone(), requests.clone());
        taking.spawn(async move {
            let _place = room.acquire().await;
            take(address, &requests[number % 4]).await
        });
    }
    let answered = taking.join_all().await;
    // All clients keep their connections open for a while.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let sent = load.stop().await;
    let mut answers = BTreeMap::<u16, usize>::new();
    for (status, _) in &answered {
        *answers.entry(*status).or_default() += 1;
    }
    let mut times: Vec<_> = sent.iter().map(|sent| sent.took).collect();
    times.sort_unstable();
    measured(
        &format!("one token, {clients} streams, polls and long queries"),
        format!(
            "they were answered {answers:?} (0: not in a second), {} still connected; {} webhooks answered {:?}, p50 {:?}, p99 {:?}, worst {:?}; {} MiB",
            answered.iter().filter(|(_, stream)| stream.is_some()).count(),
            sent.len(),
            statuses(&sent),
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            times[times.len() - 1],
            service.resident_kib() >> 10,
        ),
    );
    assert!(sent.iter().all(|sent| sent.status == 200), "{:?}", statuses(&sent));
    assert_eq!(assert_kept_once(&database, &sent).await, sent.len());
}

/// Anyone can send an unfinished head without credentials, so it must cost little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_heads_cost_little_memory() {
    const HEADS: usize = 2_000;
    /// Each head may be buffered twice: once as it is, and once in an earlier buffer that became too small.
    const MOST_MIB: u64 = 100;
    let _turn = alone().await;
    let database = Database::empty().await;
    let url = server().url(database.options.get_database().unwrap_or_default());
    let service = Service::start(&url).await;
    service.ready().await;
    let before = service.resident_kib() >> 10;
    let mut open = Vec::new();
    for size in [15_000, 78_000] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(size));
        for _ in 0..HEADS / 2 {
            let mut stream = TcpStream::connect(service.address()).await.unwrap();
            let _ = timeout(ANSWER, stream.write_all(head.as_bytes())).await;
            open.push(stream);
        }
    }
    let with = service.resident_kib() >> 10;
    drop(open);
    wait_until("the connections are closed", async || {
        let sockets = std::fs::read_dir(format!("/proc/{}/fd", service.pid())).unwrap().count();
        sockets < 200
    })
    .await;
    let after = service.resident_kib() >> 10;
    measured(
        &format!("{HEADS} unfinished heads"),
        format!("RSS {before} MiB before, {with} MiB with them, {after} MiB after"),
    );
    assert!(with.saturating_sub(before) < MOST_MIB, "{before} MiB, {with} MiB");
}
