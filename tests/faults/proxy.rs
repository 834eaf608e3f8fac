//! A proxy between a service and its Postgres, which forwards every message, counts the messages of the writers, and
//! cuts connections at chosen points. It can also deliver a request late, after its client has gone.
//!
//! The proxy understands only the framing of the protocol: a message has a type and a length. A client's first message
//! has no type, and contains the application name.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

/// The application name of the connections that are counted and cut.
const WRITER: &str = "esim-status writer";

/// A point in the conversation, counted from when the proxy was armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// The service has sent its n-th message, which is not forwarded.
    BeforeClient(usize),
    /// The service's n-th message is forwarded, then the connection is cut.
    AfterClient(usize),
    /// The server has sent its n-th message, which is not forwarded.
    BeforeServer(usize),
    /// The service has sent its n-th message. The connection is closed towards the service only. The server receives
    /// that message and the rest of its request late: when the next statement that writes deliveries is sent over
    /// another connection, and before that statement.
    Late(usize),
}

/// A cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Where to cut.
    pub point: Point,
    /// Whether the cut is silent: neither end is notified, both only receive nothing more.
    pub silent: bool,
}

/// What the proxy has seen on the writers' connections since it was armed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// How many messages the service has sent.
    pub client: usize,
    /// How many messages the server has sent.
    pub server: usize,
    /// Which message of the service was its COMMIT, if there was one.
    pub explicit_commit: Option<usize>,
    /// Whether the cut was made.
    pub is_cut: bool,
}

impl Counts {
    /// Which message of the service makes the server commit: its COMMIT, or else its last message, which ends a single
    /// statement that is its own transaction.
    pub(crate) fn commit(&self) -> usize {
        self.explicit_commit.unwrap_or(self.client)
    }
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(Counts, Option<Cut>)>,
    /// Cuts every open connection of a writer.
    open: CancellationToken,
    /// The first message of each connection so far, and a token that silences the connection.
    seen: Vec<(Vec<u8>, CancellationToken)>,
    /// New connections with this application name are silent from the start.
    forgetting: Option<&'static str>,
    /// How many of the next connections of writers are closed, as by a pooler whose server is restarting.
    refusing: usize,
    /// The request that is held back.
    late: Option<Late>,
}

/// A request that is held back.
#[derive(Debug, Clone, Default)]
struct Late {
    /// Cancelled when the server may receive it.
    due: CancellationToken,
    /// Cancelled when the server has answered it.
    answered: CancellationToken,
}

/// The proxy. It ends with the test.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What the proxy does with a message.
enum Fate {
    Pass,
    /// Forward the message, then cut.
    PassAndEnd {
        silent: bool,
    },
    End {
        silent: bool,
    },
    /// Hold it back, with the rest of its request, and close the connection towards the client.
    HoldBack(Late),
    /// First let the server answer what is held back.
    PassAfter(Late),
}

/// What happens to a connection after a message.
enum Next {
    Continue,
    End,
    /// Only the client's end is closed. The server receives this message and the rest of its request late.
    EndOfClient(Vec<u8>, Late),
}

impl Proxy {
    /// A proxy in front of the server of these options.
    pub(crate) async fn start(to: &PgConnectOptions) -> Self {
        let folder = to.get_socket().expect("the server has a socket");
        let socket = folder.join(format!(".s.PGSQL.{}", to.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        tokio::spawn(accept(listener, socket, state.clone()));
        Self { address, state }
    }

    /// How to connect through the proxy to what these options connect to directly.
    pub(crate) fn options(&self, to: &PgConnectOptions) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.address.port())
            .username(to.get_username())
            .database(to.get_database().unwrap_or_default())
            .ssl_mode(PgSslMode::Disable)
    }

    /// Starts to count, and cuts once if `cut` is given.
    pub(crate) fn arm(&self, cut: Option<Cut>) {
        lock(&self.state).armed = Some((Counts::default(), cut));
    }

    /// Stops to count and to cut.
    pub(crate) fn disarm(&self) -> Counts {
        lock(&self.state).armed.take().expect("the proxy was armed").0
    }

    /// Forgets the connections with this application name, as a router does: the proxy drops what is sent over them,
    /// and neither end is notified. The same happens to new connections until [`Self::remember`].
    pub(crate) fn forget(&self, name: &'static str) {
        let mut state = lock(&self.state);
        state.forgetting = Some(name);
        state.seen.iter().filter(|(hello, _)| names(hello, name)).for_each(|it| it.1.cancel());
    }

    /// Forwards new connections again. Forgotten connections stay forgotten.
    pub(crate) fn remember(&self) {
        lock(&self.state).forgetting = None;
    }

    /// Cuts every connection of a writer, and closes the next ones, as many as this.
    pub(crate) fn refuse(&self, count: usize) {
        lock(&self.state).refusing = count;
        self.cut_all();
    }

    /// How many connections of writers it is still going to close.
    pub(crate) fn refusing(&self) -> usize {
        lock(&self.state).refusing
    }

    /// How many connections with this application name were opened so far.
    pub(crate) fn count(&self, name: &str) -> usize {
        lock(&self.state).seen.iter().filter(|(hello, _)| names(hello, name)).count()
    }

    /// Cuts every connection of a writer.
    pub(crate) fn cut_all(&self) {
        std::mem::take(&mut lock(&self.state).open).cancel();
    }
}

/// Whether this first message contains this application name.
fn names(hello: &[u8], name: &str) -> bool {
    contains(hello, name.as_bytes())
}

fn contains(message: &[u8], bytes: &[u8]) -> bool {
    message.windows(bytes.len()).any(|part| part == bytes)
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn judge(&mut self, from_client: bool, message: &[u8]) -> Fate {
        if from_client
            && self.late.is_some()
            && contains(message, b"INSERT INTO deliveries")
            && let Some(late) = self.late.take()
        {
            return Fate::PassAfter(late);
        }
        let Some((counts, cut)) = &mut self.armed else { return Fate::Pass };
        let count = if from_client { &mut counts.client } else { &mut counts.server };
        *count += 1;
        let count = *count;
        if from_client && contains(message, b"COMMIT") {
            counts.explicit_commit = Some(count);
        }
        let Some(Cut { point, silent }) = *cut else { return Fate::Pass };
        let fate = match point {
            Point::BeforeClient(number) if from_client && number == count => Fate::End { silent },
            Point::AfterClient(number) if from_client && number == count => {
                Fate::PassAndEnd { silent }
            }
            Point::BeforeServer(number) if !from_client && number == count => Fate::End { silent },
            Point::Late(number) if from_client && number == count => {
                Fate::HoldBack(self.late.insert(Late::default()).clone())
            }
            _ => return Fate::Pass,
        };
        // Cut only once, so that a retry succeeds.
        *cut = None;
        counts.is_cut = true;
        fate
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, state: Arc<Mutex<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        let (socket, state) = (socket.clone(), state.clone());
        // If a connection fails, it ends; the reason does not matter.
        tokio::spawn(async move { drop(carry(client, socket, state).await) });
    }
}

/// Forwards one connection until either end closes it or it is cut.
async fn carry(client: TcpStream, socket: PathBuf, state: Arc<Mutex<State>>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = UnixStream::connect(socket).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let hello = read_message(&mut from_client, false).await?;
    let counted = names(&hello, WRITER).then_some(&*state);
    let silenced = CancellationToken::new();
    let open = {
        let mut state = lock(&state);
        if counted.is_some() && state.refusing > 0 {
            state.refusing -= 1;
            return Ok(());
        }
        if state.forgetting.is_some_and(|name| names(&hello, name)) {
            silenced.cancel();
        }
        state.seen.push((hello.clone(), silenced.clone()));
        state.open.clone()
    };
    let upwards = async {
        match pass(counted, true, hello, &mut to_server, &silenced).await? {
            Next::Continue => {
                pump(counted, true, &mut from_client, &mut to_server, &silenced).await
            }
            next => io::Result::Ok(next),
        }
    };
    let downwards = pump(counted, false, &mut from_server, &mut to_client, &silenced);
    let cut = async {
        match counted {
            Some(_) => open.cancelled().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        done = upwards => done?,
        done = downwards => done?,
        () = cut => Next::End,
    };
    let Next::EndOfClient(mut message, late) = ended else { return Ok(()) };
    // Also if the server ends the connection instead of answering.
    let _answered = late.answered.drop_guard();
    let mut request = message.clone();
    while message.first() != Some(&b'S') {
        message = read_message(&mut from_client, true).await?;
        request.extend_from_slice(&message);
    }
    drop((from_client, to_client));
    late.due.cancelled().await;
    to_server.write_all(&request).await?;
    while read_message(&mut from_server, true).await?.first() != Some(&b'Z') {}
    Ok(())
}

async fn pump(
    counted: Option<&Mutex<State>>,
    from_client: bool,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    silenced: &CancellationToken,
) -> io::Result<Next> {
    loop {
        let message = read_message(from, true).await?;
        match pass(counted, from_client, message, to, silenced).await? {
            Next::Continue => {}
            next => return Ok(next),
        }
    }
}

/// Forwards one message, drops it, or holds it back.
async fn pass(
    counted: Option<&Mutex<State>>,
    from_client: bool,
    message: Vec<u8>,
    to: &mut (impl AsyncWrite + Unpin),
    silenced: &CancellationToken,
) -> io::Result<Next> {
    if silenced.is_cancelled() {
        // The message was read, so that the end of either side is noticed, and is dropped.
        return Ok(Next::Continue);
    }
    let fate = counted.map_or(Fate::Pass, |state| lock(state).judge(from_client, &message));
    if let Fate::PassAfter(late) = &fate {
        late.due.cancel();
        late.answered.cancelled().await;
    }
    if let Fate::Pass | Fate::PassAfter(_) | Fate::PassAndEnd { .. } = fate {
        to.write_all(&message).await?;
    }
    Ok(match fate {
        Fate::Pass | Fate::PassAfter(_) => Next::Continue,
        Fate::PassAndEnd { silent: false } | Fate::End { silent: false } => Next::End,
        Fate::PassAndEnd { silent: true } | Fate::End { silent: true } => {
            silenced.cancel();
            Next::Continue
        }
        Fate::HoldBack(late) => Next::EndOfClient(message, late),
    })
}

/// Reads one whole message. An end of the connection between two messages is an error like any other.
async fn read_message(from: &mut (impl AsyncRead + Unpin), typed: bool) -> io::Result<Vec<u8>> {
    let head = if typed { 5 } else { 4 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).await?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().unwrap_or_default());
    let length = usize::try_from(length).unwrap_or_default() + head - 4;
    message.resize(length.max(head), 0);
    from.read_exact(&mut message[head..]).await?;
    Ok(message)
}
