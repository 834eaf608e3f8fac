//! The serve loop: connections in, requests to the router, and an orderly end.
//!
//! `axum::serve` has no limits: an idle connection, a head that dribbles in and a client that never reads stay for ever. This
//! loop drives hyper itself and gives each of them a limit ([`Limits`]). What is refused before there is a request (a head that is
//! malformed or too large, no room for another connection) is answered with a bare status: hyper knows no problems.

mod bind;
mod connection;
mod framing;
mod socket;
mod standing;

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
use standing::Standing;

use crate::telemetry::Seldom;

/// The log line that there is no room.
static FULL: Seldom = Seldom::new();

/// How many connections beyond the limit are answered at a time; more are closed without a word.
const TURNED_AWAY_AT_A_TIME: usize = 256;

/// How long a client may be out of reach.
const VANISHED: Duration = Duration::from_secs(30);

/// How long a connection may take to be made that was begun before the end.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// How long a connection must have waited for a request before it may be closed for another: who has just come is about to send.
const IDLE_ENOUGH: Duration = Duration::from_secs(1);

/// How many are closed at once to make room, and how soon again.
const CLEARED_AT_ONCE: usize = 64;
const CLEARING_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait when no connection can be accepted, for want of file descriptors as a rule.
const BREATHER: Duration = Duration::from_millis(100);

/// What one client may ask of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a whole head: the first of a connection from its beginning, each other from its first byte.
    pub header_read: Duration,
    /// For an idle connection, from the end of an answer to the first byte of the next head. Announced by `Keep-Alive`. Whatever
    /// keeps connections for reuse, such as a load balancer, must give them up earlier, or it loses a request now and then.
    pub idle: Duration,
    /// For a client to take at least a byte of an answer that is being written.
    pub write_stall: Duration,
    /// For an answer to a client that has sent its last byte, and may be gone: live streams that were left end after this.
    pub half_closed: Duration,
    /// From the moment that the server is told to end until it accepts no more. Every answer meanwhile closes its connection, and
    /// idle connections are closed one after the other: whatever keeps connections for reuse loses a request if one is closed just
    /// as it sends, and would lose many if all were.
    pub notice: Duration,
    /// Connections at a time. For another one the longest idle ones are closed; where none is idle, or they do not go within 1.5 s, it
    /// is answered 503, so that its client can turn to another replica or repeat, rather than left to wait unheard until it gives up.
    /// Must be below the limit on open files.
    pub max_connections: usize,
    /// Bytes of a request's head (431), also of what is buffered of a body or an answer. Many connections may each have as much before
    /// anybody has shown a credential.
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

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Connections that had not ended when the time was up.
    pub cut: usize,
}

/// Serves until `shutdown` is cancelled and the notice is over, then stops accepting, lets the requests in flight end for at most
/// `drain`, and cuts what is left.
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
    server.shared.take_leave();
    let over = sleep(limits.notice);
    tokio::pin!(over);
    loop {
        tokio::select! {
            accepted = server.accept(&listener) => server.admit(accepted),
            () = &mut over => break,
        }
    }
    // A client whose connection the system has made by now may have sent already, and would be reset with the listener.
    bind::refuse_new_ones(&listener);
    server.accept_the_last(&listener).await;
    drop(listener);
    server.drain(drain).await
}

/// Makes room where there is none: whoever opens connections and sends nothing must not keep out those who send.
#[derive(Debug, Default)]
struct Clearing {
    last: Option<Instant>,
    has_found: bool,
}

impl Clearing {
    /// Asks the connections that have waited longest for a request to go. Says whether there are any; looks seldom, since it looks at
    /// all.
    fn begin<'a>(&mut self, standings: impl Iterator<Item = &'a Arc<Standing>>) -> bool {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < CLEARING_PAUSE) {
            return self.has_found;
        }
        let idle = standings.filter_map(|it| Some((it.waiting_for(now)?, it)));
        let mut idle: Vec<_> = idle.filter(|(time, _)| *time >= IDLE_ENOUGH).collect();
        if idle.len() > CLEARED_AT_ONCE {
            idle.select_nth_unstable_by_key(CLEARED_AT_ONCE, |(time, _)| Reverse(*time));
            idle.truncate(CLEARED_AT_ONCE);
        }
        for (_, standing) in &idle {
            standing.tell_to_go();
        }
        self.last = Some(now);
        self.has_found = !idle.is_empty();
        self.has_found
    }
}

struct Server {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    side_room: Arc<Semaphore>,
    /// As many wait for a place as are asked to leave theirs.
    waiting_room: Arc<Semaphore>,
    connections: JoinSet<()>,
    standings: HashMap<task::Id, Arc<Standing>>,
    clearing: Clearing,
    /// Told once, not for each connection.
    is_failing: bool,
}

impl Server {
    fn new(app: Router, limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared::new(app, limits)),
            room: Arc::new(Semaphore::new(limits.max_connections)),
            side_room: Arc::new(Semaphore::new(TURNED_AWAY_AT_A_TIME)),
            waiting_room: Arc::new(Semaphore::new(CLEARED_AT_ONCE)),
            connections: JoinSet::new(),
            standings: HashMap::new(),
            clearing: Clearing::default(),
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
                Some(ended) = self.connections.join_next_with_id() => self.forget(ended),
            }
        }
    }

    /// Takes what the system has accepted or is about to, until no more comes. Where the system goes on accepting, it ends all the
    /// same.
    async fn accept_the_last(&mut self, listener: &TcpListener) {
        let accepting = async {
            while let Ok(accepted) = timeout(HANDSHAKE, self.accept(listener)).await {
                self.admit(accepted);
            }
        };
        let _ = timeout(4 * HANDSHAKE, accepting).await;
    }

    fn admit(&mut self, stream: TcpStream) {
        // An answer is one write: waiting to fill a segment would only delay it. Without the option it is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let _ = notice_vanished_clients(&stream);
        let (shared, standing) = (Arc::clone(&self.shared), Arc::new(Standing::new()));
        if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
            let task =
                self.connections.spawn(converse(stream, shared, Arc::clone(&standing), place));
            self.standings.insert(task.id(), standing);
            return;
        }
        let makes_room = self.clearing.begin(self.standings.values());
        if let Some(left_out) = FULL.due() {
            tracing::warn!(
                makes_room,
                left_out,
                "no room for another connection: closing idle ones, or answering 503"
            );
        }
        let Ok(side_place) = Arc::clone(&self.side_room).try_acquire_owned() else { return };
        let told = makes_room.then(|| Arc::clone(&self.waiting_room).try_acquire_owned().ok());
        if let Some(told) = told.flatten() {
            let room = Arc::clone(&self.room);
            let waiting =
                wait_for_room(stream, shared, Arc::clone(&standing), room, side_place, told);
            let task = self.connections.spawn(waiting);
            self.standings.insert(task.id(), standing);
        } else {
            self.connections.spawn(turn_away(stream, shared, side_place));
        }
    }

    /// A panic ends its own connection, nothing else.
    fn forget(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "a connection ended in a panic");
                error.id()
            }
        };
        self.standings.remove(&id);
    }

    async fn drain(mut self, time: Duration) -> Drained {
        let _ = timeout(time, async {
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
        Drained { cut }
    }
}

/// A phone that goes out of reach says nothing, and the little that a live stream sends fits into the system's buffers: without this
/// its stream would stay for a quarter of an hour. What is sent and not confirmed in this time, and a client that is quiet and does
/// not answer when asked, ends the connection.
fn notice_vanished_clients(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let asking = TcpKeepalive::new().with_time(VANISHED / 2).with_interval(VANISHED / 6);
    socket.set_tcp_keepalive(&asking.with_retries(3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(VANISHED))?;
    Ok(())
}

/// Whether the failure is that of the connection that was to be accepted: the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
