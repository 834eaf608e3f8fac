//! The socket that hyper reads from and writes to. It checks reads, limits the time of writes, and closes gently.
//!
//! - Bytes that [`Framing`] refuses never reach hyper.
//! - A client that does not read its answer is disconnected, because hyper has no time-out for writing.
//! - A client that has sent its last byte may still wait for the answer (a half-closed connection), or may be gone. The
//!   server cannot tell which. hyper either drops the request immediately or never notices; here the request has
//!   limited time to finish.
//! - If a connection is closed while bytes are unread, TCP resets it, and the answer can be lost. So for a short time
//!   the bytes that the client is still sending are read and thrown away.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::Limits;
use super::framing::{Flaw, Framing};
use super::refused::Refused;
use super::state::ConnectionState;

/// Given to hyper instead of the rest of a refused head. A NUL is malformed anywhere in a head, and the empty line
/// completes the head, so hyper answers 400 immediately, after the answers to the requests before it.
const POISON: &[u8] = b"\0\r\n\r\n";

/// For how long, and how many bytes, a client may continue to send after the last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 << 20;

/// One client's connection.
#[derive(Debug)]
pub struct Socket<T> {
    stream: T,
    framing: Framing,
    input: Input,
    limits: Limits,
    state: Arc<ConnectionState>,
    /// Boxed, and created only when something waits, because most connections never need it.
    timer: Option<Pin<Box<Sleep>>>,
    stall: Option<Pin<Box<Sleep>>>,
    lingered: usize,
}

/// What the next read returns.
#[derive(Debug, Clone, Copy)]
enum Input {
    Open,
    /// The rest of [`POISON`], and then the end of the input.
    Poisoned(&'static [u8]),
    /// An error. Inside a body the 400 of a malformed head is not possible, and the handler is already running.
    Broken(Flaw),
    /// Nothing, because the client has sent its last byte, between two requests.
    Finished,
}

impl<T> Socket<T> {
    /// Wraps a new connection. From then on `state` says whether a request is arriving.
    pub(super) fn new(stream: T, limits: Limits, state: Arc<ConnectionState>) -> Self {
        Self {
            stream,
            framing: Framing::default(),
            input: Input::Open,
            limits,
            state,
            timer: None,
            stall: None,
            lingered: 0,
        }
    }

    /// Checks the bytes of `buf` from `before` on, and removes those that hyper must not read.
    fn check(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = &buf.filled()[before..];
        if read.is_empty() && buf.remaining() > 0 && self.framing.is_between_requests() {
            self.input = Input::Finished;
            self.state.end_input();
        } else if let Err(refusal) = self.framing.advance(read) {
            Refused::Framing.note(&refusal.flaw);
            self.state.refuse();
            buf.set_filled(before + refusal.at);
            self.input = if self.framing.is_in_head() {
                Input::Poisoned(POISON)
            } else {
                Input::Broken(refusal.flaw)
            };
        }
        self.state.set_in_request(!self.framing.is_between_requests());
    }

    /// Fails the connection if no write has made progress for too long.
    fn timed<R>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        ready!(wait(&mut self.stall, self.limits.write_stall, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Waits for `timer`, and starts it if it is not running.
fn wait(timer: &mut Option<Pin<Box<Sleep>>>, time: Duration, cx: &mut Context<'_>) -> Poll<()> {
    timer.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(cx)
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if matches!(this.input, Input::Open) {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            this.check(buf, before);
        }
        match &mut this.input {
            Input::Poisoned(left) => {
                let (now, later) = left.split_at(left.len().min(buf.remaining()));
                buf.put_slice(now);
                *left = later;
                Poll::Ready(Ok(()))
            }
            // The bytes before the flaw are returned first.
            Input::Broken(flaw) if buf.filled().len() == before => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *flaw)))
            }
            Input::Broken(_) | Input::Open => Poll::Ready(Ok(())),
            Input::Finished => wait(&mut this.timer, this.limits.half_closed, cx).map(Ok),
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.timed(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Shuts down the writing side. Then, if the client may be in the middle of a request, lingers.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        let expects_more =
            !matches!(this.input, Input::Open) || !this.framing.is_between_requests();
        let mut waste = [0; 4096];
        while this.lingered < LINGER_BYTES && !matches!(this.input, Input::Finished) {
            let mut buf = ReadBuf::new(&mut waste);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    this.lingered += buf.filled().len();
                }
                Poll::Pending if expects_more => return wait(&mut this.timer, LINGER, cx).map(Ok),
                // The end, an error, or nothing to read and nothing expected.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::super::framing::tests::request;
    use super::*;

    /// Writes `sent` on one side of a socket, at most `step` bytes at a time, and returns what the other side reads.
    async fn pass(sent: &[u8], step: usize) -> (Vec<u8>, io::Result<()>) {
        let (mut client, server) = duplex(step);
        let limits = Limits { half_closed: Duration::from_millis(1), ..Limits::default() };
        let mut socket = Socket::new(server, limits, Arc::new(ConnectionState::new()));
        let writing = async {
            // Fails if the reader gives up.
            let _ = client.write_all(sent).await;
            drop(client);
        };
        let reading = async move {
            let mut received = Vec::new();
            loop {
                match socket.read_buf(&mut received).await {
                    Ok(0) => break (received, Ok(())),
                    Ok(_) => {}
                    Err(error) => break (received, Err(error)),
                }
            }
        };
        tokio::join!(reading, writing).0
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    proptest! {
        #[test]
        fn well_formed_requests_pass_byte_for_byte(
            requests in prop::collection::vec(request(), 1..4),
            step in 1..300_usize,
        ) {
            let sent = requests.concat();
            let (received, outcome) = run(pass(&sent, step));
            prop_assert!(outcome.is_ok());
            prop_assert_eq!(received, sent);
        }
    }

    #[test]
    fn a_refused_head_is_cut_and_poisoned() {
        for step in [1, 2, 7, 1_000] {
            let (received, outcome) = run(pass(b"GET / HTTP/1.1\r\nHost: a\n\r\n", step));
            assert!(outcome.is_ok());
            assert_eq!(received, b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n");
        }
    }

    #[test]
    fn a_refused_body_is_an_error_after_what_came_before() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for step in [1, 2, 7, 1_000] {
            let (received, outcome) = run(pass(&[&head[..], b"1\nx"].concat(), step));
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(received, [&head[..], b"1"].concat());
        }
    }
}
