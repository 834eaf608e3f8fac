//! Serves one connection from its first byte to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::Limits;
use super::refused::Refused;
use super::socket::Socket;
use super::state::{Answering, ConnectionState, Phase};

/// While the server shuts down: how long a client may take from connecting to its first byte.
const TO_SEND: Duration = Duration::from_secs(1);

/// How long a new connection waits for the place of one that was asked to close. This is longer than closing takes, and
/// shorter than the time-outs of providers.
const ROOM_LIMIT: Duration = Duration::from_millis(1_500);

/// How long a client that gets no place has to send its request and read the answer.
const TURNING_AWAY: Duration = Duration::from_secs(1);
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The state that all connections share.
pub(super) struct Shared {
    app: Router,
    http: http1::Builder,
    limits: Limits,
    /// The value of the header `Keep-Alive`: how long an idle connection is kept.
    keep_alive: HeaderValue,
    /// Cancelled after `closing` is set. On every wake, connections check `closing`, because the token's lock is too
    /// expensive.
    closing_begun: CancellationToken,
    closing: OnceLock<Closing>,
}

/// The period in which all connections are closed.
#[derive(Debug, Clone, Copy)]
struct Closing {
    from: Instant,
    until: Instant,
}

impl Closing {
    /// When to close a connection that waits for a request. One that was idle before is closed at its own random moment
    /// in the second half. By then a busy client has sent another request, and its answer has asked it to close. So the
    /// service closes only the connections of quiet clients, perhaps just as they send. A connection whose client may be
    /// about to send is closed at the end, and not before the client has had time to send.
    fn close_at(self, state: &ConnectionState, share: f64) -> Instant {
        if state.has_answered() && state.since() <= self.from {
            self.from + (self.until - self.from).mul_f64(0.5 + share / 2.0)
        } else {
            self.until.max(state.since() + TO_SEND)
        }
    }
}

impl Shared {
    pub(super) fn new(app: Router, limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        // This module has its own time-outs. hyper panics if its buffer is smaller than 8 KiB.
        http.header_read_timeout(None).max_buf_size(limits.max_head_bytes.max(8 << 10));
        let keep_alive = HeaderValue::from_str(&format!("timeout={}", limits.idle.as_secs()));
        Self {
            app,
            http,
            limits,
            keep_alive: keep_alive.unwrap_or(HeaderValue::from_static("timeout=0")),
            closing_begun: CancellationToken::new(),
            closing: OnceLock::new(),
        }
    }

    /// From now on, connections close after the answer in progress, and idle ones close during the notice.
    pub(super) fn begin_closing(&self) {
        let from = Instant::now();
        self.closing.get_or_init(|| Closing { from, until: from + self.limits.notice });
        self.closing_begun.cancel();
    }

    fn socket(&self, stream: TcpStream, state: &Arc<ConnectionState>) -> Socket<TcpStream> {
        Socket::new(stream, self.limits, Arc::clone(state))
    }
}

/// Serves one connection to its end.
pub(super) async fn converse(
    stream: TcpStream,
    shared: Arc<Shared>,
    state: Arc<ConnectionState>,
    _place: OwnedSemaphorePermit,
) {
    state.take_place();
    let socket = TokioIo::new(shared.socket(stream, &state));
    let service = service_fn(|request| answer(&shared, &state, request));
    let mut connection = pin!(shared.http.serve_connection(socket, service));
    let mut closing_begun = pin!(shared.closing_begun.cancelled());
    let mut asked_to_close = pin!(state.asked_to_close());
    let share = rand::random();
    let mut timer = pin!(sleep(shared.limits.header_read));
    let mut is_first = true;
    let mut is_closing = false;
    let outcome = poll_fn(|cx| {
        if is_first {
            is_first = false;
            // Once is enough, because the waker of a task never changes.
            let _ = closing_begun.as_mut().poll(cx);
            let _ = asked_to_close.as_mut().poll(cx);
        }
        // Process arrived requests before closing, so that a request that was sent before the end is answered.
        let mut outcome = connection.as_mut().poll(cx);
        if outcome.is_ready() || is_closing {
            return outcome;
        }
        let close_at = shared.closing.get().map(|closing| closing.close_at(&state, share));
        let is_overdue = is_overdue(timer.as_mut(), &state, &shared.limits, close_at, cx);
        let must_make_room = state.is_asked_to_close() && state.phase() == Phase::Waiting;
        if is_overdue && state.phase() == Phase::ReadingHead {
            Refused::HeadTooSlow.note(&"the head is not complete");
            // A graceful shutdown would wait for the rest of the head.
            return Poll::Ready(Ok(()));
        }
        if is_overdue || state.has_input_ended() || must_make_room {
            is_closing = true;
            connection.as_mut().graceful_shutdown();
            outcome = connection.as_mut().poll(cx);
        }
        outcome
    })
    .await;
    match outcome {
        Ok(()) => {}
        Err(error) if error.is_parse_too_large() => Refused::HeadTooLarge.note(&error),
        Err(error) if error.is_parse() && !state.is_refused() => {
            Refused::Malformed.note(&error);
        }
        Err(error) => tracing::debug!(%error, "connection ended early"),
    }
}

/// Whether the client has exceeded the time to send a head, or to begin one, or whether `close_at` has passed. Sets the
/// timer to that deadline.
fn is_overdue(
    mut timer: Pin<&mut Sleep>,
    state: &ConnectionState,
    limits: &Limits,
    close_at: Option<Instant>,
    cx: &mut Context<'_>,
) -> bool {
    let time = match state.phase() {
        Phase::Answering => return false,
        Phase::Waiting if state.has_answered() => limits.idle,
        Phase::Waiting | Phase::ReadingHead => limits.header_read,
    };
    let mut deadline = state.since() + time;
    if let (Phase::Waiting, Some(close_at)) = (state.phase(), close_at) {
        deadline = deadline.min(close_at);
    }
    if timer.deadline() != deadline {
        timer.as_mut().reset(deadline);
    }
    timer.poll(cx).is_ready()
}

/// Calls the router, and adds headers that say whether the connection is kept, and for how long.
async fn answer(
    shared: &Shared,
    state: &Arc<ConnectionState>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let answering = Answering::begin(state);
    let stays = request.version() == Version::HTTP_11 && !asks_to_close(request.headers());
    let mut response = shared.app.clone().call(request).await?;
    let headers = response.headers_mut();
    if shared.closing.get().is_some() || state.has_input_ended() || state.is_asked_to_close() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if stays {
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert(KEEP_ALIVE, shared.keep_alive.clone());
    }
    Ok(response.map(|body| Answer { body, _answering: answering }))
}

fn asks_to_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    let mut options = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// The body of an answer, which marks the answer as in progress until it is dropped.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves a connection as soon as one of those that were asked to close has freed its place. Answers 503 if none does
/// in time.
pub(super) async fn wait_for_room(
    stream: TcpStream,
    shared: Arc<Shared>,
    state: Arc<ConnectionState>,
    room: Arc<Semaphore>,
    side_place: OwnedSemaphorePermit,
    _waiting_place: OwnedSemaphorePermit,
) {
    match timeout(ROOM_LIMIT, room.acquire_owned()).await {
        Ok(Ok(place)) => {
            drop(side_place);
            converse(stream, shared, state, place).await;
        }
        _ => turn_away(stream, shared, side_place).await,
    }
}

/// Answers 503 because there is no place. Reads the request first: if a connection is closed with unread bytes, its
/// answer is lost.
pub(super) async fn turn_away(
    stream: TcpStream,
    shared: Arc<Shared>,
    _place: OwnedSemaphorePermit,
) {
    Refused::NoRoom.note(&"the max number of connections is reached");
    let mut socket = shared.socket(stream, &Arc::new(ConnectionState::new()));
    let answer = async {
        let _request = socket.read(&mut [0; 1024]).await?;
        socket.write_all(NO_ROOM).await?;
        socket.shutdown().await
    };
    let _ = timeout(TURNING_AWAY, answer).await;
}
