//! A minimal HTTP client, which costs next to nothing, so that a test measures the service and not its client. It sends
//! one request at a time over one kept-alive connection, and reconnects when that connection is closed.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{API_KEY, HOOK_SECRET};

/// Longer than the service may take for any request that is sent here.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its status line and headers.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// One client.
#[derive(Debug)]
pub struct Wire {
    to: watch::Receiver<SocketAddr>,
    stream: Option<TcpStream>,
}

impl Wire {
    /// A client of the service at this address, which may change.
    pub fn new(to: watch::Receiver<SocketAddr>) -> Self {
        Self { to, stream: None }
    }

    /// Delivers a body to the built-in hook with its secret.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn deliver(&mut self, body: &str) -> io::Result<Reply> {
        self.exchange(&delivery(body)).await
    }

    /// Gets a path with the API key.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&mut self, path: &str) -> io::Result<Reply> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}");
        self.exchange(format!("{head}\r\n\r\n").as_bytes()).await
    }

    /// Sends a request and reads its answer. After an error it is unknown whether the request was processed.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        // As in a proxy's pool, a connection that was closed in the meantime is not used again.
        let kept = self.stream.take().filter(|stream| !is_closed(stream));
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let exchange = async {
            stream.write_all(request).await?;
            read_reply(&mut stream).await
        };
        let reply = timeout(PATIENCE, exchange).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if !reply.head.to_ascii_lowercase().contains("connection: close") {
            self.stream = Some(stream);
        }
        Ok(reply)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let to = *self.to.borrow();
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A request that delivers this body to the built-in hook with its secret.
pub fn delivery(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /webhooks/gigastore/esim-status/{HOOK_SECRET} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Reads one answer with a `Content-Length`.
///
/// # Errors
/// If the connection ends before the answer is complete.
pub async fn read_reply(stream: &mut TcpStream) -> io::Result<Reply> {
    let mut read = Vec::with_capacity(1_024);
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = read.split_off(end);
    let head = String::from_utf8_lossy(&read).into_owned();
    let status = head.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let length = field(&head, "content-length").and_then(|length| length.parse().ok());
    let length: usize = length.unwrap_or_default();
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Reply { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The value of a header.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}

impl Reply {
    /// The value of a header.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// Whether the server has closed the connection. It sends nothing unasked, so there is nothing else to read. Asks the system, as
/// proxies do: tokio learns of a close only when it next waits for events, which a busy test can delay.
fn is_closed(stream: &TcpStream) -> bool {
    let peeked = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
    !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
