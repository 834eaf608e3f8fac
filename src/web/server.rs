//! The serve loop: connections in, requests to the router, and an orderly end.
//!
//! `axum::serve` has no limits: an idle connection, a head that dribbles in and a client that never reads stay for ever. This
//! loop drives hyper itself and gives each of them a limit ([`Limits`]). What is refused before there is a request (a head that is
//! malformed or too large, no room for another connection) is answered with a bare status: hyper knows no problems.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::socket::{Patience, Socket};

/// How many connections beyond the limit are answered at a time; more are closed without a word.
const TURNED_AWAY_AT_A_TIME: usize = 256;

/// How long one of those has to send its request and take the answer.
const TURNING_AWAY: Duration = Duration::from_secs(1);
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How long to wait when no connection can be accepted, for want of file descriptors as a rule.
const BREATHER: Duration = Duration::from_millis(100);

/// What one client may ask of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a whole head, from the first moment of the connection or the end of the answer before: thus also for an idle connection.
    pub header_read: Duration,
    /// For a client to take at least a byte of an answer that is being written.
    pub write_stall: Duration,
    /// For an answer to a client that has sent its last byte, and may be gone: live streams that were left end after this.
    pub half_closed: Duration,
    /// Connections at a time. Another one is answered 503 at once, so that its client can turn to another replica or repeat,
    /// rather than left to wait unheard until it gives up. Must be below the limit on open files.
    pub max_connections: usize,
    /// Bytes of a request's head (431), also of what is buffered of a body or an answer. Above the 64 KiB that hyper takes for a
    /// URI, so that a longer one is told 414.
    pub max_head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(8),
            write_stall: Duration::from_secs(15),
            half_closed: Duration::from_secs(5),
            max_connections: 16_384,
            max_head_bytes: 80 << 10,
        }
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Connections that had not ended when the time was up.
    pub cut: usize,
}

/// Serves until `shutdown` is cancelled, then stops accepting, lets the requests in flight end for at most `drain`, and cuts
/// what is left.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    shutdown: CancellationToken,
    drain: Duration,
) -> Drained {
    let mut server = Server::new(app, limits);
    while let Some(accepted) = shutdown.run_until_cancelled(server.accept(&listener)).await {
        server.admit(accepted);
    }
    drop(listener);
    server.drain(drain).await
}

struct Server {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    side_room: Arc<Semaphore>,
    connections: JoinSet<()>,
    /// Told once, not for each connection.
    is_full: bool,
    is_failing: bool,
}

/// What every connection needs.
struct Shared {
    app: Router,
    http: http1::Builder,
    patience: Patience,
    /// Cancelled after `is_closing` is set. Connections look at the flag on every wake, which the token's lock is too dear for.
    closing: CancellationToken,
    is_closing: AtomicBool,
}

impl Server {
    fn new(app: Router, limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        // hyper panics if it is told to make do with a buffer of less than 8 KiB.
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.header_read)
            .max_buf_size(limits.max_head_bytes.max(8 << 10));
        let patience =
            Patience { write_stall: limits.write_stall, half_closed: limits.half_closed };
        Self {
            shared: Arc::new(Shared {
                app,
                http,
                patience,
                closing: CancellationToken::new(),
                is_closing: AtomicBool::new(false),
            }),
            room: Arc::new(Semaphore::new(limits.max_connections)),
            side_room: Arc::new(Semaphore::new(TURNED_AWAY_AT_A_TIME)),
            connections: JoinSet::new(),
            is_full: false,
            is_failing: false,
        }
    }

    /// The next connection; failures are outlasted.
    async fn accept(&mut self, listener: &TcpListener) -> TcpStream {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        self.is_failing = false;
                        return stream;
                    }
                    Err(error) if concerns_one_connection(&error) => {}
                    Err(error) => {
                        if !self.is_failing {
                            tracing::error!(%error, "cannot accept connections; raise the limit on open files");
                        }
                        self.is_failing = true;
                        sleep(BREATHER).await;
                    }
                },
                Some(ended) = self.connections.join_next() => report(ended),
            }
        }
    }

    fn admit(&mut self, stream: TcpStream) {
        // An answer is one write: waiting to fill a segment would only delay it. Without the option it is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(stream, self.shared.patience);
        if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
            self.is_full = false;
            self.connections.spawn(converse(socket, Arc::clone(&self.shared), place));
            return;
        }
        if !self.is_full {
            tracing::warn!("no room for another connection: answering 503");
        }
        self.is_full = true;
        if let Ok(place) = Arc::clone(&self.side_room).try_acquire_owned() {
            self.connections.spawn(turn_away(socket, place));
        }
    }

    async fn drain(mut self, time: Duration) -> Drained {
        self.shared.is_closing.store(true, Ordering::Release);
        self.shared.closing.cancel();
        let _ = timeout(time, async {
            while let Some(ended) = self.connections.join_next().await {
                report(ended);
            }
        })
        .await;
        while let Some(ended) = self.connections.try_join_next() {
            report(ended);
        }
        let cut = self.connections.len();
        self.connections.shutdown().await;
        Drained { cut }
    }
}

/// Whether the failure is that of the connection that was to be accepted: the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A panic ends its own connection, nothing else.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

/// Serves one connection to its end.
async fn converse(socket: Socket<TcpStream>, shared: Arc<Shared>, _place: OwnedSemaphorePermit) {
    let finished = socket.finished();
    let service = TowerToHyperService::new(shared.app.clone());
    let mut connection = pin!(shared.http.serve_connection(TokioIo::new(socket), service));
    let mut closing = pin!(shared.closing.cancelled());
    let mut is_first = true;
    let mut is_last_request = false;
    let outcome = poll_fn(|cx| {
        if is_first {
            is_first = false;
            // Once is enough: a task has one waker for life.
            let _ = closing.as_mut().poll(cx);
        }
        // First what has arrived, then the end: a request that was sent before the end is answered.
        let mut outcome = connection.as_mut().poll(cx);
        let is_closing =
            finished.load(Ordering::Relaxed) || shared.is_closing.load(Ordering::Acquire);
        if outcome.is_pending() && is_closing && !is_last_request {
            is_last_request = true;
            connection.as_mut().graceful_shutdown();
            outcome = connection.as_mut().poll(cx);
        }
        outcome
    })
    .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Says that there is no room. The request is read first: an answer to a connection closed with unread bytes is lost.
async fn turn_away(mut socket: Socket<TcpStream>, _place: OwnedSemaphorePermit) {
    let answer = async {
        let _request = socket.read(&mut [0; 1024]).await?;
        socket.write_all(NO_ROOM).await?;
        socket.shutdown().await
    };
    let _ = timeout(TURNING_AWAY, answer).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use axum::body::{Body, Bytes};
    use axum::routing::{get, post};
    use futures_util::stream;
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;

    const GENEROUS: Duration = Duration::from_secs(20);
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Limits so short that a test can wait for them; those that are not its subject are long.
    fn limits() -> Limits {
        Limits {
            header_read: GENEROUS,
            write_stall: GENEROUS,
            half_closed: GENEROUS,
            ..Limits::default()
        }
    }

    /// A running server and what its handlers tell.
    struct Running {
        address: std::net::SocketAddr,
        calls: Arc<AtomicUsize>,
        /// A held request has begun.
        held: Arc<Notify>,
        /// Lets a held request end.
        release: Arc<Notify>,
        /// The answer that never ends was given up.
        abandoned: Arc<Notify>,
        shutdown: CancellationToken,
        serving: JoinHandle<Drained>,
    }

    struct TellOnDrop(Arc<Notify>);

    impl Drop for TellOnDrop {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    async fn start(limits: Limits, drain: Duration) -> Running {
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, app, limits, shutdown.clone(), drain));
        Running { address, calls, held, release, abandoned, shutdown, serving }
    }

    impl Running {
        async fn with(limits: Limits) -> Self {
            start(limits, GENEROUS).await
        }

        async fn connect(&self) -> TcpStream {
            soon(TcpStream::connect(self.address)).await.unwrap()
        }

        /// Sends `request` and returns all that comes until the server closes.
        async fn exchange(&self, request: impl AsRef<[u8]>) -> String {
            let mut client = self.connect().await;
            // The server may answer and close before it has read everything.
            let _ = client.write_all(request.as_ref()).await;
            rest(&mut client).await
        }

        fn calls(&self) -> usize {
            self.calls.load(Ordering::SeqCst)
        }

        async fn end(self) -> Drained {
            self.shutdown.cancel();
            soon(self.serving).await.unwrap()
        }
    }

    async fn soon<F: Future>(event: F) -> F::Output {
        timeout(GENEROUS, event).await.expect("it happens in time")
    }

    /// All that comes until the server closes.
    async fn rest(client: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        // A reset after the answer is an end as well; what came before stays in `answer`.
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
        let server = Running::with(limits()).await;
        let fields = |count: usize| "X: y\r\n".repeat(count - 1);
        for (request, status) in [
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields(101)), "431"),
            (with_field(&format!("X: {}", "y".repeat(1 << 20))), "431"),
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), "414"),
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70 << 10)), "414"),
            (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20)), "431"),
            ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ] {
            let answer = server.exchange(&request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.40} {answer}");
        }
        assert_eq!(server.calls(), 0);
        let largest =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", fields(99));
        assert!(server.exchange(largest).await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn ambiguous_heads_are_answered_400_and_reach_no_handler() {
        let server = Running::with(limits()).await;
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
            // The same byte by byte: hyper has then seen most of the head already.
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
        let server = Running::with(limits()).await;
        let held = "POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        let mut client = server.connect().await;
        client.write_all(format!("{held}GET / HTTP/1.1\r\n\r\n{GET}").as_bytes()).await.unwrap();
        soon(server.held.notified()).await;
        server.release.notify_one();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("released"), "{answer}");
        assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
        assert_eq!(server.calls(), 0);
    }

    #[tokio::test]
    async fn a_malformed_chunk_ends_the_request() {
        let server = Running::with(limits()).await;
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in ["1\nx\r\n0\r\n\r\n", "1\r\nx\r\n0\r\n\n", "1\r\nxx\r\n0\r\n\r\n"] {
            let answer = server.exchange(format!("{head}{body}{GET}")).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{body:?} {answer}");
            assert_eq!(server.calls(), 0, "{body:?}");
        }
    }

    #[tokio::test]
    async fn pipelined_requests_are_all_answered() {
        let server = Running::with(limits()).await;
        let sized = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none";
        let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\ntwo\r\n0\r\nX: y\r\n\r\n";
        let last = "GET / HTTP/1.0\r\n\r\n";
        let answer = server.exchange(format!("{GET}{sized}{chunked}{GET}{last}")).await;
        assert_eq!(answer.matches(" 200 OK\r\n").count(), 5, "{answer}");
        assert!(answer.contains("one") && answer.contains("two"), "{answer}");
        assert_eq!(server.calls(), 3);
    }

    #[tokio::test]
    async fn idle_stalled_and_dribbling_connections_are_closed() {
        let header_read = Duration::from_millis(300);
        let server = Running::with(Limits { header_read, ..limits() }).await;
        assert_eq!(server.exchange("").await, "");
        assert_eq!(server.exchange("GET / HTTP/1.1\r\nHost").await, "");
        assert!(server.exchange(GET).await.starts_with("HTTP/1.1 200 "));
        let mut client = server.connect().await;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let dribble = async {
            while client.write_all(b"\r\n").await.is_ok() {
                tick.tick().await;
            }
        };
        soon(dribble).await;
    }

    #[tokio::test]
    async fn a_client_that_half_closes_after_its_request_is_answered_and_closed_at_once() {
        let server = Running::with(limits()).await;
        let held = "POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        let mut client = server.connect().await;
        client.write_all(format!("{GET}{held}").as_bytes()).await.unwrap();
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
        let server = Running::with(limits()).await;
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
        let server = Running::with(Limits { half_closed, ..limits() }).await;
        let mut client = server.connect().await;
        let held = "POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        client.write_all(held.as_bytes()).await.unwrap();
        soon(server.held.notified()).await;
        drop(client);
        soon(server.abandoned.notified()).await;
    }

    #[tokio::test]
    async fn a_body_is_asked_for_when_the_client_expects_it() {
        let server = Running::with(limits()).await;
        let mut client = server.connect().await;
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hi").await.unwrap();
        assert!(rest(&mut client).await.ends_with("hi"));
    }

    #[tokio::test]
    async fn an_early_answer_reaches_a_client_that_is_still_sending() {
        let server = Running::with(limits()).await;
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
        let server = Running::with(limits()).await;
        assert_eq!(server.exchange("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
        assert!(server.exchange("GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 "));
        assert_eq!(server.end().await, Drained { cut: 0 });
    }

    #[tokio::test]
    async fn a_client_that_never_reads_is_cut() {
        let write_stall = Duration::from_millis(300);
        let server = Running::with(Limits { write_stall, ..limits() }).await;
        let mut client = server.connect().await;
        client.write_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        soon(server.abandoned.notified()).await;
        drop(client);
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_is_told_so_and_the_next_finds_room() {
        let server = Running::with(Limits { max_connections: 1, ..limits() }).await;
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
    async fn a_shutdown_closes_what_is_idle_and_lets_what_is_in_flight_end() {
        let server = Running::with(limits()).await;
        let [mut idle, mut fresh, mut busy] =
            [server.connect().await, server.connect().await, server.connect().await];
        idle.write_all(GET.as_bytes()).await.unwrap();
        until(&mut idle, "ok").await;
        let held = "POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        busy.write_all(held.as_bytes()).await.unwrap();
        soon(server.held.notified()).await;

        server.shutdown.cancel();
        assert_eq!(rest(&mut idle).await, "");
        assert_eq!(rest(&mut fresh).await, "");
        assert!(TcpStream::connect(server.address).await.is_err());
        assert!(!server.serving.is_finished());
        server.release.notify_one();
        let answer = rest(&mut busy).await;
        assert!(
            answer.contains("connection: close\r\n") && answer.ends_with("released"),
            "{answer}"
        );
        assert_eq!(server.end().await, Drained { cut: 0 });
    }

    #[tokio::test]
    async fn a_drain_that_takes_too_long_cuts_what_is_left() {
        let server = start(limits(), Duration::from_millis(200)).await;
        let [mut held, mut flood] = [server.connect().await, server.connect().await];
        held.write_all(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            .await
            .unwrap();
        soon(server.held.notified()).await;
        flood.write_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        soon(server.held.notified()).await;
        assert_eq!(server.end().await, Drained { cut: 2 });
        assert_eq!(rest(&mut held).await, "");
    }

    #[test]
    fn only_failures_of_the_server_itself_make_it_pause() {
        assert!(concerns_one_connection(&io::ErrorKind::ConnectionAborted.into()));
        let too_many_open_files = io::Error::from_raw_os_error(24);
        assert!(!concerns_one_connection(&too_many_open_files));
    }
}
