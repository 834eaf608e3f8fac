//! Tests of the serve loop over real sockets, with limits so short that a test can wait for them.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::stream;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

const GENEROUS: Duration = Duration::from_secs(20);
/// A request that is answered once the test releases it.
const HELD: &str = "POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_AND_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Long limits. Each test shortens those that it is about.
fn limits() -> Limits {
    Limits {
        header_read: GENEROUS,
        idle: GENEROUS,
        write_stall: GENEROUS,
        half_closed: GENEROUS,
        ..Limits::default()
    }
}

/// A running server and the signals of its handlers.
struct Running {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    /// Signals that a held request has begun.
    held: Arc<Notify>,
    /// Lets a held request finish.
    release: Arc<Notify>,
    /// Signals that a held or endless response has ended or was dropped.
    abandoned: Arc<Notify>,
    shutdown: CancellationToken,
    serving: JoinHandle<ShutDown>,
}

struct TellOnDrop(Arc<Notify>);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn start(limits: Limits, grace: Duration) -> Running {
    let calls = Arc::new(AtomicUsize::new(0));
    let [held, release, abandoned] = [(); 3].map(|()| Arc::new(Notify::new()));
    let counted = Arc::clone(&calls);
    let (tell, wait, gone) = (Arc::clone(&held), Arc::clone(&release), Arc::clone(&abandoned));
    let told = Arc::clone(&held);
    let app = Router::new()
        .route(
            "/",
            get(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                async { "ok" }
            }),
        )
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/refuse", post(|| async { hyper::StatusCode::PAYLOAD_TOO_LARGE }))
        .route(
            "/held",
            post(move |_body: Bytes| async move {
                let _guard = TellOnDrop(gone);
                tell.notify_one();
                wait.notified().await;
                "released"
            }),
        )
        .route("/panic", get(|| async { assert_eq!(1, 2, "on purpose") }))
        .route(
            "/flood",
            get({
                let abandoned = Arc::clone(&abandoned);
                move || async move {
                    told.notify_one();
                    let guard = TellOnDrop(abandoned);
                    Body::from_stream(stream::repeat_with(move || {
                        let _guard = &guard;
                        Ok::<_, io::Error>(Bytes::from_static(&[0; 16_384]))
                    }))
                }
            }),
        );
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, app, limits, shutdown.clone(), grace));
    Running { address, calls, held, release, abandoned, shutdown, serving }
}

impl Running {
    fn with(limits: Limits) -> Self {
        start(limits, GENEROUS)
    }

    async fn connect(&self) -> TcpStream {
        soon(TcpStream::connect(self.address)).await.unwrap()
    }

    /// Sends `request` and returns all bytes until the server closes.
    async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        // The server may answer and close before it has read everything.
        let _ = client.write_all(request.as_ref()).await;
        rest(&mut client).await
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn end(self) -> ShutDown {
        self.shutdown.cancel();
        soon(self.serving).await.unwrap()
    }
}

async fn soon<F: Future>(event: F) -> F::Output {
    timeout(GENEROUS, event).await.expect("it happens in time")
}

/// Reads all bytes until the server closes.
async fn rest(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end as well. The bytes before it stay in `answer`.
    let _ = soon(client.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

/// Reads until the text ends with `end`.
async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        assert_ne!(soon(client.read_buf(&mut answer)).await.unwrap(), 0, "closed too early");
    }
    String::from_utf8(answer).unwrap()
}

fn with_field(field: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")
}

#[tokio::test]
async fn oversized_heads_are_told_what_is_too_large() {
    let server = Running::with(limits());
    let fields = |count: usize| "X: y\r\n".repeat(count - 1);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(101)), "431"),
        (with_field(&format!("X: {}", "y".repeat(1 << 20))), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(17 << 10)), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20)), "431"),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = server.exchange(&request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.40} {answer}");
    }
    assert_eq!(server.calls(), 0);
    let largest = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", fields(99));
    assert!(server.exchange(largest).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn ambiguous_heads_are_answered_400_and_reach_no_handler() {
    let server = Running::with(limits());
    let requests = [
        with_field("Content-Length: 4\r\nTransfer-Encoding: chunked") + "0\r\n\r\n",
        with_field("Transfer-Encoding: chunked\r\nContent-Length: 4") + "0\r\n\r\n",
        with_field("Content-Length: 1\r\nContent-Length: 1") + "x",
        with_field("Content-Length: 1\r\nContent-Length: 2") + "xx",
        with_field("Content-Length: +1") + "x",
        with_field("Transfer-Encoding: gzip"),
        with_field("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n",
        with_field("X: y\r\n folded"),
        with_field("Host: b"),
        with_field("X : y"),
        with_field("X: y\rZ: z"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned(),
        "GET / HTTP/1.1\nHost: a\n\n".to_owned(),
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    for request in requests {
        let answer = server.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?} {answer}");
        assert!(answer.contains("connection: close\r\n"), "{request:?} {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{request:?} {answer}");
        // The same byte by byte, when hyper has already seen most of the head.
        let mut client = server.connect().await;
        client.set_nodelay(true).unwrap();
        for byte in request.bytes() {
            if client.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?} {answer}");
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn the_request_before_an_ambiguous_one_is_answered() {
    let server = Running::with(limits());
    let mut client = server.connect().await;
    client.write_all(format!("{HELD}GET / HTTP/1.1\r\n\r\n{GET}").as_bytes()).await.unwrap();
    soon(server.held.notified()).await;
    server.release.notify_one();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("released"), "{answer}");
    assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_malformed_chunk_ends_the_request() {
    let server = Running::with(limits());
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in ["1\nx\r\n0\r\n\r\n", "1\r\nx\r\n0\r\n\n", "1\r\nxx\r\n0\r\n\r\n"] {
        let answer = server.exchange(format!("{head}{body}{GET}")).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{body:?} {answer}");
        assert_eq!(server.calls(), 0, "{body:?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_all_answered() {
    let server = Running::with(limits());
    let sized = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none";
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\ntwo\r\n0\r\nX: y\r\n\r\n";
    let last = "GET / HTTP/1.0\r\n\r\n";
    let answer = server.exchange(format!("{GET}{sized}{chunked}{GET}{last}")).await;
    assert_eq!(answer.matches(" 200 OK\r\n").count(), 5, "{answer}");
    assert!(answer.contains("one") && answer.contains("two"), "{answer}");
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn silent_stalled_and_dribbling_connections_are_closed() {
    let header_read = Duration::from_millis(300);
    let server = Running::with(Limits { header_read, ..limits() });
    assert_eq!(server.exchange("").await, "");
    assert_eq!(server.exchange("GET / HTTP/1.1\r\nHost").await, "");
    for part in ["\r\n", "X: y\r\n"] {
        let mut client = server.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        soon(dribble(&mut client, part)).await;
    }
}

/// Writes `part` every few milliseconds until the server closes.
async fn dribble(client: &mut TcpStream, part: &str) {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while client.write_all(part.as_bytes()).await.is_ok() {
        tick.tick().await;
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_a_head_and_is_closed_after_its_own() {
    let header_read = Duration::from_millis(100);
    let idle = Duration::from_millis(1_500);
    let server = Running::with(Limits { header_read, idle, ..limits() });
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.write_all(GET.as_bytes()).await.unwrap();
        let answer = until(&mut client, "ok").await;
        assert!(answer.contains("connection: keep-alive\r\nkeep-alive: timeout=1\r\n"), "{answer}");
        sleep(header_read * 5).await;
    }
    // The next head has the full time limit, from its first byte on.
    client.write_all(b"GET").await.unwrap();
    let begun = Instant::now();
    soon(dribble(&mut client, " ")).await;
    assert!(begun.elapsed() < idle, "{:?}", begun.elapsed());

    let mut client = server.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    until(&mut client, "ok").await;
    let begun = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert!(begun.elapsed() > header_read * 5, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_head_may() {
    let header_read = Duration::from_millis(100);
    let server = Running::with(Limits { header_read, idle: header_read, ..limits() });
    let mut client = server.connect().await;
    client.write_all(format!("{HELD}GET / HTTP").as_bytes()).await.unwrap();
    soon(server.held.notified()).await;
    sleep(header_read * 5).await;
    server.release.notify_one();
    assert!(rest(&mut client).await.ends_with("released"));
}

#[tokio::test]
async fn only_connections_that_stay_are_announced() {
    let server = Running::with(limits());
    for request in [with_field("Connection: x, Close"), "GET / HTTP/1.0\r\n\r\n".to_owned()] {
        let answer = server.exchange(&request).await;
        assert!(answer.contains(" 200 ") && !answer.contains("keep-alive"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_half_closes_after_its_request_is_answered_and_closed_at_once() {
    let server = Running::with(limits());
    let mut client = server.connect().await;
    client.write_all(format!("{GET}{HELD}").as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    soon(server.held.notified()).await;
    server.release.notify_one();
    let begun = std::time::Instant::now();
    assert!(rest(&mut client).await.ends_with("released"));
    assert!(begun.elapsed() < GENEROUS / 2);

    let mut idle = server.connect().await;
    idle.write_all(GET.as_bytes()).await.unwrap();
    until(&mut idle, "ok").await;
    idle.shutdown().await.unwrap();
    assert_eq!(rest(&mut idle).await, "");
    let mut untouched = server.connect().await;
    untouched.shutdown().await.unwrap();
    assert_eq!(rest(&mut untouched).await, "");
}

#[tokio::test]
async fn a_client_that_half_closes_within_its_request_is_not_answered() {
    let server = Running::with(limits());
    for part in [
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx",
    ] {
        let mut client = server.connect().await;
        client.write_all(part.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{part:?} {answer}");
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn an_answer_is_given_up_some_time_after_its_client_has_left() {
    let half_closed = Duration::from_millis(100);
    let server = Running::with(Limits { half_closed, ..limits() });
    let mut client = server.connect().await;
    client.write_all(HELD.as_bytes()).await.unwrap();
    soon(server.held.notified()).await;
    drop(client);
    soon(server.abandoned.notified()).await;
}

#[tokio::test]
async fn a_body_is_asked_for_when_the_client_expects_it() {
    let server = Running::with(limits());
    let mut client = server.connect().await;
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hi").await.unwrap();
    assert!(rest(&mut client).await.ends_with("hi"));
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let server = Running::with(limits());
    let head = "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n";
    let mut client = server.connect().await;
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    for _ in 0..30 {
        soon(client.write_all(&[0; 10_000])).await.expect("no reset");
        tokio::task::yield_now().await;
    }
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn a_panic_costs_only_its_own_connection() {
    let server = Running::with(limits());
    assert_eq!(server.exchange("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
    assert!(server.exchange("GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 "));
    assert_eq!(server.end().await, ShutDown { cut: 0 });
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let write_stall = Duration::from_millis(300);
    let server = Running::with(Limits { write_stall, ..limits() });
    let mut client = server.connect().await;
    client.write_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    soon(server.abandoned.notified()).await;
    drop(client);
}

/// How often each refusal was counted, in the order of [`Refused::ALL`].
fn counted(metrics: &PrometheusHandle) -> [u32; Refused::ALL.len()] {
    let text = metrics.render();
    Refused::ALL.map(|reason| {
        let series =
            format!("esim_status_connections_refused_total{{reason=\"{}\"}} ", reason.as_str());
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("{series} is not in {text}")).parse().unwrap()
    })
}

/// The tasks of this test run on its own thread, so its recorder counts nothing of other tests.
#[tokio::test]
async fn every_refusal_is_counted_once_by_its_reason_from_0_on() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _counts_here = metrics::set_default_local_recorder(&recorder);
    let header_read = Duration::from_millis(200);
    let server = Running::with(Limits { max_connections: 1, header_read, ..limits() });
    server.exchange(GET_AND_CLOSE).await;
    assert_eq!(counted(&metrics), [0; Refused::ALL.len()]);
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), [1, 0, 0, 0, 0, 0]),
        (chunked.to_owned(), [2, 0, 0, 0, 0, 0]),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), [2, 1, 0, 0, 0, 0]),
        (with_field(&format!("X: {}", "y".repeat(20 << 10))), [2, 1, 1, 0, 0, 0]),
        (with_field(&"X: y\r\n".repeat(100)), [2, 1, 2, 0, 0, 0]),
        ("GET / HTTP/1.1\r\nHost:".to_owned(), [2, 1, 2, 1, 0, 0]),
        // A client that has sent nothing was refused nothing.
        (String::new(), [2, 1, 2, 1, 0, 0]),
    ] {
        server.exchange(&request).await;
        // What a client still sends is read for a while before its connection ends.
        soon(async {
            while counted(&metrics) != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    let mut held = server.connect().await;
    held.write_all(HELD.as_bytes()).await.unwrap();
    soon(server.held.notified()).await;
    assert!(server.exchange(GET).await.starts_with("HTTP/1.1 503 "));
    assert_eq!(counted(&metrics), [2, 1, 2, 1, 1, 0]);
    // They send nothing, so each keeps its place to be answered, and one finds none.
    let mut silent = Vec::new();
    for _ in 0..=TURNED_AWAY_AT_A_TIME {
        silent.push(server.connect().await);
    }
    let last = silent.pop().map(|mut it| async move { rest(&mut it).await });
    assert_eq!(last.unwrap().await, "");
    let most = u32::try_from(TURNED_AWAY_AT_A_TIME).unwrap();
    assert_eq!(counted(&metrics), [2, 1, 2, 1, 1 + most, 1]);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_told_so_and_the_next_finds_room() {
    let server = Running::with(Limits { max_connections: 1, ..limits() });
    let mut first = server.connect().await;
    first.write_all(GET.as_bytes()).await.unwrap();
    until(&mut first, "ok").await;
    let answer = server.exchange(GET).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after"), "{answer}");
    first.shutdown().await.unwrap();
    assert_eq!(rest(&mut first).await, "");
    let freed = async {
        while !server.exchange("GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 ") {}
    };
    soon(freed).await;
}

#[tokio::test]
async fn those_that_send_nothing_make_room_for_one_that_does() {
    const ROOM: usize = 20;
    let server = Running::with(Limits { max_connections: ROOM, ..limits() });
    let mut silent = Vec::new();
    for _ in 0..ROOM / 2 {
        silent.push(server.connect().await);
    }
    let mut kept = Vec::new();
    for _ in ROOM / 2..ROOM {
        let mut client = server.connect().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        until(&mut client, "ok").await;
        kept.push(client);
    }
    tokio::time::sleep(IDLE_ENOUGH).await;
    for _ in 0..3 {
        assert!(server.exchange(GET_AND_CLOSE).await.ends_with("ok"));
    }
    for mut client in silent.into_iter().chain(kept) {
        assert_eq!(rest(&mut client).await, "");
    }
    assert_eq!(server.end().await, ShutDown { cut: 0 });
}

#[tokio::test]
async fn the_longest_idle_ones_go_first() {
    const YOUNG: usize = 10;
    let server = Running::with(Limits { max_connections: CLEARED_AT_ONCE + YOUNG, ..limits() });
    let idle = async || {
        let mut client = server.connect().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        until(&mut client, "ok").await;
        client
    };
    let mut old = Vec::new();
    for _ in 0..CLEARED_AT_ONCE {
        old.push(idle().await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut young = Vec::new();
    for _ in 0..YOUNG {
        young.push(idle().await);
    }
    tokio::time::sleep(IDLE_ENOUGH).await;
    assert!(server.exchange(GET_AND_CLOSE).await.ends_with("ok"));
    for mut client in old {
        assert_eq!(rest(&mut client).await, "");
    }
    for mut client in young {
        client.write_all(GET_AND_CLOSE.as_bytes()).await.unwrap();
        assert!(rest(&mut client).await.ends_with("ok"));
    }
}

/// Connections that wait for a place must not delay others.
#[tokio::test]
async fn where_nobody_is_idle_any_more_the_refusal_comes_at_once() {
    let server = Running::with(Limits { max_connections: 2, ..limits() });
    let mut silent = server.connect().await;
    let mut first = server.connect().await;
    first.write_all(HELD.as_bytes()).await.unwrap();
    soon(server.held.notified()).await;
    tokio::time::sleep(IDLE_ENOUGH).await;
    // There is no place for the second, so the silent one is closed for it.
    let mut second = server.connect().await;
    second.write_all(HELD.as_bytes()).await.unwrap();
    soon(server.held.notified()).await;
    assert_eq!(rest(&mut silent).await, "");
    let begun = Instant::now();
    let (mut times, mut asking) = (Vec::new(), JoinSet::new());
    while begun.elapsed() < 3 * IDLE_ENOUGH {
        let mut client = server.connect().await;
        asking.spawn(async move {
            let begun = Instant::now();
            client.write_all(GET_AND_CLOSE.as_bytes()).await.unwrap();
            (rest(&mut client).await, begun.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Some(asked) = asking.join_next().await {
        let (answer, took) = asked.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        times.push(took);
    }
    // Some of the first may have waited for the place of the silent one.
    times.sort_unstable();
    assert!(times[times.len() / 2] < Duration::from_millis(500), "{times:?}");
    server.release.notify_waiters();
}

#[tokio::test]
async fn what_is_answered_is_not_closed_for_another() {
    let server = Running::with(Limits { max_connections: 1, ..limits() });
    let mut held = server.connect().await;
    held.write_all(HELD.as_bytes()).await.unwrap();
    soon(server.held.notified()).await;
    tokio::time::sleep(IDLE_ENOUGH).await;
    assert!(server.exchange(GET_AND_CLOSE).await.starts_with("HTTP/1.1 503 "));
    server.release.notify_one();
    assert!(until(&mut held, "released").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(server.end().await, ShutDown { cut: 0 });
}

#[tokio::test]
async fn a_shutdown_closes_what_is_idle_and_lets_what_is_in_flight_end() {
    let server = Running::with(limits());
    let [mut idle, mut fresh, mut busy] =
        [server.connect().await, server.connect().await, server.connect().await];
    idle.write_all(GET.as_bytes()).await.unwrap();
    until(&mut idle, "ok").await;
    busy.write_all(HELD.as_bytes()).await.unwrap();
    soon(server.held.notified()).await;

    server.shutdown.cancel();
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut fresh).await, "");
    soon(async { while TcpStream::connect(server.address).await.is_ok() {} }).await;
    assert!(!server.serving.is_finished());
    server.release.notify_one();
    let answer = rest(&mut busy).await;
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("released"), "{answer}");
    assert_eq!(server.end().await, ShutDown { cut: 0 });
}

#[tokio::test]
async fn while_it_shuts_down_every_answer_closes_and_idle_connections_end_late_and_one_by_one() {
    const IDLE: usize = 100;
    let notice = Duration::from_secs(2);
    let server = Running::with(Limits { notice, ..limits() });
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut client = server.connect().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        until(&mut client, "ok").await;
        idle.push(client);
    }
    let mut fresh = server.connect().await;

    server.shutdown.cancel();
    let begun = Instant::now();
    let ends = futures_util::future::join_all(idle.into_iter().map(async |mut client| {
        assert_eq!(rest(&mut client).await, "");
        begun.elapsed()
    }));
    let asking = async {
        // As clients that have not noticed the shutdown yet: one connected before it, and one that connects now.
        fresh.write_all(GET.as_bytes()).await.unwrap();
        for answer in [rest(&mut fresh).await, server.exchange(GET).await] {
            assert!(answer.contains("connection: close\r\n") && answer.ends_with("ok"), "{answer}");
        }
        assert!(begun.elapsed() < notice, "{:?}", begun.elapsed());
    };
    let (ends, ()) = tokio::join!(ends, asking);
    let before = |time| ends.iter().filter(|end| **end < time).count();
    // Until then, a client that sends often learns from an answer that its connection closes.
    assert_eq!(before(notice / 2), 0, "{ends:?}");
    let early = before(notice * 3 / 4);
    assert!(
        (IDLE / 5..=IDLE * 4 / 5).contains(&early),
        "{early} of {IDLE} before the last quarter"
    );
    assert_eq!(server.end().await, ShutDown { cut: 0 });
}

#[tokio::test]
async fn connections_that_the_system_has_accepted_by_the_end_are_served() {
    const WAITING: usize = 300;
    let server = start(Limits { notice: Duration::from_millis(50), ..limits() }, GENEROUS);
    server.shutdown.cancel();
    tokio::task::yield_now().await;
    // On one thread, nothing is accepted while these connect, nor until the notice is over.
    let mut waiting: Vec<_> =
        (0..WAITING).map(|_| std::net::TcpStream::connect(server.address).unwrap()).collect();
    for client in &mut waiting {
        client.write_all(GET.as_bytes()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(60));
    for client in waiting {
        client.set_nonblocking(true).unwrap();
        let mut client = TcpStream::from_std(client).unwrap();
        assert!(rest(&mut client).await.ends_with("ok"));
    }
    assert_eq!(server.end().await, ShutDown { cut: 0 });
}

/// A client whose connection is refused knows that nothing was received. A client whose request is reset does not.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_connects_at_the_end_is_reset() {
    const CLIENTS: usize = 8;
    for _ in 0..5 {
        let server = Running::with(limits());
        let address = server.address;
        let clients = (0..CLIENTS).map(|_| std::thread::spawn(move || ask_until_refused(address)));
        let clients: Vec<_> = clients.collect();
        while server.calls() <= CLIENTS {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.end().await, ShutDown { cut: 0 });
        for client in clients {
            assert_eq!(client.join().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}

/// Sends requests, each over a new connection, until there is no answer.
#[cfg(target_os = "linux")]
fn ask_until_refused(address: SocketAddr) -> io::Error {
    use std::io::Read;

    let ask = || {
        let mut client = std::net::TcpStream::connect(address)?;
        client.write_all(GET.as_bytes())?;
        client.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        if answer.ends_with("ok") { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    loop {
        if let Err(error) = ask() {
            return error;
        }
    }
}

#[tokio::test]
async fn clients_that_vanish_are_noticed_by_the_system() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    notice_vanished_clients(&client).unwrap();
    let socket = SockRef::from(&client);
    assert!(socket.keepalive().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(VANISHED));
}

/// Reads the system's list of connections, as `ss -o` shows it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn each_connection_is_watched_by_the_system() {
    const KEEP_ALIVE_TIMER: &str = "02:";
    let server = Running::with(limits());
    let mut client = server.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    until(&mut client, "ok").await;
    let ends = format!(":{:04X} ", server.address.port());
    let theirs = format!(":{:04X} 01 ", client.local_addr().unwrap().port());
    // The server's end is the local one: sl local_address rem_address st tx_queue:rx_queue tr:tm->when …
    let is_watched = || {
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line = connections.lines().find(|line| line.contains(&ends) && line.contains(&theirs));
        line.and_then(|line| line.split_ascii_whitespace().nth(5))?
            .strip_prefix(KEEP_ALIVE_TIMER)
            .map(drop)
    };
    // Until the answer is acknowledged, another timer runs.
    soon(async {
        while is_watched().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_that_takes_too_long_cuts_what_is_left() {
    let server = start(limits(), Duration::from_millis(200));
    let [mut held, mut flood] = [server.connect().await, server.connect().await];
    held.write_all(HELD.as_bytes()).await.unwrap();
    soon(server.held.notified()).await;
    flood.write_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    soon(server.held.notified()).await;
    assert_eq!(server.end().await, ShutDown { cut: 2 });
    assert_eq!(rest(&mut held).await, "");
}

#[test]
fn only_failures_of_the_server_itself_make_it_pause() {
    assert!(concerns_one_connection(&io::ErrorKind::ConnectionAborted.into()));
    let too_many_open_files = io::Error::from_raw_os_error(24);
    assert!(!concerns_one_connection(&too_many_open_files));
}
