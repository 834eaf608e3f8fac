//! Helper: a relay between the service and its database that simulates a bad network. It forwards bytes, and knows only
//! whether a connection has sent `LISTEN`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use esim_status_testing::Database;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::sleep;

/// How long the relay keeps a dead connection open after one end has closed it. The other end is not notified; a server
/// with a short `tcp_keepalives_idle` finds out by itself.
const KEPT: Duration = Duration::from_secs(15);

/// What the relay does besides forwarding bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Habit {
    /// Forgets a connection after this long without a packet, as a NAT or a firewall does, and drops all later packets.
    Forgets(Duration),
    /// Delays each new connection by this long.
    Slow(Duration),
    /// Between [`Relay::silence`] and [`Relay::heal`], drops packets of connections that listen. These stay dead
    /// afterwards.
    SilencesListeners,
}

/// The relay. It ends with the test.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    behind: Database,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    habit: Habit,
    server: PathBuf,
    is_silent: AtomicBool,
    silences: AtomicUsize,
    accepted: AtomicUsize,
    died: AtomicUsize,
}

/// One connection.
struct Path {
    last_packet: Mutex<Instant>,
    listens: AtomicBool,
    /// How many silences there were before it was opened.
    silences: usize,
    is_dead: AtomicBool,
}

impl Relay {
    /// A relay in front of this database.
    pub(crate) async fn start(before: &Database, habit: Habit) -> Self {
        let folder = before.options.get_socket().expect("the server has a socket");
        let state = Arc::new(State {
            habit,
            server: folder.join(format!(".s.PGSQL.{}", before.options.get_port())),
            is_silent: AtomicBool::new(false),
            silences: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            died: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, state.clone()));
        Self { address, behind: before.clone(), state }
    }

    /// The `DATABASE_URL` that connects through the relay.
    pub(crate) fn url(&self) -> String {
        let options = &self.behind.options;
        let database = options.get_database().unwrap();
        format!("postgres://{}@{}/{database}", options.get_username(), self.address)
    }

    /// How many connections the relay has accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// How many connections the relay has killed. Only those count that were used afterwards.
    pub(crate) fn died(&self) -> usize {
        self.state.died.load(Ordering::Relaxed)
    }

    /// Starts to drop packets of connections that listen, both open and new ones.
    pub(crate) fn silence(&self) {
        self.state.silences.fetch_add(1, Ordering::Relaxed);
        self.state.is_silent.store(true, Ordering::Relaxed);
    }

    /// Lets new connections listen again.
    pub(crate) fn heal(&self) {
        self.state.is_silent.store(false, Ordering::Relaxed);
    }
}

impl State {
    /// Whether this packet, and every packet after it, is dropped.
    fn swallows(&self, path: &Path, packet: &[u8]) -> bool {
        let last_packet = std::mem::replace(&mut *path.last_packet.lock().unwrap(), Instant::now());
        if packet.windows(7).any(|part| part == b"LISTEN ") {
            path.listens.store(true, Ordering::Relaxed);
        }
        let dies = match self.habit {
            Habit::Forgets(after) => last_packet.elapsed() > after,
            Habit::Slow(_) => false,
            Habit::SilencesListeners => {
                path.listens.load(Ordering::Relaxed)
                    && (self.is_silent.load(Ordering::Relaxed)
                        || self.silences.load(Ordering::Relaxed) > path.silences)
            }
        };
        if dies && !path.is_dead.swap(true, Ordering::Relaxed) {
            self.died.fetch_add(1, Ordering::Relaxed);
        }
        path.is_dead.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        state.accepted.fetch_add(1, Ordering::Relaxed);
        let state = state.clone();
        // If a connection fails, it ends; the reason does not matter.
        tokio::spawn(async move { drop(carry(client, &state).await) });
    }
}

/// Forwards one connection until either end closes it.
async fn carry(mut client: TcpStream, state: &State) -> io::Result<()> {
    if let Habit::Slow(delay) = state.habit {
        sleep(delay).await;
    }
    client.set_nodelay(true)?;
    let mut server = UnixStream::connect(&state.server).await?;
    let path = Path {
        last_packet: Mutex::new(Instant::now()),
        listens: AtomicBool::new(false),
        silences: state.silences.load(Ordering::Relaxed),
        is_dead: AtomicBool::new(false),
    };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let ended = tokio::select! {
        ended = pump(from_client, to_server, &path, state) => ended,
        ended = pump(from_server, to_client, &path, state) => ended,
    };
    if path.is_dead.load(Ordering::Relaxed) {
        sleep(KEPT).await;
    }
    ended
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    path: &Path,
    state: &State,
) -> io::Result<()> {
    let mut buffer = vec![0; 16_384];
    loop {
        let read = from.read(&mut buffer).await?;
        // The end of the stream counts as a packet too.
        let is_swallowed = state.swallows(path, &buffer[..read]);
        if read == 0 {
            return Ok(());
        }
        if !is_swallowed {
            to.write_all(&buffer[..read]).await?;
        }
    }
}
