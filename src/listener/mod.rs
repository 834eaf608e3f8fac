//! The serve loop: accepts connections, passes requests to the router, and shuts down gracefully.
//!
//! `axum::serve` has no limits: an idle connection, a head that arrives slowly and a client that never reads stay
//! forever. This loop drives hyper directly and limits each of them ([`Limits`]). If a connection is refused before it
//! has a complete request (the head is malformed or too large, or there is no place for another connection), the answer
//! is a bare status without a problem document, because hyper or this loop sends it and not the router.

mod bind;
mod connection;
mod framing;
mod refused;
mod socket;
mod state;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use bind::listen;
use connection::{Shared, converse, turn_away, wait_for_room};
use refused::Refused;
use state::ConnectionState;

use crate::budget;
use crate::telemetry::Seldom;

/// Limits the log line that the max number of connections is reached.
static FULL: Seldom = Seldom::new();

/// How many connections beyond the limit are answered concurrently. Further ones are closed without an answer.
const TURNED_AWAY_AT_A_TIME: usize = 256;

/// How long a client may be unreachable.
const VANISHED: Duration = Duration::from_secs(30);

/// At shutdown: how long to wait for connections whose TCP handshake has begun.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// How long a connection must have waited for a request before it may be closed for another one. A new client is about
/// to send.
const IDLE_ENOUGH: Duration = Duration::from_secs(1);

/// How many idle connections are closed together to make room, and the pause before the next ones.
const CLEARED_AT_ONCE: usize = 64;
const CLEARING_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait when no connection can be accepted, usually because no file descriptors are left.
const BREATHER: Duration = Duration::from_millis(100);

/// The limits of the server and of each connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a whole head may take. The time of a connection's first head starts with the connection, that of each
    /// other head with its first byte.
    pub header_read: Duration,
    /// How long a connection may be idle, from the end of an answer to the first byte of the next head. Announced by
    /// `Keep-Alive`. A client that reuses connections, such as a load balancer, must close them earlier, or it
    /// occasionally loses a request.
    pub idle: Duration,
    /// How long a write of an answer may make no progress.
    pub write_stall: Duration,
    /// How long an answer may take after the client has sent its last byte, because the client may be gone. Live
    /// streams whose client has left end after this time.
    pub half_closed: Duration,
    /// How long the server still accepts connections after it was asked to shut down. Every answer in this time closes
    /// its connection. Connections that stay idle are closed in the second half, one after another. A client that
    /// reuses connections loses a request if its connection is closed just as it sends: the later the close, the fewer
    /// clients still send, and if all were closed together, it could lose many at once.
    pub notice: Duration,
    /// The max number of connections. For a further one, the longest idle ones are closed. If none is idle, or none
    /// closes within 1.5 s, the new connection is answered 503, so that its client can try another replica or retry
    /// instead of waiting for its time-out. Must be below the limit on open files.
    pub max_connections: usize,
    /// The max bytes of a request's head (beyond it: 431), and of the buffers for a body or an answer. Many connections
    /// may each use this much memory before any credentials are checked.
    pub max_head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(8),
            idle: Duration::from_secs(75),
            write_stall: Duration::from_secs(15),
            half_closed: Duration::from_secs(5),
            notice: Duration::ZERO,
            max_connections: 16_384,
            max_head_bytes: 16 << 10,
        }
    }
}

/// The result of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct ShutDown {
    /// The number of connections that had not closed in time.
    pub cut: usize,
}

/// Serves until `shutdown` is cancelled and the notice is over. Then stops accepting, waits at most `grace` for the
/// requests in flight, and closes the remaining connections.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    shutdown: CancellationToken,
    grace: Duration,
) -> ShutDown {
    let mut server = Server::new(app, limits);
    while let Some(accepted) = shutdown.run_until_cancelled(server.accept(&listener)).await {
        server.admit(accepted);
    }
    server.shared.begin_closing();
    let over = sleep(limits.notice);
    tokio::pin!(over);
    loop {
        tokio::select! {
            accepted = server.accept(&listener) => server.admit(accepted),
            () = &mut over => break,
        }
    }
    // A client whose connection the kernel has completed by now may have sent its request already. Closing the listener
    // would reset it, so accept these first.
    bind::refuse_new_ones(&listener);
    server.accept_the_last(&listener).await;
    drop(listener);
    server.shut_down(grace).await
}

/// Makes room by closing idle connections. Clients that open connections and send nothing must not keep out those that
/// send.
#[derive(Debug, Default)]
struct Clearing {
    last: Option<Instant>,
    has_found: bool,
}

impl Clearing {
    /// Asks the connections that have been idle for longest to close. Returns whether there are any. Repeats the
    /// search only after a pause, because it goes through all connections.
    fn begin<'a>(&mut self, states: impl Iterator<Item = &'a Arc<ConnectionState>>) -> bool {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < CLEARING_PAUSE) {
            return self.has_found;
        }
        let idle = states.filter_map(|it| Some((it.waiting_for(now)?, it)));
        let mut idle: Vec<_> = idle.filter(|(time, _)| *time >= IDLE_ENOUGH).collect();
        if idle.len() > CLEARED_AT_ONCE {
            idle.select_nth_unstable_by_key(CLEARED_AT_ONCE, |(time, _)| Reverse(*time));
            idle.truncate(CLEARED_AT_ONCE);
        }
        for (_, state) in &idle {
            state.ask_to_close();
        }
        self.last = Some(now);
        self.has_found = !idle.is_empty();
        self.has_found
    }
}

struct Server {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    /// Places for connections that get none in `room`: they are answered 503, or wait.
    side_room: Arc<Semaphore>,
    /// Limits the connections that wait for a place to the number of those that are asked to close.
    waiting_room: Arc<Semaphore>,
    connections: JoinSet<()>,
    states: HashMap<task::Id, Arc<ConnectionState>>,
    clearing: Clearing,
    /// Whether the last connection could not be accepted. Only the first such failure in a row is logged.
    is_failing: bool,
}

impl Server {
    fn new(app: Router, limits: Limits) -> Self {
        refused::begin();
        Self {
            shared: Arc::new(Shared::new(app, limits)),
            room: Arc::new(Semaphore::new(limits.max_connections)),
            side_room: Arc::new(Semaphore::new(TURNED_AWAY_AT_A_TIME)),
            waiting_room: Arc::new(Semaphore::new(CLEARED_AT_ONCE)),
            connections: JoinSet::new(),
            states: HashMap::new(),
            clearing: Clearing::default(),
            is_failing: false,
        }
    }

    /// Accepts the next connection. Retries after failures.
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
                Some(ended) = self.connections.join_next_with_id() => self.forget(ended),
            }
        }
    }

    /// Accepts the connections that the system has completed or is about to complete, until there are no more. Ends
    /// after some time even if the system continues to complete connections.
    async fn accept_the_last(&mut self, listener: &TcpListener) {
        let accepting = async {
            while let Ok(accepted) = timeout(HANDSHAKE, self.accept(listener)).await {
                self.admit(accepted);
            }
        };
        let _ = timeout(budget::LAST_CONNECTIONS, accepting).await;
    }

    fn admit(&mut self, stream: TcpStream) {
        // An answer is one write, so waiting to fill a segment would only delay it. If setting the option fails, it is
        // only slower.
        let _ = stream.set_nodelay(true);
        let _ = notice_vanished_clients(&stream);
        let (shared, state) = (Arc::clone(&self.shared), Arc::new(ConnectionState::new()));
        if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
            let task = self.connections.spawn(converse(stream, shared, Arc::clone(&state), place));
            self.states.insert(task.id(), state);
            return;
        }
        let makes_room = self.clearing.begin(self.states.values());
        if let Some(left_out) = FULL.due() {
            tracing::warn!(
                makes_room,
                left_out,
                "no room for another connection: closing idle ones, or answering 503"
            );
        }
        let Ok(side_place) = Arc::clone(&self.side_room).try_acquire_owned() else {
            Refused::Dropped.note(&"there is no place to answer 503");
            return;
        };
        let waiting_place =
            makes_room.then(|| Arc::clone(&self.waiting_room).try_acquire_owned().ok());
        if let Some(waiting_place) = waiting_place.flatten() {
            let (room, its_state) = (Arc::clone(&self.room), Arc::clone(&state));
            let waiting = wait_for_room(stream, shared, its_state, room, side_place, waiting_place);
            let task = self.connections.spawn(waiting);
            self.states.insert(task.id(), state);
        } else {
            self.connections.spawn(turn_away(stream, shared, side_place));
        }
    }

    /// Removes an ended connection. A panic ends only its own connection.
    fn forget(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a connection ended in a panic");
                error.id()
            }
        };
        self.states.remove(&id);
    }

    /// Waits at most `grace` for the connections to end, and closes the rest.
    async fn shut_down(mut self, grace: Duration) -> ShutDown {
        let _ = timeout(grace, async {
            while let Some(ended) = self.connections.join_next_with_id().await {
                self.forget(ended);
            }
        })
        .await;
        while let Some(ended) = self.connections.try_join_next_with_id() {
            self.forget(ended);
        }
        let cut = self.connections.len();
        self.connections.shutdown().await;
        ShutDown { cut }
    }
}

/// Closes the connections of clients that have vanished. A phone that loses its network sends nothing, and the little
/// data of a live stream fits into the system's buffers, so without this its stream would stay open for a quarter of an
/// hour. The connection ends if sent data is not acknowledged in this time, or if a silent client does not answer
/// keep-alive probes.
fn notice_vanished_clients(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let asking = TcpKeepalive::new().with_time(VANISHED / 2).with_interval(VANISHED / 6);
    socket.set_tcp_keepalive(&asking.with_retries(3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(VANISHED))?;
    Ok(())
}

/// Whether the failure concerns only the connection that was to be accepted. Then the next one may succeed.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
